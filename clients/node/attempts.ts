/** Attempts to reach the daemon, and how they fail. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Code } from '../../src/guests/wire.js';
import { isSystemError } from '../../src/native/base.js';

/** What the daemon refused, and why. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  constructor(
    /** One of the protocol's `Code`. */
    readonly code: number,
    /** errno behind it, or 0. */
    readonly errnum: number,
    text: string,
    /** The buffer it is about, if it is about one. */
    readonly buffer?: number,
  ) {
    super(text);
  }
}

/** The connection ended before an answer came. */
export class ClosedError extends Error {
  override readonly name = 'ClosedError';
  constructor(readonly reason: string | null) {
    super(`the connection to scanoutd is closed${reason === null ? '' : `: ${reason}`}`);
  }
}

const FIRST_PAUSE_MS = 10;
const LAST_PAUSE_MS = 500;
const NO_DAEMON = ['ENOENT', 'ECONNREFUSED', 'EAGAIN', 'ECONNRESET', 'EPIPE'];

/** No daemon, one that is just dying, or one that has no room for the moment. */
function worthRetrying(error: unknown): boolean {
  if (error instanceof RefusedError) return error.code === Code.busy;
  if (error instanceof ClosedError) return NO_DAEMON.includes(error.reason ?? '');
  return isSystemError(error) && NO_DAEMON.includes(error.code);
}

/**
 * Tries until it succeeds or `timeoutMs` have passed; 0: once. An attempt gets the time that is left for it, and none
 * when it may take its own. Rejected as the last attempt was.
 */
export async function retried<T>(timeoutMs: number, attempt: (leftMs: number) => Promise<T>): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LAST_PAUSE_MS)) {
    try {
      return await attempt(timeoutMs === 0 ? Number.POSITIVE_INFINITY : deadline - performance.now());
    } catch (error) {
      const left = deadline - performance.now();
      if (left <= 0 || !worthRetrying(error)) throw error;
      await sleep(Math.min(pause, left));
    }
  }
}
