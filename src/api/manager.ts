/** What the control API can do, in plain TypeScript. Front ends (dbus.ts) describe it to their callers. */
import { EventEmitter } from 'node:events';
import type { GuestKindName } from '../config/config.js';
import { GUEST_NAME } from '../config/guest-schema.js';
import { AdmissionError } from '../guests/kind.js';
import { AssignError, type GuestManager } from '../guests/manager.js';
import type { Card } from '../kms/card.js';
import type { Output } from '../kms/output.js';
import { takeScreenshot } from '../kms/screenshot.js';
import type { LeaseBroker, LeaseRequest } from '../leases/broker.js';
import { LeaseError } from '../leases/errors.js';
import type { Lessee } from '../leases/held.js';
import type { Grant } from '../leases/holdings.js';
import type { EndRequest } from '../leases/notice.js';
import type { Fd } from '../native/base.js';
import { SeatError } from '../seats/errors.js';
import type { SeatManager } from '../seats/manager.js';
import type { InputWatch } from '../seats/watch.js';
import type { Log } from '../service/log.js';
import type { FlipStatistics } from '../service/statistics.js';
import type {
  AssignRequest,
  InputEventDocument,
  ScreenshotDocument,
  SessionDocument,
  StatusDocument,
} from './documents.js';
import { ApiError } from './errors.js';
import { parseAssignRequest } from './requests.js';

/** How often events that are watched are told. */
const WATCH_MS = 50;

/** Who asks: credentials of the peer as the kernel says them. */
export interface Caller {
  uid: number;
  pid: number;
  /** Null when that is not known. */
  gid: number | null;
}

/** Hands a connection (taken over) to a kind of guest. Rejects with an AdmissionError. */
export type AttachTo = (kind: GuestKindName, name: string, socket: Fd) => Promise<void>;

export type Changed = 'outputs' | 'guests' | 'leases' | 'seats';

interface ManagerEvents {
  changed: [what: Changed];
}

export class Manager extends EventEmitter<ManagerEvents> {
  private readonly started = Date.now();
  ready = false;

  constructor(
    readonly version: string,
    private readonly cards: readonly Card[],
    private readonly session: { document(): SessionDocument },
    private readonly guests: GuestManager,
    private readonly leases: LeaseBroker,
    private readonly seats: SeatManager,
    private readonly statistics: FlipStatistics,
    private readonly log: Log,
    private readonly configPath: () => string | null,
    private readonly refresh: () => void,
    private readonly attachTo: AttachTo,
  ) {
    super();
  }

  private outputs(): Output[] {
    return this.cards.flatMap((card) => [...card.outputs.values()]);
  }

  describe(): StatusDocument {
    this.refresh();
    return {
      version: this.version,
      pid: process.pid,
      uptimeMs: Date.now() - this.started,
      config: this.configPath(),
      session: this.session.document(),
      cards: this.cards.map((card) => card.document()),
      outputs: this.outputs().map((output) => output.document()),
      guests: this.guests.documents(),
      leases: this.leases.documents(),
      seats: this.seats.documents(),
      inputDevices: this.seats.unassigned(),
    };
  }

  async assign(caller: Caller, guest: string, json: string): Promise<void> {
    const request: AssignRequest = parseAssignRequest(json);
    await this.change(caller, 'assign', { guest, ...request }, () => this.guests.assign(guest, request));
  }

  async unassign(caller: Caller, guest: string): Promise<void> {
    await this.change(caller, 'unassign', { guest }, () => this.guests.unassign(guest));
  }

  /** A connection to the D-Bus display of a QEMU, which has the other end; taken over. */
  async attachQemu(caller: Caller, guest: string, socket: Fd): Promise<void> {
    if (!GUEST_NAME.test(guest)) {
      throw new ApiError('InvalidArgument', `${guest} is no name: 1 to 63 letters, digits, ".", "_" and "-"`);
    }
    await this.change(caller, 'attach', { guest, kind: 'qemu' }, () => this.attachTo('qemu', guest, socket));
  }

  /** `release` is for the end of the caller's connection, and for the end of its waiting. */
  takeLease(
    { pid, uid, gid }: Caller,
    name: string,
    request: LeaseRequest,
  ): { granted: Promise<Grant>; release(crashed: boolean): Promise<void> } {
    const who: Lessee = { pid, uid, gid };
    return {
      granted: refusable(this.leases.take(name, who, request)),
      release: (crashed) => this.leases.release(name, who, crashed),
    };
  }

