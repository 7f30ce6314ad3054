/** Virtual machines whose virtio-gpu device the daemon is: listens for their VMMs. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config, DaemonConfig, VirtioGuestConfig } from '../config/config.js';
import { allowsPeer } from '../config/match.js';
import { type Fd, isSystemError } from '../native/base.js';
import { type PeerCredentials, UnixListener } from '../native/unix-listener.js';
import { AdmissionError, type GuestHost, type GuestKind, type GuestKindEntry } from './kind.js';
import { VirtioDevice } from './virtio-device.js';

export const virtioKind: GuestKindEntry = { name: 'virtio', make: (host) => new VirtioKind(host) };

class VirtioKind implements GuestKind {
  private readonly ports = new Map<string, VirtioPort>();

  constructor(private readonly host: GuestHost) {}

  async start(config: Config): Promise<void> {
    await this.reload(config);
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
    await Promise.all([...this.ports.values()].map((port) => port.close()));
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

  private accept(connection: Fd, peer: PeerCredentials): void {
    // The former one's planes are given back first.
    const former = this.device;
    if (former?.ended === true) {
      void former.end().then(() => this.accept(connection, peer));
      return;
    }
    const { pid, uid, gid } = peer;
    const { name } = this.settings;
    const why = this.admit(connection, peer);
    this.host.audit('guest', { name, pid, uid, gid, admitted: why === null });
    if (why === null) return;
    this.host.log.warn({ guest: name, pid, uid }, `virtual machine refused: ${why}`);
    connection.close();
  }

  /** Why it may not come, or null: it is a guest now. */
  private admit(connection: Fd, { pid, uid, gid }: PeerCredentials): string | null {
    const { settings } = this;
    if (this.listener === null) return 'its guest is not in the configuration any more';
    if (!allowsPeer(settings, uid, gid)) return `uid ${uid} gid ${gid} may not be this guest`;
    if (this.device !== null) return 'another one is connected';
    try {
      const device: VirtioDevice = new VirtioDevice(settings, { pid, uid }, this.host, () => {
        if (this.device === device) this.device = null;
      });
      this.device = device;
      void device.start(connection).catch((error: unknown) => {
        this.host.log.error({ guest: settings.name, err: error }, 'virtual machine not shown');
        void device.end();
      });
      return null;
    } catch (error) {
      if (error instanceof AdmissionError) return error.message;
      throw error;
    }
  }

  async close(): Promise<void> {
    this.listener?.close();
    this.listener = null;
    await this.device?.end();
  }
}
