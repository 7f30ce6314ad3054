/** The shadow copy: draws streams that no plane shows into buffers of its own, which are shown instead. */
import { addon } from './addon.js';
import type { FlipEngine, Producer } from './flip.js';
import type { KmsDevice } from './kms.js';
import type { ReadableBuffer } from './pixels.js';

export interface ShadowOptions {
  /** Id of its own stream, unique within the engine. */
  stream: number;
  /** The pixels of the CRTC that it covers. */
  x: number;
  y: number;
  width: number;
  height: number;
  /** ARGB8888, for overlays; otherwise XRGB8888. */
  alpha: boolean;
  /** A cursor: it has one layer only, and is where that is; `x` and `y` say nothing. */
  followsLayer?: boolean;
}

/** Its own stream, number 0, is attached to a hardware plane as any other; streams that it draws are its layers. */
export interface Shadow extends Producer {
  /** Routes a stream here, above those with a smaller `z`. ENOSPC when there are eight others. */
  attach(producer: Producer, stream: number, z: number): Promise<void>;
  /** Makes a buffer of a stream, by the stream's id, readable; before or after `attach`. EEXIST, ENOSPC. */
  setBuffer(stream: number, buffer: number, layout: ReadableBuffer): Promise<void>;
  /** The buffer is read as this from now on; resolved when it is not read as before any more. ENOENT: it is not known. */
  replaceBuffer(stream: number, buffer: number, layout: ReadableBuffer): Promise<void>;
  /** Resolved when the buffer is not read any more. */
  removeBuffer(stream: number, buffer: number): Promise<void>;
  /** Drawings, those that failed, the pixels that they were of, and the time of all in nanoseconds. */
  stats(): { copies: number; failures: number; pixels: number; drawNs: number };
}

interface ShadowExports {
  Shadow: new (engine: FlipEngine, device: KmsDevice, options: ShadowOptions) => Shadow;
}

export const { Shadow } = addon as unknown as ShadowExports;
