/** The flip engine: types of the native classes FlipEngine and Picture. Everything here is called on the JS thread. */
import { addon } from './addon.js';
import type { Fd } from './base.js';

export type Policy = 'eager' | 'deadline';

/** What the flip thread reports. `errno` is positive, 0 where there was none; `code` is its name. */
export interface FlipNotice {
  /**
   * - `refused`: the display refused a plane's frame; the stream is blocked until it is attached anew
   * - `asyncRefused`: async flips do not work for the stream; it goes on in step with the vblank
   * - `paused`: commits are refused for lack of DRM master; nothing is committed until `resume`, a timer completes flips
   * - `gone`: an object or the card is no more; the CRTC waits for `resume`
   * - `backingOff`: ENOSPC or ENOMEM; tried again more and more slowly
   * - `stalled`, `recovered`: a flip event did not come, and the blocking commit that followed
   * - `noVblank`: flips complete at once; a timer paces them from now on
   * - `shadowFailed`: a shadow copy could not be drawn
   * - `unrouted`: a stream has a frame and no plane
   * - `reshaped`: a frame that is copied differs in size or format from the one before it
   */
  type:
    | 'refused'
    | 'asyncRefused'
    | 'paused'
    | 'gone'
    | 'backingOff'
    | 'stalled'
    | 'recovered'
    | 'noVblank'
    | 'shadowFailed'
    | 'unrouted'
    | 'reshaped';
  crtc: number;
  plane: number;
  stream: number;
  errno: number;
  code: string;
  /** How often in a row. */
  count: number;
  sequence: number;
}

/** Property ids of a hardware plane by name; optional ones absent where the driver has none. */
export interface PlaneProperties {
  FB_ID: number;
  CRTC_ID: number;
  SRC_X: number;
  SRC_Y: number;
  SRC_W: number;
  SRC_H: number;
  CRTC_X: number;
  CRTC_Y: number;
  CRTC_W: number;
  CRTC_H: number;
  FB_DAMAGE_CLIPS?: number;
  HOTSPOT_X?: number;
  HOTSPOT_Y?: number;
  rotation?: number;
}

export interface WritebackProperties {
  /** Object id of the writeback connector, attached to the CRTC by the mode set. */
  connector: number;
  WRITEBACK_FB_ID: number;
  WRITEBACK_OUT_FENCE_PTR: number;
}

export interface ModesetTarget {
  crtc: number;
  /** The plane on which the mode set shows a picture of the daemon's own. */
  primaryPlane: number;
  /** One refresh in nanoseconds; absent: the CRTC is switched off. */
  periodNs?: number;
}

/** A frame as the planner sees it: SRC_* in 16.16 fixed point, the rest in pixels of the CRTC. */
export interface PeekedFrame {
  framebuffer: number;
  buffer: number;
  sequence: bigint;
  /** Nothing of it is visible: its plane is off. */
  off: boolean;
  srcX: number;
  srcY: number;
  srcW: number;
  srcH: number;
  x: number;
  y: number;
  w: number;
  h: number;
  /** The first row in memory is the lowest of the picture. */
  reflectY: boolean;
}

export interface ShownFrame {
  stream: number;
  plane: number;
  framebuffer: number;
  sequence: bigint;
}

/** Counters of one CRTC since it was added. */
export interface CrtcStats {
  commits: number;
  flips: number;
  missed: number;
  busy: number;
  refused: number;
  recovered: number;
  staleEvents: number;
  /** errno of the newest refused commit, 0 when none was. */
  lastError: number;
  /** Learned margin of the deadline policy, in nanoseconds. */
  marginNs: number;
}

/** Ids from here on are virtual CRTCs: no output, flips completed by a timer. */
export const FIRST_VIRTUAL_CRTC = 0xffff0000;

/** Columns of one row of `FlipEngine.records()`; times are CLOCK_MONOTONIC nanoseconds. */
export const RECORD_COLUMNS = [
  'crtc',
  'plane',
  'stream',
  'flags',
  'sequence',
  'kickNs',
  'commitEnterNs',
  'commitReturnNs',
  'flipNs',
  'vblank',
  'missed',
  'retries',
] as const;

