/** The D-Bus front end: `org.scanoutd1` on the system bus where there is one, and always on a socket of its own. */
import { writeSync } from 'node:fs';
import type { Config } from '../config/config.js';
import { createMemfd, type Fd } from '../native/base.js';
import {
  Bus,
  BusServer,
  type BusSlot,
  type BusValue,
  type CallInfo,
  DBusError,
  type InterfaceDescription,
} from '../native/bus.js';
import type { Logger } from '../service/log.js';
import { Authorizer, type Methods } from './authorize.js';
import { BusLeases } from './dbus-leases.js';
import { BusSeats, type TellCaller } from './dbus-seats.js';
import { ApiError } from './errors.js';
import type { Changed, Manager } from './manager.js';

export const BUS_NAME = 'org.scanoutd1';
export const MANAGER_PATH = '/org/scanoutd1';
export const MANAGER_INTERFACE = 'org.scanoutd1.Manager';
const OUTPUT_INTERFACE = 'org.scanoutd1.Output';
const GUEST_INTERFACE = 'org.scanoutd1.Guest';
const SEAT_INTERFACE = 'org.scanoutd1.Seat';
const RECONNECT_MS = 5000;

/** Objects for what there is now, on every connection: `/org/scanoutd1/outputs/HDMI_2dA_2d1` and so on. */
interface Exported {
  path: string;
  interface: string;
  slots: Map<Bus, BusSlot>;
  description: InterfaceDescription;
  /** Its document as JSON, to see changes by. */
  state: string;
}

export class DbusFrontend {
  private server: BusServer | null = null;
  /** Why it could not be joined the last time. */
  private systemBusTrouble = '';
  private retry: NodeJS.Timeout | null = null;
  private stopped = false;
  private readonly connections = new Set<Bus>();
  private readonly exported = new Map<string, Exported>();
  private readonly onChanged = (what: Changed) => this.changed(what);

  constructor(
    private readonly manager: Manager,
    private readonly config: Config,
    private readonly log: Logger,
  ) {}

  /** Throws a SystemError when the socket cannot be had, or the system bus is wanted (`on`) and is not there. */
  async start(): Promise<void> {
    this.manager.on('changed', this.onChanged);
    this.server = BusServer.listen(this.config.daemon.busSocket, {
      mode: 0o660,
      onConnection: (bus, { uid, pid }) => {
        this.log.debug({ uid, pid }, 'connected');
        this.attach(bus);
      },
      onRefused: ({ uid, pid }, error) => this.log.warn({ uid, pid, err: error }, 'connection refused'),
      onError: (error) => this.log.error({ err: error }, 'accepting failed'),
    });
    if (this.config.daemon.systemBus !== 'off')
      await this.joinSystemBus(this.config.daemon.systemBus === 'on');
  }

  /** With `must` a bus that cannot be joined is an error; otherwise it is tried again, and each reason told once. */
  private async joinSystemBus(must: boolean): Promise<void> {
    let bus: Bus | null = null;
    try {
      bus = await Bus.system();
      if (this.stopped) return bus.close();
      const authorizer = new Authorizer(bus, this.log);
      this.attach(bus, (methods) => authorizer.guard(methods));
      await bus.requestName(BUS_NAME);
      this.systemBusTrouble = '';
      this.log.info({ name: BUS_NAME }, 'on the system bus');
      void bus.closed.then(() => this.rejoin());
    } catch (error) {
      bus?.close(); // it would be one more with every try
      if (must) throw error;
      // No bus is nothing to wonder at; a bus that refuses the name lacks the policy file.
      const { message } = error as Error;
      const level = bus === null || message === this.systemBusTrouble ? 'debug' : 'warn';
      this.systemBusTrouble = message;
      if (!this.stopped) this.log[level]({ err: error }, 'not on the system bus');
      this.rejoin();
    }
  }

  private rejoin(): void {
    if (this.stopped) return;
    this.retry = setTimeout(() => void this.joinSystemBus(false), RECONNECT_MS);
    this.retry.unref();
  }

  /** `guard` has the methods for those who may call them. */
  private attach(bus: Bus, guard: (methods: Methods) => Methods = (methods) => methods): void {
    this.connections.add(bus);
    void bus.closed.then(() => {
      this.connections.delete(bus);
      for (const object of this.exported.values()) object.slots.delete(bus);
    });
    bus.addObjectManager(MANAGER_PATH);
    const tell: TellCaller = (destination, member, body) => {
      const signal = { path: MANAGER_PATH, interface: MANAGER_INTERFACE, member, body };
      bus.emitSignal(destination === null ? signal : { ...signal, destination });
    };
    const leases = new BusLeases(this.manager, bus, tell);
    const seats = new BusSeats(this.manager, bus, tell);
    const { methods = {}, ...rest } = this.managerInterface(leases, seats);
    bus.addInterface(MANAGER_PATH, MANAGER_INTERFACE, { methods: guard(methods), ...rest });
    for (const object of this.exported.values()) {
      object.slots.set(bus, bus.addInterface(object.path, object.interface, object.description));
    }
  }

