/** Hot halves of guests: types of the native class SocketGuest. */
import { addon } from './addon.js';
import type { Fd } from './base.js';
import type { FlipEngine, Producer } from './flip.js';

/** Counters of one plane of a guest. */
export interface GuestPlaneStats {
  taken: number;
  flips: number;
  superseded: number;
  missed: number;
  refused: number;
  copied: number;
  /** Of the newest frame taken, -1 for none. */
  newestBuffer: number;
}

export interface SocketGuestOptions {
  /** 1 to 4. */
  planeCount: number;
  /** Id of the first plane's stream; the others follow. Unique within the engine. */
  firstStream: number;
  /** Eventfds from the guest; taken over. A descriptor of another kind throws. */
  kick: Fd;
  release: Fd;
  /** Whether to make a fence socket. */
  fences: boolean;
}

/** Takes frames from a guest's flip page on the flip thread. */
export interface SocketGuest extends Producer {
  /** A new descriptor of the flip page, to be sent to the guest. */
  pageFd(): Fd;
  /** The guest's end of the fence socket: once, then null; null without one. */
  fenceFd(): Fd | null;
  /** The guest's place on its CRTC, in pixels; what it shows is moved there and clipped to it. */
  setArea(x1: number, y1: number, x2: number, y2: number): Promise<void>;
  /** Present mode by number of the protocol: 0 mailbox, 1 fifo, 2 async. */
  setMode(plane: number, mode: number): Promise<void>;
  /**
   * `framebuffer` 0: the display did not take the buffer, it can only be copied. `fenced`: its dma-bufs (borrowed) whose
   * fences hold each frame back; none when absent. EEXIST while the id is in use.
   */
  addBuffer(
    buffer: number,
    framebuffer: number,
    width: number,
    height: number,
    fenced?: readonly Fd[],
  ): Promise<void>;
  /**
   * The buffer's memory is elsewhere: frames that are not committed yet and all later ones have this framebuffer, and what
   * the display shows of it is shown once more, by that. EBUSY while frames with the one before the present one are held.
   */
  renewBuffer(buffer: number, framebuffer: number, fenced?: readonly Fd[]): Promise<void>;
  /** Resolved when no frame holds the framebuffer before the present one. */
  awaitFormer(buffer: number): Promise<void>;
  /** Ends the use of a buffer; resolved when no frame holds it. */
  retireBuffer(buffer: number): Promise<void>;
  stats(plane: number): GuestPlaneStats;
}

interface GuestExports {
  SocketGuest: new (engine: FlipEngine, options: SocketGuestOptions) => SocketGuest;
  fdKind(fd: Fd): 'eventfd' | 'sync_file' | 'dma-buf' | 'vfio-device' | 'other';
  dmaBufSize(fd: Fd): number;
  closeUntrusted(fd: Fd): void;
}

/**
 * `fdKind` asks procfs, never the file itself, which may be a hostile file system's. `closeUntrusted` closes a
 * descriptor from a guest whose own close could block. `dmaBufSize` is in bytes, and throws for other descriptors.
 */
export const { SocketGuest, fdKind, dmaBufSize, closeUntrusted } = addon as unknown as GuestExports;
