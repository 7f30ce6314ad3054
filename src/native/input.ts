/** The input thread: devices of seats, the table by which their events are routed, and the sinks of guests. */
import { addon } from './addon.js';
import type { Fd } from './base.js';

/** What a device is to a guest, which has at most one device of each. In the order of native/input/types.h. */
export const INPUT_CLASSES = [
  'keyboard',
  'pointer',
  'absolute',
  'touchscreen',
  'touchpad',
  'tablet',
  'pad',
  'switch',
  'joystick',
] as const;
export type InputClass = (typeof INPUT_CLASSES)[number];

export interface AxisRange {
  minimum: number;
  maximum: number;
  fuzz: number;
  flat: number;
  /** Units a millimetre, or a radian for rotations; 0: unknown. */
  resolution: number;
}

/** What a device says that it can do: numbers of linux/input-event-codes.h. */
export interface DeviceDescription {
  name: string;
  phys: string;
  uniq: string;
  bus: number;
  vendor: number;
  product: number;
  version: number;
  properties: number[];
  /** EV_* */
  types: number[];
  keys: number[];
  relative: number[];
  /** ABS_* */
  absolute: Record<number, AxisRange>;
  misc: number[];
  switches: number[];
  leds: number[];
}

/** Options of libinput; an absent one is left as the device has it. See libinput's documentation of each. */
export interface LibinputOptions {
  tap?: boolean;
  tapButtonMap?: 'lrm' | 'lmr';
  tapDrag?: boolean;
  tapDragLock?: boolean;
  naturalScroll?: boolean;
  leftHanded?: boolean;
  middleEmulation?: boolean;
  disableWhileTyping?: boolean;
  scrollMethod?: 'none' | 'two-finger' | 'edge' | 'button';
  /** KEY_* or BTN_* */
  scrollButton?: number;
  clickMethod?: 'none' | 'button-areas' | 'clickfinger';
  accelProfile?: 'flat' | 'adaptive';
  /** -1 to 1 */
  accelSpeed?: number;
  /** Rows of a 2x3 matrix: [a, b, c, d, e, f]. */
  calibration?: number[];
  /** Clockwise degrees, 0 to 359. */
  rotation?: number;
}

export interface DeviceOptions {
  /** The device's descriptor, non-blocking; taken over. */
  fd: Fd;
  /** Device node as udev names it, no link to it: for libinput, which reads what udev knows of it. */
  path: string;
  class: InputClass;
  /**
   * - `raw`: events go on as the kernel has them
   * - `libinput`: they go through libinput, and come out as those of a plain device of class `pointer`, `keyboard`, `touchscreen`,
   *   `absolute`, `tablet`, `pad` or `switch`, whatever `class` says. Of two fingers that scroll a wheel is made, of taps buttons;
   *   swipes, pinches and holds have no form in evdev and go nowhere
   */
  read: 'raw' | 'libinput';
  /** EVIOCGRAB: nobody else gets its events. */
  grab: boolean;
  libinput: LibinputOptions;
  /**
   * For libinput: devices of one group know of each other, as when a touchpad is to be off while a keyboard is typed on. The
   * seat's name. Of those, libinput pairs devices that have the same ID_SEAT in udev. Default: "".
   */
  group?: string;
}

/** A device that was opened. */
export interface OpenedDevice {
  id: number;
  /** How it comes out: with `read` "libinput", another one than the device's own. One for each class that comes out. */
  classes: { class: InputClass; description: DeviceDescription }[];
  /** A line for each option of libinput that could not be set, as "tap: the device has no such setting". The others are set. */
  refused: string[];
}

