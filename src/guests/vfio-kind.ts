/** Vfio guests: finds the devices that the configuration names, as they come and go. */
import { existsSync } from 'node:fs';
import type { Config, VfioGuestConfig } from '../config/config.js';
import { isSystemError } from '../native/base.js';
import { VfioDevice } from '../native/vfio.js';
import { AdmissionError, type GuestHost, type GuestKind, type GuestKindEntry } from './kind.js';
import { VfioGuest } from './vfio.js';

/** How often a device that is not there is looked for, and one that is there is looked after. */
const LOOK_MS = 500;

export const vfioKind: GuestKindEntry = { name: 'vfio', make: (host) => new VfioKind(host) };

interface Watched {
  settings: VfioGuestConfig;
  guest: VfioGuest | null;
  /** What was wrong when it was looked for last, so that it is told once. */
  trouble: string;
}

class VfioKind implements GuestKind {
  private readonly watched = new Map<string, Watched>();
  private timer: NodeJS.Timeout | null = null;
  private looking: Promise<void> = Promise.resolve();

  constructor(private readonly host: GuestHost) {}

  async start(config: Config): Promise<void> {
    await this.reload(config);
  }

  async reload(config: Config): Promise<void> {
    const wanted = config.guests.filter((guest): guest is VfioGuestConfig => guest.kind === 'vfio');
    for (const [name, watched] of this.watched) {
      const settings = wanted.find((one) => one.name === name);
      if (settings !== undefined && JSON.stringify(settings) === JSON.stringify(watched.settings)) continue;
      this.watched.delete(name);
      await this.end(watched, true);
    }
    for (const settings of wanted) {
      if (!this.watched.has(settings.name)) {
        this.watched.set(settings.name, { settings, guest: null, trouble: '' });
      }
    }
    this.look();
  }

  async stop(): Promise<void> {
    if (this.timer !== null) clearTimeout(this.timer);
    const all = [...this.watched.values()];
    this.watched.clear();
    await this.looking;
    await Promise.all(all.map((watched) => this.end(watched, true)));
  }

  private look(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    if (this.watched.size === 0) return;
    this.looking = this.looking.then(async () => {
      for (const watched of this.watched.values()) await this.lookAt(watched);
      if (this.watched.size > 0) this.timer = setTimeout(() => this.look(), LOOK_MS);
    });
  }

  private async lookAt(watched: Watched): Promise<void> {
    const { guest, settings } = watched;
    if (guest === null) {
      await this.find(watched);
    } else if (!existsSync(settings.device)) {
      // A driver cannot let a device go that somebody has open.
      await this.lost(watched, guest, 'the device was removed');
    } else if (!guest.stillOwned()) {
      await this.lost(watched, guest, 'its virtual machine has let it go');
    }
  }

  private async find(watched: Watched): Promise<void> {
    const { settings } = watched;
    let device: VfioDevice | null = null;
    try {
      if (!existsSync(settings.device)) throw new AdmissionError('there is no such device');
      const how = settings.owner === 'daemon' ? 'open' : 'adopt';
      device = new VfioDevice(how, settings.device);
      const card = this.host.place(settings.name, settings.output);
      const { statistics, log } = this.host;
      const guest: VfioGuest = new VfioGuest(card, settings, device, statistics, log, (reason) => {
        void this.lost(watched, guest, reason);
      });
      watched.guest = guest;
      watched.trouble = '';
      this.host.admit(guest);
      this.host.audit('guest', {
        name: settings.name,
        device: settings.device,
        pid: device.owner,
        admitted: true,
      });
      await this.host.arrived(guest);
    } catch (error) {
      if (watched.guest === null) device?.close();
      this.tell(watched, error as Error);
    }
  }

  private tell(watched: Watched, error: Error): void {
    if (watched.trouble === error.message) return;
    watched.trouble = error.message;
    const { name, device } = watched.settings;
    // A machine that does not run yet is nothing to worry about.
    const waits = error instanceof AdmissionError || isSystemError(error, 'ENODEV');
    const text = 'the device cannot be shown now; looking again';
    if (waits) this.host.log.info({ guest: name, device, reason: error.message }, text);
    else this.host.log.warn({ guest: name, device, err: error }, text);
  }

  private async lost(watched: Watched, guest: VfioGuest, reason: string): Promise<void> {
    if (watched.guest !== guest) return;
    this.host.log.info({ guest: guest.name, reason }, 'guest left');
    await this.end(watched, true);
  }

  private async end(watched: Watched, clean: boolean): Promise<void> {
    const { guest } = watched;
    if (guest === null) return;
    await this.host.departed(guest, clean);
    watched.guest = null;
  }
}
