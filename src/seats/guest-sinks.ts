/** One guest's input: the devices that it has, by whichever way, and what became of them. */
import type { GuestSinkDocument } from '../api/documents.js';
import type { GuestInputConfig, GuestInputName } from '../config/config.js';
import { isSystemError } from '../native/base.js';
import {
  type DeviceDescription,
  type GuestDevice,
  INPUT_CLASSES,
  type InputClass,
  type InputEngine,
} from '../native/input.js';
import type { Logger } from '../service/log.js';
import { guestDescription, lacking } from './describe.js';
import { InputSockets, type SocketAccess } from './input-sockets.js';
import type { GuestInput } from './sinks.js';

/** What every guest with devices has, whatever its seat has. */
const ALWAYS: readonly InputClass[] = ['keyboard', 'pointer'];

interface Sink {
  id: number;
  class: InputClass | null;
  how: GuestSinkDocument['how'];
  path: string;
  /** Null: the guest's own has none. */
  description: DeviceDescription | null;
}

/** What a guest is to have now. */
export interface WantedSinks {
  how: GuestInputName;
  settings: GuestInputConfig | null;
  access: SocketAccess;
  /** Of the devices of its seat, by what they come out as. */
  devices: ReadonlyMap<InputClass, readonly DeviceDescription[]>;
  /** Its seat looks for pointers under guests, which then have a position. */
  positions: boolean;
  /** A guest that is there; its devices stay as they are meanwhile. */
  present: boolean;
  own: GuestInput | null;
}

export class GuestSinks {
  private readonly sinks = new Map<number, Sink>();
  private readonly sockets: InputSockets;
  private own: GuestInput | null = null;
  /** What it was given last, as JSON. */
  private described = '';
  private how: GuestInputName = 'none';
  private wanted: WantedSinks | null = null;
  private closed = false;
  /** Devices that could not be made, which is told once. */
  private readonly refused = new Set<InputClass>();
  private readonly told = new Set<string>();

  private constructor(
    readonly name: string,
    /** Of the input thread. */
    readonly id: number,
    private readonly engine: InputEngine,
    private readonly log: Logger,
    private readonly changed: () => void,
  ) {
    this.sockets = new InputSockets(name, log, (of, socket, path) => void this.connected(of, socket, path));
  }

  static async make(
    name: string,
    engine: InputEngine,
    log: Logger,
    changed: () => void,
  ): Promise<GuestSinks> {
    return new GuestSinks(name, await engine.addGuest(), engine, log, changed);
  }

  /** Calls must not overlap. */
  async update(wanted: WantedSinks): Promise<void> {
    if (this.closed) return;
    const { how, own } = wanted;
    this.wanted = wanted;
    if (how !== this.how) {
      await this.removeAll();
      this.how = how;
      this.refused.clear();
    }
    if (how === 'uinput') await this.updateUinput(wanted);
    this.sockets.update(
      how === 'virtio' ? this.classes(wanted) : [],
      wanted.settings?.socket ?? '',
      wanted.access,
    );
    if (how === 'virtio') this.compare(wanted);
    await this.updateOwn(how === 'ring' || how === 'qemu' ? own : null, wanted);
  }

  private classes({ how, settings, devices, positions }: WantedSinks): InputClass[] {
    if (settings?.classes != null) return settings.classes;
    if (how === 'virtio') return [...INPUT_CLASSES];
    const found = new Set<InputClass>([
      ...ALWAYS,
      ...devices.keys(),
      ...(positions ? ['absolute' as const] : []),
    ]);
    return INPUT_CLASSES.filter((of) => found.has(of));
  }

  private deviceOf(of: InputClass): GuestDevice {
    return { class: of, description: this.describe(of) };
  }

  private describe(of: InputClass): DeviceDescription {
    return guestDescription(this.name, of, this.wanted?.devices.get(of) ?? []);
  }

  private async updateUinput(wanted: WantedSinks): Promise<void> {
    const classes = this.classes(wanted);
    for (const sink of [...this.sinks.values()]) {
      const of = sink.class;
      if (of === null || sink.description === null) continue;
      const stays = classes.includes(of) || (wanted.present && wanted.settings?.classes == null);
      // A virtual machine that has it open would lose it: what it lacks waits until that is gone.
      const outdated = lacking(sink.description, this.describe(of)) !== '' && !wanted.present;
      if (!stays || outdated) await this.remove(sink);
    }
    for (const of of classes) {
      if (![...this.sinks.values()].some((sink) => sink.class === of)) await this.addUinput(of);
    }
    this.compare(wanted);
  }

