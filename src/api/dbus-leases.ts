/** Leases of those who call on one connection of the bus: a lease ends with the connection of its lessee. */
import type { Bus, BusValue, CallInfo } from '../native/bus.js';
import { ApiError } from './errors.js';
import type { Manager } from './manager.js';

export const LEASE_ENDED = 'LeaseEnded';

interface Taken {
  /** Unique name of the lessee; null between peers. */
  sender: string | null;
  release(crashed: boolean): Promise<void>;
}

export class BusLeases {
  private readonly taken = new Map<string, Taken>();
  private closed = false;
  /** Callers that are watched, by unique name. */
  private readonly watched = new Map<string, { remove(): void }>();

  /** `tell` sends the signal LeaseEnded to one caller. */
  constructor(
    private readonly manager: Manager,
    private readonly bus: Bus,
    private readonly tell: (sender: string | null, lease: string, reason: string) => void,
  ) {
    void bus.closed.then(() => {
      this.closed = true;
      this.dropAll(null);
    });
  }

  async take(caller: CallInfo, name: string): Promise<BusValue[]> {
    const { sender } = caller;
    const { fd, document, release } = await this.manager.takeLease(caller, name, (reason) => {
      this.taken.delete(name);
      this.tell(sender, name, reason);
    });
    this.taken.set(name, { sender, release });
    if (sender !== null) this.watch(sender);
    // The caller may have gone while it waited.
    if (this.closed) this.dropAll(null);
    return [fd, JSON.stringify(document)];
  }

  async release({ sender }: CallInfo, name: string): Promise<void> {
    const taken = this.taken.get(name);
    if (taken === undefined || taken.sender !== sender) {
      throw new ApiError('NotFound', `the caller does not have lease ${name}`);
    }
    this.taken.delete(name);
    await taken.release(false);
  }

  private watch(sender: string): void {
    if (this.watched.has(sender)) return;
    const watch = this.bus.watchName(sender, (owner) => {
      if (owner !== null) return;
      watch.remove();
      this.watched.delete(sender);
      this.dropAll(sender);
    });
    this.watched.set(sender, watch);
  }

  /** A caller is gone; null: all of the connection. */
  private dropAll(sender: string | null): void {
    for (const [name, taken] of [...this.taken]) {
      if (sender !== null && taken.sender !== sender) continue;
      this.taken.delete(name);
      void taken.release(true);
    }
  }
}
