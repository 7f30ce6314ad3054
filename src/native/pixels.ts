/** What pixels mean: formats, PNG, and pictures put together by the CPU. */
import { addon } from './addon.js';
import type { Fd } from './base.js';

export interface PixelFormat {
  fourcc: number;
  /** As in drm_fourcc.h, without DRM_FORMAT_. */
  name: string;
  alpha: boolean;
  /** The CPU can read it: such buffers can be copied. */
  convertible: boolean;
  /** Memory planes of a linear buffer. */
  planeCount: number;
}

declare const memory: unique symbol;
/** Pixels in memory of the process, opaque here. */
export interface PixelMemory {
  readonly [memory]: true;
}

/** A buffer that the CPU is to read. The descriptors are borrowed. */
export interface ReadableBuffer {
  width: number;
  height: number;
  fourcc: number;
  modifier: bigint;
  /** Bytes, one a memory plane. */
  strides: readonly number[];
  offsets: readonly number[];
  /** dma-bufs: one for all memory planes, or one each. */ fds: readonly Fd[];
  /** Where its pixels are when it has no dma-buf; then nothing else counts. */
  memory?: PixelMemory;
}

/** A buffer and where it goes: SRC_* in 16.16 fixed point, the rest in pixels of the picture. */
export interface PictureLayer extends ReadableBuffer {
  srcX: number;
  srcY: number;
  srcW: number;
  srcH: number;
  x: number;
  y: number;
  w: number;
  h: number;
  /** The first row in memory is the lowest of the picture. */
  reflectY?: boolean;
}

interface PixelExports {
  /** Every format that is known. */
  pixelFormats(): PixelFormat[];
  /**
   * What a plane of a linear picture needs: its smallest stride, and the bytes from the buffer's start to its end with
   * the given stride and offset.
   */
  planeNeeds(
    fourcc: number,
    plane: number,
    width: number,
    height: number,
    stride: number,
    offset: number,
  ): { stride: number; bytes: number };
  /** XRGB8888 memory, which is copied at once, as a PNG of eight bits a channel. `text`: text chunks by keyword. */
  encodePng(options: {
    width: number;
    height: number;
    stride: number;
    data: Uint8Array;
    text: Record<string, string>;
  }): Promise<Uint8Array>;
  /** Layers bottom to top over black, blended as pre-multiplied, as a PNG. Throws and rejects with a SystemError. */
  composePicture(options: {
    width: number;
    height: number;
    layers: readonly PictureLayer[];
    text: Record<string, string>;
  }): Promise<Uint8Array>;
}

export const { pixelFormats, planeNeeds, encodePng, composePicture } = addon as unknown as PixelExports;
