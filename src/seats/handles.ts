/** Seats as the input thread has them: their tables, and what of them is no policy of a configuration. */
import type { SeatConfig } from '../config/config.js';
import type { InputEngine } from '../native/input.js';
import type { Logger } from '../service/log.js';
import type { Devices } from './devices.js';
import { IdleWatch } from './idle.js';
import { missing } from './seat-document.js';
import type { SeatView } from './seating.js';
import { seatTable } from './table.js';

export interface Handle {
  readonly id: number;
  locked: boolean;
  idle: IdleWatch;
  /** What it waits for; empty when it is ready, null before that is known. */
  ready: string | null;
  /** By hotkey: as many as were heard of, and as many as the view that is being set takes into account. */
  heard: number;
  switches: number;
  /** That was set last, as JSON. */
  table: string;
}

/** How guests are called on the input thread. */
export interface GuestNames {
  /** Of a machine, or null when it has no input. */
  idOf(machine: string): number | null;
  /** Of a guest that is on an output. */
  machineOf(guest: string): string;
}

export class Handles {
  private readonly handles = new Map<string, Handle>();

  constructor(
    private readonly log: Logger,
    private readonly idleChanged: (seat: string, idle: boolean) => void,
  ) {}

  get(seat: string): Handle | undefined {
    return this.handles.get(seat);
  }

  /** Notes that the seat with this id was switched by hotkey, and gives its name; empty when it is gone. */
  switched(id: number, switches: number): string {
    const [name = '', handle] = [...this.handles].find(([, one]) => one.id === id) ?? [];
    if (handle !== undefined) handle.heard = switches;
    return name;
  }

  /** What was heard of so far is in the views that are made now: to be called with nothing awaited in between. */
  viewed(): void {
    for (const handle of this.handles.values()) handle.switches = handle.heard;
  }

  stop(): void {
    for (const { idle } of this.handles.values()) idle.stop();
  }

  /** Makes what is missing, and removes what is no seat any more; resolves with the names of those. */
  async settle(engine: InputEngine, seats: readonly SeatView[]): Promise<string[]> {
    for (const { config } of seats) {
      const handle = this.handles.get(config.name) ?? (await this.make(engine, config));
      handle.idle.configure(config.idleSeconds);
    }
    const known = new Set(seats.map(({ config }) => config.name));
    const gone = [...this.handles.keys()].filter((name) => !known.has(name));
    for (const name of gone) {
      const handle = this.handles.get(name);
      this.handles.delete(name);
      if (handle === undefined) continue;
      handle.idle.stop();
      await engine.removeSeat(handle.id);
      this.log.info({ seat: name }, 'seat is gone');
    }
    return gone;
  }

  private async make(engine: InputEngine, { name }: SeatConfig): Promise<Handle> {
    const id = await engine.addSeat();
    const idle = new IdleWatch(
      () => engine.idleNs(id) / 1e6,
      (isIdle) => this.idleChanged(name, isIdle),
    );
    const handle: Handle = { id, locked: false, idle, ready: null, heard: 0, switches: 0, table: '' };
    this.handles.set(name, handle);
    return handle;
  }

  /** Tells the input thread what has become of the seats, where that is something new. */
  async setTables(
    engine: InputEngine,
    seats: readonly SeatView[],
    devices: Devices,
    names: GuestNames,
  ): Promise<void> {
    for (const view of seats) {
      const handle = this.handles.get(view.config.name);
      if (handle === undefined) continue;
      const open = devices.ofSeat(view.config.name).flatMap(({ opened, class: of, entry }) => {
        return opened === null || of === null ? [] : [{ id: opened.id, class: of, entry }];
      });
      const table = seatTable(view, handle, open, names);
      this.tellReady(view, handle, open.length);
      const text = JSON.stringify(table);
      if (text === handle.table) continue;
      handle.table = text;
      await engine.setSeat(handle.id, table);
    }
  }

  private tellReady(view: SeatView, handle: Handle, devices: number): void {
    const reason = missing(view, devices);
    if (reason === handle.ready) return;
    handle.ready = reason;
    const seat = view.config.name;
    if (reason !== '') {
      this.log.info({ seat, reason }, 'seat waits');
      return;
    }
    const outputs = view.outputs.filter(({ lit }) => lit !== null).map(({ name }) => name);
    this.log.info({ seat, outputs, devices, guest: view.current }, 'seat is ready');
  }
}
