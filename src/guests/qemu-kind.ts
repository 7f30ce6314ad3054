/** Virtual machines with QEMU's D-Bus display: those of the configuration, and those that a caller hands over. */
import type { Config, QemuGuestConfig } from '../config/config.js';
import { guestSettings } from '../config/match.js';
import type { Fd } from '../native/base.js';
import { AdmissionError, type GuestHost, type GuestKind, type GuestKindEntry } from './kind.js';
import { connectBus, connectMonitor, connectPeer } from './qemu-connection.js';
import { QemuMachine } from './qemu-machine.js';

export const qemuKind: GuestKindEntry = { name: 'qemu', make: (host) => new QemuKind(host) };

interface Configured {
  machine: QemuMachine;
  /** What of the configuration it is made from. */
  entries: string;
}

class QemuKind implements GuestKind {
  private config: Config | null = null;
  /** By socket or address. */
  private readonly configured = new Map<string, Configured>();
  /** By name. */
  private readonly attached = new Map<string, QemuMachine>();

  constructor(private readonly host: GuestHost) {}

  async start(config: Config): Promise<void> {
    await this.reload(config);
  }

  async reload(config: Config): Promise<void> {
    this.config = config;
    const wanted = new Map<string, QemuGuestConfig[]>();
    for (const guest of config.guests) {
      if (guest.kind !== 'qemu') continue;
      const place = guest.socket ?? guest.address ?? '';
      wanted.set(place, [...(wanted.get(place) ?? []), guest]);
    }
    for (const [place, { machine, entries }] of this.configured) {
      if (JSON.stringify(wanted.get(place)) === entries) continue;
      this.configured.delete(place);
      await machine.stop();
    }
    for (const [place, entries] of wanted) {
      const known = this.configured.get(place);
      if (known !== undefined) {
        known.machine.offerInput();
        continue;
      }
      const machine = this.machineOf(place, entries);
      this.configured.set(place, { machine, entries: JSON.stringify(entries) });
      // A virtual machine that is not there yet holds nobody up.
      void machine.start();
    }
  }

  private machineOf(place: string, entries: readonly QemuGuestConfig[]): QemuMachine {
    const connect = entries.some(({ socket }) => socket !== null) ? connectMonitor : connectBus;
    return new QemuMachine(this.host, {
      label: place,
      connect: () => connect(place, this.host.input.engine),
      lasting: true,
      guestOf: (console) => {
        const settings = entries.find((one) => one.console === console);
        return settings === undefined ? null : { name: settings.name, settings };
      },
    });
  }

  /**
   * A connection to a display, of which QEMU has the other end (taken over): every console of the machine becomes a guest,
   * the first `name` and others `name.N`. Throws an AdmissionError, or what ended the connection.
   */
  async attach(name: string, socket: Fd): Promise<void> {
    const settingsOf = (guest: string): QemuGuestConfig | null => {
      const settings = this.config === null ? null : guestSettings(this.config, guest);
      if (settings !== null && settings.kind !== 'qemu') {
        throw new AdmissionError(`guest ${guest} is of kind "${settings.kind}" in the configuration`);
      }
      return settings;
    };
    if (settingsOf(name) === null && this.config?.policy.unknownGuests === 'refuse') {
      throw new AdmissionError(`the configuration knows no guest ${name}`);
    }
    await this.attached.get(name)?.stop();
    const connection = await connectPeer(socket, this.host.input.engine);
    const machine = new QemuMachine(this.host, {
      label: name,
      connect: async () => connection,
      lasting: false,
      onGone: () => {
        if (this.attached.get(name) === machine) this.attached.delete(name);
      },
      guestOf: (console) => {
        const guest = console === 0 ? name : `${name}.${console}`;
        return { name: guest, settings: settingsOf(guest) };
      },
    });
    this.attached.set(name, machine);
    await machine.start();
    if (this.attached.get(name) !== machine) throw new AdmissionError('the other end is no display of QEMU');
  }

  async stop(): Promise<void> {
    const machines = [
      ...this.attached.values(),
      ...[...this.configured.values()].map(({ machine }) => machine),
    ];
    await Promise.all(machines.map((machine) => machine.stop()));
  }
}
