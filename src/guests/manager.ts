/** All guests, of every kind: which there are, and which output shows whom. */
import type { AssignRequest, GuestDocument } from '../api/documents.js';
import type { Area, Config, GuestConfig } from '../config/config.js';
import { guestSettings, isOutputNamed } from '../config/match.js';
import type { Card } from '../kms/card.js';
import type { Output } from '../kms/output.js';
import type { SeatManager } from '../seats/manager.js';
import type { GuestView, Placement } from '../seats/seating.js';
import { type InputHost, NO_INPUT } from '../seats/sinks.js';
import type { Log, Logger } from '../service/log.js';
import type { FlipStatistics } from '../service/statistics.js';
import type { FdStore } from '../service/store.js';
import type { Guest } from './guest.js';
import { AdmissionError, type GuestHost } from './kind.js';
import type { LeaseGuest, Leases } from './lease.js';
import type { LeaseTaker } from './lease-request.js';
import type { DeviceTaker } from './offer.js';
import { Code, ProtocolError } from './protocol.js';

/** Where seats have their guests. */
export type SeatPlaces = Pick<SeatManager, 'placement' | 'outputFor' | 'hasOwnGuests'>;

/** An assignment that cannot be; the text says why. */
export class AssignError extends Error {}

export class GuestManager implements GuestHost {
  private readonly guests = new Map<string, Guest>();
  /** By name: an assignment outlives the guest's connection. */
  private readonly assignments = new Map<string, AssignRequest>();
  readonly lessees = new Map<string, LeaseGuest>();
  private settling: Promise<void> = Promise.resolve();
  readonly log: Logger;

  constructor(
    private readonly cards: readonly Card[],
    private config: Config,
    readonly statistics: FlipStatistics,
    private readonly logs: Log,
    readonly store: FdStore,
    readonly leases: Leases,
    readonly changed: () => void,
    readonly input: InputHost = NO_INPUT,
  ) {
    this.log = logs.module('guests');
  }

  takeDevice: DeviceTaker = async () => {
    throw new ProtocolError(Code.badState, 'no kind of guest takes devices');
  };

  /** Seats, which have a say in where their guests are shown; none until it is set. */
  seats: SeatPlaces = { placement: () => null, outputFor: () => null, hasOwnGuests: () => false };

  takeLease: LeaseTaker = () => {
    throw new ProtocolError(Code.badState, 'no kind of guest has leases');
  };

  readonly audit: Log['audit'] = (event, details) => this.logs.audit(event, details);

  configure(config: Config): void {
    this.config = config;
  }

  guestOfStream(stream: number, card: Card): Guest | null {
    for (const guest of this.guests.values()) {
      if (guest.card === card && guest.planes.some((plane) => plane.stream === stream)) return guest;
    }
    return null;
  }

  // ---- GuestHost

  checkRoom(name: string): void {
    const lessees = [...this.lessees.values()].filter(({ connected }) => connected);
    if (this.guests.has(name) || lessees.some(({ settings }) => settings.name === name)) {
      throw new AdmissionError(`there is a guest ${name} already`);
    }
    const { maxGuests } = this.config.policy;
    if (this.guests.size + lessees.length >= maxGuests) {
      throw new AdmissionError(`at most ${maxGuests} guests are admitted (policy.max_guests)`);
    }
  }

  place(name: string, output: string | null): Card {
    this.checkRoom(name);
    const card = this.outputFor(name, output)?.card ?? this.cards[0];
    if (card === undefined) throw new AdmissionError('there is no card');
    return card;
  }

  admit(guest: Guest): void {
    this.guests.set(guest.name, guest);
  }

  async arrived(guest: Guest): Promise<void> {
    await this.settle(guest);
    this.changed();
  }

  async departed(guest: Guest, clean: boolean): Promise<void> {
    if (this.guests.get(guest.name) !== guest) return;
    this.guests.delete(guest.name);
    const output = this.outputOf(guest);
    if (output !== undefined) await output.remove(guest);
    await guest.leave();
    if (!clean) this.log.warn({ guest: guest.name }, 'guest went without a word');
    await this.settleAll();
    this.changed();
  }

