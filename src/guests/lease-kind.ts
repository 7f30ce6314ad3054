/** Guests with a lease: says who may ask for which; the broker decides. They come by the guest socket. */
import type { Config, LeaseGuestConfig } from '../config/config.js';
import { allowsPeer, guestSettings } from '../config/match.js';
import { AdmissionError, type GuestHost, type GuestKind, type GuestKindEntry } from './kind.js';
import { LeaseGuest } from './lease.js';
import type { GuestLeaseRequest, TakenLease } from './lease-request.js';
import { Code, ProtocolError } from './protocol.js';

export const leaseKind: GuestKindEntry = { name: 'lease', make: (host) => new LeaseKind(host) };

class LeaseKind implements GuestKind {
  private config: Config | null = null;

  constructor(private readonly host: GuestHost) {
    host.takeLease = (request) => this.take(request);
  }

  async start(config: Config): Promise<void> {
    this.config = config;
  }

  /** Those that have left are listed for as long as they are configured. */
  async reload(config: Config): Promise<void> {
    this.config = config;
    const { lessees } = this.host;
    const reason = 'the configuration was changed, and gives the guest this lease no more';
    const others = [...lessees.values()].filter((guest) => !keepsLease(guest, config));
    await Promise.all(others.map((guest) => guest.dismiss(Code.notAllowed, reason)));
    for (const { settings } of others) lessees.delete(settings.name);
    if (others.length > 0) this.host.changed();
  }

  /** Leases, and waiting for them, end with the broker, or go on with the next daemon's. */
  async stop(): Promise<void> {}

  private take(request: GuestLeaseRequest): TakenLease {
    const { host } = this;
    const settings = this.settingsFor(request);
    try {
      host.checkRoom(request.name);
    } catch (error) {
      if (error instanceof AdmissionError) throw new ProtocolError(Code.busy, error.message);
      throw error;
    }
    const changed = () => host.changed();
    const failed = (error: unknown) =>
      host.log.error({ guest: request.name, lease: settings.lease, err: error }, 'lease not granted');
    const guest = new LeaseGuest(settings, request, host.leases, changed, failed);
    host.lessees.set(request.name, guest);
    host.audit('guest', { name: request.name, lease: settings.lease, ...request.peer, admitted: true });
    guest.ask();
    return { withdraw: (clean) => guest.leave(clean) };
  }

  private settingsFor({ name, peer }: GuestLeaseRequest): LeaseGuestConfig {
    const refuse = (code: Code, text: string): never => {
      this.host.audit('guest', { name, ...peer, admitted: false });
      throw new ProtocolError(code, text);
    };
    const settings = this.config === null ? null : guestSettings(this.config, name);
    if (settings === null) return refuse(Code.badName, `the configuration knows no guest ${name}`);
    if (settings.kind !== 'lease') {
      const what = `is of kind "${settings.kind}" in the configuration, and has no lease`;
      return refuse(Code.badName, `guest ${name} ${what}`);
    }
    if (!allowsPeer(settings, peer.uid, peer.gid)) {
      return refuse(Code.notAllowed, `uid ${peer.uid} gid ${peer.gid} may not be guest ${name}`);
    }
    return settings;
  }
}

/** Whether it would still be let in, to the same lease. */
function keepsLease({ settings: { name, lease }, peer }: LeaseGuest, config: Config): boolean {
  const settings = guestSettings(config, name);
  if (settings?.kind !== 'lease' || settings.lease !== lease) return false;
  return allowsPeer(settings, peer.uid, peer.gid);
}
