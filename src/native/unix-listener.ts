/** The native class UnixListener: listening unix sockets, of both kinds. */
import { addon } from './addon.js';
import type { Fd, SystemError } from './base.js';

export interface PeerCredentials {
  /** 0 when the process is not visible from here. */
  pid: number;
  uid: number;
  gid: number;
  /** Supplementary groups, in no order. */
  groups: number[];
}

export interface ListenOptions {
  /** Of the socket file: who may write to it may connect; 0o660 when absent. */
  mode?: number;
  /** Group of the socket file, by number; the process's own when absent. */
  group?: number;
  /** Connections that wait to be accepted; 64 when absent. */
  backlog?: number;
}

export interface UnixListener {
  /** Removes the socket file, unless it was passed on or is another one by now. */
  close(): void;
}

export interface UnixListenerClass {
  /**
   * Listens at a path, or takes over an Fd that listens already. Alive until `close`. Throws a SystemError: EADDRINUSE
   * when another process listens there, EEXIST when a file there is no socket, ENAMETOOLONG beyond 107 bytes.
   *
   * `onConnection` gets what is connected and who it is by SO_PEERCRED. `onError`: accepting failed; it is tried again.
   */
  new (
    where: string | Fd,
    options: ListenOptions & { type: 'stream' | 'seqpacket' },
    onConnection: (connection: Fd, credentials: PeerCredentials) => void,
    onError: (error: SystemError) => void,
  ): UnixListener;
}

export const { UnixListener, peerCredentials } = addon as unknown as {
  UnixListener: UnixListenerClass;
  /** Who is at the other end of a connected unix socket. Throws a SystemError. */
  peerCredentials: (socket: Fd) => PeerCredentials;
};