  /** Guests without an output get one where one is free now. */
  async settleAll(): Promise<void> {
    for (const guest of this.guests.values()) {
      if (this.outputOf(guest)?.lit == null) await this.settle(guest);
    }
  }

  /** Seats have other guests in front than before: those that are seen no more go first, so that planes are free. */
  async settleSeats(): Promise<void> {
    const guests = [...this.guests.values()];
    const isHidden = (guest: Guest) => 'hidden' in (this.seats.placement(guest.name) ?? {});
    for (const guest of guests.filter(isHidden)) await this.settle(guest);
    for (const guest of guests.filter((one) => !isHidden(one))) await this.settle(guest);
    this.changed();
  }

  /** Puts a guest where its seat, assignment, configuration or the planner say; one after the other, as seats and outputs both ask. */
  private settle(guest: Guest): Promise<void> {
    const step = this.settling.then(() => this.settleNow(guest));
    this.settling = step.catch(() => {});
    return step;
  }

  private async settleNow(guest: Guest): Promise<void> {
    if (this.guests.get(guest.name) !== guest) return;
    const request = this.assignments.get(guest.name);
    guest.wish =
      request === undefined ? null : { area: request.area ?? null, plane: request.plane ?? 'auto' };
    const say = this.seats.placement(guest.name);
    const hidden = say !== null && 'hidden' in say ? say : null;
    const wanted = this.wantedOutput(guest, say);
    const now = this.outputOf(guest);
    if (now !== undefined && now === wanted) return;
    if (now !== undefined) await now.remove(guest);
    if (wanted === undefined && hidden !== null) {
      await this.hide(guest, hidden.hidden);
      return;
    }
    if (wanted === undefined || wanted.card !== guest.card) {
      await this.hide(
        guest,
        wanted === undefined ? 'no output is free' : `it is on ${guest.card.path}: reconnect`,
      );
      return;
    }
    await wanted.add(guest);
    this.log.info({ guest: guest.name, output: wanted.name }, 'assigned');
  }

  /** `say`: its seat's. One that its seat does not show may have a free output, if it wants none of its own. */
  private wantedOutput(guest: Guest, say: Placement | null): Output | undefined {
    if (say === null) return this.outputFor(guest.name, guest.outputRequest);
    if ('hidden' in say) return say.floating ? this.freeOutput() : undefined;
    return this.outputs().find(({ name }) => name === say.output);
  }

  private async hide(guest: Guest, reason: string): Promise<void> {
    await guest.placed(null);
    for (const plane of guest.planes) {
      await guest.card.attachVirtual(guest.producer, plane.index);
      guest.shown(plane.index, { state: 'unseen', plane: null, reason, errno: 0 });
    }
  }

  private outputOf(guest: Guest): Output | undefined {
    return this.outputs().find((output) => output.shows(guest));
  }

  private outputs(): Output[] {
    return this.cards.flatMap((card) => [...card.outputs.values()]);
  }

  private namedOutput(name: string): Output | undefined {
    return this.outputs().find((output) => isOutputNamed(this.config, output.identity, name));
  }

  /** By assignment, by configuration, else the one that shows it, else the first lit output without a guest. */
  private outputFor(name: string, request: string | null): Output | undefined {
    const named = this.assignments.get(name)?.output ?? request;
    if (named !== null) return this.namedOutput(named);
    const guest = this.guests.get(name);
    const now = guest === undefined ? undefined : this.outputOf(guest);
    if (now?.lit != null) return now;
    const home = this.seats.outputFor(...machineOf(this.config, name));
    if (home !== null) return this.outputs().find((output) => output.name === home);
    return this.freeOutput() ?? now;
  }

  /** The first lit output without a guest that no guest is configured for. */
  private freeOutput(): Output | undefined {
    const reserved = new Set(this.config.guests.flatMap((one) => outputsOf(one, this.config)));
    const free = this.outputs().filter((output) => output.lit !== null && output.guestCount === 0);
    return free.find((output) => !reserved.has(output.name) && !this.seats.hasOwnGuests(output.name));
  }

