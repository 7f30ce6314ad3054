/** Notice before a lease is taken: why, and how long there is to give it back. */
import type { Held } from './held.js';

/** How one that somebody has is to end. */
export interface EndRequest {
  reason: string;
  /** Milliseconds; the configured ones when absent. Without effect on a lessee that cannot be told. */
  noticeMs?: number;
}

/**
 * Tells the lessee, where that can be told, and calls `end` when its time is over. Resolves when the lease is over in any
 * way. Where it was told already, the earlier of the two times counts.
 */
export function giveNotice(
  held: Held,
  { reason, noticeMs = held.settings.noticeMs }: EndRequest,
  end: (reason: string) => Promise<void>,
): Promise<void> {
  const { events, who, ending } = held;
  const ms = events.notice === undefined || who === null ? 0 : noticeMs;
  const at = Date.now() + ms;
  if (ending !== null && ending.at <= at) return ending.over;
  if (ending !== null) clearTimeout(ending.timer);
  const { over, done } = ending ?? openPromise();
  const timer = setTimeout(() => void end(reason), ms);
  const finish = () => {
    clearTimeout(timer);
    done();
    held.ending = null;
  };
  held.ending = { reason, at, timer, over, done: finish };
  if (ms > 0) events.notice?.(reason, ms);
  return over;
}

function openPromise(): { over: Promise<void>; done(): void } {
  let done = () => {};
  const over = new Promise<void>((resolve) => {
    done = resolve;
  });
  return { over, done };
}
