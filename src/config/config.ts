/** The configuration as the rest of the daemon uses it: parsed values, no text that has to be read again. */

import type { InputClass, LibinputOptions } from '../native/input.js';
import { type CommandValues, expandCommand, FD_TO_COME } from './command.js';
import type { GuestEntry } from './guest-schema.js';
import type { KeyCombination } from './keys.js';
import type { LeaseEntry } from './lease-schema.js';
import { guestInput, resolveInput, resolveSeat } from './seats.js';

export type { GuestKindName } from './guest-schema.js';

import { COLOR, type ConfigDocument, documentSchema, MODE, type OutputEntry } from './schema.js';

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';
export type SessionKind = 'auto' | 'logind' | 'seatd' | 'direct';
export type PresentMode = 'mailbox' | 'fifo' | 'async';
export type PlaneRequest = 'auto' | 'primary' | 'overlay' | 'cursor' | number;
export type PolicyRequest = 'auto' | 'eager' | 'deadline';

/** `refreshMhz` is in thousandths of a hertz; null: the highest there is. See `pickMode` (match.ts). */
export type ModeRequest = 'preferred' | { width: number; height: number; refreshMhz: number | null };

/** How a guest takes input; see docs/seats.md. `watch`: it is shown by its seat, and gets nothing; `none`: it is not. */
export type GuestInputName = 'uinput' | 'virtio' | 'ring' | 'qemu' | 'watch' | 'none';

export interface GuestInputConfig {
  how: GuestInputName;
  /** The configuration says so, not the kind. */
  asked: boolean;
  /** Path with "{class}" in it, for `how` "virtio". */
  socket: string;
  /** Null: as `how` has it. */
  classes: InputClass[] | null;
}

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
  session: SessionKind;
  /** Of sockets for clients of drm-lease-manager; null: there are none. */
  dlmDirectory: string | null;
  /** For clients of wp_drm_lease_device_v1, at most 107 bytes; null: there is none. */
  waylandSocket: string | null;
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

/** What every guest has. */
interface GuestCommon {
  name: string;
  input: GuestInputConfig;
  /**
   * Program and arguments that `scanoutctl guest run` starts, nothing left to put in but the number of a descriptor
   * (`withDescriptor`); null: none.
   */
  command: string[] | null;
}

/** What guests have that the daemon shows. */
interface ShownGuestCommon extends GuestCommon {
  /** Connector name or `OutputConfig.name`; null: the planner chooses. */
  output: string | null;
  plane: PlaneRequest;
  /** Null: the whole output. */
  area: Area | null;
  /** -100 to 100; higher is above. */
  z: number;
}

/** Peer credentials that may be this guest: one of either list. Null for both: anybody. */
export interface PeerRule {
  uids: number[] | null;
  gids: number[] | null;
}

/** Our own protocol; see docs/guest-protocol.md. */
export interface SocketGuestConfig extends ShownGuestCommon, PeerRule {
  kind: 'socket';
  /** Present modes that the guest may choose, one at least. */
  present: PresentMode[];
  /** 1 to 64 */
  maxBuffers: number;
}

/** A virtual machine whose virtio-gpu device the daemon is, by vhost-user. */
export interface VirtioGuestConfig extends ShownGuestCommon, PeerRule {
  kind: 'virtio';
  /** On which the daemon listens: absolute, at most 107 bytes. */
  socket: string;
  /** One entry a scanout, in order; `output` is the first. Null: one scanout, where `output` says. */
  outputs: string[] | null;
}

/** A virtual machine that offers QEMU's D-Bus display. One of `socket` and `address` is set. */
export interface QemuGuestConfig extends ShownGuestCommon {
  kind: 'qemu';
  socket: string | null;
  address: string | null;
  console: number;
  scale: 'fit' | 'none';
}

/** A device of VFIO with a display plane. */
export interface VfioGuestConfig extends ShownGuestCommon, PeerRule {
  kind: 'vfio';
  /** Directory in sysfs; null with owner "socket", and only then. */
  device: string | null;
  /** Who opens it: the daemon itself, a virtual machine that the daemon takes a descriptor from, or who offers it. */
  owner: 'daemon' | 'vmm' | 'socket';
}

/** A program that drives what it is leased by itself. */
export interface LeaseGuestConfig extends GuestCommon, PeerRule {
  kind: 'lease';
  /** Name of a `LeaseConfig`. */
  lease: string;
}

export type ShownGuestConfig = SocketGuestConfig | VirtioGuestConfig | QemuGuestConfig | VfioGuestConfig;
export type GuestConfig = ShownGuestConfig | LeaseGuestConfig;

/** Parts of a card that another program may drive itself. */
export interface LeaseConfig extends PeerRule {
  name: string;
  /** Connector names or `OutputConfig.name`s, one at least. */
  outputs: string[];
  /** Overlay planes for each output. */
  overlays: number;
  cursor: boolean;
  onCrash: 'clear' | 'keep';
  /** Units of systemd whose processes may have it, beside `uids` and `gids`; null: not asked. */
  units: string[] | null;
  /** How many may wait for it. */
  queue: number;
  /** Whoever may have it may take it over from its lessee. */
  transfer: boolean;
  /** From the notice to a lessee to the end of its lease. */
  noticeMs: number;
}