/** Bits of a record's `flags`. */
export const RECORD_FLAGS = {
  vsync: 1,
  hwClock: 2,
  direct: 4,
  recovered: 8,
  synthetic: 16,
  async: 32,
} as const;

/** Something whose streams can be attached: a Picture, a SocketGuest, a Shadow. */
export interface Producer {
  /** Ends its part. Resolved when no plane holds a frame of it any more; no other call is allowed from now on. */
  leave(): Promise<void>;
}

/** The flip thread of one card. Promises are rejected with a SystemError. */
export interface FlipEngine {
  /** Makes a CRTC known; ids from FIRST_VIRTUAL_CRTC on are virtual. EEXIST, ENOSPC. */
  addCrtc(id: number, periodNs: number, policy: Policy): Promise<void>;
  setPolicy(id: number, policy: Policy): Promise<void>;
  /**
   * Routes a stream to a plane of a CRTC. Whoever was there goes nowhere; what the stream shows elsewhere is shown here
   * at once. `plane` 0 and no properties for a virtual CRTC.
   */
  attach(
    producer: Producer,
    stream: number,
    crtc: number,
    plane: number,
    properties?: PlaneProperties,
  ): Promise<void>;
  /** The newest frame of a stream, or null when it has none. For the planner. */
  peek(producer: Producer, stream: number): Promise<PeekedFrame | null>;
  /** Routes a stream nowhere; its plane is switched off. */
  detach(producer: Producer, stream: number): Promise<void>;
  /**
   * A blocking commit without event on a thread of its own, with the CRTCs concerned at rest. Afterwards every plane of
   * theirs but `primaryPlane` counts as off, and what was on the screen is shown again.
   */
  modeset(options: {
    flags: number;
    properties: [object: number, property: number, value: number | bigint][];
    targets: ModesetTarget[];
    /** Made while paused, too, which the engine stays. Others are refused with EACCES then. */
    retakes?: boolean;
  }): Promise<void>;
  /** Writes the next picture of the CRTC back into a framebuffer. EBUSY while another capture is under way. */
  capture(crtc: number, framebuffer: number, writeback: WritebackProperties): Promise<ShownFrame[]>;
  /**
   * Resolves when nothing is left to be committed to the CRTC: somebody else drives it from then on, and nothing is
   * committed to it until `modeset`.
   */
  lend(crtc: number): Promise<void>;
  /**
   * Returns when nothing is committed any more by any thread, because DRM master is about to go; flips are completed by a
   * timer until `resume`. Waits `longestMs` at most, blocking; false when a commit that was under way took longer.
   */
  pause(longestMs: number): boolean;
  /**
   * Commits again after `paused` or `gone`. After a pause everything is shown anew; where another may have been master, a
   * `modeset` that `retakes` comes first.
   */
  resume(): Promise<void>;
  /** Null for an unknown CRTC. */
  stats(crtc: number): CrtcStats | null;
  /** Takes all flip records, RECORD_COLUMNS a row. At most 8192 are kept between two calls. */
  records(): Float64Array;
  /** Advances whenever the thread turns; `wake` makes it turn. */
  readonly heartbeat: number;
  wake(): void;
  /** Nothing is committed for lack of DRM master. */
  readonly paused: boolean;
  readonly realtime: boolean;
  /** Why there is no real-time priority; empty when there is. */
  readonly realtimeReason: string;
  /** Stops the thread. What is on the screen stays there. */
  close(): void;
}

/** A stream whose frames the daemon makes: the idle picture. The framebuffers are the caller's until `leave` is done. */
export interface Picture extends Producer {
  /** Shows a whole framebuffer at 0,0. */
  show(framebuffer: number, width: number, height: number): Promise<void>;
}

interface FlipExports {
  FlipEngine: new (
    drmFd: Fd,
    options: { realtimePriority: number; onNotice: (notice: FlipNotice) => void },
  ) => FlipEngine;
  Picture: new (engine: FlipEngine, stream: number) => Picture;
}

/** `drmFd` is borrowed: a duplicate is kept. `realtimePriority`: 1 to 99, 0 for none. */
export const { FlipEngine, Picture } = addon as unknown as FlipExports;
