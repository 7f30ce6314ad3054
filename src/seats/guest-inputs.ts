/** The input of all guests: which there are, what each is to have, and what came of it. */
import type { GuestSinkDocument } from '../api/documents.js';
import type { Config, GuestConfig, GuestInputName } from '../config/config.js';
import { allowsPeer } from '../config/match.js';
import type { DeviceDescription, InputClass, InputEngine } from '../native/input.js';
import type { Logger } from '../service/log.js';
import type { Device, Devices } from './devices.js';
import { GuestSinks } from './guest-sinks.js';
import type { Seating } from './seating.js';
import type { GuestInput } from './sinks.js';

export class GuestInputs {
  private readonly sinks = new Map<string, GuestSinks>();

  /** `changed`: something is to be told anew. */
  constructor(
    private readonly engine: InputEngine,
    private readonly ownInput: (machine: string) => GuestInput | null,
    private readonly log: Logger,
    private readonly changed: () => void,
  ) {}

  /** `present`: machines that are there. Guests with devices have them before they come. Calls must not overlap. */
  async update(
    config: Config,
    seating: Seating,
    devices: Devices,
    present: ReadonlySet<string>,
  ): Promise<void> {
    const names = new Set(present);
    for (const { name, input } of config.guests) {
      if (input.how === 'uinput' || input.how === 'virtio') names.add(name);
    }
    for (const [name, sinks] of [...this.sinks]) {
      if (names.has(name)) continue;
      this.sinks.delete(name);
      await sinks.close();
    }
    for (const name of names) {
      const sinks =
        this.sinks.get(name) ?? (await GuestSinks.make(name, this.engine, this.log, () => this.changed()));
      this.sinks.set(name, sinks);
      const settings = config.guests.find((guest) => guest.name === name);
      const seat = seating.seatOf(name) ?? seating.seats()[0];
      await sinks.update({
        how: this.how(config, name),
        settings: settings?.input ?? null,
        access: accessOf(config, settings),
        devices: seat === undefined ? new Map() : descriptionsOf(devices.ofSeat(seat.config.name)),
        positions: seat?.config.pointer === 'under',
        present: present.has(name),
        own: this.ownInput(name),
      });
    }
  }

  /** Whoever is not in the configuration speaks our own protocol, or QEMU's. */
  how(config: Config, machine: string): GuestInputName {
    const settings = config.guests.find((guest) => guest.name === machine);
    return settings?.input.how ?? this.ownInput(machine)?.how ?? 'none';
  }

  /** On the input thread; null for one that has nothing there. */
  idOf(machine: string): number | null {
    return this.sinks.get(machine)?.id ?? null;
  }

  nameOf(id: number | null): string | null {
    return [...this.sinks.values()].find((sinks) => sinks.id === id)?.name ?? null;
  }

  documents(machine: string): GuestSinkDocument[] {
    return this.sinks.get(machine)?.documents() ?? [];
  }

  /** A sink ended by itself. */
  async ended(sink: number, why: string): Promise<void> {
    for (const sinks of this.sinks.values()) if (await sinks.ended(sink, why)) return;
  }

  async close(): Promise<void> {
    for (const sinks of this.sinks.values()) await sinks.close();
  }
}

function accessOf({ daemon }: Config, settings: GuestConfig | undefined) {
  const rule = settings !== undefined && 'uids' in settings ? settings : { uids: null, gids: null };
  return {
    mode: daemon.guestSocketMode,
    group: daemon.guestSocketGroup,
    allows: (uid: number, gid: number) => allowsPeer(rule, uid, gid),
  };
}

function descriptionsOf(devices: readonly Device[]): Map<InputClass, DeviceDescription[]> {
  const found = new Map<InputClass, DeviceDescription[]>();
  for (const { opened } of devices) {
    for (const { class: of, description } of opened?.classes ?? []) {
      found.set(of, [...(found.get(of) ?? []), description]);
    }
  }
  return found;
}
