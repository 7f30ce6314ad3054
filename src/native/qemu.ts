/** The hot half of a console of QEMU's D-Bus display: types of the native classes QemuListener and QemuPicture. */
import { addon } from './addon.js';
import type { Fd } from './base.js';
import type { FlipEngine, Producer } from './flip.js';
import type { GuestPlaneStats } from './guests.js';
import type { KmsDevice } from './kms.js';
import type { PixelMemory } from './pixels.js';

/** A picture that QEMU wants to show; sizes in pixels, strides and offsets in bytes, one a memory plane. */
export interface QemuWanted {
  type: 'wanted';
  /** The number of its buffer, 0 to 55. */
  slot: number;
  /**
   * - `pixels`: they come in messages
   * - `map`: they are in a memfd
   * - `dmabuf`: they are in dma-bufs, one for all memory planes or one each
   */
  kind: 'pixels' | 'map' | 'dmabuf';
  /** The part that is shown. */
  x: number;
  y: number;
  width: number;
  height: number;
  backingWidth: number;
  backingHeight: number;
  fourcc: number;
  modifier: bigint;
  strides: number[];
  offsets: number[];
  /** The first row in memory is the lowest of the picture. */
  bottomUp: boolean;
}

/** What the flip thread tells: a buffer is wanted, a buffer is not shown any more and never will be, the end. */
export type QemuEvent =
  | QemuWanted
  | { type: 'idle'; slot: number }
  | { type: 'ended'; fault: number; errno: number };

export interface QemuListenerOptions {
  /** Id of the picture's stream, unique within the engine; the cursor's follows. */
  firstStream: number;
  /** Our end of the pair whose other end goes to QEMU; taken over. */
  socket: Fd;
  /** Of all cursors, in pixels, 0 to 512; 0: there are none. */
  cursorWidth: number;
  cursorHeight: number;
  /** The descriptors are the receiver's. Not called any more after `leave`. */
  onEvent(event: QemuEvent, fds: Fd[]): void;
}

/** Serves the calls of org.qemu.Display1.Listener on the flip thread. Promises are rejected with a SystemError. */
export interface QemuListener extends Producer {
  /** Buffers of the cursor: these numbers are FIRST_CURSOR and on. */
  cursors(): { framebuffer: number; stride: number; memory: PixelMemory }[];
  /** A wanted buffer can be shown; `framebuffer` 0: copied only. `memory`: of those without a dma-buf, made by QemuPicture. */
  ready(slot: number, framebuffer: number, memory: PixelMemory | null, fenced?: readonly Fd[]): Promise<void>;
  /** A wanted buffer cannot be shown. */
  failed(slot: number): Promise<void>;
  /** An idle buffer is freed: its number may be used again. */
  freed(slot: number): Promise<void>;
  /**
   * Where the picture goes, in pixels of the CRTC; `whole`: there is nothing around. `fit`: as large as it can be, else as
   * large as it is and in the middle.
   */
  setArea(x1: number, y1: number, x2: number, y2: number, whole: boolean, fit: boolean): Promise<void>;
  /** 0: the picture, 1: the cursor. */
  stats(plane: number): GuestPlaneStats;
  /** Calls; calls about what is not there (any more); Disable; answers that no flip came for in time; imports. */
  counters(): { calls: number; untimely: number; disables: number; lateReplies: number; imports: number };
}

/** Number of the first buffer of the cursor. */
export const FIRST_CURSOR = 56;

/** Why a connection ended, by `fault`. */
export const FAULTS: readonly string[] = [
  '',
  'QEMU closed the connection',
  'the socket failed',
  'QEMU does not read its answers',
  'QEMU refused the authentication',
  'QEMU did not answer the authentication as D-Bus has it',
  'a message that is none of D-Bus',
  'a message of another byte order',
  'a message that is too long',
  'an answer to nothing that was asked',
  'descriptors that the call does not have, or fewer than it has',
  'arguments of other types than the interface has',
  'arguments that are put together wrongly',
  'a picture of an impossible size',
  'a picture of unknown pixels',
  'a rectangle outside of everything',
  'pixels that are more or fewer than the picture has',
];

interface QemuExports {
  QemuListener: new (engine: FlipEngine, device: KmsDevice, options: QemuListenerOptions) => QemuListener;
  /** Memory for a picture that comes without a dma-buf; `memfd` (taken over) is where it is kept up to date from. */
  QemuPicture: new (
    layout: { width: number; height: number; fourcc: number; stride: number; offset: number },
    memfd: Fd | null,
  ) => PixelMemory;
}

export const { QemuListener, QemuPicture } = addon as unknown as QemuExports;
