/** All seats: follows devices, outputs and guests as they come and go, and tells the input thread and the outputs what that means. */
import type { InputDeviceDocument, InputEventDocument, SeatDocument } from '../api/documents.js';
import type { Config, GuestInputName } from '../config/config.js';
import { inputOfKind, wantsInput } from '../config/seats.js';
import type { InputEngine, InputNotice } from '../native/input.js';
import type { Logger } from '../service/log.js';
import { seatsOf } from './assign.js';
import { type Device, Devices } from './devices.js';
import { SeatError } from './errors.js';
import { GuestInputs } from './guest-inputs.js';
import { Handles } from './handles.js';
import { seatDocument } from './seat-document.js';
import { type Placement, Seating, type SeatView } from './seating.js';
import type { InputHost } from './sinks.js';
import { targetOf } from './table.js';
import { InputWatch } from './watch.js';
import type { SeatWorld } from './world.js';

export class SeatManager implements InputHost {
  engine: InputEngine | null = null;
  private devices: Devices | null = null;
  private readonly seating = new Seating();
  private readonly handles: Handles;
  private guests: GuestInputs | null = null;
  private turn: Promise<void> = Promise.resolve();
  private updateWanted = false;
  private scanWanted = true;
  private arrangement = '';
  private started = false;
  private stopped = false;
  private watching: InputWatch | null = null;

  constructor(
    private readonly world: SeatWorld,
    private config: Config,
    private readonly log: Logger,
  ) {
    this.handles = new Handles(log, (seat, idle) => this.idleChanged(seat, idle));
  }

  /** Outputs are lit. Resolves when devices are open and guests' devices are made. Throws a SystemError: no input thread. */
  async start(): Promise<void> {
    this.started = true;
    this.makeEngine();
    await this.update();
  }

  private makeEngine(): void {
    if (this.engine !== null || !wantsInput(this.config)) return;
    this.engine = this.world.makeEngine(this.config.daemon.realtimePriority, (notice) =>
      this.onNotice(notice),
    );
    this.devices = new Devices(this.world, this.engine, this.log);
    const ownInput = (machine: string) => this.world.ownInput(machine);
    this.guests = new GuestInputs(this.engine, ownInput, this.log, () => void this.update());
    if (!this.engine.realtime) {
      this.log.warn({ reason: this.engine.realtimeReason }, 'the input thread has no real-time priority');
    }
  }

  configure(config: Config): Promise<void> {
    this.config = config;
    if (!this.started) return Promise.resolve();
    this.makeEngine();
    return this.rescan();
  }

  /** Devices came or went, or may be opened now. */
  rescan(): Promise<void> {
    this.scanWanted = true;
    return this.update();
  }

  /** Outputs or guests are others than before. Resolves when everything follows from how they were at the call, or later. */
  update(): Promise<void> {
    if (this.engine === null || !this.started || this.stopped) return Promise.resolve();
    if (!this.updateWanted) {
      this.updateWanted = true;
      this.enqueue(() => this.settle());
    }
    return this.turn;
  }

  private enqueue(step: () => Promise<void>): void {
    this.turn = this.turn.then(step).catch((error: unknown) => {
      if (!this.stopped) this.log.error({ err: error }, 'seats failed');
    });
  }

  /** Has a step done, and then all that follows from it: a turn that waits already comes before it. */
  private follow(step: () => Promise<void> | undefined): void {
    this.enqueue(async () => {
      await step();
      this.scanWanted = true;
    });
    this.updateWanted = false;
    void this.update();
  }

  /** The seat manager takes its devices away: they are revoked already, or are about to be. */
  sessionDisabled(): void {
    const { devices } = this;
    if (devices === null) return;
    // By the scan that follows, what was found to be revoked before this was known is told as what it is.
    this.follow(() => devices.shutAll('the session is not active', ({ source }) => source?.direct === false));
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.handles.stop();
    await this.turn;
    await this.devices?.shutAll('the daemon ends');
    await this.guests?.close();
    this.engine?.shut();
  }

  // ---- one turn

  private look(): void {
    this.seating.update({
      config: this.config,
      seats: seatsOf(this.config, this.world.udevSeats()),
      outputs: this.world.outputs(),
      guests: this.world.guests(),
      lessees: this.world.lessees(),
    });
  }

  private async settle(): Promise<void> {
    this.updateWanted = false;
    const { engine, devices } = this;
    if (engine === null || devices === null || this.stopped) return;
    this.handles.viewed();
    this.look();
    this.joinGuests();
    if (this.scanWanted) {
      this.scanWanted = false;
      await devices.reconcile(
        this.config,
        this.seating.seats().map(({ config }) => config),
      );
    }
    const gone = await this.handles.settle(engine, this.seating.seats());
    if (this.watching !== null && gone.includes(this.watching.seat)) this.unwatch(this.watching);
    await this.guests?.update(this.config, this.seating, devices, this.present());
    const machines = new Map(this.world.guests().map(({ name, machine }) => [name, machine]));
    await this.handles.setTables(engine, this.seating.seats(), devices, {
      idOf: (machine) => this.guests?.idOf(machine) ?? null,
      machineOf: (guest) => machines.get(guest) ?? guest,
    });
    const arrangement = JSON.stringify(
      this.world.guests().map(({ name }) => [name, this.seating.placement(name)]),
    );
    if (arrangement !== this.arrangement) {
      this.arrangement = arrangement;
      await this.world.rearrange();
    }
    this.world.changed();
  }

