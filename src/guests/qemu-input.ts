/** The input of one console of QEMU's D-Bus display: its sink, and what of its properties the sink has to know. */
import type { ReceivedSignal, Subscription, Variant } from '../native/bus.js';
import type { InputEngine, QemuConsoleState } from '../native/input.js';
import type { GuestInput } from '../seats/sinks.js';
import type { Logger } from '../service/log.js';
import type { QemuConnection } from './qemu-connection.js';

const PROPERTIES = 'org.freedesktop.DBus.Properties';
const CALL_MS = 5000;

type Properties = Record<string, Variant | undefined>;

/** By interface and property. */
const FOLLOWED: Readonly<Record<string, Readonly<Record<string, keyof QemuConsoleState>>>> = {
  'org.qemu.Display1.Console': { Width: 'width', Height: 'height' },
  'org.qemu.Display1.Mouse': { IsAbsolute: 'absolute' },
  'org.qemu.Display1.Keyboard': { Modifiers: 'modifiers' },
};

export class QemuInput implements GuestInput {
  readonly how = 'qemu';
  private readonly path: string;
  private readonly state: QemuConsoleState = { width: 0, height: 0, absolute: false, modifiers: 0 };
  private sink: { engine: InputEngine; id: number } | null = null;
  private subscription: Subscription | null = null;

  constructor(
    private readonly connection: QemuConnection,
    private readonly console: number,
    private readonly log: Logger,
  ) {
    this.path = `/org/qemu/Display1/Console_${console}`;
  }

  async attach(engine: InputEngine, guest: number): Promise<number> {
    const { relay, destination } = this.connection;
    if (relay === null) throw new Error('the connection to QEMU is not by the input thread');
    const id = await engine.addQemu(guest, relay.id, { console: this.console, destination });
    this.sink = { engine, id };
    try {
      await this.follow();
    } catch (error) {
      this.detached();
      await engine.removeSink(id);
      throw error;
    }
    return id;
  }

  detached(): void {
    this.sink = null;
    this.subscription?.remove();
    this.subscription = null;
  }

  /** Nothing is missed: what changes while the properties are read is told as well. */
  private async follow(): Promise<void> {
    const { bus } = this.connection;
    const subscription = bus.subscribe(
      { path: this.path, interface: PROPERTIES, member: 'PropertiesChanged', ...(await this.sender()) },
      (signal) => this.changed(signal),
    );
    this.subscription = subscription;
    await subscription.installed;
    const all = await Promise.all(
      Object.keys(FOLLOWED).map(async (name) => [name, await this.read(name)] as const),
    );
    for (const [name, properties] of all) this.take(name, properties);
    await this.tell();
  }

  /** On a bus anybody may say that something changed. */
  private async sender(): Promise<{ sender?: string }> {
    const { bus, destination } = this.connection;
    if (destination === null) return {};
    const [owner] = await bus.call({
      destination: 'org.freedesktop.DBus',
      path: '/org/freedesktop/DBus',
      interface: 'org.freedesktop.DBus',
      member: 'GetNameOwner',
      signature: 's',
      body: [destination],
      timeoutMs: CALL_MS,
    });
    return { sender: owner as string };
  }

  private async read(of: string): Promise<Properties> {
    const { bus, destination } = this.connection;
    const [properties] = await bus.call({
      ...(destination === null ? {} : { destination }),
      path: this.path,
      interface: PROPERTIES,
      member: 'GetAll',
      signature: 's',
      body: [of],
      timeoutMs: CALL_MS,
    });
    return properties as Properties;
  }

  private changed({ signature, body }: ReceivedSignal): void {
    if (signature !== 'sa{sv}as' || !this.take(body[0] as string, body[1] as Properties)) return;
    this.tell().catch((error: unknown) => {
      this.log.debug({ console: this.path, err: error }, 'the input thread was not told of the console');
    });
  }

  /** True when something of it matters. */
  private take(of: string, properties: Properties): boolean {
    let taken = false;
    for (const [name, field] of Object.entries(FOLLOWED[of] ?? {})) {
      const value = properties[name]?.value;
      if (typeof value !== typeof this.state[field]) continue;
      Object.assign(this.state, { [field]: value });
      taken = true;
    }
    return taken;
  }

  private async tell(): Promise<void> {
    if (this.sink !== null) await this.sink.engine.setQemu(this.sink.id, { ...this.state });
  }
}
