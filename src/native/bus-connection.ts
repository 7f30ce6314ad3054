/** One D-Bus connection. */
import type { Fd } from './base.js';
import { BusConnection, type NativeBus, nativeHandlers, nativeMembers } from './bus-native.js';
import {
  type BusCredentials,
  type BusLimits,
  type BusSlot,
  type BusValue,
  type Call,
  DBusError,
  type InterfaceDescription,
  type Match,
  type NameOptions,
  type ReceivedSignal,
  type Signal,
  type Subscription,
  type Variant,
} from './bus-types.js';

const DRIVER = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
} as const;
const DEFAULT_SYSTEM_BUS = 'unix:path=/run/dbus/system_bus_socket';
/** Callers whose credentials are remembered; unique names are never used twice. */
const MOST_CALLERS = 256;
/** Flags and answers of RequestName. */
const NAME = { allowReplacement: 1, replace: 2, doNotQueue: 4, primaryOwner: 1, alreadyOwner: 4 } as const;

export interface OpenOptions extends BusLimits {
  /** There is a bus daemon at the other end; otherwise a peer. */
  daemon?: boolean;
}

type Target = { address: string; peer: boolean } | { socket: Fd } | { client: Fd; peer: boolean };

/** `unix:path=` with what D-Bus addresses want escaped. */
export function socketAddress(path: string): string {
  const escaped = [...Buffer.from(path)].map((byte) => {
    const char = String.fromCharCode(byte);
    return /[A-Za-z0-9_/.*-]/.test(char) ? char : `%${byte.toString(16).padStart(2, '0')}`;
  });
  return `unix:path=${escaped.join('')}`;
}

export class Bus {
  /** Settles once, with null after `close` and with what broke the connection otherwise. Never rejects. */
  readonly closed: Promise<Error | null>;
  private readonly native: NativeBus;
  private readonly callers = new Map<string, Promise<BusCredentials>>();
  private readonly descriptions = new Map<string, InterfaceDescription>();
  private peer: BusCredentials | null = null;
  private drainWaiters: (() => void)[] = [];

  private constructor(target: Target, limits: BusLimits, onReady: () => void) {
    let settle: (error: Error | null) => void = () => {};
    this.closed = new Promise((resolve) => {
      settle = resolve;
    });
    this.native = new BusConnection(
      target,
      {
        maxMessageBytes: limits.maxMessageBytes ?? 4 << 20,
        maxFds: limits.maxFds ?? 16,
        maxPendingCalls: limits.maxPendingCalls ?? 64,
      },
      onReady,
      (error) => {
        this.drained();
        settle(error);
      },
      () => this.drained(),
    );
  }

  /**
   * Connects to the peer at `address` ("unix:path=/run/scanoutd/bus"), or with `daemon` to a bus; "system" is the
   * system bus. Settles when it can be used. Rejects with a SystemError (ENOENT, ECONNREFUSED, EACCES and so on).
   */
  static async open(address: string, options: OpenOptions = {}): Promise<Bus> {
    if (address === 'system') return Bus.system(options);
    return Bus.connected({ address, peer: options.daemon !== true }, options);
  }

  /**
   * A client of the peer, or with `daemon` of the bus, at the other end of a connected, non-blocking stream socket, which is
   * taken over. Settles and rejects as `open`.
   */
  static over(socket: Fd, options: OpenOptions = {}): Promise<Bus> {
    return Bus.connected({ client: socket, peer: options.daemon !== true }, options);
  }

  private static async connected(target: Target, limits: BusLimits): Promise<Bus> {
    let becomeReady: () => void = () => {};
    const ready = new Promise<void>((resolve) => {
      becomeReady = resolve;
    });
    const bus = new Bus(target, limits, becomeReady);
    const failure = await Promise.race([ready, bus.closed]);
    if (failure instanceof Error) throw failure;
    return bus;
  }

