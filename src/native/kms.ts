/**
 * Kernel mode setting: types of the native classes KmsDevice, AtomicRequest, DumbBuffer, GemBuffer, FramebufferCache,
 * CachedFramebuffer and Syncobj.
 *
 * Everything is called on the JS thread. Ids of kernel objects are numbers, 64-bit values are BigInts, descriptors are
 * Fds. A refused ioctl throws a SystemError; wrong arguments throw TypeErrors and RangeErrors; so does the use of what
 * was closed or destroyed. What was made from a device ends with it.
 */
import { addon } from './addon.js';
import type { Fd } from './base.js';
import type { FramebufferLayout, KmsObjects, ModeTimings, PlaneLayout } from './kms-objects.js';

export type * from './kms-objects.js';

/** Flags of commits (drm_mode.h). */
export const PAGE_FLIP_EVENT = 0x01;
export const PAGE_FLIP_ASYNC = 0x02;
export const ATOMIC_TEST_ONLY = 0x0100;
export const ATOMIC_NONBLOCK = 0x0200;
export const ATOMIC_ALLOW_MODESET = 0x0400;

/** A linear layout that is told to the kernel, and one that leaves the modifier to the driver (drm_fourcc.h). */
export const MODIFIER_LINEAR = 0n;
export const MODIFIER_INVALID = 0x00ffffffffffffffn;

/** Client capabilities to ask for when a device is opened; what the driver refuses is off in `clientCaps`. */
export interface ClientCaps {
  /** Primary and cursor planes are planes as any. On by default. */
  universalPlanes: boolean;
  /** Atomic commits. On by default. */
  atomic: boolean;
  /** Writeback connectors are listed; needs `atomic`. On by default. */
  writebackConnectors: boolean;
  /** 3D modes are listed. */
  stereo: boolean;
  /** Picture aspect ratios are in modes; atomic clients always have it. */
  aspectRatio: boolean;
  /** Cursor planes of virtual displays take a hotspot; needs `atomic`. */
  cursorHotspot: boolean;
}

/** DRM_CAP_*: false and 0 where the kernel or the driver is silent. */
export interface Capabilities {
  dumbBuffers: boolean;
  dumbPreferredDepth: number;
  /** Drawing elsewhere and copying is faster than drawing into dumb buffers. */
  dumbPreferShadow: boolean;
  primeImport: boolean;
  primeExport: boolean;
  monotonicTimestamps: boolean;
  asyncPageFlip: boolean;
  atomicAsyncPageFlip: boolean;
  cursorWidth: number;
  cursorHeight: number;
  /** Framebuffers can be given modifiers. */
  modifiers: boolean;
  crtcInEvents: boolean;
  syncobj: boolean;
  syncobjTimeline: boolean;
}

/** One event of a CRTC. */
export interface KmsEvent {
  /** `flip`: a commit is on the screen; `sequence`: a vblank that was queued; `vblank`: one by the old ioctl. */
  type: 'flip' | 'sequence' | 'vblank';
  /** CRTC id; 0 for `sequence`, whose `userData` has to tell. */
  crtc: number;
  /** Vblank counter; 32 bits wide, wrapping, but for `sequence`. */
  sequence: bigint;
  userData: bigint;
  /** CLOCK_MONOTONIC, of the vblank. Some drivers give 0. */
  timeNs: bigint;
}

/** A fence of a commit: of a CRTC, signalled when it is on the screen; of a writeback connector, when it is written. */
export interface OutFence {
  object: number;
  fence: Fd;
}

/** Properties to be committed together. Reusable. */
export interface AtomicRequest {
  /** How many values are in it. */
  readonly size: number;
  /** Negative values are for signed ranges. */
  add(object: number, property: number, value: number | bigint | boolean): this;
  /** `property`: OUT_FENCE_PTR of a CRTC, WRITEBACK_OUT_FENCE_PTR of a connector; `commit` returns the fence. */
  addOutFence(object: number, property: number): this;
  /** A place to rewind to. */
  mark(): number;
  /** Drops what was added since `mark`. */
  rewind(mark: number): this;
  clear(): this;
}

export interface AtomicRequestConstructor {
  /** Room for so many objects (256) and values (2048); a commit of more throws E2BIG. */
  new (options?: { objects?: number; properties?: number }): AtomicRequest;
}