  private present(): Set<string> {
    return new Set([...this.world.guests().map(({ machine }) => machine), ...this.world.lessees()]);
  }

  private joinGuests(): void {
    const shown = new Set(this.world.outputs().flatMap((output) => output.shown.map(({ guest }) => guest)));
    const joined = this.world.guests().filter(({ name }) => !shown.has(name) && this.seating.join(name));
    if (joined.length > 0) this.look();
  }

  // ---- what the input thread tells

  private onNotice(notice: InputNotice): void {
    switch (notice.type) {
      case 'hotkey':
        this.onHotkey(notice);
        break;
      case 'deviceGone': {
        const why = notice.code === 'ENODEV' ? 'unplugged or revoked' : notice.code;
        this.follow(() => this.devices?.gone(notice.device, why));
        break;
      }
      case 'dropped':
        this.tellOfDevice(notice.device, { count: notice.count }, 'the kernel dropped events of a device');
        break;
      case 'nonsense':
        this.tellOfDevice(notice.device, { reason: notice.why }, 'libinput has something to say of a device');
        break;
      case 'sinkEnded':
        this.follow(() => this.guests?.ended(notice.sink, notice.why));
        break;
      case 'leds':
        break;
    }
  }

  private tellOfDevice(id: number, details: object, text: string): void {
    const node = this.devices?.byId(id)?.node;
    this.log.warn({ device: node?.path ?? id, name: node?.name, ...details }, text);
  }

  private onHotkey({ seat, id, guest: guestId, switches }: Extract<InputNotice, { type: 'hotkey' }>): void {
    const name = this.handles.switched(seat, switches);
    this.look();
    const view = this.seating.seat(name);
    const hotkey = view?.config.hotkeys[id];
    if (view === undefined || hotkey === undefined) return;
    const switched = this.guests?.nameOf(guestId) ?? null;
    if (switched !== null) {
      this.log.info({ seat: name, guest: switched, keys: hotkey.text }, 'switched by hotkey');
      this.seating.switchTo(name, switched);
      void this.update();
      return;
    }
    if ('action' in hotkey.target && hotkey.target.action === 'lock') {
      this.log.info({ seat: name, keys: hotkey.text }, 'locked by hotkey');
      void this.lock(name, true);
      return;
    }
    const wanted = targetOf(view, hotkey.target);
    if (wanted !== null && view.present.has(wanted)) {
      // It came after the input thread was told who is there.
      this.log.info({ seat: name, guest: wanted, keys: hotkey.text }, 'switched by hotkey');
      this.seating.switchTo(name, wanted);
      void this.update();
      return;
    }
    const reason = wanted === null ? 'the seat has no such guest' : `guest ${wanted} is not there`;
    this.log.info({ seat: name, keys: hotkey.text, reason }, 'hotkey without effect');
  }

  // ---- calls

  /** Throws a SeatError. */
  private view(name: string): SeatView {
    const view = this.seating.seat(name);
    if (view === undefined || this.engine === null) {
      const known = this.seating.seats().map(({ config }) => config.name);
      throw new SeatError('NotFound', `there is no seat ${name}; known are: ${known.join(', ') || 'none'}`);
    }
    return view;
  }

  /** Rejects with a SeatError. */
  async switchTo(seat: string, guest: string): Promise<void> {
    const view = this.view(seat);
    if (!view.order.includes(guest)) {
      const known = view.order.join(', ') || 'none';
      throw new SeatError('InvalidArgument', `seat ${seat} has no guest ${guest}; its guests are: ${known}`);
    }
    if (!view.present.has(guest)) throw new SeatError('Unavailable', `guest ${guest} is not there`);
    this.seating.switchTo(seat, guest);
    await this.update();
  }

  /** Locks or unlocks; nothing happens when it is so already. Rejects with a SeatError. */
  async lock(seat: string, locked: boolean): Promise<void> {
    const { config, current } = this.view(seat);
    const handle = this.handles.get(seat);
    if (handle === undefined || handle.locked === locked) return;
    handle.locked = locked;
    this.log.info({ seat }, locked ? 'seat locked' : 'seat unlocked');
    const done = this.update();
    this.run(locked ? config.lockCommand : config.unlockCommand, seat, current);
    await done;
  }

  private run(command: readonly string[] | null, seat: string, guest: string | null): void {
    if (command !== null) this.world.run(command, { SCANOUTD_SEAT: seat, SCANOUTD_GUEST: guest ?? '' });
  }

