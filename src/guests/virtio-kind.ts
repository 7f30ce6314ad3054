/** Virtual machines whose virtio-gpu device the daemon is: listens for their VMMs. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config, DaemonConfig, VirtioGuestConfig } from '../config/config.js';
import { allowsPeer } from '../config/match.js';
import { type Fd, isSystemError } from '../native/base.js';
import { type PeerCredentials, peerCredentials, UnixListener } from '../native/unix-listener.js';
import { AdmissionError, type GuestHost, type GuestKind, type GuestKindEntry } from './kind.js';
import { storeOwner, VirtioDevice } from './virtio-device.js';

export const virtioKind: GuestKindEntry = { name: 'virtio', make: (host) => new VirtioKind(host) };

class VirtioKind implements GuestKind {
  private readonly ports = new Map<string, VirtioPort>();

  constructor(private readonly host: GuestHost) {}

  async start(config: Config): Promise<void> {
    await this.reload(config);
    await Promise.all([...this.ports.values()].map((port) => port.restore()));
  }

  async reload(config: Config): Promise<void> {
    const wanted = new Map(
      config.guests.flatMap((guest) => (guest.kind === 'virtio' ? [[guest.name, guest] as const] : [])),
    );
    for (const [name, port] of [...this.ports]) {
      if (wanted.get(name)?.socket === port.settings.socket) continue;
      this.ports.delete(name);
      await port.close();
    }
    for (const [name, settings] of wanted) {
      const port = this.ports.get(name) ?? new VirtioPort(this.host, settings);
      this.ports.set(name, port);
      port.settings = settings;
      port.listen(config.daemon);
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.ports.values()].map((port) => port.stop()));
    this.ports.clear();
  }
}

/** One configured guest: its socket, and the virtual machine that is connected to it. */
class VirtioPort {
  private listener: UnixListener | null = null;
  private device: VirtioDevice | null = null;

  constructor(
    private readonly host: GuestHost,
    public settings: VirtioGuestConfig,
  ) {}

  /** One guest's socket that cannot be is no reason to leave the others without. */
  listen({ guestSocketMode, guestSocketGroup }: DaemonConfig): void {
    if (this.listener !== null) return;
    const { name, socket } = this.settings;
    try {
      mkdirSync(dirname(socket), { recursive: true });
      this.listener = new UnixListener(
        socket,
        {
          type: 'stream',
          mode: guestSocketMode,
          ...(guestSocketGroup === null ? {} : { group: guestSocketGroup }),
        },
        (connection, peer) => this.accept(connection, peer),
        (error) => this.host.log.error({ guest: name, err: error }, 'accepting a virtual machine failed'),
      );
      this.host.log.info({ guest: name, socket }, 'listening for a virtual machine');
    } catch (error) {
      if (!isSystemError(error) && !(error instanceof Error && 'code' in error)) throw error;
      this.host.log.error({ guest: name, socket, err: error }, 'cannot listen for a virtual machine');
    }
  }

  /** Goes on with the virtual machine that was connected to a former daemon. */
  async restore(): Promise<void> {
    const { name } = this.settings;
    const owner = storeOwner(this.settings);
    const kept = this.host.store.claim(owner);
    if (kept === null) return;
    const [socket, state] = [kept.get('socket'), kept.get('state')];
    try {
      // Without its socket the machine has ended meanwhile.
      if (socket === undefined || state === undefined) throw new AdmissionError('it is gone');
      const device = this.admit(peerCredentials(socket), state);
      if (typeof device === 'string') throw new AdmissionError(device);
      await device.restore(socket, kept);
      this.host.log.info({ guest: name }, 'went on with the virtual machine of the former daemon');
    } catch (error) {
      if (!(error instanceof AdmissionError) && !isSystemError(error)) throw error;
      this.host.log.error({ guest: name, err: error }, `virtual machine let go: ${error.message}`);
      await this.device?.end();
      this.host.store.removeAll(owner);
    } finally {
      for (const fd of kept.values()) fd.close();
    }
  }

  private accept(connection: Fd, peer: PeerCredentials): void {
    // The former one's planes are given back first.
    const former = this.device;
    if (former?.ended === true) {
      void former.end().then(() => this.accept(connection, peer));
      return;
    }
    const { name } = this.settings;
    const device = this.admit(peer, null);
    if (typeof device !== 'string') {
      void device.start(connection).catch((error: unknown) => {
        this.host.log.error({ guest: name, err: error }, 'virtual machine not shown');
        void device.end();
      });
      return;
    }
    const { pid, uid } = peer;
    this.host.log.warn({ guest: name, pid, uid }, `virtual machine refused: ${device}`);
    connection.close();
  }

  /** It is a guest now, or why it may not be. */
  private admit(peer: PeerCredentials, state: Fd | null): VirtioDevice | string {
    const { pid, uid, gid } = peer;
    const device = this.makeDevice(peer, state);
    const why = typeof device === 'string' ? device : null;
    this.host.audit('guest', { name: this.settings.name, pid, uid, gid, admitted: why === null });
    return device;
  }

  private makeDevice({ pid, uid, gid }: PeerCredentials, state: Fd | null): VirtioDevice | string {
    const { settings } = this;
    if (this.listener === null) return 'its guest is not in the configuration any more';
    if (!allowsPeer(settings, uid, gid)) return `uid ${uid} gid ${gid} may not be this guest`;
    if (this.device !== null) return 'another one is connected';
    try {
      const device: VirtioDevice = new VirtioDevice(
        settings,
        { pid, uid },
        this.host,
        () => {
          if (this.device === device) this.device = null;
        },
        state,
      );
      this.device = device;
      return device;
    } catch (error) {
      if (error instanceof AdmissionError || isSystemError(error)) return error.message;
      throw error;
    }
  }

  async close(): Promise<void> {
    this.listener?.close();
    this.listener = null;
    await this.device?.end();
  }

  /** The daemon ends: its virtual machine is the next one's where somebody keeps what that needs. */
  async stop(): Promise<void> {
    if (!this.host.store.kept || this.device === null || this.device.ended) return await this.close();
    this.listener?.close();
    this.listener = null;
    await this.device.suspend();
  }
}
