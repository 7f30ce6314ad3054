/**
 * The documents that the D-Bus API returns as JSON, that `scanoutctl --json` prints and that its tables are made of.
 *
 * One document each, so that what a person reads and what a program reads cannot differ. Members are only ever added.
 */

import type { GuestInputName, GuestKindName } from '../config/config.js';
import type { InputClass } from '../native/input.js';
import type { MasterKind } from '../session/source.js';

/** How a guest's plane is shown, the truth of this moment. */
export type PlaneState = 'off' | 'direct' | 'copied' | 'unseen';

/** Latency in microseconds: from the guest's page-flip eventfd to the commit ioctl's entry. */
export interface LatencyDocument {
  count: number;
  p50: number;
  p99: number;
  max: number;
}

export interface GuestPlaneDocument {
  /** Index in the guest's own list, bottom to top. */
  index: number;
  kind: 'primary' | 'overlay' | 'cursor';
  state: PlaneState;
  /** Why the state is not `direct`: the stage that refused, what it refused and the errno. Empty when direct. */
  reason: string;
  /** Hardware plane, or null when there is none. */
  plane: number | null;
  present: 'mailbox' | 'fifo' | 'async';
  fourcc: string | null;
  modifier: string | null;
  /** Of the buffer of its newest frame, in pixels; null where there is none. */
  size: { width: number; height: number } | null;
  flips: number;
  /** Frames that a newer one replaced before they were shown (mailbox). */
  superseded: number;
  /** Vblanks that a frame which was there in time did not make. */
  missed: number;
  refused: number;
  latencyUs: LatencyDocument;
}

export interface GuestLeaseDocument {
  /** Of the [[lease]]. */
  name: string;
  /** `waiting`: it has asked for it. `ended`: the guest has left, or the lease was taken from it or refused. */
  state: 'waiting' | 'leased' | 'ended';
  /** Connector names, while it is leased. */
  outputs: string[];
  /** Why it has ended; empty before. */
  reason: string;
}

export interface GuestDocument {
  name: string;
  kind: GuestKindName;
  connected: boolean;
  pid: number | null;
  uid: number | null;
  /** Connector name of the output that shows the guest, or null. */
  output: string | null;
  area: { x: number; y: number; width: number; height: number } | null;
  /** Mode of that output, or null where none shows it. */
  mode: { width: number; height: number; refreshMhz: number } | null;
  buffers: number;
  /** Frames copied by shadow copy since the guest came. */
  copies: number;
  /** Frames that its machine was told are over before they were shown, since the display took too long. */
  late: number;
  /** Empty for a guest with a lease, whose flips are its own. */
  planes: GuestPlaneDocument[];
  /** What a guest of kind lease has instead of planes; null for others. */
  lease: GuestLeaseDocument | null;
  /** Newest error that the guest was told, or empty. */
  lastError: string;
}

/** What a guest knows of itself. */
export type GuestFacts = Omit<GuestDocument, 'mode' | 'lease'>;

export interface OutputDocument {
  /** Connector name, e.g. HDMI-A-1. */
  name: string;
  card: string;
  /** From the EDID; null where there is none. */
  make: string | null;
  model: string | null;
  serial: string | null;
  connected: boolean;
  /** True when a picture, a guest's or the idle one, is being scanned out. */
  lit: boolean;
  /** Why it is not lit; empty when it is. */
  reason: string;
  mode: { width: number; height: number; refreshMhz: number } | null;
  modes: { width: number; height: number; refreshMhz: number; preferred: boolean }[];
  crtc: number | null;
  policy: 'eager' | 'deadline';
  guests: string[];
  /** True when the idle picture is shown. */
  idle: boolean;
  writeback: boolean;
  flips: number;
  missed: number;
  /** By the shadow copies that are on its planes now: pictures that were drawn, and pixels that changed in them. */
  copied: { pictures: number; pixels: number };
  /** The newest commit failure, or null. */
  lastError: { errno: number; code: string; stage: string; count: number } | null;
}

export interface CardDocument {
  path: string;
  driver: string;
  realtime: boolean;
  /** Why the flip thread has no real-time priority; empty when it has. */
  realtimeReason: string;
  /** Where the card and its DRM master come from, and which seat, descriptor or lease that is. */
  master: { source: MasterKind; detail: string };
  /** True while nothing is committed for lack of DRM master: guests are paced by a timer, leases are suspended. */
  paused: boolean;
  /** Why; empty when it is not. */
  pausedReason: string;
  framebuffers: { live: number; imports: number; hits: number };
}

/** A lease that the configuration has, or that somebody has. */
export interface LeaseDocument {
  name: string;
  /** `kept`: its lessee is gone, and its last frame stays. */
  state: 'free' | 'leased' | 'kept';
  /** Its lessee was told that it will be over. */
  ending: { reason: string; inMs: number } | null;
  /** True while the daemon is not DRM master, so that nothing can be committed. */
  suspended: boolean;
  /** Who waits for it, in their order, and what they were told is in the way. */
  waiting: { pid: number; uid: number; waitedMs: number; why: string }[];
  /** As configured while it is free, else connector names. */
  outputs: string[];
  card: string | null;
  /** Of its lessee. */
  pid: number | null;
  uid: number | null;
  /** Since when it is held. */
  heldMs: number;
  /** Ids of the kernel's objects in it; empty while it is free. */
  crtcs: number[];
  connectors: number[];
  /** Primary plane of the first output, its others, and so on. */
  planes: number[];
}

