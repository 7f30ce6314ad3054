/** What a kind of guest is to the daemon, and what the daemon is to it. */
import type { Config, GuestKindName } from '../config/config.js';
import type { Card } from '../kms/card.js';
import type { Fd } from '../native/base.js';
import type { InputHost } from '../seats/sinks.js';
import type { Log, Logger } from '../service/log.js';
import type { FlipStatistics } from '../service/statistics.js';
import type { FdStore } from '../service/store.js';
import type { Guest } from './guest.js';
import type { LeaseGuest, Leases } from './lease.js';
import type { LeaseTaker } from './lease-request.js';
import type { DeviceTaker } from './offer.js';

/** The daemon takes no such guest; the text says why. */
export class AdmissionError extends Error {
  override readonly name = 'AdmissionError';
}

/** What a kind asks of the daemon. */
export interface GuestHost {
  readonly statistics: FlipStatistics;
  /** Of module "guests". */
  readonly log: Logger;
  /** What outlives the daemon. Claim in `start`: what nobody has claimed after that is closed. */
  readonly store: FdStore;
  /** For what an administrator must be able to look up: who was let in, who was not. */
  readonly audit: Log['audit'];
  /**
   * The card that a guest of this name is shown by: that of its output, else the first. A guest stays with its card.
   * Throws an AdmissionError when there is none, when a guest has the name, or when `policy.max_guests` are there.
   */
  place(name: string, output: string | null): Card;
  /** Makes a guest known, by its name; after `place` without waiting in between. */
  admit(guest: Guest): void;
  /** Puts a guest that was admitted on an output, when it is ready to be told where it is. */
  arrived(guest: Guest): Promise<void>;
  /** Takes a guest off its planes and lets it leave; `clean`: it said so. Does nothing for one that is not known. */
  departed(guest: Guest, clean: boolean): Promise<void>;
  /** Something in a guest's document changed. */
  changed(): void;
  /** Throws an AdmissionError when a guest has the name, or when `policy.max_guests` are there. */
  checkRoom(name: string): void;
  readonly leases: Leases;
  /** Seats, whose input guests may take by themselves. */
  readonly input: InputHost;
  /** Guests that drive what they are leased by themselves, and so are no `Guest`: those that are there, and those that were. */
  readonly lessees: Map<string, LeaseGuest>;
  /** Set by the kind that has the leases, asked by the kind that hears of who wants one. */
  takeLease: LeaseTaker;
  /** Set by the kind that shows devices, asked by the kind that is offered them. */
  takeDevice: DeviceTaker;
}

/** The control half of one kind: finds its guests, or lets them in. */
export interface GuestKind {
  /** Outputs are lit, guests may come. Throws a SystemError when the kind cannot work at all. */
  start(config: Config): Promise<void>;
  /** Another configuration is in force. Guests that it does not change are not disturbed. */
  reload(config: Config): Promise<void>;
  /** A caller of the control API hands a connection over (taken over). Absent: the kind has none. Throws an AdmissionError. */
  attach?(name: string, socket: Fd): Promise<void>;
  /**
   * Lets no more in. Resolves when every guest of the kind has left its planes, or is left as it is for the next daemon,
   * which the store keeps it for.
   */
  stop(): Promise<void>;
}

export interface GuestKindEntry {
  readonly name: GuestKindName;
  make(host: GuestHost): GuestKind;
}
