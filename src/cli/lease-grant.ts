/**
 * `scanoutctl lease grant`: hands a lease to a program that listens on a socket, as drm-lease-manager hands one to a client that asks:
 * one byte and the descriptor. The program says RELEASE (4 bytes, 1) when it is done; an end of the connection without it is a crash.
 */
import type { LeaseDocument, TakeLeaseRequest } from '../api/documents.js';
import { RELEASE_LEASE, REQUEST_BYTES, requestOf } from '../leases/dlm-wire.js';
import type { Fd } from '../native/base.js';
import type { Connection } from './connection.js';
import { CliError, EXIT } from './errors.js';
import { ended } from './top.js';

/** How it was over: the program is done with it, is gone without a word, the daemon took it, or this command was interrupted. */
export type GrantEnd = { how: 'released' | 'crashed' | 'interrupted' | 'taken'; reason: string | null };

/** A program that listens, connected to. */
export interface LeaseReceiver {
  pid: number;
  uid: number;
  /** Sends a copy of the lease. Throws the system's error. */
  grant(lease: Fd): void;
  /** Settles when it has said RELEASE, or the connection is at its end. */
  over: Promise<'released' | 'crashed'>;
  close(): void;
}

/** What is done of the world. */
export interface GrantIo {
  /** Throws the system's error when nobody listens there. */
  connectReceiver(path: string): Promise<LeaseReceiver>;
  error(text: string): void;
  /** Settles with `work`, or with `ended` at a signal that ends programs. */
  untilEnded<T>(work: Promise<T>): Promise<T | typeof ended>;
}

/** Holds the lease until it is over; `granted` is told when the program has it. Throws CliError. */
export async function grantLease(
  daemon: Connection,
  { lease, request, socket }: { lease: string; request: TakeLeaseRequest; socket: string },
  io: GrantIo,
  granted: (document: LeaseDocument, receiver: LeaseReceiver) => void,
): Promise<GrantEnd> {
  // Before the lease: nothing is taken from the screen for a program that is not there.
  const receiver = await reach(socket, io);
  try {
    const taken = new Promise<GrantEnd>((resolve) => {
      daemon.onLeaseEnded((_lease, reason) => resolve({ how: 'taken', reason }));
    });
    daemon.onLeaseNotice((_lease, reason, ms) =>
      io.error(`scanoutctl: lease ${lease} ends in ${ms} ms: ${reason}\n`),
    );
    const { fd, document } = await Promise.race([daemon.takeLease(lease, request), hungUp(receiver, socket)]);
    try {
      receiver.grant(fd);
    } catch (error) {
      await daemon.releaseLease(document.name).catch(() => {});
      throw new CliError(
        EXIT.refused,
        `${socket}: the lease cannot be sent: ${(error as Error).message}`,
        '',
      );
    } finally {
      fd.close();
    }
    granted(document, receiver);
    const over = receiver.over.then((how): GrantEnd => ({ how, reason: null }));
    const first = await io.untilEnded(Promise.race([over, taken]));
    const end: GrantEnd = first === ended ? { how: 'interrupted', reason: null } : first;
    // The end of the program's connection tells it; the daemon takes an end of ours without a word for its crash.
    receiver.close();
    if (end.how === 'released' || end.how === 'interrupted') {
      // One that was taken meanwhile is not ours to give back.
      await daemon.releaseLease(document.name).catch(() => {});
    }
    return end;
  } finally {
    receiver.close();
  }
}

async function reach(socket: string, io: GrantIo): Promise<LeaseReceiver> {
  try {
    return await io.connectReceiver(socket);
  } catch (error) {
    const advice = 'A program has to listen there, on a unix socket of the type SOCK_SEQPACKET.';
    throw new CliError(EXIT.unreachable, `nobody to grant a lease to: ${(error as Error).message}`, advice);
  }
}

/** A program that goes while the lease is waited for. */
async function hungUp({ over }: LeaseReceiver, socket: string): Promise<never> {
  const how = (await over) === 'released' ? 'wants no lease any more' : 'has hung up';
  throw new CliError(EXIT.refused, `${socket}: the program ${how}`, '');
}

/** Throws a SystemError. */
export async function connectReceiver(path: string): Promise<LeaseReceiver> {
  // Loaded only now: help works without the native part.
  const { SeqPacket } = await import('../native/seqpacket.js');
  const socket = SeqPacket.connect(path, { maxMessageSize: REQUEST_BYTES + 1, maxFds: 0 });
  const over = new Promise<'released' | 'crashed'>((resolve) => {
    socket.onClose = () => resolve('crashed');
    socket.onMessage = (data, fds) => {
      for (const fd of fds) fd.close();
      // Anything else, such as a request for what it has already, is passed over as the protocol wants it.
      if (requestOf(data) === RELEASE_LEASE) resolve('released');
    };
  });
  const { pid, uid } = socket.peerCredentials();
  return {
    pid,
    uid,
    over,
    grant: (lease) => {
      if (socket.closed) throw new Error('the program has hung up');
      if (socket.send(Uint8Array.of(0), [lease]) === 'full') throw new Error('the program does not read');
    },
    close: () => socket.close(),
  };
}
