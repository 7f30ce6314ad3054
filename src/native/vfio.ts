/** Devices of VFIO with a display plane, and the hot half of their guests. Refused calls throw a SystemError. */
import { addon } from './addon.js';
import type { Fd } from './base.js';
import type { FlipEngine, Producer } from './flip.js';
import type { GuestPlaneStats } from './guests.js';

/** DRM_PLANE_TYPE_* of the planes that devices have. */
export const VFIO_PLANE_TYPES = { primary: 1, cursor: 2 } as const;

/** A buffer of a plane, as the driver describes it: nothing of it is checked. */
export interface VfioPlane {
  /** Of the dma-buf, or the index of the region. */
  id: number;
  fourcc: number;
  modifier: bigint;
  width: number;
  height: number;
  /** Bytes a row. */
  stride: number;
  /** Bytes in all. */
  size: number;
}

export interface VfioDevice {
  /** How planes of that type are handed out; null: not at all. */
  probe(type: number): 'dma-buf' | 'region' | null;
  /** A new dma-buf; once for each id, as long as it is open. */
  dmaBuf(id: number): Fd;
  /** Gives the guest a monitor; false where the device has no place for it. Takes a tenth of a second, elsewhere. */
  writeEdid(edid: Uint8Array): Promise<boolean>;
  /** Its directory in sysfs, links resolved; empty where the kernel does not say (before Linux 6.18). */
  readonly path: string;
  /** The process that an adopted device belongs to, else 0. */
  readonly owner: number;
  /** Whether that process still has it. */
  stillOwned(): boolean;
  /** Gives up this use; a guest that was made of it has its own. */
  close(): void;
}

/** What the flip thread found; `index` is the plane's. Nothing but the type with `ended`: the owner's process has. */
export type VfioNews = VfioPlaneNews | { type: 'ended' };

export interface VfioPlaneNews {
  /**
   * - `unknown`: the plane shows a buffer that was not added; told once until one is
   * - `gone`: the device answers no more; it is not asked any more
   * - `failed`: a question or a copy failed, again; it goes on
   */
  type: 'unknown' | 'gone' | 'failed';
  index: number;
  /** Positive, 0 for none; `code` is its name. */
  errno: number;
  code: string;
  plane: VfioPlane;
}

export interface VfioGuestOptions {
  device: VfioDevice;
  /** 1: the primary plane; 2: and the cursor. */
  planeCount: number;
  /** Id of the first plane's stream; the other follows. Unique within the engine. */
  firstStream: number;
  /** The planes are of the region type. */
  region: boolean;
  /** One refresh, until it has a place. */
  periodNs: number;
  onNews: (news: VfioNews) => void;
}

export interface VfioGuestStats extends GuestPlaneStats {
  /** Questions to the driver. */
  queries: number;
}

/** Three buffers that the region is copied into; borrowed. */
export interface VfioCanvas {
  slot: number;
  memfd: Fd;
  dmabuf: Fd;
}

/** Asks a device what its planes show, on the flip thread: once a refresh, or when it tells of a flip. Slots are 0 to 31, for all planes together. */
export interface VfioGuest extends Producer {
  /** Its place on a CRTC (0: none) in pixels, and the refresh that it is to keep to. */
  setArea(x1: number, y1: number, x2: number, y2: number, crtc: number, periodNs: number): Promise<void>;
  /** `framebuffer` 0: the display did not take it, it can only be copied. `fenced` as in SocketGuest; EEXIST while the slot is in use. */
  addBuffer(
    plane: number,
    slot: number,
    buffer: VfioPlane,
    framebuffer: number,
    fenced?: readonly Fd[],
  ): Promise<void>;
  /** Ends the use of a buffer; resolved when no frame holds it. */
  retireBuffer(slot: number): Promise<void>;
  /** Copies that region from now on; the canvases' slots have been added. */
  setRegion(region: VfioPlane, canvases: readonly VfioCanvas[]): Promise<void>;
  /** The plane's buffers are copied: each refresh, since nobody says when they are drawn into. */
  setCopied(plane: number, copied: boolean): Promise<void>;
  stats(plane: number): VfioGuestStats;
  /** Whether the device tells of its flips, by an irq. An errno's name: it has that irq and does not give it. */
  readonly heard: boolean | string;
}

interface VfioExports {
  /**
   * `open`: the device of a directory in sysfs, which no process may have open. `adopt`: a duplicate of the descriptor of
   * the process that has it open (pidfd_getfd). `fd`: a descriptor from elsewhere, taken over: EINVAL for other files.
   */
  VfioDevice: {
    new (how: 'open' | 'adopt', path: string): VfioDevice;
    new (how: 'fd', device: Fd): VfioDevice;
  };
  VfioGuest: new (engine: FlipEngine, options: VfioGuestOptions) => VfioGuest;
}

export const { VfioDevice, VfioGuest } = addon as unknown as VfioExports;
