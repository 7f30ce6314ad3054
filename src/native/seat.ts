/** A seat of logind or seatd, by libseat: devices that it opens, and when they may be used. */
import { addon } from './addon.js';
import type { Fd, SystemError } from './base.js';

/** A device that the seat manager opened. */
export interface SeatDevice {
  id: number;
  /** The seat manager's open file: never SET_MASTER or DROP_MASTER on it. */
  fd: Fd;
}

export interface SeatEvents {
  /** The devices may be used. Input devices that were open before are to be opened anew. */
  onEnabled(): void;
  /** The devices go away: nothing may use them any more when this returns. It is acknowledged then. */
  onDisabled(): void;
  /** The seat manager is gone, and the seat is closed. */
  onError(error: SystemError): void;
}

interface NativeSeat {
  readonly name: string;
  openDevice(path: string): SeatDevice;
  closeDevice(id: number): void;
  switchSession(session: number): void;
  close(): void;
}

const native = addon as unknown as {
  Seat: new (
    onEnabled: () => void,
    onDisabled: () => void,
    onError: (error: SystemError) => void,
  ) => NativeSeat;
};

export type SeatBackend = 'seatd' | 'logind' | 'builtin';

/** Control of a seat, from its making to its `close`; alive meanwhile. It is not enabled before `onEnabled`. */
export class Seat {
  private readonly seat: NativeSeat;

  /** Blocks for the seat manager's answer. Throws a SystemError with what libseat had to say. */
  constructor(backend: SeatBackend, events: SeatEvents) {
    // libseat has no other way to be told.
    const former = process.env.LIBSEAT_BACKEND;
    process.env.LIBSEAT_BACKEND = backend;
    try {
      this.seat = new native.Seat(
        () => events.onEnabled(),
        () => events.onDisabled(),
        (error) => events.onError(error),
      );
    } finally {
      if (former === undefined) delete process.env.LIBSEAT_BACKEND;
      else process.env.LIBSEAT_BACKEND = former;
    }
  }

  /** "seat0". */
  get name(): string {
    return this.seat.name;
  }

  /**
   * A card or an input device of the seat. Blocks. Throws a SystemError: EPERM where the seat is not enabled or the device
   * is not one of it.
   */
  openDevice(path: string): SeatDevice {
    return this.seat.openDevice(path);
  }

  closeDevice({ id }: SeatDevice): void {
    this.seat.closeDevice(id);
  }

  /** Asks for another session: the number of a VT, where the seat has VTs. */
  switchSession(session: number): void {
    this.seat.switchSession(session);
  }

  close(): void {
    this.seat.close();
  }
}
