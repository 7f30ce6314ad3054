/** The shadow copies of a card: which planes show one, what is drawn into it, and which buffers it can read. */
import type { Guest, GuestBuffer } from '../guests/guest.js';
import { isSystemError } from '../native/base.js';
import type { ReadableBuffer } from '../native/pixels.js';
import { Shadow } from '../native/shadow.js';
import type { Card } from './card.js';
import type { Lit, Output } from './output.js';
import type { PlaneInfo } from './topology.js';

/** One hardware plane that shows a copy. */
interface Copy {
  output: Output;
  shadow: Shadow;
  /** Streams that are drawn into it. */
  layers: Set<number>;
  /** Buffers that it was given, by stream. */
  buffers: Map<number, Set<number>>;
}

export class ShadowSet {
  /** By plane id. */
  private readonly copies = new Map<number, Copy>();

  constructor(private readonly card: Card) {}

  /** Makes a copy for each of the planes that has none yet, and shows it there. */
  async prepare(output: Output, lit: Lit, planes: readonly PlaneInfo[]): Promise<void> {
    for (const plane of planes) {
      if (this.copies.has(plane.id)) continue;
      const shadow = new Shadow(this.card.engine, this.card.device.native, {
        stream: this.card.newStreams(1),
        x: 0,
        y: 0,
        width: lit.mode.width,
        height: lit.mode.height,
        alpha: plane.type !== 'primary',
      });
      this.copies.set(plane.id, { output, shadow, layers: new Set(), buffers: new Map() });
      await this.card.engine.attach(shadow, 0, lit.crtc.id, plane.id, this.card.engineProperties(plane));
    }
  }

  /** Draws a guest's plane into the copy on `plane`, above those with a smaller `z`. */
  async route(guest: Guest, index: number, plane: PlaneInfo, z: number): Promise<void> {
    const copy = this.copies.get(plane.id);
    const stream = guest.planes[index]?.stream;
    if (copy === undefined || stream === undefined) throw new Error(`plane ${plane.id} shows no copy`);
    copy.layers.add(stream);
    for (const buffer of guest.buffers()) await this.give(copy, stream, buffer);
    await copy.shadow.attach(guest.producer, index, z);
  }

  /** A guest has a new buffer: copies that draw its planes must be able to read it. */
  async added(guest: Guest, buffer: GuestBuffer): Promise<void> {
    for (const copy of this.copies.values()) {
      for (const { stream } of guest.planes) {
        if (copy.layers.has(stream)) await this.give(copy, stream, buffer);
      }
    }
  }

  /** The memory of a buffer is elsewhere: resolves when no copy reads the former. */
  async renewed(guest: Guest, buffer: GuestBuffer): Promise<void> {
    const replacements: Promise<void>[] = [];
    for (const { shadow, buffers } of this.copies.values()) {
      for (const { stream } of guest.planes) {
        if (buffers.get(stream)?.has(buffer.id) !== true) continue;
        replacements.push(shadow.replaceBuffer(stream, buffer.id, readable(buffer)).catch(whenGone));
      }
    }
    await Promise.all(replacements);
  }

  private async give(copy: Copy, stream: number, buffer: GuestBuffer): Promise<void> {
    const known = copy.buffers.get(stream) ?? new Set<number>();
    copy.buffers.set(stream, known);
    if (known.has(buffer.id)) return;
    known.add(buffer.id);
    await copy.shadow.setBuffer(stream, buffer.id, readable(buffer));
  }

  /** A stream is routed elsewhere; its buffers stay readable until they are forgotten or the copy ends. */
  left(stream: number): void {
    for (const copy of this.copies.values()) copy.layers.delete(stream);
  }

  /** Ends the reading of one buffer of a guest, or of all (null). Resolves when none is read any more. */
  async forget(guest: Guest, buffer: number | null): Promise<void> {
    const removals: Promise<void>[] = [];
    for (const { shadow, buffers } of this.copies.values()) {
      for (const { stream } of guest.planes) {
        for (const id of [...(buffers.get(stream) ?? [])]) {
          if (buffer !== null && id !== buffer) continue;
          buffers.get(stream)?.delete(id);
          removals.push(shadow.removeBuffer(stream, id).catch(whenClosed));
        }
        if (buffer === null) buffers.delete(stream);
      }
    }
    await Promise.all(removals);
  }

  /** What the copies of an output have drawn. */
  copied(output: Output): { pictures: number; pixels: number } {
    const sum = { pictures: 0, pixels: 0 };
    for (const { output: of, shadow } of this.copies.values()) {
      if (of !== output) continue;
      const { copies, pixels } = shadow.stats();
      sum.pictures += copies;
      sum.pixels += pixels;
    }
    return sum;
  }

  /** Ends the copies of an output that nothing is drawn into; after something else has taken their planes. */
  sweep(output: Output): void {
    for (const [plane, copy] of this.copies) {
      if (copy.output !== output || copy.layers.size > 0) continue;
      this.copies.delete(plane);
      void copy.shadow.leave().catch(whenClosed);
    }
  }

  /** Ends all copies of an output that goes dark. */
  end(output: Output): void {
    for (const copy of this.copies.values()) if (copy.output === output) copy.layers.clear();
    this.sweep(output);
  }
}

/** The buffer as the CPU reads it. */
export function readable({ layout, fds, memory }: GuestBuffer): ReadableBuffer {
  return { ...layout, fds, ...(memory === undefined ? {} : { memory }) };
}

/** The buffer is forgotten meanwhile, which ends its reading, too. */
function whenGone(error: unknown): void {
  if (!isSystemError(error, 'ENOENT')) whenClosed(error);
}

/** The engine was closed meanwhile: then nothing is read any more either. */
function whenClosed(error: unknown): void {
  if (!isSystemError(error, 'ESHUTDOWN')) throw error;
}
