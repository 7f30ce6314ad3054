/** Vfio guests: finds the devices that the configuration names, as they come and go, and takes those that are offered. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config, VfioGuestConfig } from '../config/config.js';
import { allowsPeer, guestSettings } from '../config/match.js';
import { type Fd, isSystemError } from '../native/base.js';
import { fdKind } from '../native/guests.js';
import { VfioDevice } from '../native/vfio.js';
import { AdmissionError, type GuestHost, type GuestKind, type GuestKindEntry } from './kind.js';
import type { DeviceOffer, TakenDevice } from './offer.js';
import { Code, ProtocolError } from './protocol.js';
import { VfioGuest } from './vfio.js';

/** How often a device that is not there is looked for, and one that is there is looked after. */
const LOOK_MS = 500;

export const vfioKind: GuestKindEntry = { name: 'vfio', make: (host) => new VfioKind(host) };

/** A device that came over the guest socket, for as long as its owner offers it. */
interface OfferedDevice extends Pick<DeviceOffer, 'peer' | 'ended'> {
  readonly fd: Fd;
}

interface Watched {
  settings: VfioGuestConfig;
  guest: VfioGuest | null;
  /** With owner "socket": what was offered, also while it cannot be shown. */
  offer: OfferedDevice | null;
  /** Where it is in sysfs; empty where that is not known. */
  path: string;
  /** What was wrong when it was looked for last, so that it is told once. */
  trouble: string;
}

class VfioKind implements GuestKind {
  private readonly watched = new Map<string, Watched>();
  private config: Config | null = null;
  private timer: NodeJS.Timeout | null = null;
  private looking: Promise<void> = Promise.resolve();

  constructor(private readonly host: GuestHost) {
    host.takeDevice = (offer) => this.take(offer);
  }

  async start(config: Config): Promise<void> {
    await this.reload(config);
  }

