/** The input devices of this machine: which there are, whose they are, and which of them are open. */
import type { InputDeviceDocument } from '../api/documents.js';
import type { Config, InputConfig, SeatConfig } from '../config/config.js';
import { type Fd, isSystemError } from '../native/base.js';
import type { DeviceDescription, InputClass, InputEngine, OpenedDevice } from '../native/input.js';
import type { Logger } from '../service/log.js';
import { type AssignedBy, assignDevice, type ReadOptions, readOptions, settingsFor } from './assign.js';
import type { InputNode } from './nodes.js';

/** An event device that was opened; `close` gives it back to whoever opened it, after its descriptor was closed. */
export interface OpenedInput {
  fd: Fd;
  close(): void;
  /** The daemon opened it itself. */
  direct: boolean;
}

export interface DeviceWorld {
  /** Throws a SystemError. */
  nodes(): InputNode[];
  /** Null while the session is not active: it is tried again when it is. Throws a SystemError. */
  open(node: InputNode): OpenedInput | null;
  /** Throws a SystemError for what is no device, or one that no device can be. */
  describe(fd: Fd): DeviceDescription;
  classify(description: DeviceDescription): InputClass | null;
}

type Engine = Pick<InputEngine, 'open' | 'close'>;

/** A device, opened or not. */
export interface Device {
  node: InputNode;
  seat: string | null;
  by: AssignedBy;
  /** Null: not known, as it was not opened yet, or none that a guest could make use of. */
  class: InputClass | null;
  /** Why it is not open; empty when it is. */
  reason: string;
  entry: InputConfig | null;
  options: ReadOptions | null;
  opened: OpenedDevice | null;
  source: OpenedInput | null;
}

/** What came of a node when it was looked at: a class, or why it cannot be used. */
interface Looked {
  source: OpenedInput;
  class: InputClass;
}

export class Devices {
  private readonly devices = new Map<string, Device>();
  /** Seats that calls have given to devices, by sysPath: they last until the device is unplugged. */
  private readonly attached = new Map<string, string>();

  constructor(
    private readonly world: DeviceWorld,
    private readonly engine: Engine,
    private readonly log: Logger,
  ) {}

  list(): readonly Device[] {
    return [...this.devices.values()];
  }

  ofSeat(name: string): Device[] {
    return this.list().filter(({ seat, opened }) => seat === name && opened !== null);
  }

  byId(id: number): Device | undefined {
    return this.list().find(({ opened }) => opened?.id === id);
  }

  /** By its node, another path of it, or the node's name ("event3"). */
  find(text: string): Device | undefined {
    return this.list().find(
      ({ node }) => node.path === text || node.links.includes(text) || node.path === `/dev/input/${text}`,
    );
  }

  /** For `reconcile`; null: as configuration and udev say. */
  attach(device: Device, seat: string | null): void {
    if (seat === null) this.attached.delete(device.node.sysPath);
    else this.attached.set(device.node.sysPath, seat);
  }

  isAttached(device: Device): boolean {
    return this.attached.has(device.node.sysPath);
  }

  /** Opens what is to be open and closes the rest. Calls must not overlap. */
  async reconcile(config: Config, seats: readonly SeatConfig[]): Promise<void> {
    const nodes = new Map(this.world.nodes().map((node) => [node.sysPath, node]));
    for (const [sysPath, device] of [...this.devices]) {
      if (nodes.has(sysPath)) continue;
      await this.shut(device, 'unplugged');
      this.devices.delete(sysPath);
      this.attached.delete(sysPath);
    }
    for (const node of nodes.values()) await this.settle(node, config, seats);
  }

  private async settle(node: InputNode, config: Config, seats: readonly SeatConfig[]): Promise<void> {
    let device = this.devices.get(node.sysPath);
    if (device === undefined) {
      device = {
        node,
        seat: null,
        by: 'rest',
        class: null,
        reason: 'not opened yet',
        entry: null,
        options: null,
        opened: null,
        source: null,
      };
      this.devices.set(node.sysPath, device);
    }
    // Another opens it from now on.
    if (device.node.udevSeat !== node.udevSeat) await this.shut(device, `udev has it at ${node.udevSeat}`);
    device.node = node;
    const known = device.class ?? undefined;
    const entry = settingsFor(config, node, known);
    if (entry?.ignore === true) return await this.leave(device, null, 'ignored by the configuration');
    const seen = entry ?? null;
    const { seat, by, reason } = assignDevice(seats, node, seen, this.attached.get(node.sysPath) ?? null);
    device.by = by;
    // An entry that asks for its class may still give it a seat.
    if (seat === null && entry !== undefined) return await this.leave(device, null, reason);
    const looked = device.opened === null ? this.look(device) : null;
    if (device.opened === null && looked === null) {
      device.seat = seat;
      return;
    }
    await this.use(device, looked, config, seats);
  }

