/** What the bare guest draws (test/machine/guest/screen.c and main.c), computed anew. */
import type { Expected } from './pixels.js';

/** Sums wrap at 2^32; the lower 24 bits are seen. */
const PER_FRAME = 0x9e3779b1;
const PER_ROW = 0x0010dcd9;
const PER_COLUMN = 0x00c2b2ae;

export const CURSOR = { size: 64, hotX: 3, hotY: 5 } as const;

/** A whole frame; or, where `frames` is a list, each row as of the frame that is listed for it. */
export function pattern(width: number, height: number, frames: number | readonly number[]): Expected {
  const data = new Uint8Array(width * height * 3);
  let at = 0;
  for (let y = 0; y < height; y++) {
    const frame = typeof frames === 'number' ? frames : (frames[y] ?? 0);
    let value = Math.imul(frame + 1, PER_FRAME) + Math.imul(y, PER_ROW);
    for (let x = 0; x < width; x++) {
      data[at++] = value >>> 16;
      data[at++] = value >>> 8;
      data[at++] = value;
      value = (value + PER_COLUMN) | 0;
    }
  }
  return { width, height, data };
}

/** Which frame drew each row of the buffer that `frame` is in, when only bands are drawn after the first. */
export function bandFrames(height: number, band: number, buffers: number, frame: number): number[] {
  const first = frame % buffers;
  const rows = new Array<number>(height).fill(first);
  for (let drawn = first + buffers; drawn <= frame; drawn += buffers) {
    const top = (drawn * band) % (height - band + 1);
    rows.fill(drawn, top, top + band);
  }
  return rows;
}

/** Draws the guest's cursor over a picture, its upper left corner at x and y. */
export function overlayCursor(picture: Expected, image: number, x: number, y: number): void {
  const cursor = pattern(CURSOR.size, CURSOR.size, image);
  for (let row = 0; row < CURSOR.size && y + row < picture.height; row++) {
    for (let column = 0; column + row < CURSOR.size && x + column < picture.width; column++) {
      const from = (row * CURSOR.size + column) * 3;
      picture.data.set(cursor.data.subarray(from, from + 3), ((y + row) * picture.width + x + column) * 3);
    }
  }
}