/** How a lease is asked for; every member is optional. */
export interface TakeLeaseRequest {
  /** Wait where somebody else has it, or a connector of it is not there. */
  wait?: boolean;
  /** How long at most; without it: for as long as the caller waits. */
  timeoutMs?: number;
  /** Take it over from its lessee, where the lease permits that; the caller waits while that is given notice. */
  transfer?: boolean;
  /** What its lessee is told then. */
  reason?: string;
}

/** How a lease is taken from its lessee; every member is optional. */
export interface EndLeaseRequest {
  reason?: string;
  /** From the notice to the end; without it, as configured. */
  noticeMs?: number;
}

export interface TransferLeaseRequest extends EndLeaseRequest {
  /** The process that gets it, of those that wait; without it, the first of them. */
  to?: number;
}

/** An input device of this machine. */
export interface InputDeviceDocument {
  /** "/dev/input/event3" */
  device: string;
  name: string;
  /** Vendor and product: "046d:c52b". */
  id: string;
  phys: string;
  /** Null: not known, or nothing that a guest could make use of. */
  class: InputClass | null;
  /** ID_SEAT; "seat0" where udev says nothing. */
  udevSeat: string;
  /** Who says that it is the seat's: a call, an [[input]], ID_SEAT, or nobody otherwise. */
  by: 'attached' | 'configuration' | 'udev' | 'rest';
  open: boolean;
  /** Why it is not open; empty when it is. */
  reason: string;
  read: 'raw' | 'libinput' | null;
  /** Nobody else gets its events. */
  grab: boolean;
  /** Classes of its events: with libinput, others than its own. */
  comesAs: InputClass[];
}

/** A way of a guest's input. */
export interface GuestSinkDocument {
  /** Null: of all classes. */
  class: InputClass | null;
  how: 'uinput' | 'virtio' | 'ring' | 'qemu';
  /** Device node or socket; empty where there is none. */
  path: string;
  /** False: nobody is connected to the socket. */
  open: boolean;
  delivered: number;
  /** Motion that was put together, and events that were given up, as the guest was slow. */
  merged: number;
  dropped: number;
  /** From the kernel's timestamp to delivery, of `count` events. */
  latencyUs: { p50: number; p99: number; max: number };
}

export interface SeatGuestDocument {
  name: string;
  how: GuestInputName;
  /** It is there, so that the seat can be switched to it. */
  present: boolean;
  /** Output that shows it, or null. */
  output: string | null;
  sinks: GuestSinkDocument[];
}

export interface SeatDocument {
  name: string;
  udevSeat: string;
  /** No [[seat]] has it: it is as udev says. */
  automatic: boolean;
  /** It has a device and an output that is lit. */
  ready: boolean;
  /** What is missing; empty when it is ready. */
  reason: string;
  outputs: { name: string; lit: boolean }[];
  /** That its input goes to, or null. */
  guest: string | null;
  /** In the order of switching. */
  guests: SeatGuestDocument[];
  locked: boolean;
  idle: boolean;
  /** Since the last event of a device. */
  idleMs: number;
  pointer: 'seat' | 'under';
  devices: InputDeviceDocument[];
}

/** One event that `WatchInput` tells. */
export interface InputEventDocument {
  /** CLOCK_MONOTONIC of the kernel, in microseconds. */
  timeUs: number;
  device: string;
  /** Guest that it went to, or null. */
  guest: string | null;
  class: InputClass;
  type: number;
  /** Null: the code of a key, which was not asked for. */
  code: number | null;
  value: number;
}

/** Who opens cards. */
export interface SessionDocument {
  /** `given`: nobody, all cards were passed or leased. */
  kind: 'direct' | 'seatd' | 'logind' | 'builtin' | 'given';
  seat: string | null;
  /** Why it is this one. */
  reason: string;
}

export interface StatusDocument {
  version: string;
  pid: number;
  uptimeMs: number;
  config: string | null;
  session: SessionDocument;
  cards: CardDocument[];
  outputs: OutputDocument[];
  guests: GuestDocument[];
  leases: LeaseDocument[];
  /** Empty where the configuration asks for no input. */
  seats: SeatDocument[];
  /** Input devices of no seat; empty likewise. */
  inputDevices: InputDeviceDocument[];
}

export interface ScreenshotDocument {
  output: string;
  width: number;
  height: number;
  /** `writeback`: read back from the display hardware. `composed`: put together from the planes' framebuffers. */
  how: 'writeback' | 'composed';
  /** Frames that the picture shows. */
  frames: { guest: string; plane: number; sequence: string }[];
}

/** Where a guest is to be shown. Absent members are chosen by the planner. */
export interface AssignRequest {
  output?: string;
  /** In pixels of the output; the whole output when absent. */
  area?: { x: number; y: number; width: number; height: number };
  /** Which hardware plane carries the guest's lowest plane. */
  plane?: 'auto' | 'primary' | 'overlay' | 'cursor' | number;
}