  private async addUinput(of: InputClass): Promise<void> {
    const description = this.describe(of);
    try {
      const { id, path } = await this.engine.addUinput(this.id, of, description);
      this.sinks.set(id, { id, class: of, how: 'uinput', path, description });
      this.refused.delete(of);
      this.log.info({ guest: this.name, class: of, device: path }, 'input device made');
    } catch (error) {
      if (!isSystemError(error)) throw error;
      const level = this.refused.has(of) ? 'debug' : 'error';
      this.refused.add(of);
      this.log[level]({ guest: this.name, class: of, err: error }, `no input device: ${error.message}`);
    }
  }

  /** Says what a guest's device cannot pass on, once for each. */
  private compare({ devices }: WantedSinks): void {
    for (const sink of this.sinks.values()) {
      if (sink.class === null || sink.description === null || !devices.has(sink.class)) continue;
      const missing = lacking(sink.description, this.describe(sink.class));
      const what = `${sink.id} ${missing}`;
      if (missing === '' || this.told.has(what)) continue;
      this.told.add(what);
      const { name } = this;
      const text =
        "a device of its seat can do more than the guest's own, which stays as it is while the guest is there";
      this.log.warn({ guest: name, class: sink.class, missing }, text);
    }
  }

  // ---- vhost-user-input

  private async connected(
    of: InputClass,
    socket: Parameters<InputEngine['addVirtio']>[3],
    path: string,
  ): Promise<void> {
    const description = this.describe(of);
    try {
      const id = await this.engine.addVirtio(this.id, of, description, socket);
      if (this.closed) return; // it went with the guest
      if (this.how !== 'virtio') return await this.engine.removeSink(id);
      this.sinks.set(id, { id, class: of, how: 'virtio', path, description });
      this.log.info({ guest: this.name, class: of, socket: path }, 'input device connected');
      this.changed();
    } catch (error) {
      this.sockets.ended(of, path);
      this.log.error({ guest: this.name, class: of, err: error }, 'input device not served');
    }
  }

  // ---- the guest's own

  private async updateOwn(own: GuestInput | null, wanted: WantedSinks): Promise<void> {
    const devices = own === null ? [] : this.classes(wanted).map((of) => this.deviceOf(of));
    const described = JSON.stringify(devices);
    if (own === this.own) {
      const attached = [...this.sinks.values()].some((sink) => sink.class === null);
      if (own === null || !attached || described === this.described) return;
      this.described = described;
      await own.describe?.(devices);
      return;
    }
    if (this.own !== null) await this.removeAll();
    this.own = own;
    if (own === null) return;
    this.described = described;
    try {
      const id = await own.attach(this.engine, this.id, devices);
      this.sinks.set(id, { id, class: null, how: own.how, path: '', description: null });
      this.log.info({ guest: this.name, how: own.how }, 'input connected');
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.log.error({ guest: this.name, how: own.how, err: error }, `no input: ${message}`);
    }
  }

  // ---- ends

  /** A sink ended by itself. True when it was one of these. */
  async ended(id: number, why: string): Promise<boolean> {
    const sink = this.sinks.get(id);
    if (sink === undefined) return false;
    this.log.info({ guest: this.name, class: sink.class, how: sink.how, reason: why }, 'input ended');
    await this.remove(sink, why);
    return true;
  }

  private async remove(sink: Sink, why: string | null = null): Promise<void> {
    this.sinks.delete(sink.id);
    await this.engine.removeSink(sink.id);
    if (sink.how === 'virtio' && sink.class !== null) this.sockets.ended(sink.class, sink.path);
    if (sink.class !== null || this.own === null) return;
    const { own } = this;
    // What ended by itself is not asked again, but for another one that it offers.
    if (why === null) this.own = null;
    own.detached(why);
  }

  private async removeAll(): Promise<void> {
    for (const sink of [...this.sinks.values()]) await this.remove(sink);
    this.own = null;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.sockets.close();
    await this.removeAll();
    await this.engine.removeGuest(this.id);
  }

  documents(): GuestSinkDocument[] {
    const sinks = [...this.sinks.values()].map(({ id, class: of, how, path }): GuestSinkDocument => {
      const { delivered, merged, dropped, p50Ns, p99Ns, maxNs } = this.engine.stats(id);
      const latencyUs = { p50: p50Ns / 1000, p99: p99Ns / 1000, max: maxNs / 1000 };
      return { class: of, how, path, open: true, delivered, merged, dropped, latencyUs };
    });
    const latencyUs = { p50: 0, p99: 0, max: 0 };
    const nothing = { open: false, delivered: 0, merged: 0, dropped: 0, latencyUs };
    const waiting = this.sockets.free().map(({ class: of, path }): GuestSinkDocument => {
      return { class: of, how: 'virtio', path, ...nothing };
    });
    return [...sinks, ...waiting];
  }
}