/** How a device is read; null: not said here. */
export interface InputSettings {
  read: 'auto' | 'raw' | 'libinput' | null;
  grab: 'auto' | 'yes' | 'no' | null;
  libinput: LibinputOptions;
}

export interface InputMatch {
  /** "046d:c52b" */
  id: string | null;
  /** With "*" for anything. */
  name: string | null;
  device: string | null;
  phys: string | null;
  class: InputClass | null;
}

export interface InputConfig extends InputSettings {
  match: InputMatch;
  seat: string | null;
  output: string | null;
  ignore: boolean;
}

export interface HotkeyConfig extends KeyCombination {
  /** As it is written, for the log. */
  text: string;
  /** A guest by its name or its number in the order from 1, or what else is to be done. */
  target: { guest: string } | { number: number } | { action: 'next' | 'previous' | 'lock' };
}

export interface SeatConfig {
  name: string;
  /** Connector names or `OutputConfig.name`s; null: those of its udev seat. */
  outputs: string[] | null;
  /** In the order of switching; null: those that its outputs show. */
  guests: string[] | null;
  udevSeat: string;
  pointer: 'seat' | 'under';
  carryLocks: boolean;
  hotkeys: HotkeyConfig[];
  /** 0: never. */
  idleSeconds: number;
  lockOnIdle: boolean;
  idleCommand: string[] | null;
  activeCommand: string[] | null;
  lockCommand: string[] | null;
  unlockCommand: string[] | null;
  input: InputSettings;
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
  leases: LeaseConfig[];
  seats: SeatConfig[];
  /** The first that matches a device counts. */
  inputs: InputConfig[];
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
      session: daemon.session,
      dlmDirectory: daemon.dlm_directory ?? (process.env.DLM_RUNTIME_PATH || null),
      waylandSocket: daemon.wayland_socket ?? null,
      logLevel: daemon.log_level,
      realtimePriority: daemon.realtime_priority,
    },
    cards: document.card.map((card) => ({
      match: { device: card.device ?? null, driver: card.driver ?? null },
      ignore: card.ignore,
    })),
    outputs: document.output.map(resolveOutput),
    guests: document.guest.map((guest) => resolveGuest(guest, daemon.guest_socket, accounts)),
    leases: document.lease.map((lease) => resolveLease(lease, accounts)),
    seats: document.seat.map(resolveSeat),
    inputs: document.input.map(resolveInput),
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

function resolveLease(lease: LeaseEntry, accounts: AccountLookup): LeaseConfig {
  const { name, outputs, overlays, cursor, queue, transfer } = lease;
  const peers = { uids: idsOf(lease.uid, accounts.user), gids: idsOf(lease.gid, accounts.group) };
  const units = lease.unit === undefined ? null : [lease.unit].flat();
  const ends = { onCrash: lease.on_crash, noticeMs: lease.notice_ms };
  return { name, outputs, overlays, cursor, queue, transfer, units, ...ends, ...peers };
}

function resolveGuest(guest: GuestEntry, guestSocket: string, accounts: AccountLookup): GuestConfig {
  const { name, kind } = guest;
  const command =
    guest.command === undefined ? null : expandCommand(guest.command, commandValues(guest, guestSocket));
  const peers = { uids: idsOf(guest.uid, accounts.user), gids: idsOf(guest.gid, accounts.group) };
  const input = guestInput(guest);
  const common = {
    name,
    command,
    input,
    output: guest.output ?? guest.outputs?.[0] ?? null,
    plane: guest.plane,
    area: guest.area ?? null,
    z: guest.z,
  };
  switch (kind) {
    case 'socket':
      return { ...common, ...peers, kind, present: guest.present, maxBuffers: guest.max_buffers };
    case 'virtio':
      return { ...common, ...peers, kind, socket: guestSocketPath(guest), outputs: guest.outputs ?? null };
    case 'qemu':
      return {
        ...common,
        kind,
        socket: guest.socket ?? null,
        address: guest.address ?? null,
        console: guest.console,
        scale: guest.scale,
      };
    case 'vfio':
      return { ...common, ...peers, kind, device: guest.device ?? null, owner: guest.owner };
    case 'lease':
      return { name, command, input, ...peers, kind, lease: guest.lease ?? '' };
  }
}

/** Where the daemon listens for a guest that has a socket of its own. */
export function guestSocketPath(guest: { name: string; socket?: string | undefined }): string {
  return guest.socket ?? `/run/scanoutd/${guest.name}.sock`;
}

/** What words in the guest's command stand for. `guestSocket`: where socket guests connect. */
export function commandValues(guest: GuestEntry, guestSocket: string): CommandValues {
  return {
    name: guest.name,
    socket: socketOf(guest, guestSocket),
    address: guest.address ?? null,
    device: guest.device ?? null,
    output: guest.output ?? guest.outputs?.[0] ?? null,
    lease: guest.lease ?? null,
    fd: guest.kind === 'lease' ? FD_TO_COME : null,
  };
}

/** The socket by which the guest and the daemon find each other, whichever of them listens. */
export function socketOf(guest: GuestEntry, guestSocket: string): string | null {
  if (guest.kind === 'socket' || guest.kind === 'lease') return guestSocket;
  return guest.kind === 'virtio' ? guestSocketPath(guest) : (guest.socket ?? null);
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
