/** Messages with descriptors over SOCK_SEQPACKET unix sockets: what guests speak over. */
import { addon } from './addon.js';
import type { Fd, SystemError } from './base.js';
import { type ListenOptions, type PeerCredentials, UnixListener } from './unix-listener.js';

export type { PeerCredentials } from './unix-listener.js';

export interface SeqPacketLimits {
  /** Bytes of a message, 1 to 16 MiB; the rest of longer ones is lost. 4096 when absent. */
  maxMessageSize?: number;
  /** Descriptors in a message, 0 to 253; further ones are closed. 4 when absent. */
  maxFds?: number;
  /** Messages that are delivered before others get their turn; 16 when absent. */
  messagesPerTurn?: number;
}

export interface MessageFlags {
  /** The message was longer than `maxMessageSize`. */
  truncated: boolean;
  /** Descriptors are missing: there were more than `maxFds`, or none was free in this process. */
  controlTruncated: boolean;
}

interface NativeSeqPacket {
  readonly closed: boolean;
  start(
    onMessage: (data: Uint8Array, fds: Fd[], truncated: boolean, controlTruncated: boolean) => void,
    onClose: (error: SystemError | null) => void,
    onDrain: () => void,
  ): void;
  send(data: Uint8Array, fds: readonly Fd[]): 'sent' | 'full';
  pause(): void;
  resume(): void;
  peerCredentials(): PeerCredentials;
  close(): void;
}

const native = addon as unknown as {
  SeqPacket: new (fd: Fd, maxBytes: number, maxFds: number, messagesPerTurn: number) => NativeSeqPacket;
  seqpacketConnect(path: string): Fd;
};

export class SeqPacket {
  private readonly socket: NativeSeqPacket;
  private messageHandler: ((data: Uint8Array, fds: Fd[], flags: MessageFlags) => void) | null = null;

  /** The peer is gone: it closed, or the name of the errno. Not called after `close`. */
  onClose: (reason: string) => void = () => {};
  /** There is room again after a `send` that was `full`. */
  onDrain: () => void = () => {};

  /** Takes over a connected socket. Nothing is read before `onMessage` is set. */
  constructor(fd: Fd, limits: SeqPacketLimits = {}) {
    const { maxMessageSize = 4096, maxFds = 4, messagesPerTurn = 16 } = limits;
    this.socket = new native.SeqPacket(fd, maxMessageSize, maxFds, messagesPerTurn);
  }

  /** A connected socket, as a bare descriptor. Throws as `connect`. */
  static open(path: string): Fd {
    return native.seqpacketConnect(path);
  }

  /** Throws a SystemError: ENOENT, ECONNREFUSED when nobody listens, EAGAIN when too many wait. */
  static connect(path: string, limits: SeqPacketLimits = {}): SeqPacket {
    return new SeqPacket(SeqPacket.open(path), limits);
  }

  /**
   * Receives every message with its descriptors, which are the receiver's to close. From the first time that it is set
   * the connection keeps itself alive until it is closed.
   */
  set onMessage(handler: (data: Uint8Array, fds: Fd[], flags: MessageFlags) => void) {
    const started = this.messageHandler !== null;
    this.messageHandler = handler;
    if (started) return;
    this.socket.start(
      (data, fds, truncated, controlTruncated) =>
        this.messageHandler?.(data, fds, { truncated, controlTruncated }),
      (error) => this.onClose(error === null ? 'closed by the peer' : error.code),
      () => this.onDrain(),
    );
  }

  get closed(): boolean {
    return this.socket.closed;
  }

  /**
   * Sends a message with copies of `fds`, without ever blocking. `full`: nothing was sent, since the peer does not
   * read. Throws a SystemError: EPIPE or ECONNRESET when it is gone, EMSGSIZE.
   */
  send(data: Uint8Array, fds: readonly Fd[] = []): 'sent' | 'full' {
    return this.socket.send(data, fds);
  }

  /** Reads no more for now. The peer's end is not noticed meanwhile. */
  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** By SO_PEERCRED, as it was when the peer connected. */
  peerCredentials(): PeerCredentials {
    return this.socket.peerCredentials();
  }

  close(): void {
    this.socket.close();
  }
}

export interface SeqPacketServerOptions extends ListenOptions, SeqPacketLimits {
  /** Set the connection's handlers here; one that is left alone is closed when it is collected. */
  onConnection(connection: SeqPacket): void;
  /** Accepting failed (descriptors or memory ran out); it goes on by itself. */
  onError?(error: SystemError): void;
}

export class SeqPacketServer {
  private constructor(private readonly listener: UnixListener) {}

  /**
   * Listens at `where`, a path or a listening socket that was passed on (taken over). Throws a SystemError, EADDRINUSE
   * when another process listens there. A socket file that a dead process left is removed.
   */
  static listen(where: string | Fd, options: SeqPacketServerOptions): SeqPacketServer {
    const accept = (fd: Fd) => options.onConnection(new SeqPacket(fd, options));
    const listener = new UnixListener(where, { ...options, type: 'seqpacket' }, accept, (error) =>
      options.onError?.(error),
    );
    return new SeqPacketServer(listener);
  }

  /** Listens no more and removes its file. Connections stay. */
  close(): void {
    this.listener.close();
  }
}
