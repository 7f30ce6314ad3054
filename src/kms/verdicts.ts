/** What the display said of layouts: verdicts of TEST_ONLY, and refusals in real commits. */
import type { PeekedFrame } from '../native/flip.js';
import type { BufferLayout } from './device.js';

const MOST_VERDICTS = 512;

interface Refusals {
  /** Null: of the frame that is pending now. */
  layout: string | null;
  planes: Map<number, number>;
}

/** Of one output; void after a mode set. */
export class Verdicts {
  private readonly tested = new Map<string, number>();
  /** Planes that refused a stream's layout in a real commit, with the errno, by stream. */
  private readonly refusals = new Map<number, Refusals>();

  /** The verdict on what `key` says, asked at most once. 0, or a positive errno. */
  test(key: string, ask: () => number): number {
    const verdict = this.tested.get(key) ?? ask();
    if (this.tested.size >= MOST_VERDICTS) this.tested.clear();
    this.tested.set(key, verdict);
    return verdict;
  }

  /** A commit was refused. Which layout that was shows later: the stream is blocked, its newest frame still pending. */
  refused(stream: number, plane: number, errno: number): void {
    const planes = this.refusals.get(stream)?.planes ?? new Map<number, number>();
    this.refusals.set(stream, { layout: null, planes: planes.set(plane, errno) });
  }

  /** Planes that refused this layout of the stream; other layouts are forgotten. */
  refusedBy(stream: number, layout: string): ReadonlyMap<number, number> {
    const refusals = this.refusals.get(stream);
    if (refusals === undefined) return new Map();
    refusals.layout ??= layout;
    if (refusals.layout !== layout) this.refusals.delete(stream);
    return refusals.layout === layout ? refusals.planes : new Map();
  }

  /** The buffers of these streams are others: they are tested and refused anew. */
  forget(streams: readonly number[]): void {
    this.tested.clear();
    for (const stream of streams) this.refusals.delete(stream);
  }

  clear(): void {
    this.tested.clear();
    this.refusals.clear();
  }
}

/** Everything of a frame that the display's verdict can depend on. */
export function layoutKey(buffer: BufferLayout, frame: PeekedFrame): string {
  return [shapeKey(buffer, frame), frame.srcX, frame.srcY, frame.x, frame.y].join(',');
}

/** The same without positions, which may change with every frame. */
export function shapeKey(buffer: BufferLayout, frame: PeekedFrame): string {
  const { width, height, fourcc, modifier, strides, offsets } = buffer;
  const { srcW, srcH, w, h, reflectY } = frame;
  return [width, height, fourcc, modifier, ...strides, ...offsets, srcW, srcH, w, h, reflectY].join(',');
}