/** Part of an output in which a guest is shown, topmost first in a table. Pixels. */
export interface Place {
  guest: number;
  /** Index into `SeatTable.outputs`. */
  output: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Hotkey {
  /** KEY_*, all to be held, each an alternative list: [[29], [97]] is both Ctrl keys, [[29, 97]] one of them. */
  held: number[][];
  /** KEY_* that is pressed last. */
  key: number;
  /** Told with the notice. */
  id: number;
  /** The guest that the seat's input goes to from that very moment; null: JavaScript decides. */
  guest: number | null;
}

/** Everything that decides where a seat's events go; replaced as a whole. */
export interface SeatTable {
  /** Devices of the seat, by id. What is in no table goes nowhere. */
  devices: { id: number; output: number | null }[];
  /** The guest that has the keyboard, and whatever follows it; null: events go nowhere. */
  guest: number | null;
  /**
   * Switches of this seat by hotkey that `guest` takes into account, as the newest notice says. With fewer than there were the
   * seat stays with the guest of the newest one, unless `guest` is null.
   */
  switches: number;
  /**
   * - `seat`: pointers, touch and tablets go to the seat's guest, wherever they are
   * - `under`: to the guest that is shown under them
   */
  pointer: 'seat' | 'under';
  /** Sizes in pixels. */
  outputs: { width: number; height: number }[];
  places: Place[];
  hotkeys: Hotkey[];
  /** The new guest of a seat gets the lock state (Caps, Num, Scroll) of the former one, by taps of those keys. */
  carryLocks: boolean;
}

export type InputNotice =
  /** A hotkey was matched; `guest`: where input goes since then, or null as it went. `switches`: of the seat by hotkey so far. */
  | { type: 'hotkey'; seat: number; id: number; guest: number | null; switches: number }
  /** A device cannot be read any more: unplugged (ENODEV), or revoked. It is to be closed. */
  | { type: 'deviceGone'; device: number; errno: number; code: string }
  /** The kernel dropped events of a device (SYN_DROPPED); its state was read anew. */
  | { type: 'dropped'; device: number; count: number }
  /** A sink ended; it is to be removed. */
  | { type: 'sinkEnded'; sink: number; errno: number; code: string; why: string }
  /** libinput says what is wrong with a device: events that make no sense, most of all. In its own words. */
  | { type: 'nonsense'; device: number; why: string }
  /** The guest of a sink set its LEDs: bits by LED_*. */
  | { type: 'leds'; sink: number; leds: number };

export interface SinkStats {
  /** Events that are with the guest. */
  delivered: number;
  merged: number;
  dropped: number;
  /** From the kernel's timestamp to delivery. Nanoseconds. */
  p50Ns: number;
  p99Ns: number;
  maxNs: number;
}

/** One event as `watch` tells it. */
export interface WatchedEvent {
  /** CLOCK_MONOTONIC, nanoseconds, of the kernel. */
  timeNs: number;
  device: number;
  /** Guest that it went to, or null. */
  guest: number | null;
  class: InputClass;
  type: number;
  /** -1: the code of a key, which was not asked for. */
  code: number;
  value: number;
}

export interface UinputSink {
  id: number;
  /** "/dev/input/event7" */
  path: string;
  /** "/sys/devices/virtual/input/input12" */
  sysPath: string;
}

/** What a guest has one of: a device of a class. */
export interface GuestDevice {
  class: InputClass;
  description: DeviceDescription;
}

export interface RingOptions {
  /** The guest's eventfds, taken over: it is signalled that there are events by the one, and signals that there is room by the other. */
  event: Fd;
  room: Fd;
  /** One of each class at most. */
  devices: readonly GuestDevice[];
}

/** A ring in memory that is shared with a socket guest; see native/guests/protocol.h. */
export interface RingSink {
  id: number;
  /** Sealed memfds, for the guest; the receiver's to close. The first can be read only. */
  ring: Fd;
  reply: Fd;
}

/** A connection to QEMU's D-Bus display that JavaScript and the input thread both send on. */
export interface QemuRelay {
  id: number;
  /** JavaScript's end: everything on it, descriptors included, goes on to QEMU, and comes from there. */
  socket: Fd;
}

export interface QemuSinkOptions {
  console: number;
  /** Bus name of QEMU; null: the connection is peer to peer. */
  destination: string | null;
}

/** What JavaScript knows of a console by its properties. Pixels. */
export interface QemuConsoleState {
  width: number;
  height: number;
  /** The guest's pointer has a position (Mouse.IsAbsolute). */
  absolute: boolean;
  /** Keyboard.Modifiers: ScrollLock 1, NumLock 2, CapsLock 4. */
  modifiers: number;
}

interface NativeInputEngine {
  open(options: DeviceOptions): OpenedDevice;
  close(device: number): Promise<void>;
  addSeat(): Promise<number>;
  removeSeat(seat: number): Promise<void>;
  setSeat(seat: number, table: SeatTable): Promise<void>;
  addGuest(): Promise<number>;
  removeGuest(guest: number): Promise<void>;
  addUinput(guest: number, of: InputClass, description: DeviceDescription): Promise<UinputSink>;
  addVirtio(guest: number, of: InputClass, description: DeviceDescription, socket: Fd): Promise<number>;
  addRing(guest: number, options: RingOptions): Promise<RingSink>;
  setRing(sink: number, devices: readonly GuestDevice[]): Promise<void>;
  relayQemu(socket: Fd): Promise<QemuRelay>;
  closeQemuRelay(relay: number): Promise<void>;
  addQemu(guest: number, relay: number, options: QemuSinkOptions): Promise<number>;
  setQemu(sink: number, state: QemuConsoleState): Promise<void>;
  removeSink(sink: number): Promise<void>;
  idleNs(seat: number): number;
  stats(sink: number): SinkStats;
  watch(seat: number | null, keys: boolean): void;
  watched(): WatchedEvent[];
  heartbeat(): number;
  wake(): void;
  readonly realtime: boolean;
  readonly realtimeReason: string;
  shut(): void;
}

export interface InputEngineOptions {
  /** SCHED_RR, 1 to 99, or 0. */
  priority: number;
  onNotice(notice: InputNotice): void;
}

const native = addon as unknown as {
  InputEngine: new (priority: number, onNotice: (notice: InputNotice) => void) => NativeInputEngine;
  describeInputDevice: (fd: Fd) => DeviceDescription;
  classifyInputDevice: (description: DeviceDescription) => InputClass | null;
};

/** Reads what an evdev descriptor says of its device. Throws a SystemError: no evdev, or ranges that no device can have. */
export function describeDevice(fd: Fd): DeviceDescription {
  return native.describeInputDevice(fd);
}

/** Null for what no guest could make use of, such as an accelerometer. */
export function classify(description: DeviceDescription): InputClass | null {
  return native.classifyInputDevice(description);
}

/**
 * The input thread. All on the JS thread; promises resolve when the input thread has done it. Ids are never used twice.
 * Everything throws a TypeError or RangeError for arguments that make no sense, and an Error after `close`.
 */
export class InputEngine {
  private readonly engine: NativeInputEngine;

