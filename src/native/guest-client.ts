/** The C client of the guest protocol: types of the native class GuestClientNative. clients/node wraps it for users. */
import { addon } from './addon.js';
import type { Fd } from './base.js';

export interface Configuration {
  /** Of the area that the guest fills, in pixels of the output. */
  width: number;
  height: number;
  /** Of the output, in thousandths of a hertz. */
  refreshMhz: number;
  /** False: no output shows the guest now; its flips complete at `refreshMhz` all the same. */
  lit: boolean;
  /** Connector name, empty when not lit. */
  output: string;
}

/** `state` by number of the protocol: 0 off, 1 direct, 2 copied, 3 unseen. */
export interface ShownState {
  state: number;
  /** errno of the refusal, or 0. */
  errnum: number;
  /** Which stage refused what. */
  text: string;
}

/** What the daemon refused, by code of the protocol. */
export interface Refusal {
  code: number;
  errnum: number;
  text: string;
}

interface Answer {
  /** 0 when no open request is meant. */
  serial: number;
  /** Type of the answered message. */
  request: number;
  /** What the request was about, one of them. */
  buffer: number;
  plane: number;
}

export type GuestClientEvent =
  | { type: 'connected' }
  | { type: 'configure'; configure: Configuration }
  | { type: 'formats'; plane: number; formats: { fourcc: number; modifier: bigint }[] }
  | { type: 'state'; plane: number; state: ShownState }
  | ({ type: 'done' } & Answer)
  | ({ type: 'error'; error: Refusal } & Answer)
  /** Buffers came free, or feedback changed. */
  | { type: 'page' }
  /** There is something to read by `readInput`. */
  | { type: 'input' }
  /** Null after `bye`, else the name of an errno: EREMOTEIO, the daemon said why; ECONNRESET; EPROTO. */
  | { type: 'closed'; reason: string | null };

/** How a buffer lies in its dma-buf. */
export interface BufferLayout {
  width: number;
  height: number;
  fourcc: number;
  modifier: bigint;
  /** In bytes, one a memory plane. */
  strides: number[];
  offsets: number[];
}

export interface DamageRect {
  x1: number;
  y1: number;
  x2: number;
  y2: number;
}

/** What is left out means the usual: the whole buffer, at 0,0, unscaled, all changed. */
export interface Frame {
  buffer?: number;
  /** Bits of the protocol's `Flip`. */
  flags?: number;
  /** 16.16 fixed point. */
  srcX?: number;
  srcY?: number;
  srcW?: number;
  srcH?: number;
  /** In the guest's area, in pixels. */
  dstX?: number;
  dstY?: number;
  dstW?: number;
  dstH?: number;
  hotX?: number;
  hotY?: number;
  /** Since the former submission, in pixels of the buffer. */
  damage?: DamageRect[];
  /** A sync_file to wait for, borrowed. */
  fence?: Fd;
}

export interface Submission {
  sequence: bigint;
  /** The former submission when the daemon never saw it, else 0n. */
  reclaimed: bigint;
  reclaimedBuffer: number;
}

/** As struct scanoutd_flip_feedback; `flags` are bits of the protocol's `Presented`. */
export interface Feedback {
  flags: number;
  taken: bigint;
  presented: bigint;
  /** CLOCK_MONOTONIC. */
  presentedNs: bigint;
  vblank: bigint;
  refreshNs: number;
  refused: bigint;
  refusedCode: number;
  refusedErrno: number;
  flips: bigint;
  superseded: bigint;
  missed: bigint;
}

/** One evdev event: numbers of linux/input-event-codes.h. */
export interface InputEvent {
  type: number;
  code: number;
  value: number;
}

/** What one device sent at one time. */
export interface InputFrame {
  /** By number of the protocol's `InputClass`. */
  device: number;
  /** CLOCK_MONOTONIC, of the kernel, in nanoseconds. */
  timeNs: bigint;
  /** Without the SYN_REPORT that ends them. */
  events: InputEvent[];
}

/** What a device can do, as struct scanoutd_input_device: numbers of linux/input-event-codes.h. */
export interface InputDevice {
  name: string;
  bus: number;
  vendor: number;
  product: number;
  version: number;
  properties: number[];
  types: number[];
  keys: number[];
  relative: number[];
  misc: number[];
  switches: number[];
  leds: number[];
  /** By ABS_*. */
  axes: Record<
    number,
    { value: number; minimum: number; maximum: number; fuzz: number; flat: number; resolution: number }
  >;
}

/** Methods throw a SystemError with the client's errno; see clients/c/scanoutd-client.h for which. */
export interface GuestClientNative {
  /** One attempt, without waiting; the event `connected` or `closed` follows. */
  connect(): void;
  readonly connected: boolean;
  readonly capabilities: bigint;
  bye(): void;
  /** Ends the connection; buffers are kept. No event follows. */
  disconnect(): void;
  /** Ends everything. Only `connected` may be asked afterwards. */
  close(): void;
  /** The serial of the request; 0 when the buffer is only kept until there is a connection. `fds` are borrowed. */
  addBuffer(id: number, layout: BufferLayout, fds: Fd[]): number;
  renewBuffer(id: number, fds: Fd[]): number;
  removeBuffer(id: number): number;
  setPresent(plane: number, mode: number): number;
  submit(plane: number, frame: Frame): Submission;
  withdraw(plane: number): Submission | null;
  bufferFree(id: number): boolean;
  /** Bit n of `buffers`: id n. The id of the one submitted longest ago, or null when none is free. */
  acquire(buffers: bigint): number | null;
  feedback(plane: number): Feedback;
  takeInput(): number;
  /** The next frame; true: from here on the devices are others; null: nothing more, for now. */
  readInput(): InputFrame | true | null;
  /** By number of the protocol's `InputClass`; null when the guest has no such device. */
  inputDevice(device: number): InputDevice | null;
  /** Bits by LED_*. */
  setLeds(leds: number): void;
}

interface GuestClientExports {
  GuestClientNative: new (
    path: string,
    options: { name: string; planes: number[]; capabilities: bigint },
    onEvent: (event: GuestClientEvent) => void,
  ) => GuestClientNative;
}

export const { GuestClientNative } = addon as unknown as GuestClientExports;