  async reload(config: Config): Promise<void> {
    this.config = config;
    const wanted = config.guests.filter((guest): guest is VfioGuestConfig => guest.kind === 'vfio');
    for (const [name, watched] of this.watched) {
      const settings = wanted.find((one) => one.name === name);
      if (settings !== undefined && JSON.stringify(settings) === JSON.stringify(watched.settings)) continue;
      await this.end(watched, true);
      if (settings !== undefined && keepsOffer(watched, settings)) {
        watched.settings = settings;
        continue;
      }
      this.watched.delete(name);
      this.drop(watched, Code.notAllowed, 'the configuration was changed, and takes this device no more');
    }
    for (const settings of wanted) {
      if (!this.watched.has(settings.name)) {
        this.watched.set(settings.name, { settings, guest: null, offer: null, path: '', trouble: '' });
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
    for (const watched of all) this.drop(watched, Code.internal, 'the daemon ends');
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
      if (settings.owner !== 'socket' || watched.offer !== null) await this.find(watched);
      return;
    }
    if (watched.path !== '' && !existsSync(join(watched.path, 'driver'))) {
      // A driver cannot let a device go that somebody has open: all that is seen to go before is this link.
      await this.lost(watched, guest, 'the device was removed, or its driver unbound');
    } else if (!guest.stillOwned()) {
      await this.lost(watched, guest, 'its virtual machine has let it go');
    }
  }

  private async find(watched: Watched): Promise<void> {
    try {
      await this.show(watched);
    } catch (error) {
      this.tell(watched, error as Error);
    }
  }

  private async show(watched: Watched): Promise<void> {
    const device = openDevice(watched);
    try {
      const { settings } = watched;
      const card = this.host.place(settings.name, settings.output);
      const { statistics, log } = this.host;
      const peer = watched.offer?.peer ?? null;
      const guest: VfioGuest = new VfioGuest(card, settings, device, peer, statistics, log, (reason) => {
        void this.lost(watched, guest, reason);
      });
      watched.guest = guest;
      watched.path = settings.device ?? device.path;
      watched.trouble = '';
      this.host.admit(guest);
      const { pid, uid } = guest.document();
      this.host.audit('guest', { name: settings.name, device: settings.device, pid, uid, admitted: true });
      await this.host.arrived(guest);
    } finally {
      if (watched.guest === null) device.close();
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
    this.drop(watched, Code.badFd, reason);
  }

  private async end(watched: Watched, clean: boolean): Promise<void> {
    const { guest } = watched;
    if (guest === null) return;
    await this.host.departed(guest, clean);
    watched.guest = null;
  }

  // ---- devices that are offered

  private async take(offer: DeviceOffer): Promise<TakenDevice> {
    const watched = this.watchedFor(offer);
    // Asked of the kernel first, and of the file only when it is known to be one.
    if (fdKind(offer.device) !== 'vfio-device') {
      throw new ProtocolError(Code.badFd, 'the descriptor is no device of VFIO that was opened by its group');
    }
    const offered = { fd: offer.device.dup(), peer: offer.peer, ended: offer.ended };
    watched.offer = offered;
    try {
      await this.show(watched);
    } catch (error) {
      await this.withdraw(offer.name, offered, true);
      throw asRefusal(error);
    }
    return { withdraw: (clean) => this.withdraw(offer.name, offered, clean) };
  }

  /** Throws a ProtocolError that says why nobody, or this peer not, may offer a device under the name. */
  private watchedFor({ name, peer }: DeviceOffer): Watched {
    const refuse = (code: Code, text: string): never => {
      this.host.audit('guest', { name, ...peer, admitted: false });
      throw new ProtocolError(code, text);
    };
    const settings = this.config === null ? null : guestSettings(this.config, name);
    if (settings === null) return refuse(Code.badName, `the configuration knows no guest ${name}`);
    if (settings.kind !== 'vfio') {
      return refuse(Code.badName, `guest ${name} is of kind "${settings.kind}" in the configuration`);
    }
    if (settings.owner !== 'socket') {
      const where = `owner = "${settings.owner}" in the configuration`;
      return refuse(Code.badName, `guest ${name} takes no device from the guest socket: ${where}`);
    }
    if (!allowsPeer(settings, peer.uid, peer.gid)) {
      return refuse(
        Code.notAllowed,
        `uid ${peer.uid} gid ${peer.gid} may not offer a device as guest ${name}`,
      );
    }
    const watched = this.watched.get(name);
    if (watched === undefined) throw new ProtocolError(Code.busy, 'the configuration is being changed');
    if (watched.offer !== null) throw new ProtocolError(Code.busy, `guest ${name} has a device already`);
    return watched;
  }

  private async withdraw(name: string, offer: OfferedDevice, clean: boolean): Promise<void> {
    const watched = this.watched.get(name);
    if (watched?.offer !== offer) return;
    await this.end(watched, clean);
    if (watched.offer !== offer) return; // given back meanwhile
    watched.offer = null;
    offer.fd.close();
  }

  /** Gives an offered device back, and tells its owner why. */
  private drop(watched: Watched, code: Code, reason: string): void {
    const { offer } = watched;
    if (offer === null) return;
    watched.offer = null;
    offer.fd.close();
    offer.ended(code, reason);
  }
}

/** A device that was offered stays while its owner may offer it. */
function keepsOffer({ offer }: Watched, settings: VfioGuestConfig): boolean {
  if (offer === null || settings.owner !== 'socket') return false;
  return allowsPeer(settings, offer.peer.uid, offer.peer.gid);
}

/** Throws a SystemError, or an AdmissionError when there is nothing to open. */
function openDevice({ settings, offer }: Watched): VfioDevice {
  if (offer !== null) return new VfioDevice('fd', offer.fd.dup());
  if (settings.device === null || !existsSync(settings.device)) {
    throw new AdmissionError('there is no such device');
  }
  return new VfioDevice(settings.owner === 'daemon' ? 'open' : 'adopt', settings.device);
}

/** What the owner of a device is told when it is not shown. */
function asRefusal(error: unknown): unknown {
  if (error instanceof AdmissionError) return new ProtocolError(Code.busy, error.message);
  if (isSystemError(error) || error instanceof TypeError) return new ProtocolError(Code.badFd, error.message);
  return error;
}
