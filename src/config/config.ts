/** The configuration as the rest of the daemon uses it: parsed values, no text that has to be read again. */
import {
  COLOR,
  type ConfigDocument,
  documentSchema,
  type GuestEntry,
  MODE,
  type OutputEntry,
} from './schema.js';

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';
export type PresentMode = 'mailbox' | 'fifo' | 'async';
export type PlaneRequest = 'auto' | 'primary' | 'overlay' | 'cursor' | number;
export type PolicyRequest = 'auto' | 'eager' | 'deadline';

/** `refreshMhz` is in thousandths of a hertz; null: the highest there is. See `pickMode` (match.ts). */
export type ModeRequest = 'preferred' | { width: number; height: number; refreshMhz: number | null };

/** In pixels of the output. */
export interface Area {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface DaemonConfig {
  /** Absolute, at most 107 bytes. */
  guestSocket: string;
  /** Permission bits, e.g. 0o660. */
  guestSocketMode: number;
  /** Group id, or null for the daemon's own group. */
  guestSocketGroup: number | null;
  /** Absolute, at most 107 bytes. */
  busSocket: string;
  systemBus: 'auto' | 'on' | 'off';
  logLevel: LogLevel;
  /** Real-time priority, 1 to 99, or 0 for none. */
  realtimePriority: number;
}

/** What an entry matches by; null members match anything. */
export interface CardMatch {
  device: string | null;
  driver: string | null;
}

export interface CardConfig {
  match: CardMatch;
  ignore: boolean;
}

export interface OutputMatch {
  connector: string | null;
  /** Device node of the card. */
  card: string | null;
  make: string | null;
  model: string | null;
  serial: string | null;
}

export interface IdleConfig {
  /** 0xRRGGBB */
  background: number;
  text: boolean;
}

export interface OutputConfig {
  /** The name that guests may use for it, or null. */
  name: string | null;
  match: OutputMatch;
  enabled: boolean;
  mode: ModeRequest;
  policy: PolicyRequest;
  writeback: boolean;
  idle: IdleConfig;
}

export interface GuestConfig {
  name: string;
  kind: 'socket';
  /** Connector name or `OutputConfig.name`; null: the planner chooses. */
  output: string | null;
  plane: PlaneRequest;
  /** Null: the whole output. */
  area: Area | null;
  /** -100 to 100; higher is above. */
  z: number;
  /** Present modes that the guest may choose, one at least. */
  present: PresentMode[];
  /** Peer credentials that may be this guest: one of either list. Null for both: anybody. */
  uids: number[] | null;
  gids: number[] | null;
  /** 1 to 64 */
  maxBuffers: number;
}

export interface PolicyConfig {
  unknownGuests: 'auto' | 'refuse';
  /** 1 to 1024 */
  maxGuests: number;
}

export interface Config {
  daemon: DaemonConfig;
  /** The first that matches a card counts. */
  cards: CardConfig[];
  /** The first that matches an output counts. */
  outputs: OutputConfig[];
  guests: GuestConfig[];
  policy: PolicyConfig;
}

/** Numbers for names of users and groups; null for names that the machine does not know. */
export interface AccountLookup {
  user(name: string): number | null;
  group(name: string): number | null;
}

/** The configuration that an empty file is. */
export function defaultConfig(): Config {
  return resolveConfig(documentSchema.parse({}), { user: () => null, group: () => null });
}

/** Makes the daemon's configuration of a document that has been checked: every account in it is known. */
export function resolveConfig(document: ConfigDocument, accounts: AccountLookup): Config {
  const { daemon, policy } = document;
  return {
    daemon: {
      guestSocket: daemon.guest_socket,
      guestSocketMode: Number.parseInt(daemon.guest_socket_mode, 8),
      guestSocketGroup: idsOf(daemon.guest_socket_group, accounts.group)?.[0] ?? null,
      busSocket: daemon.bus_socket,
      systemBus: daemon.system_bus,
      logLevel: daemon.log_level,
      realtimePriority: daemon.realtime_priority,
    },
    cards: document.card.map((card) => ({
      match: { device: card.device ?? null, driver: card.driver ?? null },
      ignore: card.ignore,
    })),
    outputs: document.output.map(resolveOutput),
    guests: document.guest.map((guest) => resolveGuest(guest, accounts)),
    policy: { unknownGuests: policy.unknown_guests, maxGuests: policy.max_guests },
  };
}

export function outputMatchOf(output: OutputEntry): OutputMatch {
  return {
    connector: output.connector ?? null,
    card: output.card ?? null,
    make: output.make ?? null,
    model: output.model ?? null,
    serial: output.serial ?? null,
  };
}

/** `text` as the schema allows it: "preferred", "1920x1080" or "1920x1080@59.94". Throws on anything else. */
export function parseMode(text: string): ModeRequest {
  if (text === 'preferred') {
    return 'preferred';
  }
  const match = MODE.exec(text);
  if (match === null) {
    throw new TypeError(`not a mode: ${text}`);
  }
  const refreshMhz = match[3] === undefined ? null : Math.round(Number(match[3]) * 1000);
  return { width: Number(match[1]), height: Number(match[2]), refreshMhz };
}

function resolveOutput(output: OutputEntry): OutputConfig {
  return {
    name: output.name ?? null,
    match: outputMatchOf(output),
    enabled: output.enabled,
    mode: parseMode(output.mode),
    policy: output.policy,
    writeback: output.writeback,
    idle: { background: parseColor(output.idle.background), text: output.idle.text },
  };
}

function resolveGuest(guest: GuestEntry, accounts: AccountLookup): GuestConfig {
  return {
    name: guest.name,
    kind: guest.kind,
    output: guest.output ?? null,
    plane: guest.plane,
    area: guest.area ?? null,
    z: guest.z,
    present: guest.present,
    uids: idsOf(guest.uid, accounts.user),
    gids: idsOf(guest.gid, accounts.group),
    maxBuffers: guest.max_buffers,
  };
}

function parseColor(text: string): number {
  if (!COLOR.test(text)) {
    throw new TypeError(`not a colour: ${text}`);
  }
  return Number.parseInt(text.slice(1), 16);
}

type Account = string | number;

function idsOf(value: Account | Account[] | undefined, lookup: (name: string) => number | null) {
  if (value === undefined) {
    return null;
  }
  return [value].flat().map((account) => {
    const id = typeof account === 'number' ? account : lookup(account);
    if (id === null) {
      throw new TypeError(`unknown account: ${account}`);
    }
    return id;
  });
}
