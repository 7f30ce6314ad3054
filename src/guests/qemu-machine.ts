/** One virtual machine with QEMU's D-Bus display: its connection, and its consoles, each of which is a guest. */
import type { QemuGuestConfig } from '../config/config.js';
import { streamPair } from '../native/streams.js';
import { AdmissionError, type GuestHost } from './kind.js';
import { type QemuConsole, QemuGuest } from './qemu.js';
import type { QemuConnection } from './qemu-connection.js';
import { QemuInput } from './qemu-input.js';

const VM_PATH = '/org/qemu/Display1/VM';
const VM_INTERFACE = 'org.qemu.Display1.VM';
const CONSOLE_INTERFACE = 'org.qemu.Display1.Console';
const CALL_MS = 5000;
const RETRY_MS = [250, 500, 1000, 2000, 5000] as const;

export interface QemuMachineOptions {
  /** For messages: the socket, the address, or the name. */
  label: string;
  /** Rejects with a SystemError, a QmpError or a DBusError. */
  connect(): Promise<QemuConnection>;
  /** Connect again when it ends; otherwise `onGone` is called. */
  lasting: boolean;
  onGone?(): void;
  /** The guest that a console is, or null where it is none. */
  guestOf(console: number): { name: string; settings: QemuGuestConfig | null } | null;
}

export class QemuMachine {
  private connection: QemuConnection | null = null;
  private readonly guests = new Map<QemuGuest, number>();
  private timer: NodeJS.Timeout | null = null;
  private failures = 0;
  private stopped = false;
  private turn: Promise<void> = Promise.resolve();

  constructor(
    private readonly host: GuestHost,
    private readonly options: QemuMachineOptions,
  ) {}

  /** Settles when the first try is over, however it went. */
  start(): Promise<void> {
    return this.queue(() => this.join());
  }

  /** Resolves when every guest has left its planes. */
  async stop(): Promise<void> {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
    await this.queue(() => this.leaveAll(true));
    this.connection?.bus.close();
  }

  /**
   * There may be an input thread now. A machine whose guest is to get input by its console, and that is connected without,
   * is connected anew; its guests stay as they are, since QEMU has a connection for each of their screens.
   */
  offerInput(): void {
    void this.queue(() => this.replace());
  }

  private async replace(): Promise<void> {
    const { connection } = this;
    const { engine } = this.host.input;
    const wanted = this.names().some((name) => this.host.input.how(name, 'qemu') === 'qemu');
    if (this.stopped || connection === null || connection.relay !== null || engine === null || !wanted)
      return;
    if (!this.options.lasting) return;
    try {
      const another = await this.options.connect();
      this.take(another);
      connection.bus.close();
      for (const [guest, console] of this.guests) {
        guest.input = this.inputOf(another, console);
        this.host.input.changed(guest.name);
      }
    } catch (error) {
      // Where QEMU has dropped the former one for it, that is told as any end is.
      const text = `no input: ${error instanceof Error ? error.message : String(error)}`;
      this.host.log.warn({ machine: this.options.label, err: error }, text);
    }
  }

  private take(connection: QemuConnection): void {
    this.connection = connection;
    void connection.bus.closed.then((error) => this.queue(() => this.lost(connection, error)));
  }

  private inputOf(connection: QemuConnection, console: number): QemuInput | null {
    return connection.relay === null ? null : new QemuInput(connection, console, this.host.log);
  }

  private queue(step: () => Promise<void>): Promise<void> {
    this.turn = this.turn.then(step).catch((error: unknown) => {
      this.host.log.error({ machine: this.options.label, err: error }, 'virtual machine failed');
    });
    return this.turn;
  }

  private async join(): Promise<void> {
    if (this.stopped || this.connection !== null) return;
    let connection: QemuConnection;
    try {
      connection = await this.options.connect();
    } catch (error) {
      this.failed(error);
      return;
    }
    this.take(connection);
    try {
      const consoles = await this.property(VM_PATH, VM_INTERFACE, 'ConsoleIDs');
      for (const console of (consoles as number[]).slice(0, 256)) await this.show(console);
      this.failures = 0;
      this.host.log.info({ machine: this.options.label, guests: this.names() }, 'connected to QEMU');
    } catch (error) {
      this.failed(error);
      connection.bus.close();
    }
  }

  private names(): string[] {
    return [...this.guests.keys()].map(({ name }) => name);
  }

