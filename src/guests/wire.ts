/**
 * Constants and structures of the guest protocol, the TypeScript view of native/guests/protocol.h;
 * test/unit/protocol.test.ts compares every constant, offset and size with it.
 */
import { array, Layout, reserved, text, u32, u64, type Value } from './layout.js';

export const VERSION = { major: 1, minor: 4 } as const;
export const SOCKET_PATH = '/run/scanoutd/guest.sock';

export const MAX = {
  planes: 4,
  buffers: 64,
  damage: 8,
  formats: 128,
  fds: 4,
  /** Width or height of a buffer, in pixels. */
  size: 16384,
} as const;
export const NAME_SIZE = 64;
export const TEXT_SIZE = 208;
export const FLIP_PAGE_SIZE = 4096;
export const INPUT_RING_SIZE = 131072;
export const INPUT_REPLY_SIZE = 4096;

export const Message = {
  hello: 1,
  addBuffer: 2,
  removeBuffer: 3,
  setPresent: 4,
  bye: 5,
  renewBuffer: 6,
  offerDevice: 7,
  takeLease: 8,
  takeInput: 9,
  welcome: 0x8001,
  configure: 0x8002,
  formats: 0x8003,
  state: 0x8004,
  lease: 0x8005,
  leaseNotice: 0x8006,
  input: 0x8007,
  done: 0x80fe,
  error: 0x80ff,
} as const;

/** Bits of `capabilities`; unknown ones are ignored. */
export const Capability = { fence: 1n } as const;
export const PlaneKind = { none: 0, primary: 1, overlay: 2, cursor: 3 } as const;
export const PlaneState = { off: 0, direct: 1, copied: 2, unseen: 3 } as const;
export const PresentMode = { mailbox: 0, fifo: 1, async: 2 } as const;
/** What a device is to a guest, which has at most one of each. */
export const InputClass = {
  keyboard: 0,
  pointer: 1,
  absolute: 2,
  touchscreen: 3,
  touchpad: 4,
  tablet: 5,
  pad: 6,
  switch: 7,
  joystick: 8,
} as const;
/** Bits of a frame's flags. */
export const Flip = { fenced: 1, hide: 2 } as const;
/** Bits of the feedback's flags. */
export const Presented = { vsync: 1, hwClock: 2, direct: 4 } as const;

export const Code = {
  ok: 0,
  badMessage: 1,
  badVersion: 2,
  badState: 3,
  badName: 4,
  badFd: 5,
  badBuffer: 6,
  badFormat: 7,
  badLayout: 8,
  badPlane: 9,
  badRect: 10,
  badSequence: 11,
  badFence: 12,
  busy: 13,
  importFailed: 14,
  commitFailed: 15,
  notAllowed: 16,
  internal: 17,
  noLease: 18,
  leaseEnded: 19,
  inputEnded: 20,
} as const;
export type Code = (typeof Code)[keyof typeof Code];

/** A message that the protocol does not allow: what goes into ERROR. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  constructor(
    readonly code: Code,
    /** What, where and why; for the ERROR's text. */
    readonly text: string,
    /** Of the refused message, 0 when it had none. */
    readonly serial = 0,
  ) {
    super(text);
  }
}

export const headerLayout = new Layout({ type: u32, size: u32, serial: u32, reserved });
const HEADER_SIZE = headerLayout.size;

