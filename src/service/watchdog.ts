/** Tells systemd that the daemon lives: only while the JS loop turned and every native thread advanced. */
import type { Logger } from './log.js';

export interface WatchdogHost {
  /** Microseconds within which the service manager wants to hear from us; 0: it does not watch. */
  watchdogUsec(): number;
  notify(state: string): void;
}

/** A native thread. */
export interface WatchedThread {
  /** Advances whenever it turns. */
  readonly heartbeat: number | (() => number);
  /** Makes it turn once. */
  wake(): void;
}

function beatOf(thread: WatchedThread): number {
  return typeof thread.heartbeat === 'function' ? thread.heartbeat() : thread.heartbeat;
}

export class Watchdog {
  private timer: NodeJS.Timeout | null = null;
  private readonly seen = new Map<WatchedThread, number>();

  constructor(
    private readonly host: WatchdogHost,
    private readonly engines: () => readonly WatchedThread[],
    private readonly log: Logger,
  ) {}

  start(): void {
    const usec = this.host.watchdogUsec();
    if (usec <= 0) return;
    // Three looks in each interval: one may be late.
    this.timer = setInterval(() => this.look(), usec / 1000 / 3);
    this.timer.unref();
    for (const engine of this.engines()) engine.wake();
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  /** Public for tests. True when everything advanced since the last look. */
  look(): boolean {
    const stuck = this.engines().filter((engine) => beatOf(engine) === this.seen.get(engine));
    for (const engine of this.engines()) {
      this.seen.set(engine, beatOf(engine));
      engine.wake(); // an idle thread turns once, so that it can be seen to
    }
    if (stuck.length > 0) {
      this.log.error({ threads: stuck.length }, 'a thread does not advance: the watchdog is not fed');
      return false;
    }
    this.host.notify('WATCHDOG=1');
    return true;
  }
}
