/** Those who wait for a lease: because somebody else has it, or a connector of it is not there. */
import { LeaseError } from './errors.js';
import type { Lessee } from './held.js';

export interface Waiter<Request, Result> {
  /** The lease. */
  name: string;
  who: Lessee;
  request: Request;
  /** Why it waits. */
  why: LeaseError;
  since: number;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

export class WaitingList<Request extends { timeoutMs?: number }, Result> {
  private waiters: (Waiter<Request, Result> & { timer: NodeJS.Timeout | null })[] = [];

  constructor(private readonly changed: () => void) {}

  get empty(): boolean {
    return this.waiters.length === 0;
  }

  /** In their order; of one lease, or of all. */
  list(name?: string): Waiter<Request, Result>[] {
    return this.waiters.filter((one) => name === undefined || one.name === name);
  }

  /** Settles as `settle` says, or with a LeaseError when `request.timeoutMs` is over. `first`: before all others. */
  add(name: string, who: Lessee, request: Request, why: LeaseError, first: boolean): Promise<Result> {
    return new Promise((resolve, reject) => {
      const { timeoutMs } = request;
      const timer =
        timeoutMs === undefined
          ? null
          : setTimeout(
              () => this.refuse(waiter, new LeaseError('Busy', `${why.message}, for ${timeoutMs} ms now`)),
              timeoutMs,
            ).unref();
      const waiter = { name, who, request, why, since: Date.now(), resolve, reject, timer };
      if (first) this.waiters.unshift(waiter);
      else this.waiters.push(waiter);
      this.changed();
    });
  }

  /** False when it waits no longer: the result is the caller's then. */
  grant(waiter: Waiter<Request, Result>, result: Result): boolean {
    if (!this.take(waiter)) return false;
    waiter.resolve(result);
    return true;
  }

  private take(waiter: Waiter<Request, Result>): boolean {
    const found = this.waiters.find((one) => one === waiter);
    if (found === undefined) return false;
    if (found.timer !== null) clearTimeout(found.timer);
    this.waiters = this.waiters.filter((one) => one !== waiter);
    this.changed();
    return true;
  }

  refuse(waiter: Waiter<Request, Result>, error: unknown): void {
    if (this.take(waiter)) waiter.reject(error);
  }

  /** Whoever waits there first from now on. */
  moveToFront(waiter: Waiter<Request, Result>): void {
    this.waiters = [
      ...this.waiters.filter((one) => one === waiter),
      ...this.waiters.filter((one) => one !== waiter),
    ];
  }
}