/** The messages, without their headers. */
export const layouts = {
  hello: new Layout(
    {
      versionMajor: u32,
      versionMinor: u32,
      capabilities: u64,
      name: text(NAME_SIZE),
      planeCount: u32,
      planeKinds: array(u32, MAX.planes),
      reserved,
    },
    HEADER_SIZE,
  ),
  addBuffer: new Layout(
    {
      buffer: u32,
      width: u32,
      height: u32,
      fourcc: u32,
      modifier: u64,
      planeCount: u32,
      reserved,
      strides: array(u32, 4),
      offsets: array(u32, 4),
    },
    HEADER_SIZE,
  ),
  removeBuffer: new Layout({ buffer: u32, reserved }, HEADER_SIZE),
  setPresent: new Layout({ plane: u32, mode: u32 }, HEADER_SIZE),
  bye: new Layout({}, HEADER_SIZE),
  renewBuffer: new Layout({ buffer: u32, reserved }, HEADER_SIZE),
  offerDevice: new Layout({ versionMajor: u32, versionMinor: u32, name: text(NAME_SIZE) }, HEADER_SIZE),
  takeLease: new Layout({ versionMajor: u32, versionMinor: u32, name: text(NAME_SIZE) }, HEADER_SIZE),
  takeInput: new Layout({}, HEADER_SIZE),
  welcome: new Layout(
    { versionMajor: u32, versionMinor: u32, capabilities: u64, pageSize: u32, reserved },
    HEADER_SIZE,
  ),
  configure: new Layout(
    { width: u32, height: u32, refreshMhz: u32, lit: u32, output: text(NAME_SIZE) },
    HEADER_SIZE,
  ),
  /** Followed by `count` times `format`. */
  formats: new Layout({ plane: u32, count: u32 }, HEADER_SIZE),
  state: new Layout({ plane: u32, state: u32, errnum: u32, reserved, text: text(TEXT_SIZE) }, HEADER_SIZE),
  lease: new Layout({ lease: text(NAME_SIZE) }, HEADER_SIZE),
  leaseNotice: new Layout({ milliseconds: u32, reserved, text: text(TEXT_SIZE) }, HEADER_SIZE),
  input: new Layout({ ringSize: u32, replySize: u32 }, HEADER_SIZE),
  done: new Layout({}, HEADER_SIZE),
  error: new Layout({ code: u32, errnum: u32, fatal: u32, reserved, text: text(TEXT_SIZE) }, HEADER_SIZE),
};
export const formatLayout = new Layout({ fourcc: u32, reserved, modifier: u64 });

type Layouts = typeof layouts;
type Body<K extends keyof Layouts> = Value<Layouts[K]['fields']>;
export type Format = Value<(typeof formatLayout)['fields']>;

interface Any<K extends keyof Layouts> {
  type: K;
  serial: number;
}
export type Hello = Any<'hello'> & Body<'hello'>;
export type AddBuffer = Any<'addBuffer'> & Body<'addBuffer'>;
export type RemoveBuffer = Any<'removeBuffer'> & Body<'removeBuffer'>;
export type SetPresent = Any<'setPresent'> & Body<'setPresent'>;
export type Bye = Any<'bye'>;
export type RenewBuffer = Any<'renewBuffer'> & Body<'renewBuffer'>;
export type OfferDevice = Any<'offerDevice'> & Body<'offerDevice'>;
export type TakeLease = Any<'takeLease'> & Body<'takeLease'>;
export type TakeInput = Any<'takeInput'>;
export type GuestMessage =
  | Hello
  | AddBuffer
  | RemoveBuffer
  | SetPresent
  | Bye
  | RenewBuffer
  | OfferDevice
  | TakeLease
  | TakeInput;

export type Welcome = Any<'welcome'> & Body<'welcome'>;
export type Configure = Any<'configure'> & Body<'configure'>;
export type Formats = Any<'formats'> & { plane: number; formats: Format[] };
export type State = Any<'state'> & Body<'state'>;
export type LeaseMessage = Any<'lease'> & Body<'lease'>;
export type LeaseNotice = Any<'leaseNotice'> & Body<'leaseNotice'>;
export type InputMessage = Any<'input'> & Body<'input'>;
export type Done = Any<'done'>;
export type ErrorMessage = Any<'error'> & Body<'error'>;
export type DaemonMessage =
  | Welcome
  | Configure
  | Formats
  | State
  | LeaseMessage
  | LeaseNotice
  | InputMessage
  | Done
  | ErrorMessage;
