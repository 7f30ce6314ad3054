/** A lease that the daemon gives a guest instead of planes: for programs that drive KMS by themselves. */
import { EventEmitter } from 'node:events';
import {
  type DaemonMessage,
  decodeFromDaemon,
  encode,
  ProtocolError,
  VERSION,
} from '../../src/guests/protocol.js';
import { SOCKET_PATH } from '../../src/guests/wire.js';
import { type Fd, isSystemError } from '../../src/native/base.js';
import { SeqPacket } from '../../src/native/seqpacket.js';
import { ClosedError, RefusedError, retried } from './attempts.js';

export interface LeaseEvents {
  /** The lease ends after so many milliseconds, or with an earlier `bye`. */
  notice: [milliseconds: number, reason: string];
}

interface LeaseParts {
  connection: SeqPacket;
  copy: Fd;
  /** Told once, of the end by the daemon's doing. */
  onEnd(listener: (why: RefusedError | ClosedError) => void): void;
}

/** A lease that is held. An open one keeps the process alive. */
export class GuestLease extends EventEmitter<LeaseEvents> {
  /** Resolved with why it is held no more: a RefusedError when it was taken back, a ClosedError otherwise. */
  readonly ended: Promise<RefusedError | ClosedError>;
  readonly #parts: LeaseParts;
  #settle: (why: RefusedError | ClosedError) => void = () => {};

  /** @internal */
  constructor(
    /** Of the [[lease]]. */
    readonly name: string,
    /** A descriptor of the card; the caller's to close. Closing it does not end the lease. */
    readonly fd: Fd,
    parts: LeaseParts,
  ) {
    super();
    this.#parts = parts;
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    parts.onEnd((why) => this.#over(why));
  }

  #over(why: RefusedError | ClosedError): void {
    this.#parts.connection.close();
    this.#parts.copy.close();
    this.#settle(why);
  }

  /** Gives the lease back. Resolves when the daemon has heard of it, or is gone. */
  async bye(): Promise<void> {
    try {
      if (!this.#parts.connection.closed) this.#parts.connection.send(encode({ type: 'bye', serial: 2 }));
      await this.ended;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.#over(new ClosedError(error.code));
    }
  }

  /** Ends the connection without a word, which to the daemon is a crash. */
  disconnect(): void {
    this.#over(new ClosedError(null));
  }

  /**
   * Gives the connection away: the lease lasts until the descriptor and all copies of it are closed, such as that of a
   * program that inherits it. Nothing is heard here any more.
   */
  detach(): Fd {
    const connection = this.#parts.copy.dup();
    this.#over(new ClosedError(null));
    return connection;
  }
}

/**
 * Takes the lease of guest `name` of the configuration, and waits for it where the daemon lets it wait. Tries until
 * `timeoutMs` have passed (default: one attempt, which may wait without end).
 *
 * Rejected with a RefusedError when the daemon refuses it, with a SystemError or ClosedError otherwise.
 */
export function takeLease(options: {
  name: string;
  /** Default: SOCKET_PATH. */
  path?: string;
  timeoutMs?: number;
}): Promise<GuestLease> {
  const { name, path = SOCKET_PATH, timeoutMs = 0 } = options;
  return retried(timeoutMs, (leftMs) => attempt(path, name, leftMs));
}

function attempt(path: string, name: string, leftMs: number): Promise<GuestLease> {
  const socket = SeqPacket.open(path);
  const copy = socket.dup();
  const connection = new SeqPacket(socket);
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    let lease: GuestLease | null = null;
    let over = (why: RefusedError | ClosedError) => {
      clearTimeout(timer);
      connection.close();
      copy.close();
      reject(why);
    };
    const granted = (leased: string, fd: Fd) => {
      clearTimeout(timer);
      lease = new GuestLease(leased, fd, {
        connection,
        copy,
        onEnd: (listener) => {
          over = listener;
        },
      });
      resolve(lease);
    };
    if (Number.isFinite(leftMs)) timer = setTimeout(() => over(new ClosedError('ETIMEDOUT')), leftMs);
    connection.onClose = () => over(new ClosedError('ECONNRESET'));
    connection.onMessage = (data, fds) => {
      const message = decoded(data, fds.length);
      const [fd] = fds;
      if (message?.type === 'lease' && lease === null && fd !== undefined) {
        granted(message.lease, fd);
        return;
      }
      for (const strange of fds) strange.close();
      if (message?.type === 'leaseNotice' && lease !== null) {
        lease.emit('notice', message.milliseconds, message.text);
      } else {
        over(endOf(message));
      }
    };
    const { major: versionMajor, minor: versionMinor } = VERSION;
    try {
      connection.send(encode({ type: 'takeLease', serial: 1, versionMajor, versionMinor, name }));
    } catch (error) {
      over(new ClosedError(isSystemError(error) ? error.code : 'EPROTO'));
    }
  });
}

/** Null for what is none of the daemon's messages. */
function decoded(data: Uint8Array, fds: number): DaemonMessage | null {
  try {
    return decodeFromDaemon(data, fds);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return null;
  }
}

/** DONE is the answer to BYE. */
function endOf(message: DaemonMessage | null): RefusedError | ClosedError {
  if (message?.type === 'error') return new RefusedError(message.code, message.errnum, message.text);
  return new ClosedError(message?.type === 'done' ? null : 'EPROTO');
}
