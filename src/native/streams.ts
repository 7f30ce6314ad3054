/** Stream sockets that are handed on: pairs, connections, and descriptors sent through them. */
import { addon } from './addon.js';
import type { Fd } from './base.js';
import type { PeerCredentials } from './seqpacket.js';

interface StreamExports {
  /** Two connected ends; the first is non-blocking. Throws SystemError. */
  streamPair(): [ours: Fd, theirs: Fd];
  /** Connects to a listening stream socket without waiting; non-blocking. Throws SystemError. */
  connectStream(path: string): Fd;
  /** Sends all of `data` with `fd` (borrowed) at its first byte. Throws SystemError, EAGAIN when the peer does not read. */
  sendWithFd(socket: Fd, data: Uint8Array, fd: Fd): void;
  /** Who is at the other end, as the kernel recorded it when they connected. */
  peerOf(socket: Fd): PeerCredentials;
}

export const { streamPair, connectStream, sendWithFd, peerOf } = addon as unknown as StreamExports;
