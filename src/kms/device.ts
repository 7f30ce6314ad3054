/** What the daemon needs of a card's device, in the terms of the planner. Made of a KmsDevice by drm-device.ts. */
import type { Fd } from '../native/base.js';
import type { KmsDevice } from '../native/kms.js';
import type { Topology } from './topology.js';

/** One property of an atomic commit. */
export type PropertyValue = [object: number, property: number, value: number | bigint];

/** How a buffer lies in its dma-bufs; strides and offsets in bytes, one a memory plane. */
export interface BufferLayout {
  width: number;
  height: number;
  fourcc: number;
  modifier: bigint;
  strides: number[];
  offsets: number[];
}

/** A framebuffer of a guest's buffer. */
export interface ImportedBuffer {
  readonly id: number;
  /** Gives up this use. The framebuffer is removed with the last use; nothing may show it any more. */
  release(): void;
}

/** A framebuffer in memory that the CPU draws into. */
export interface DumbPicture {
  readonly framebuffer: number;
  readonly width: number;
  readonly height: number;
  /** Bytes from one row to the next. */
  readonly stride: number;
  /** Mapped memory; not to be touched after `destroy`. */
  readonly pixels: Uint8Array;
  /** Its dma-buf; the caller's. */
  exportFd(): Fd;
  destroy(): void;
}

export interface KernelBlob {
  readonly id: number;
  destroy(): void;
}

export interface CardDevice {
  readonly path: string;
  readonly driver: string;
  /** The native device, for native code that makes buffers of its own. */
  readonly native: KmsDevice;
  /** The DRM descriptor, still the device's. */
  readonly fd: Fd;
  /** Reads everything anew, probing the connectors. Throws SystemError. */
  readTopology(): Topology;
  modeBlob(raw: Uint8Array): KernelBlob;
  /** TEST_ONLY. 0, or a positive errno. */
  test(properties: readonly PropertyValue[], allowModeset: boolean): number;
  /**
   * `fds`: one for all memory planes or one each; borrowed. `fresh`: their memory has moved, so that what was imported
   * before is of no use. Throws SystemError that names the stage.
   */
  importBuffer(fds: readonly Fd[], layout: BufferLayout, fresh?: boolean): ImportedBuffer;
  createDumb(width: number, height: number, fourcc: number): DumbPicture;
  framebufferCounts(): { live: number; imports: number; hits: number };
  isMaster(): boolean;
  /** Removes the framebuffers that the daemon before this one has left in the file: when none of them is shown any more. */
  forgetFormer(): void;
  /** Only on an open file of the daemon's own. Throws a SystemError. */
  setMaster(): void;
  close(): void;
}