  /** It is known what it is: to whom it belongs is decided anew, with entries that ask for that. */
  private async use(
    device: Device,
    looked: Looked | null,
    config: Config,
    seats: readonly SeatConfig[],
  ): Promise<void> {
    const { node } = device;
    const of = looked?.class ?? device.class;
    const source = looked?.source ?? device.source;
    if (of === null || source === null) return;
    device.class = of;
    const entry = settingsFor(config, node, of) ?? null;
    const { seat, by, reason } = assignDevice(seats, node, entry, this.attached.get(node.sysPath) ?? null);
    device.by = by;
    const settings = seats.find(({ name }) => name === seat)?.input;
    if (entry?.ignore === true || settings === undefined) {
      if (looked !== null) giveBack(looked.source);
      const why = entry?.ignore === true ? 'ignored by the configuration' : reason;
      return await this.leave(device, null, why);
    }
    const options = readOptions(of, entry, settings, source.direct);
    const moved = device.seat !== seat;
    // Those of one seat share a context of libinput.
    const stays = !moved || options.read === 'raw';
    const same = stays && JSON.stringify(options) === JSON.stringify(device.options);
    device.seat = seat;
    device.entry = entry;
    if (device.opened !== null && same) {
      if (moved) this.log.info({ device: node.path, name: node.name, seat, by }, 'device moved');
      return;
    }
    if (device.opened === null && looked !== null) return this.take(device, looked, options);
    await this.shut(device, 'read otherwise');
    const again = this.look(device);
    if (again !== null) this.take(device, again, options);
  }

  /** Opens it to see what it is. */
  private look(device: Device): Looked | null {
    const { node } = device;
    let source: OpenedInput | null = null;
    try {
      source = this.world.open(node);
      if (source === null) {
        device.reason = 'the session is not active';
        return null;
      }
      const of = this.world.classify(this.world.describe(source.fd));
      if (of !== null) return { source, class: of };
      giveBack(source);
      this.refuse(device, 'nothing that a guest could make use of', 'debug');
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (source !== null) giveBack(source);
      this.refuse(
        device,
        error.message,
        error.code === 'ENOENT' || error.code === 'ENODEV' ? 'debug' : 'warn',
      );
    }
    return null;
  }

  private take(device: Device, { source, class: of }: Looked, options: ReadOptions): void {
    const { node, seat, by } = device;
    const { path, name } = node;
    try {
      device.opened = this.engine.open({ fd: source.fd, path, class: of, group: seat ?? '', ...options });
    } catch (error) {
      giveBack(source);
      // Whatever it is: other devices are none the worse for it.
      this.refuse(device, error instanceof Error ? error.message : String(error), 'warn');
      return;
    }
    device.source = source;
    device.options = options;
    device.reason = '';
    this.log.info(
      { device: path, name, class: of, seat, by, read: options.read, grab: options.grab },
      'device opened',
    );
    for (const reason of device.opened.refused) {
      // What is set for a whole seat is not for each of its devices.
      const own = Object.keys(device.entry?.libinput ?? {}).some((option) => reason.startsWith(`${option}:`));
      this.log[own ? 'warn' : 'debug']({ device: path, name, reason }, 'an option of libinput is not set');
    }
  }

  /** Says why, once for each reason. */
  private refuse(device: Device, reason: string, level: 'warn' | 'debug'): void {
    const { path, name } = device.node;
    if (device.reason !== reason) this.log[level]({ device: path, name, reason }, 'device not used');
    device.reason = reason;
  }

  private async leave(device: Device, seat: string | null, reason: string): Promise<void> {
    device.seat = seat;
    await this.shut(device, reason);
    if (device.reason !== reason) {
      this.log.debug({ device: device.node.path, name: device.node.name, reason }, 'device left alone');
    }
    device.reason = reason;
  }

  private async shut(device: Device, reason: string): Promise<void> {
    const { opened, source, node } = device;
    if (opened === null) return;
    device.opened = null;
    device.source = null;
    device.options = null;
    device.reason = reason;
    this.log.info({ device: node.path, name: node.name, reason }, 'device closed');
    await this.engine.close(opened.id);
    source?.close();
  }

  /** A device cannot be read any more. The next `reconcile` opens it again if it is there still, or again. */
  async gone(id: number, reason: string): Promise<void> {
    const device = this.byId(id);
    if (device !== undefined) await this.shut(device, reason);
  }

  /** Of a seat manager's devices, or of all. What is pressed on them is released in guests. */
  async shutAll(reason: string, which: (device: Device) => boolean = () => true): Promise<void> {
    await Promise.all(
      this.list()
        .filter(which)
        .map((device) => this.shut(device, reason)),
    );
  }

  documents(seat: string | null): InputDeviceDocument[] {
    return this.list()
      .filter((device) => device.seat === seat)
      .map(({ node, class: of, by, options, opened, reason }) => ({
        device: node.path,
        name: node.name,
        id: node.id,
        phys: node.phys,
        class: of,
        udevSeat: node.udevSeat,
        by,
        open: opened !== null,
        reason,
        read: options?.read ?? null,
        grab: options?.grab ?? false,
        comesAs: opened?.classes.map(({ class: one }) => one) ?? [],
      }));
  }
}

/** Of native code, or of Node.js. */
function isRefusal(error: unknown): error is Error & { code: string } {
  return isSystemError(error) || (error instanceof Error && 'syscall' in error && 'code' in error);
}

function giveBack({ fd, close }: OpenedInput): void {
  fd.close();
  close();
}