  /** Throws a SystemError. */
  constructor({ priority, onNotice }: InputEngineOptions) {
    this.engine = new native.InputEngine(priority, onNotice);
  }

  /** Takes the descriptor over, also when it throws a SystemError. Its events go nowhere until a seat's table names it. */
  open(options: DeviceOptions): OpenedDevice {
    return this.engine.open(options);
  }

  /** What is pressed on it is released in its guest. Its descriptor is closed when this resolves. */
  close(device: number): Promise<void> {
    return this.engine.close(device);
  }

  addSeat(): Promise<number> {
    return this.engine.addSeat();
  }

  removeSeat(seat: number): Promise<void> {
    return this.engine.removeSeat(seat);
  }

  /** What is pressed in a guest that is not concerned any more is released there first. */
  setSeat(seat: number, table: SeatTable): Promise<void> {
    return this.engine.setSeat(seat, table);
  }

  addGuest(): Promise<number> {
    return this.engine.addGuest();
  }

  /** With all of its sinks. */
  removeGuest(guest: number): Promise<void> {
    return this.engine.removeGuest(guest);
  }

  /** A device of uinput. One sink of each class a guest: a further one replaces the former. Rejects with a SystemError. */
  addUinput(guest: number, of: InputClass, description: DeviceDescription): Promise<UinputSink> {
    return this.engine.addUinput(guest, of, description);
  }

  /** Serves the front end at the other end of a connected vhost-user socket (taken over). `sinkEnded` tells its end. */
  addVirtio(guest: number, of: InputClass, description: DeviceDescription, socket: Fd): Promise<number> {
    return this.engine.addVirtio(guest, of, description, socket);
  }

  /** For all classes. `sinkEnded` tells of a guest that writes nonsense. Rejects with a SystemError: EINVAL, no eventfd. */
  addRing(guest: number, options: RingOptions): Promise<RingSink> {
    return this.engine.addRing(guest, options);
  }

  /** The guest of a ring has these devices from now on. What is pressed on the former ones is released first. */
  setRing(sink: number, devices: readonly GuestDevice[]): Promise<void> {
    return this.engine.setRing(sink, devices);
  }

  /** `socket`: connected to QEMU, nothing said on it yet; taken over. */
  relayQemu(socket: Fd): Promise<QemuRelay> {
    return this.engine.relayQemu(socket);
  }

  closeQemuRelay(relay: number): Promise<void> {
    return this.engine.closeQemuRelay(relay);
  }

  /** A console of the display at the relay's far end, for all classes. Events wait for the first `setQemu`. */
  addQemu(guest: number, relay: number, options: QemuSinkOptions): Promise<number> {
    return this.engine.addQemu(guest, relay, options);
  }

  setQemu(sink: number, state: QemuConsoleState): Promise<void> {
    return this.engine.setQemu(sink, state);
  }

  removeSink(sink: number): Promise<void> {
    return this.engine.removeSink(sink);
  }

  /** Since the last event of a device of the seat; since `addSeat` when there was none. */
  idleNs(seat: number): number {
    return this.engine.idleNs(seat);
  }

  stats(sink: number): SinkStats {
    return this.engine.stats(sink);
  }

  /** Keeps events of a seat, newest 4096, for `watched`; null: of none. Codes of keys are left out unless `keys`. */
  watch(seat: number | null, keys = false): void {
    this.engine.watch(seat, keys);
  }

  watched(): WatchedEvent[] {
    return this.engine.watched();
  }

  /** Advances whenever the thread turns; `wake` makes it turn once. */
  heartbeat(): number {
    return this.engine.heartbeat();
  }

  wake(): void {
    this.engine.wake();
  }

  get realtime(): boolean {
    return this.engine.realtime;
  }

  /** Empty when real-time. */
  get realtimeReason(): string {
    return this.engine.realtimeReason;
  }

  /** Ends the thread. Everything that is pressed is released first. */
  shut(): void {
    this.engine.shut();
  }
}