  private managerInterface(leases: BusLeases, seats: BusSeats): InterfaceDescription {
    const { manager } = this;
    const { methods, signals } = leases.describe(answer);
    const ofSeats = seats.describe(answer);
    return {
      methods: {
        ...methods,
        ...ofSeats.methods,
        Describe: {
          out: 's',
          outNames: ['json'],
          handler: () => [JSON.stringify(manager.describe())],
        },
        Assign: {
          in: 'ss',
          inNames: ['guest', 'request_json'],
          handler: ([guest, json], caller) =>
            answer(async () => {
              await manager.assign(caller, text(guest), text(json));
              return [];
            }),
        },
        Unassign: {
          in: 's',
          inNames: ['guest'],
          handler: ([guest], caller) =>
            answer(async () => {
              await manager.unassign(caller, text(guest));
              return [];
            }),
        },
        AttachQemu: {
          in: 'sh',
          inNames: ['guest', 'socket'],
          handler: ([guest, socket], caller) =>
            answer(async () => {
              await manager.attachQemu(caller, text(guest), socket as Fd);
              return [];
            }),
        },
        Screenshot: {
          in: 's',
          inNames: ['output'],
          out: 'hs',
          outNames: ['png', 'json'],
          handler: ([output], caller) => answer(() => this.screenshot(caller, text(output))),
        },
        Records: {
          in: 's',
          inNames: ['guest'],
          out: 's',
          outNames: ['json'],
          handler: ([guest]) => answer(async () => [JSON.stringify(manager.records(text(guest)))]),
        },
      },
      properties: {
        Version: { signature: 's', emits: 'const', get: () => manager.version },
        Ready: { signature: 'b', emits: 'change', get: () => manager.ready },
      },
      signals: {
        Changed: { signature: 's', names: ['what'] },
        ...signals,
        ...ofSeats.signals,
      },
    };
  }

  private async screenshot(caller: CallInfo, output: string): Promise<BusValue[]> {
    const { png, document } = await this.manager.screenshot(caller, output);
    const fd = createMemfd('scanoutd-screenshot');
    writeSync(fd.number, png, 0, png.length, 0);
    return [fd, JSON.stringify(document)];
  }

  /** Brings the objects and their properties up to date, and tells. */
  private changed(what: Changed): void {
    const { outputs, guests, seats } = this.manager.describe();
    const wanted = new Map<string, { interface: string; document: object }>();
    for (const output of outputs) {
      wanted.set(objectPath('outputs', output.name), { interface: OUTPUT_INTERFACE, document: output });
    }
    for (const guest of guests) {
      wanted.set(objectPath('guests', guest.name), { interface: GUEST_INTERFACE, document: guest });
    }
    for (const seat of seats) {
      // Times and counters change by themselves, which nobody is told.
      const document = { ...seat, idleMs: 0, guests: seat.guests.map((one) => ({ ...one, sinks: [] })) };
      wanted.set(objectPath('seats', seat.name), { interface: SEAT_INTERFACE, document });
    }
    for (const [path, object] of this.exported) if (!wanted.has(path)) this.unexport(object);
    for (const [path, { interface: name, document }] of wanted) this.export(path, name, document);
    for (const bus of this.connections) {
      bus.emitSignal({ path: MANAGER_PATH, interface: MANAGER_INTERFACE, member: 'Changed', body: [what] });
    }
  }

  private export(path: string, name: string, document: object): void {
    const state = JSON.stringify(document);
    const known = this.exported.get(path);
    if (known !== undefined) {
      if (known.state === state) return;
      known.state = state;
      for (const bus of known.slots.keys()) bus.emitPropertiesChanged(path, name, 'Json');
      return;
    }
    const object: Exported = { path, interface: name, slots: new Map(), state, description: {} };
    object.description = {
      properties: {
        Name: { signature: 's', emits: 'const', get: () => (document as { name: string }).name },
        Json: { signature: 's', emits: 'change', get: () => object.state },
      },
    };
    this.exported.set(path, object);
    for (const bus of this.connections) {
      object.slots.set(bus, bus.addInterface(path, name, object.description));
      bus.emitInterfacesAdded(path, name);
    }
  }

  private unexport(object: Exported): void {
    this.exported.delete(object.path);
    for (const [bus, slot] of object.slots) {
      bus.emitInterfacesRemoved(object.path, object.interface);
      slot.remove();
    }
  }

  /** Answers that are under way are sent first. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.manager.off('changed', this.onChanged);
    if (this.retry !== null) clearTimeout(this.retry);
    await Promise.all([...this.connections].map((bus) => bus.flush()));
    this.server?.close();
    for (const bus of this.connections) bus.close();
  }
}

/** Errors of the API get names of their own. */
async function answer(body: () => Promise<BusValue[]>): Promise<BusValue[]> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof ApiError) throw new DBusError(`${BUS_NAME}.Error.${error.kind}`, error.message);
    throw error;
  }
}

function text(value: BusValue): string {
  return value as string; // the signature has checked it
}

/** Object paths have letters, digits and underscores only; others become `_xx`, as systemd's bus_label_escape does. */
function objectPath(kind: 'outputs' | 'guests' | 'seats', name: string): string {
  const escaped = name.replace(
    /[^A-Za-z0-9]/g,
    (char) => `_${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return `${MANAGER_PATH}/${kind}/${escaped}`;
}
