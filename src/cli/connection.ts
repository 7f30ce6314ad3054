/** The daemon's control API as scanoutctl sees it: one object of the bus, documents in and out, errors for people. */
import { fstatSync, readSync, statSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import type {
  AssignRequest,
  EndLeaseRequest,
  InputEventDocument,
  LeaseDocument,
  ScreenshotDocument,
  StatusDocument,
  TakeLeaseRequest,
  TransferLeaseRequest,
} from '../api/documents.js';
import type { Fd } from '../native/base.js';
import { CliError, EXIT } from './errors.js';

export interface Connection {
  describe(): Promise<StatusDocument>;
  assign(guest: string, request: AssignRequest): Promise<void>;
  unassign(guest: string): Promise<void>;
  /** `socket` (borrowed): QEMU has the other end. */
  attachQemu(guest: string, socket: Fd): Promise<void>;
  screenshot(output: string): Promise<{ png: Buffer; document: ScreenshotDocument }>;
  /** The lease (the caller's) lasts until it is released, revoked, or the connection ends. */
  takeLease(name: string, request: TakeLeaseRequest): Promise<{ fd: Fd; document: LeaseDocument }>;
  /** `notice`: a lease of this connection will be over in so many milliseconds. */
  onLeaseNotice(notice: (lease: string, reason: string, ms: number) => void): void;
  /** `over`: a lease of this connection was taken. */
  onLeaseEnded(over: (lease: string, reason: string) => void): void;
  releaseLease(name: string): Promise<void>;
  revokeLease(name: string, request: EndLeaseRequest): Promise<void>;
  transferLease(name: string, request: TransferLeaseRequest): Promise<void>;
  switchSeat(seat: string, guest: string): Promise<void>;
  attachDevice(device: string, seat: string): Promise<void>;
  detachDevice(device: string): Promise<void>;
  lockSeat(seat: string, locked: boolean): Promise<void>;
  /** From now on until the connection ends. `keys`: with the codes of keys. */
  watchInput(seat: string, keys: boolean, tell: (events: InputEventDocument[]) => void): Promise<void>;
  /** Rejects with a CliError when the daemon is gone; until then it is pending. */
  closed(): Promise<never>;
  close(): void;
}

export type BusTarget = { kind: 'socket'; path: string } | { kind: 'system' };

/** What is used of src/native/bus.ts. A `destination` is for a bus daemon; peers have none. */
export interface BusClient {
  call(call: {
    destination?: string;
    path: string;
    interface: string;
    member: string;
    signature: string;
    body: unknown[];
    timeoutMs?: number;
    interactive?: boolean;
  }): Promise<unknown[]>;
  subscribe(
    match: { path: string; interface: string; member: string },
    handler: (signal: { body: unknown[] }) => void,
  ): unknown;
  /** Resolves when the connection is over. */
  readonly closed: Promise<unknown>;
  close(): void;
}

export const DEFAULT_BUS = '/run/scanoutd/bus';
const SERVICE = 'org.scanoutd1';
const OBJECT = '/org/scanoutd1';
const MANAGER = 'org.scanoutd1.Manager';
const PNG_SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** Which bus is meant by options and environment. `bus` is a path. */
export function chooseBus(options: { bus?: string; system?: boolean }, env: NodeJS.ProcessEnv): BusTarget {
  if (options.system === true) {
    if (options.bus !== undefined) {
      throw new CliError(EXIT.usage, '--system and --bus exclude each other', 'Leave one of them out.');
    }
    return { kind: 'system' };
  }
  return { kind: 'socket', path: options.bus ?? (env.SCANOUTD_BUS || DEFAULT_BUS) };
}

/** Connects. Throws CliError (`EXIT.unreachable`) when there is nobody. */
export async function connect(target: BusTarget): Promise<Connection> {
  if (target.kind === 'socket') {
    requireSocket(target.path);
  }
  try {
    const client = await openBus(target);
    return connectionOver(client, target);
  } catch (error) {
    throw explain(error, target);
  }
}

/** The API over a client of the bus. */
export function connectionOver(client: BusClient, target: BusTarget): Connection {
  // On the system bus polkit may have something to ask.
  const destination = target.kind === 'system' ? { destination: SERVICE, interactive: true } : {};
  const ask = async (
    member: string,
    signature: string,
    body: unknown[],
    more: { timeoutMs?: number } = {},
  ): Promise<unknown[]> => {
    const address = { ...destination, path: OBJECT, interface: MANAGER };
    try {
      return await client.call({ ...address, member, signature, body, ...more });
    } catch (error) {
      throw explain(error, target);
    }
  };
  const call = (member: string, signature: string, ...body: unknown[]) => ask(member, signature, body);
  return {
    describe: async () => parseDocument((await call('Describe', ''))[0]),
    assign: async (guest, request) => {
      await call('Assign', 'ss', guest, JSON.stringify(request));
    },
    unassign: async (guest) => {
      await call('Unassign', 's', guest);
    },
    attachQemu: async (guest, socket) => {
      await call('AttachQemu', 'sh', guest, socket);
    },
    screenshot: async (output) => {
      const [fd, text] = await call('Screenshot', 's', output);
      const png = readDescriptor(fd);
      return { png, document: parseDocument(text) };
    },
    takeLease: async (name, request) => {
      // The daemon says when the waiting is over.
      const more = request.wait || request.transfer ? { timeoutMs: Number.POSITIVE_INFINITY } : {};
      const [fd, text] = await ask('TakeLease', 'ss', [name, JSON.stringify(request)], more);
      if (!isFd(fd))
        throw new CliError(EXIT.refused, 'the daemon answered without a lease', 'Its log may say why.');
      return { fd, document: parseDocument(text) };
    },
    onLeaseNotice: (notice) => {
      client.subscribe({ path: OBJECT, interface: MANAGER, member: 'LeaseNotice' }, ({ body }) => {
        const [lease, reason, ms] = body;
        notice(String(lease), String(reason), Number(ms));
      });
    },
    onLeaseEnded: (over) => {
      client.subscribe({ path: OBJECT, interface: MANAGER, member: 'LeaseEnded' }, ({ body }) => {
        const [lease, reason] = body;
        over(String(lease), String(reason));
      });
    },
    releaseLease: async (name) => {
      await call('ReleaseLease', 's', name);
    },
    revokeLease: async (name, request) => {
      await call('RevokeLease', 'ss', name, JSON.stringify(request));
    },
    transferLease: async (name, request) => {
      await call('TransferLease', 'ss', name, JSON.stringify(request));
    },
    switchSeat: async (seat, guest) => {
      await call('SwitchSeat', 'ss', seat, guest);
    },
    attachDevice: async (device, seat) => {
      await call('AttachDevice', 'ss', device, seat);
    },
    detachDevice: async (device) => {
      await call('DetachDevice', 's', device);
    },
    lockSeat: async (seat, locked) => {
      await call(locked ? 'LockSeat' : 'UnlockSeat', 's', seat);
    },
    watchInput: async (seat, keys, tell) => {
      client.subscribe({ path: OBJECT, interface: MANAGER, member: 'InputEvents' }, ({ body }) => {
        tell(parseDocument(body[1]));
      });
      await call('WatchInput', 'sb', seat, keys);
    },
    closed: async () => {
      await client.closed;
      throw new CliError(EXIT.unreachable, 'the daemon ended the connection', ADVICE_UNREACHABLE);
    },
    close: () => client.close(),
  };
}

/** Makes of whatever a call threw an error that says where, why and what to do. */
export function explain(error: unknown, target: BusTarget): CliError {
  if (error instanceof CliError) {
    return error;
  }
  const { message, code } = error as NodeJS.ErrnoException;
  const place = placeOf(target);
  const name = busErrorName(error);
  if (name !== null && !UNREACHABLE.has(name)) {
    return new CliError(EXIT.refused, `the daemon refused: ${message}`, adviceFor(name));
  }
  if (name === null && code === 'ERR_MODULE_NOT_FOUND') {
    const advice = 'Build it with `npm run build`, or install scanoutd anew.';
    return new CliError(EXIT.unreachable, `the native part of scanoutd is missing: ${message}`, advice);
  }
  return new CliError(EXIT.unreachable, `no daemon at ${place}: ${message}`, ADVICE_UNREACHABLE);
}

const ADVICE_UNREACHABLE =
  'Is it running? `systemctl status scanoutd` tells. For a daemon elsewhere: --bus PATH, SCANOUTD_BUS or --system.';

/** D-Bus errors that mean that nobody answered. */
const UNREACHABLE = new Set(
  [
    'ServiceUnknown',
    'NameHasNoOwner',
    'NoReply',
    'Disconnected',
    'Timeout',
    'TimedOut',
    'NoServer',
    'IOError',
  ].map((name) => `org.freedesktop.DBus.Error.${name}`),
);

function adviceFor(name: string): string {
  switch (name.split('.').at(-1)) {
    case 'AccessDenied':
    case 'InteractiveAuthorizationRequired':
      return 'Be root or a member of the group scanoutd; on the system bus polkit may allow others (docs/leases.md).';
    case 'NotAllowed':
      return 'uid and gid of the [[lease]] say who may have it.';
    case 'Busy':
      return '`scanoutctl leases` shows who has what; of a seat, one at a time watches the input.';
    case 'UnknownMethod':
    case 'UnknownInterface':
    case 'UnknownObject':
      return 'The daemon is of another version: `scanoutctl status` says which. Restart it after an upgrade.';
    default:
      return '`scanoutctl status` shows what there is.';
  }
}

/** The D-Bus name of an error of the native bus, or null for errors of other kinds. */
function busErrorName(error: unknown): string | null {
  const { dbusName, code } = error as { dbusName?: unknown; code?: unknown };
  for (const text of [dbusName, code]) {
    if (typeof text === 'string' && /^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$/.test(text)) {
      return text;
    }
  }
  return null;
}

function requireSocket(path: string): void {
  try {
    if (statSync(path).isSocket()) {
      return;
    }
  } catch (error) {
    const { errno, code } = error as NodeJS.ErrnoException;
    const [name, text] = getSystemErrorMap().get(errno ?? 0) ?? [code, 'unknown error'];
    throw new CliError(EXIT.unreachable, `no daemon at ${path}: ${text} (${name})`, ADVICE_UNREACHABLE);
  }
  throw new CliError(EXIT.unreachable, `no daemon at ${path}: it is no socket`, ADVICE_UNREACHABLE);
}

function placeOf(target: BusTarget): string {
  return target.kind === 'system' ? 'the system bus' : target.path;
}

function parseDocument<T>(text: unknown): T {
  try {
    return JSON.parse(String(text)) as T;
  } catch {
    const advice = 'Program and daemon are of different versions: restart the daemon after an upgrade.';
    throw new CliError(EXIT.refused, 'the daemon answered with something that is no document', advice);
  }
}

/** Everything in the file behind a descriptor, which is closed; wherever its offset stands. */
function isFd(value: unknown): value is Fd {
  return typeof value === 'object' && value !== null && 'number' in value && 'close' in value;
}

function readDescriptor(fd: unknown): Buffer {
  if (!isFd(fd)) {
    throw new CliError(EXIT.refused, 'the daemon answered without a picture', 'Its log may say why.');
  }
  try {
    const bytes = Buffer.alloc(fstatSync(fd.number).size);
    for (let offset = 0; offset < bytes.length; ) {
      const got = readSync(fd.number, bytes, offset, bytes.length - offset, offset);
      if (got === 0) {
        break;
      }
      offset += got;
    }
    if (!bytes.subarray(0, 8).equals(PNG_SIGNATURE)) {
      throw new CliError(
        EXIT.refused,
        'the daemon answered with something that is no PNG',
        'Its log may say why.',
      );
    }
    return bytes;
  } finally {
    fd.close();
  }
}

/** Loaded late, since `check` and the help have no need of the native part. */
async function openBus(target: BusTarget): Promise<BusClient> {
  // Loaded only now: help and `check` work without the native part.
  const { Bus, socketAddress } = await import('../native/bus.js');
  return target.kind === 'system' ? Bus.system() : Bus.open(socketAddress(target.path));
}