/** A dma-buf that was imported into a device: one holder of its GEM handle, which all imports of it share. */
export interface GemBuffer {
  readonly handle: number;
  exportFd(): Fd;
  /** Framebuffers that were made of it go on. */
  destroy(): void;
}

/** Linear memory for pixels that every display can show. */
export interface DumbBuffer {
  readonly handle: number;
  readonly width: number;
  readonly height: number;
  /** Bytes from one row to the next. */
  readonly pitch: number;
  /** Bytes. */
  readonly size: number;
  /** Its memory, zeroed at first; the same array every time, empty after `destroy`. Often slow to read. */
  map(): Uint8Array;
  /** As a dma-buf. */
  exportFd(): Fd;
  /** Framebuffers that were made of it go on. */
  destroy(): void;
}

/** A use of a framebuffer of a cache. */
export interface CachedFramebuffer {
  readonly id: number;
  /** The framebuffer is closed some time after the last use; what shows it keeps it. */
  release(): void;
}

/** Framebuffers of dma-bufs, each imported once. */
export interface FramebufferCache {
  /**
   * The framebuffer of these buffers in this layout, imported if it is not there. The descriptors are borrowed.
   * The SystemError of a refusal names the stage in `op`: DRM_IOCTL_PRIME_FD_TO_HANDLE or DRM_IOCTL_MODE_ADDFB2;
   * "dma-buf" for a descriptor that is none. `fresh`: the memory behind these buffers has moved; what was made of them
   * before stays with its users, and is found no more.
   */
  acquire(
    layout: FramebufferLayout & { planes: readonly (PlaneLayout & { fd: Fd })[] },
    options?: { fresh?: boolean },
  ): CachedFramebuffer;
  /** Closes framebuffers that nobody uses. */
  trim(): void;
  /** `live` exist, `idle` of them are used by nobody; `imports` were made, `hits` found. */
  statistics(): { imports: number; hits: number; live: number; idle: number };
  /** Framebuffers still in use go with their last use. */
  close(): void;
}

/** A rectangle by its edges, x2 and y2 exclusive. */
export type Rectangle = readonly [x1: number, y1: number, x2: number, y2: number];

/** An open DRM device. */
export interface KmsDevice extends KmsObjects {
  readonly closed: boolean;
  /** The node: "/dev/dri/card0". */
  readonly path: string;
  readonly driver: { name: string; description: string; major: number; minor: number; patch: number };
  /** Of the node. */
  readonly number: { major: number; minor: number };
  readonly clientCaps: Readonly<ClientCaps>;
  /** How many GEM handles are open. */
  readonly gemHandles: number;
  /** Closes the descriptor and ends everything that was made from it. */
  close(): void;
  /** A second descriptor of the same open file: the same master, events and objects. */
  dupFd(): Fd;

  /** DRM_CAP_* by number; null where it is not known. */
  capability(capability: number): bigint | null;
  capabilities(): Capabilities;
  /** DRM_CLIENT_CAP_* by number. False when it is refused. */
  setClientCap(capability: number, value: number): boolean;
  /** True of a lease whose lessor is master, too. */
  isMaster(): boolean;
  /** EBUSY: another is master. EACCES: never was and may not be, as with a descriptor of logind's. */
  setMaster(): void;
  /** EINVAL: it is not master, or a lease. */
  dropMaster(): void;

  /** Blobs live until they are destroyed or the device is closed, and as long as a state refers to them. */
  createBlob(data: Uint8Array): number;
  readBlob(blob: number): Uint8Array;
  destroyBlob(blob: number): void;
  createModeBlob(mode: ModeTimings): number;
  /** For DEGAMMA_LUT and GAMMA_LUT: red, green, blue of each entry, 0 to 65535. */
  createLutBlob(rgb: Uint16Array): number;
  /** For CTM: nine numbers by rows. */
  createCtmBlob(matrix: readonly number[]): number;
  /** For FB_DAMAGE_CLIPS: [x1, y1, x2, y2], pixels of the framebuffer, x2 and y2 exclusive. */
  createDamageBlob(rectangles: readonly Rectangle[]): number;