  async revokeLease({ pid, uid, gid }: Caller, name: string, request: EndRequest): Promise<void> {
    await refusable(this.leases.revoke(name, { pid, uid, gid }, request));
  }

  async transferLease(
    { pid, uid, gid }: Caller,
    name: string,
    request: EndRequest & { to?: number },
  ): Promise<void> {
    await refusable(this.leases.transfer(name, { pid, uid, gid }, request));
  }

  async screenshot(caller: Caller, name: string): Promise<{ png: Uint8Array; document: ScreenshotDocument }> {
    const output = this.outputs().find((one) => one.name === name);
    if (output === undefined) {
      const known = this.outputs().map((one) => one.name);
      throw new ApiError('NotFound', `there is no output ${name}; known are: ${known.join(', ') || 'none'}`);
    }
    this.log.audit('screenshot', { ...caller, output: name });
    const nameOf = (stream: number, card: Card) => {
      const guest = this.guests.guestOfStream(stream, card);
      const plane = guest?.planes.find((one) => one.stream === stream);
      return guest === null || plane === undefined ? null : { guest: guest.name, plane: plane.index };
    };
    try {
      return await takeScreenshot(output, nameOf);
    } catch (error) {
      throw new ApiError('Failed', error instanceof Error ? error.message : String(error));
    }
  }

  async switchSeat(caller: Caller, seat: string, guest: string): Promise<void> {
    await this.change(caller, 'switch', { seat, guest }, () => this.seats.switchTo(seat, guest));
  }

  async attachDevice(caller: Caller, device: string, seat: string): Promise<void> {
    await this.change(caller, 'attach device', { device, seat }, () => this.seats.attach(device, seat));
  }

  async detachDevice(caller: Caller, device: string): Promise<void> {
    await this.change(caller, 'detach device', { device }, () => this.seats.detach(device));
  }

  async lockSeat(caller: Caller, seat: string, locked: boolean): Promise<void> {
    await this.change(caller, locked ? 'lock' : 'unlock', { seat }, () => this.seats.lock(seat, locked));
  }

  /** Begins to tell of a seat's events, all that came in a while at once; the end is the caller's to say. Throws an ApiError. */
  async watchInput(
    caller: Caller,
    seat: string,
    keys: boolean,
    tell: (events: InputEventDocument[]) => void,
  ): Promise<() => void> {
    let watch: InputWatch | null = null;
    await this.change(caller, 'watch input', { seat, keys }, async () => {
      watch = this.seats.watch(seat, keys);
    });
    const begun = watch as InputWatch | null;
    if (begun === null) throw new ApiError('Failed', 'nothing is watched');
    const timer = setInterval(() => {
      const events = this.seats.watched(begun);
      if (events.length > 0) tell(events);
    }, WATCH_MS);
    return () => {
      clearInterval(timer);
      this.seats.unwatch(begun);
    };
  }

  /** Flips of a guest's planes that are kept, oldest first. */
  records(name: string): object {
    this.refresh();
    const guest = this.guests.find(name);
    if (this.guests.lessees.has(name)) {
      throw new ApiError('NotFound', `guest ${name} has a lease: its flips are its own, and not recorded`);
    }
    if (guest === undefined) throw new ApiError('NotFound', `there is no guest ${name}`);
    return {
      guest: name,
      planes: guest.planes.map(({ index, stream }) => ({ index, flips: this.statistics.records(stream) })),
    };
  }

  private async change(
    caller: Caller,
    event: string,
    details: Record<string, unknown>,
    body: () => Promise<void>,
  ): Promise<void> {
    try {
      await body();
      this.log.audit(event, { ...caller, ...details, result: 'done' });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.log.audit(event, { ...caller, ...details, result: message });
      if (error instanceof AssignError || error instanceof AdmissionError)
        throw new ApiError('InvalidArgument', message);
      if (error instanceof SeatError) throw new ApiError(error.kind, message);
      throw error;
    }
  }
}

async function refusable<T>(result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    if (error instanceof LeaseError) throw new ApiError(error.kind, error.message);
    throw error;
  }
}
