/** A device that its owner hands over on the guest socket: from the kind that hears of it to the kind that shows it. */
import type { Fd } from '../native/base.js';
import type { Code } from './protocol.js';
import type { PeerCredentials } from './socket.js';

export interface DeviceOffer {
  /** Of the guest, in the configuration. */
  readonly name: string;
  /** The device, if it is one; the caller's, and duplicated where it is kept. */
  readonly device: Fd;
  readonly peer: PeerCredentials;
  /** Called when the daemon gives the device up by itself; not after `withdraw`. */
  ended(code: Code, reason: string): void;
}

/** An offer that was taken. */
export interface TakenDevice {
  /** Its owner has gone; `clean`: it said so. Resolves when no plane shows it and the device is closed. */
  withdraw(clean: boolean): Promise<void>;
}

/** Shows it, or throws a ProtocolError. */
export type DeviceTaker = (offer: DeviceOffer) => Promise<TakenDevice>;