  private idleChanged(seat: string, idle: boolean): void {
    const view = this.seating.seat(seat);
    if (view === undefined || this.stopped) return;
    const { config, current } = view;
    this.log.info({ seat }, idle ? 'seat is idle' : 'seat is used again');
    this.run(idle ? config.idleCommand : config.activeCommand, seat, current);
    if (idle && config.lockOnIdle) void this.lock(seat, true);
    else this.world.changed();
  }

  /** Gives a device to a seat until it is unplugged. Rejects with a SeatError. */
  async attach(device: string, seat: string): Promise<void> {
    this.view(seat);
    const found = this.device(device);
    this.devices?.attach(found, seat);
    await this.rescan();
    if (found.seat === seat && found.opened !== null) return;
    throw new SeatError('Unavailable', `${found.node.path} is not used: ${found.reason}`);
  }

  /** Takes back what `attach` did. Rejects with a SeatError. */
  async detach(device: string): Promise<void> {
    const found = this.device(device);
    if (this.devices?.isAttached(found) !== true) {
      throw new SeatError('InvalidArgument', `${found.node.path} was not attached by a call`);
    }
    this.devices.attach(found, null);
    await this.rescan();
  }

  private device(text: string): Device {
    const found = this.devices?.find(text);
    if (found !== undefined) return found;
    const known = this.devices?.list().map(({ node }) => node.path) ?? [];
    throw new SeatError(
      'NotFound',
      `there is no input device ${text}; known are: ${known.join(', ') || 'none'}`,
    );
  }

  /** Begins to keep events of a seat, of one seat at a time, until `unwatch` or until the seat is gone. Throws a SeatError. */
  watch(seat: string, keys: boolean): InputWatch {
    this.view(seat);
    const id = this.handles.get(seat)?.id;
    if (this.engine === null || id === undefined)
      throw new SeatError('Unavailable', `seat ${seat} is not set up yet`);
    if (this.watching !== null) throw new SeatError('Busy', `seat ${this.watching.seat} is watched already`);
    this.watching = new InputWatch(this.engine, seat, id, keys);
    return this.watching;
  }

  unwatch(watch: InputWatch): void {
    if (this.watching !== watch) return;
    this.watching = null;
    watch.end();
  }

  /** Events since the last call, oldest first; none of a watch that is over. */
  watched(watch: InputWatch): InputEventDocument[] {
    if (this.watching !== watch) return [];
    const nodeOf = (device: number) => this.devices?.byId(device)?.node.path ?? '';
    return watch.take(nodeOf, (guest) => this.guests?.nameOf(guest) ?? null);
  }

  // ---- for guests

  how(name: string, kind: 'socket' | 'virtio' | 'qemu' | 'vfio'): GuestInputName {
    if (!wantsInput(this.config)) return 'none';
    return this.config.guests.find((guest) => guest.name === name)?.input.how ?? inputOfKind(kind);
  }

  /** `Guest.input` is another. */
  changed(): void {
    void this.update();
  }

  /** Where a guest that is there is to be shown; null: seats have no say. */
  placement(name: string): Placement | null {
    if (this.engine === null) return null;
    this.look();
    return this.seating.placement(name);
  }

  /** Output for a guest that is about to come, or null. */
  outputFor(machine: string, scanout: number): string | null {
    if (this.engine === null) return null;
    this.look();
    return this.seating.outputFor(machine, scanout);
  }

  /** The output is of a seat whose guests are listed: others are not put there by themselves. */
  hasOwnGuests(output: string): boolean {
    if (this.engine === null) return false;
    const seat = this.seating.seats().find(({ outputs }) => outputs.some(({ name }) => name === output));
    return seat !== undefined && seat.config.guests !== null;
  }

  // ---- documents

  documents(): SeatDocument[] {
    if (this.engine === null) return [];
    this.look();
    return this.seating.seats().flatMap((view) => {
      const handle = this.handles.get(view.config.name);
      if (handle === undefined) return [];
      const state = {
        ready: handle.ready,
        locked: handle.locked,
        idle: handle.idle.isIdle,
        idleMs: (this.engine?.idleNs(handle.id) ?? 0) / 1e6,
        automatic: !this.config.seats.includes(view.config),
      };
      const guests = this.world.guests();
      const guestsOf = (machine: string) => guests.filter((guest) => guest.machine === machine);
      const document = seatDocument(view, state, (machine) => ({
        how: this.guests?.how(this.config, machine) ?? 'none',
        names: guestsOf(machine).map(({ name }) => name),
        sinks: this.guests?.documents(machine) ?? [],
      }));
      return [{ ...document, devices: this.devices?.documents(view.config.name) ?? [] }];
    });
  }

  /** Devices of no seat. */
  unassigned(): InputDeviceDocument[] {
    return this.devices?.documents(null) ?? [];
  }
}