  /** The system bus, where DBUS_SYSTEM_BUS_ADDRESS says or at its usual place. */
  static async system(limits: BusLimits = {}): Promise<Bus> {
    const addresses = (process.env.DBUS_SYSTEM_BUS_ADDRESS || DEFAULT_SYSTEM_BUS).split(';');
    let failure: unknown = new Error('no address of the system bus');
    for (const address of addresses) {
      try {
        return await Bus.open(address, { ...limits, daemon: true });
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  /**
   * Serves the peer of a connected stream socket, which is taken over. `onReady` runs when it has proved who it is,
   * before any of its calls: add the objects there.
   */
  static serve(socket: Fd, limits: BusLimits, onReady: (bus: Bus) => void): Bus {
    const bus: Bus = new Bus({ socket }, limits, () => onReady(bus));
    return bus;
  }

  get isOpen(): boolean {
    return !this.native.closed;
  }

  /** On the bus; null between peers. */
  get uniqueName(): string | null {
    return this.native.uniqueName;
  }

  /** The peer's, by SO_PEERCRED; null where there is a bus daemon. */
  get credentials(): BusCredentials | null {
    this.peer ??= this.native.credentials;
    return this.peer;
  }

  /** Ends it at once; what waits to be sent is lost (see `flush`), calls are rejected. */
  close(): void {
    this.native.close();
  }

  /** Settles when everything was handed to the kernel, or the connection is closed. */
  flush(): Promise<void> {
    if (this.native.closed || this.native.queued === 0) return Promise.resolve();
    this.native.awaitDrain();
    return new Promise((resolve) => {
      this.drainWaiters.push(resolve);
    });
  }

  /** Rejects with a DBusError, which for no answer is NO_REPLY, or a SystemError when the connection went. */
  async call(call: Call): Promise<BusValue[]> {
    const { destination = null, path, interface: name = null, member, signature = '', body = [] } = call;
    const { timeoutMs, interactive = false } = call;
    try {
      return await this.native.call(destination, path, name, member, signature, body, timeoutMs, interactive);
    } catch (error) {
      const { dbusName } = error as { dbusName?: unknown };
      if (typeof dbusName === 'string') throw new DBusError(dbusName, (error as Error).message);
      throw error;
    }
  }

  /**
   * Exports an interface. Throws TypeError for a description that is wrong, SystemError EEXIST when it is there.
   *
   * Exporting and emitting do nothing on a connection that is closed or about to be, so that those who serve many peers
   * need not know which of them have just gone.
   */
  addInterface(path: string, interfaceName: string, description: InterfaceDescription): BusSlot {
    if (this.native.closed) return { remove: () => {} };
    const host = {
      native: this.native,
      credentialsOf: (sender: string | null) => this.credentialsOf(sender),
    };
    const handlers = nativeHandlers(host, path, description);
    const slot = this.native.addInterface(path, interfaceName, nativeMembers(description), handlers);
    const key = `${path} ${interfaceName}`;
    this.descriptions.set(key, description);
    return {
      remove: () => {
        if (this.descriptions.get(key) === description) this.descriptions.delete(key);
        this.native.remove(slot);
      },
    };
  }

  /** org.freedesktop.DBus.ObjectManager for all objects below `path`. */
  addObjectManager(path: string): BusSlot {
    if (this.native.closed) return { remove: () => {} };
    const slot = this.native.addObjectManager(path);
    return { remove: () => this.native.remove(slot) };
  }

  /** To be called when objects come while others look on; an object manager must cover `path`. */
  emitInterfacesAdded(path: string, ...interfaces: string[]): void {
    this.native.emitInterfacesAdded(path, interfaces);
  }

  emitInterfacesRemoved(path: string, ...interfaces: string[]): void {
    this.native.emitInterfacesRemoved(path, interfaces);
  }

  /** Tells of properties what their `emits` says. Their getters are called. */
  emitPropertiesChanged(path: string, interfaceName: string, ...properties: string[]): void {
    this.native.emitPropertiesChanged(path, interfaceName, properties);
  }

  /** The signature is the description's where an added interface has the signal. */
  emitSignal(signal: Signal): void {
    const { path, interface: name, member, body = [], destination = null } = signal;
    const described = this.descriptions.get(`${path} ${name}`)?.signals?.[member];
    this.native.emit(path, name, member, signal.signature ?? described?.signature ?? '', body, destination);
  }

  /** Calls `handler` for every signal that matches. */
  subscribe(match: Match, handler: (signal: ReceivedSignal) => void): Subscription {
    let settle: (error: Error | null) => void = () => {};
    const installed = new Promise<void>((resolve, reject) => {
      settle = (error) => (error === null ? resolve() : reject(error));
    });
    installed.catch(() => {}); // only for those who wait for it
    const slot = this.native.addMatch(matchRule(match), handler, (error) => settle(error));
    void this.closed.then((error) => settle(error ?? new Error('the connection was closed')));
    return { installed, remove: () => this.native.remove(slot) };
  }

  /** Owns a name on the bus. Rejects with an Error when another process has it. */
  async requestName(name: string, options: NameOptions = {}): Promise<void> {
    const flags =
      NAME.doNotQueue |
      (options.replace === true ? NAME.replace : 0) |
      (options.allowReplacement === true ? NAME.allowReplacement : 0);
    const [answer] = await this.call({
      ...DRIVER,
      member: 'RequestName',
      signature: 'su',
      body: [name, flags],
    });
    if (answer !== NAME.primaryOwner && answer !== NAME.alreadyOwner) {
      throw new Error(`the bus name ${name} is taken`);
    }
  }

  async releaseName(name: string): Promise<void> {
    await this.call({ ...DRIVER, member: 'ReleaseName', signature: 's', body: [name] });
  }

  /** Calls `handler` with the unique name of the owner, or null: now, and whenever that changes. */
  watchName(name: string, handler: (owner: string | null) => void): Subscription {
    const match = {
      sender: DRIVER.destination,
      interface: DRIVER.interface,
      member: 'NameOwnerChanged',
      arg0: name,
    };
    let told = false;
    const subscription = this.subscribe(match, ({ body }) => {
      told = true;
      handler((body[2] as string) || null);
    });
    const tell = (owner: string | null): void => {
      if (!told) handler(owner); // else a change has overtaken the answer
    };
    this.call({ ...DRIVER, member: 'GetNameOwner', signature: 's', body: [name] }).then(
      ([owner]) => tell(owner as string),
      () => tell(null),
    );
    return subscription;
  }

  /** Of a peer at once; of a sender on the bus by asking the bus daemon, once for each. */
  private credentialsOf(sender: string | null): BusCredentials | Promise<BusCredentials> {
    if (this.credentials !== null) return this.credentials;
    const name = sender ?? '';
    const known = this.callers.get(name);
    if (known !== undefined) return known;
    const asked = this.askCredentials(name);
    if (this.callers.size >= MOST_CALLERS) this.callers.delete(this.callers.keys().next().value ?? '');
    this.callers.set(name, asked);
    asked.catch(() => this.callers.delete(name));
    return asked;
  }

  private async askCredentials(name: string): Promise<BusCredentials> {
    const ask = { ...DRIVER, member: 'GetConnectionCredentials', signature: 's', body: [name] };
    const [found] = (await this.call(ask)) as [Record<string, Variant | undefined>];
    const uid = found.UnixUserID?.value;
    if (typeof uid !== 'number') throw new Error(`the bus daemon does not say who ${name} is`);
    const pid = (found.ProcessID?.value as number | undefined) ?? 0;
    return { pid, uid, gid: null, groups: (found.UnixGroupIDs?.value as number[] | undefined) ?? [] };
  }

  private drained(): void {
    const waiters = this.drainWaiters;
    this.drainWaiters = [];
    for (const resolve of waiters) resolve();
  }
}

const MATCH_KEYS = { pathNamespace: 'path_namespace' } as const;

function matchRule(match: Match): string {
  const parts = Object.entries(match).map(([key, value]: [string, string | undefined]) => {
    if (value === undefined) return '';
    if (/['\\]/.test(value)) throw new TypeError(`match.${key}: no quotes or backslashes expected`);
    return `,${MATCH_KEYS[key as keyof typeof MATCH_KEYS] ?? key}='${value}'`;
  });
  return `type='signal'${parts.join('')}`;
}
