/** Socket guests: listens for them, and says who may come. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config, SocketGuestConfig } from '../config/config.js';
import { allowsPeer, guestSettings } from '../config/match.js';
import type { Fd } from '../native/base.js';
import { type PeerCredentials, type SeqPacket, SeqPacketServer } from '../native/seqpacket.js';
import { AdmissionError, type GuestHost, type GuestKind, type GuestKindEntry } from './kind.js';
import type { GuestLeaseRequest, TakenLease } from './lease-request.js';
import type { DeviceOffer, TakenDevice } from './offer.js';
import { Code, type Hello, MAX, ProtocolError } from './protocol.js';
import { GuestSession, type SessionHost } from './session.js';
import { SocketGuest } from './socket.js';

/** Longer than any message that a guest may send. */
const LONGEST_MESSAGE = 4096;
const BACKLOG = 64;

export const socketKind: GuestKindEntry = { name: 'socket', make: (host) => new SocketKind(host) };

class SocketKind implements GuestKind, SessionHost {
  private server: SeqPacketServer | null = null;
  private config: Config | null = null;
  private readonly sessions = new Map<GuestSession, PeerCredentials>();

  constructor(private readonly host: GuestHost) {}

  /** Throws a SystemError: EADDRINUSE when another daemon listens. */
  async start(config: Config): Promise<void> {
    this.config = config;
    const { guestSocket, guestSocketMode, guestSocketGroup } = config.daemon;
    // Under systemd it is there (RuntimeDirectory=); started by hand it may not be.
    mkdirSync(dirname(guestSocket), { recursive: true });
    this.server = SeqPacketServer.listen(guestSocket, {
      mode: guestSocketMode,
      ...(guestSocketGroup === null ? {} : { group: guestSocketGroup }),
      backlog: BACKLOG,
      maxMessageSize: LONGEST_MESSAGE,
      maxFds: MAX.fds,
      onConnection: (connection) => this.accept(connection),
      onError: (error) => this.host.log.error({ err: error }, 'accepting a guest failed'),
    });
    this.host.log.debug({ path: guestSocket }, 'listening for guests');
  }

  async reload(config: Config): Promise<void> {
    this.config = config;
  }

  async stop(): Promise<void> {
    this.server?.close();
    const sessions = [...this.sessions.keys()];
    for (const session of sessions) session.end('the daemon ends');
    await Promise.all(sessions.map((session) => session.settled()));
  }

  private accept(connection: SeqPacket): void {
    const session = new GuestSession(connection, this, this.host.log);
    this.sessions.set(session, connection.peerCredentials());
    connection.onMessage = (data, fds, flags) =>
      session.receive(data, fds, !flags.truncated && !flags.controlTruncated);
    connection.onClose = (reason) => {
      this.sessions.delete(session);
      session.end(reason);
    };
  }

  // ---- SessionHost

  admit(session: GuestSession, hello: Hello, kick: Fd, release: Fd): SocketGuest {
    const credentials = this.credentialsOf(session);
    const settings = this.settingsFor(hello.name, credentials);
    const card = this.cardFor(hello.name, settings?.output ?? null);
    const guest = new SocketGuest(
      card,
      hello,
      settings,
      credentials,
      { kick, release },
      (message, fds) => session.send(message, fds),
      this.host.statistics,
      this.host.input,
    );
    this.host.admit(guest);
    this.host.audit('guest', { name: hello.name, ...credentials, admitted: true });
    return guest;
  }

  offered(session: GuestSession, offer: Omit<DeviceOffer, 'peer'>): Promise<TakenDevice> {
    return this.host.takeDevice({ ...offer, peer: this.credentialsOf(session) });
  }

  lease(session: GuestSession, request: Omit<GuestLeaseRequest, 'peer'>): TakenLease {
    return this.host.takeLease({ ...request, peer: this.credentialsOf(session) });
  }

  private credentialsOf(session: GuestSession): { pid: number; uid: number; gid: number } {
    const { pid, uid, gid } = this.sessions.get(session) ?? { pid: 0, uid: 0xffffffff, gid: 0xffffffff };
    return { pid, uid, gid };
  }

  private cardFor(name: string, output: string | null) {
    try {
      return this.host.place(name, output);
    } catch (error) {
      if (error instanceof AdmissionError) throw new ProtocolError(Code.busy, error.message);
      throw error;
    }
  }

  private settingsFor(name: string, peer: { pid: number; uid: number; gid: number }) {
    const refuse = (code: Code, text: string): never => {
      this.host.audit('guest', { name, ...peer, admitted: false });
      throw new ProtocolError(code, text);
    };
    const { config } = this;
    const settings = config === null ? null : guestSettings(config, name);
    if (settings !== null && settings.kind !== 'socket') {
      return refuse(Code.badName, `guest ${name} is of kind "${settings.kind}" in the configuration`);
    }
    if (settings === null && config?.policy.unknownGuests === 'refuse') {
      return refuse(Code.badName, `the configuration knows no guest ${name}`);
    }
    if (settings !== null && !allowsPeer(settings, peer.uid, peer.gid)) {
      return refuse(Code.notAllowed, `uid ${peer.uid} gid ${peer.gid} may not be guest ${name}`);
    }
    return settings satisfies SocketGuestConfig | null;
  }

  arrived(guest: SocketGuest): Promise<void> {
    return this.host.arrived(guest);
  }

  departed(guest: SocketGuest, clean: boolean): Promise<void> {
    return this.host.departed(guest, clean);
  }
}
