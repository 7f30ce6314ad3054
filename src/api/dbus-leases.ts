/** Leases of those who call on one connection of the bus: a lease ends with the connection of its lessee. */
import type { Bus, BusValue, CallInfo, InterfaceDescription } from '../native/bus.js';
import { ApiError } from './errors.js';
import type { Manager } from './manager.js';
import { parseEndLease, parseTakeLease, parseTransferLease } from './requests.js';

/** Signals to a lessee. */
const LEASE_SIGNALS = {
  LeaseNotice: { signature: 'ssu', names: ['lease', 'reason', 'ms'] },
  LeaseEnded: { signature: 'ss', names: ['lease', 'reason'] },
  LeaseSuspended: { signature: 's', names: ['lease'] },
  LeaseResumed: { signature: 's', names: ['lease'] },
} as const;

/** A caller that has a lease, or waits for it. */
interface Taken {
  /** Unique name of the lessee; null between peers. */
  sender: string | null;
  name: string;
  release(crashed: boolean): Promise<void>;
}

export class BusLeases {
  private readonly taken = new Set<Taken>();
  private closed = false;
  /** Callers that are watched, by unique name. */
  private readonly watched = new Map<string, { remove(): void }>();

  /** `tell` sends a signal to one caller. */
  constructor(
    private readonly manager: Manager,
    private readonly bus: Bus,
    private readonly tell: (sender: string | null, member: string, body: BusValue[]) => void,
  ) {
    void bus.closed.then(() => {
      this.closed = true;
      this.dropAll(null);
    });
  }

  /** Methods and signals of the manager's interface. `answer` names the errors. */
  describe(
    answer: (body: () => Promise<BusValue[]>) => Promise<BusValue[]>,
  ): Required<Pick<InterfaceDescription, 'methods' | 'signals'>> {
    const { manager } = this;
    const done = (body: () => Promise<void>) =>
      answer(async () => {
        await body();
        return [];
      });
    const request = { in: 'ss', inNames: ['lease', 'request_json'] };
    return {
      methods: {
        TakeLease: {
          ...request,
          out: 'hs',
          outNames: ['fd', 'json'],
          handler: ([lease, json], caller) =>
            answer(() => this.take(caller, lease as string, json as string)),
        },
        ReleaseLease: {
          in: 's',
          inNames: ['lease'],
          handler: ([lease], caller) => done(() => this.release(caller, lease as string)),
        },
        RevokeLease: {
          ...request,
          handler: ([lease, json], caller) =>
            done(async () => {
              const { reason = 'revoked', ...how } = parseEndLease(json as string);
              await manager.revokeLease(caller, lease as string, { reason, ...how });
            }),
        },
        TransferLease: {
          ...request,
          handler: ([lease, json], caller) =>
            done(async () => {
              const { reason = 'transferred', ...how } = parseTransferLease(json as string);
              await manager.transferLease(caller, lease as string, { reason, ...how });
            }),
        },
      },
      signals: LEASE_SIGNALS,
    };
  }

  private async take(caller: CallInfo, name: string, json: string): Promise<BusValue[]> {
    const { sender } = caller;
    const tell = (member: keyof typeof LEASE_SIGNALS, ...body: BusValue[]) =>
      this.tell(sender, member, [taken.name, ...body]);
    const { granted, release } = this.manager.takeLease(caller, name, {
      ...parseTakeLease(json),
      ended: (reason) => {
        this.taken.delete(taken);
        tell('LeaseEnded', reason);
      },
      notice: (reason, ms) => tell('LeaseNotice', reason, ms),
      suspended: (suspended) => tell(suspended ? 'LeaseSuspended' : 'LeaseResumed'),
    });
    const taken: Taken = { sender, name, release };
    // From now on: who goes while it waits, waits no longer.
    this.taken.add(taken);
    if (sender !== null) this.watch(sender);
    try {
      const { fd, document } = await granted;
      taken.name = document.name;
      if (this.closed) this.dropAll(null);
      return [fd, JSON.stringify(document)];
    } catch (error) {
      this.taken.delete(taken);
      throw error;
    }
  }

  /** A lease by its name, or the connector that it was asked for by. */
  private async release({ sender, pid, uid }: CallInfo, name: string): Promise<void> {
    const taken = [...this.taken].find((one) => one.sender === sender && one.name === name);
    if (taken === undefined) {
      throw new ApiError('NotFound', `process ${pid}, uid ${uid}, does not have lease ${name}`);
    }
    this.taken.delete(taken);
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
    for (const taken of [...this.taken]) {
      if (sender !== null && taken.sender !== sender) continue;
      this.taken.delete(taken);
      void taken.release(true);
    }
  }
}
