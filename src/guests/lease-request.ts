/** A lease that a guest asks for on the guest socket: from the kind that hears of it to the kind that has the leases. */
import type { Fd } from '../native/base.js';
import type { Code } from './protocol.js';
import type { PeerCredentials } from './socket.js';

export interface GuestLeaseRequest {
  /** Of the guest, in the configuration. */
  readonly name: string;
  readonly peer: PeerCredentials;
  /** It has lease `lease`; the descriptor is the kind's, and closed when this returns. */
  granted(lease: string, fd: Fd): void;
  /** The lease will be taken back after so long, and why. */
  noticed(milliseconds: number, reason: string): void;
  /** It does not get the lease, or has it no more. Not called after `withdraw`, and nothing is called after it. */
  ended(code: Code, reason: string): void;
}

/** A request that is dealt with, or a lease that is held. */
export interface TakenLease {
  /** The guest has gone; `clean`: it said so. Resolves when the outputs are the daemon's, or kept for a successor. */
  withdraw(clean: boolean): Promise<void>;
}

/** What comes of it is told by the request; throws a ProtocolError when the guest may not even ask. */
export type LeaseTaker = (request: GuestLeaseRequest) => TakenLease;