  private failed(error: unknown): void {
    const first = this.failures++ === 0;
    this.host.log[first ? 'warn' : 'debug'](
      { machine: this.options.label, err: error },
      `no display of QEMU: ${error instanceof Error ? error.message : String(error)}`,
    );
    this.retry();
  }

  private retry(): void {
    if (this.stopped) return;
    if (!this.options.lasting) {
      this.options.onGone?.();
      return;
    }
    if (this.timer !== null) clearTimeout(this.timer);
    const delay = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
    this.timer = setTimeout(() => void this.queue(() => this.join()), delay);
  }

  private async lost(connection: QemuConnection, error: Error | null): Promise<void> {
    if (this.connection !== connection) return;
    this.connection = null;
    if (this.stopped) return;
    this.host.log.info(
      { machine: this.options.label, err: error ?? undefined },
      'QEMU closed the connection',
    );
    await this.leaveAll(false);
    this.retry();
  }

  private async leaveAll(clean: boolean): Promise<void> {
    const guests = [...this.guests.keys()];
    this.guests.clear();
    await Promise.all(guests.map((guest) => this.host.departed(guest, clean)));
  }

  // ---- consoles

  private async show(console: number): Promise<void> {
    const { connection } = this;
    const wanted = this.options.guestOf(console);
    if (wanted === null || connection === null) return;
    const path = `/org/qemu/Display1/Console_${console}`;
    if ((await this.property(path, CONSOLE_INTERFACE, 'Type')) !== 'Graphic') return;
    const [ours, theirs] = streamPair();
    let guest: QemuGuest;
    try {
      const card = this.host.place(wanted.name, wanted.settings?.output ?? null);
      const link = this.link(connection.pid, path, console);
      guest = new QemuGuest(
        card,
        wanted.name,
        wanted.settings,
        link,
        ours,
        this.host.statistics,
        this.host.log,
      );
      guest.input = this.inputOf(connection, console);
      this.host.admit(guest);
      this.guests.set(guest, console);
    } catch (error) {
      ours.close();
      theirs.close();
      if (!(error instanceof AdmissionError)) throw error;
      this.host.log.warn({ guest: wanted.name }, error.message);
      return;
    }
    try {
      await this.call(connection, path, 'RegisterListener', 'h', [theirs]);
    } catch (error) {
      this.guests.delete(guest);
      await this.host.departed(guest, true);
      throw error;
    } finally {
      theirs.close();
    }
    this.host.audit('guest', { name: guest.name, pid: connection.pid, admitted: true });
    await this.host.arrived(guest);
  }

  private link(pid: number | null, path: string, console: number): QemuConsole {
    return {
      pid,
      // The display's size in millimetres is not known here; QEMU takes 0 for that.
      resize: async (width, height) => {
        if (this.connection !== null)
          await this.call(this.connection, path, 'SetUIInfo', 'qqiiuu', [0, 0, 0, 0, width, height]);
      },
      ended: (guest, why) => void this.queue(() => this.ended(guest, console, why)),
    };
  }

  /** A listener's connection broke off. When it was QEMU that went, its other connection says so too. */
  private async ended(guest: QemuGuest, console: number, why: string): Promise<void> {
    if (!this.guests.delete(guest)) return;
    this.host.log.warn({ guest: guest.name }, `display listener ended: ${why}`);
    await this.host.departed(guest, false);
    const { connection } = this;
    if (this.stopped || connection === null) return;
    this.timer = setTimeout(
      () => {
        void this.queue(async () => {
          if (this.connection === connection && !this.stopped) await this.show(console);
        });
      },
      RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)],
    );
  }

  private async property(path: string, interfaceName: string, name: string): Promise<unknown> {
    const { connection } = this;
    if (connection === null) throw new Error('the connection is gone');
    const [value] = await connection.bus.call({
      ...(connection.destination === null ? {} : { destination: connection.destination }),
      path,
      interface: 'org.freedesktop.DBus.Properties',
      member: 'Get',
      signature: 'ss',
      body: [interfaceName, name],
      timeoutMs: CALL_MS,
    });
    return (value as { value: unknown }).value;
  }

  private async call(
    connection: QemuConnection,
    path: string,
    member: string,
    signature: string,
    body: readonly unknown[],
  ): Promise<void> {
    await connection.bus.call({
      ...(connection.destination === null ? {} : { destination: connection.destination }),
      path,
      interface: CONSOLE_INTERFACE,
      member,
      signature,
      body,
      timeoutMs: CALL_MS,
    });
  }
}