  /** The framebuffer's id. It holds the buffers itself. */
  addFramebuffer(
    layout: FramebufferLayout & { planes: readonly (PlaneLayout & { buffer: DumbBuffer | GemBuffer })[] },
  ): number;
  /** Planes that show it are switched off first. */
  removeFramebuffer(framebuffer: number): void;
  /** Planes that show it keep it. EOPNOTSUPP before Linux 6.8. */
  closeFramebuffer(framebuffer: number): void;
  /** For displays that are sent pixels; all of it without `rectangles` (at most 256). ENOSYS: no need. */
  dirtyFramebuffer(framebuffer: number, rectangles?: readonly Rectangle[]): void;
  importDmabuf(fd: Fd): GemBuffer;
  /** `bitsPerPixel` is 32 when not given. */
  createDumb(width: number, height: number, bitsPerPixel?: number): DumbBuffer;
  /** Keeps up to `idle` framebuffers (0) that nobody uses. */
  framebufferCache(options?: { idle?: number }): FramebufferCache;

  /** Commits; blocks unless with ATOMIC_NONBLOCK. `userData` comes back in the flip event. Returns the out-fences. */
  commit(request: AtomicRequest, flags?: number, userData?: number | bigint): OutFence[];
  /** The same on another thread. The request cannot be used meanwhile. */
  commitAsync(request: AtomicRequest, flags?: number, userData?: number | bigint): Promise<OutFence[]>;
  /** Whether a commit would be accepted (ATOMIC_TEST_ONLY): 0, or a positive errno. */
  test(request: AtomicRequest, flags?: number): number;

  /**
   * Calls `callback` for every event that the device delivers; null ends it. Keeps the process alive meanwhile.
   * Not together with a FlipEngine on this device: the two would take events from each other.
   */
  onEvent(callback: ((event: KmsEvent) => void) | null): void;

  /**
   * Leases CRTCs, connectors and planes. EBUSY: leased already; ENOENT: no such object; EINVAL: cannot be leased, or
   * this is a lease itself; EACCES: not master. The descriptor can be passed on or adopted.
   */
  createLease(objects: readonly number[]): { lessee: number; fd: Fd };
  /**
   * Framebuffers that were made through another open file of this card, a lease's for example. The file is borrowed, and nothing
   * about it changes (drm_mode_getresources).
   */
  framebuffersOf(file: Fd): number[];
  /** ENOENT: the lessee has closed it already. */
  revokeLease(lessee: number): void;
  /** Closes the buffer handles that a former process has left in an adopted file. Before any of this process are made. */
  closeEveryHandle(): void;

  /** EOPNOTSUPP where the driver has none. */
  createSyncobj(options?: { signalled?: boolean }): Syncobj;
  importSyncobj(fd: Fd): Syncobj;
}

export interface KmsDeviceConstructor {
  /** Opens a node. Who opens a primary node first becomes its master. ENOTTY: not a DRM device. */
  open(path: string, clientCaps?: Partial<ClientCaps>): KmsDevice;
  /** Takes over a descriptor: logind's, a lease. */
  adopt(fd: Fd, clientCaps?: Partial<ClientCaps>): KmsDevice;
}

/** Fences in a box: binary, or with a timeline. Points not given or 0 are the binary fence. */
export interface Syncobj {
  readonly handle: number;
  exportFd(): Fd;
  /** EINVAL: there is no fence in it. */
  exportSyncFile(): Fd;
  importSyncFile(fence: Fd): void;
  reset(): void;
  signal(point?: bigint): void;
  /** The last point that has signalled; with `lastSubmitted`, that has a fence. */
  query(options?: { lastSubmitted?: boolean }): bigint;
  transferFrom(source: Syncobj, sourcePoint?: bigint, point?: bigint): void;
  /** Blocks until the point has signalled, or has a fence with `available`. Negative: for ever. False: too late. */
  wait(point: bigint, timeoutMs: number, options?: { available?: boolean }): boolean;
  /** The same on another thread. */
  waitAsync(point: bigint, timeoutMs: number, options?: { available?: boolean }): Promise<boolean>;
  /** Adds one to an eventfd when `wait` would return true. EINVAL before Linux 6.6. */
  notify(point: bigint, eventfd: Fd, options?: { available?: boolean }): void;
  destroy(): void;
}

interface KmsExports {
  KmsDevice: KmsDeviceConstructor;
  AtomicRequest: AtomicRequestConstructor;
  /** "XR24" of a fourcc. */
  formatName(format: number): string;
}

export const { KmsDevice, AtomicRequest, formatName } = addon as unknown as KmsExports;