  /** Guests that are there, as seats see them. */
  views(): GuestView[] {
    return [...this.guests.values()].map((guest) => {
      const [machine, scanout] = machineOf(this.config, guest.name);
      const assignment = this.assignments.get(guest.name);
      const request = assignment?.output ?? guest.outputRequest;
      const area = assignment === undefined ? guest.areaRequest : (assignment.area ?? null);
      const output = request === null ? undefined : this.namedOutput(request);
      return { name: guest.name, machine, scanout, request: output?.name ?? request, whole: area === null };
    });
  }

  /** Moves a guest. Throws an AssignError. */
  async assign(name: string, request: AssignRequest): Promise<void> {
    const guest = this.guests.get(name);
    const settings = guestSettings(this.config, name);
    if (guest === undefined && settings?.kind === 'lease') {
      throw new AssignError(`guest ${name} has lease ${settings.lease}, and shows itself on its outputs`);
    }
    if (guest === undefined && settings === null) {
      throw new AssignError(`there is no guest ${name}; known are: ${this.names()}`);
    }
    if (request.output !== undefined) {
      const output = this.namedOutput(request.output);
      if (output === undefined) {
        const known = this.outputs().map((one) => one.name);
        throw new AssignError(`there is no output ${request.output}; known are: ${known.join(', ')}`);
      }
      if (guest !== undefined && output.card !== guest.card) {
        throw new AssignError(
          `guest ${name} is on ${guest.card.path}, output ${output.name} on ${output.card.path}`,
        );
      }
      checkArea(request.area, output);
    }
    this.assignments.set(name, request);
    await this.move(guest);
  }

  /** Back to what the configuration says. */
  async unassign(name: string): Promise<void> {
    if (!this.assignments.delete(name) && !this.guests.has(name)) {
      throw new AssignError(`there is no guest ${name}; known are: ${this.names()}`);
    }
    await this.move(this.guests.get(name));
  }

  private async move(guest: Guest | undefined): Promise<void> {
    if (guest === undefined) return;
    const now = this.outputOf(guest);
    // Also where the output stays the same: area and plane may not.
    if (now !== undefined) await now.remove(guest);
    await this.settle(guest);
    await this.settleAll();
    this.changed();
  }

  private names(): string {
    return [...this.guests.keys()].join(', ') || 'none';
  }

  find(name: string): Guest | undefined {
    return this.guests.get(name);
  }

  documents(): GuestDocument[] {
    const shown = [...this.guests.values()].map((guest) => ({
      ...guest.document(),
      mode: this.outputOf(guest)?.modeDocument() ?? null,
      lease: null,
    }));
    return [...shown, ...[...this.lessees.values()].map((guest) => guest.document())];
  }
}

/** The guest of the configuration that a guest is a scanout of, and which: "desk.1" is the second of "desk". */
function machineOf({ guests }: Config, name: string): [machine: string, scanout: number] {
  const dot = name.lastIndexOf('.');
  const [machine, scanout] = [name.slice(0, dot), Number(name.slice(dot + 1))];
  const settings = dot < 0 ? undefined : guests.find((guest) => guest.name === machine);
  const count = settings?.kind === 'virtio' ? (settings.outputs?.length ?? 1) : 1;
  return scanout >= 1 && scanout < count ? [machine, scanout] : [name, 0];
}

function outputsOf(settings: GuestConfig, { leases }: Config): string[] {
  if (settings.kind === 'lease') return leases.find(({ name }) => name === settings.lease)?.outputs ?? [];
  if (settings.kind === 'virtio' && settings.outputs !== null) return settings.outputs;
  return settings.output === null ? [] : [settings.output];
}

function checkArea(area: Area | undefined, output: Output): void {
  const mode = output.lit?.mode;
  if (area === undefined || mode === undefined) return;
  if (area.x + area.width > mode.width || area.y + area.height > mode.height) {
    throw new AssignError(
      `area ${area.width}x${area.height}+${area.x}+${area.y} reaches beyond ${output.name}, which is ${mode.width}x${mode.height}`,
    );
  }
}
