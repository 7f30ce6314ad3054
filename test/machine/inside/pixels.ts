/** What VKMS makes of pixels, computed independently (drivers/gpu/drm/vkms/vkms_formats.c, vkms_composer.c). */
import type { FormatName, TestBuffer } from './guest.js';

/** Eight bits a channel, row by row, three bytes a pixel. */
export interface Expected {
  width: number;
  height: number;
  data: Uint8Array;
}

/** Values that differ between neighbours and rows, so that a shift or a wrong stride shows. */
export function drawNoise(buffer: TestBuffer, format: FormatName, seed: number): void {
  const { memory } = buffer;
  let state = (Math.imul(seed + 1, 0x9e3779b1) | 1) >>> 0;
  if (format === 'ARGB8888') {
    // Pre-multiplied: no channel above alpha.
    for (let at = 0; at < memory.length; at += 4) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const alpha = state >>> 24;
      memory[at] = ((state & 255) * alpha) >> 8;
      memory[at + 1] = (((state >>> 8) & 255) * alpha) >> 8;
      memory[at + 2] = (((state >>> 16) & 255) * alpha) >> 8;
      memory[at + 3] = alpha;
    }
    return;
  }
  const words = new Uint32Array(memory.buffer, memory.byteOffset, memory.length >> 2);
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
}

type Rgba16 = [r: number, g: number, b: number, a: number];

function read(buffer: TestBuffer, format: FormatName, x: number, y: number): Rgba16 {
  const { memory, strides, offsets } = buffer;
  const stride = strides[0] ?? 0;
  switch (format) {
    case 'XRGB8888':
    case 'ARGB8888': {
      const at = y * stride + x * 4;
      const alpha = format === 'ARGB8888' ? (memory[at + 3] ?? 0) : 255;
      return [(memory[at + 2] ?? 0) * 257, (memory[at + 1] ?? 0) * 257, (memory[at] ?? 0) * 257, alpha * 257];
    }
    case 'RGB565': {
      const at = y * stride + x * 2;
      const word = (memory[at] ?? 0) | ((memory[at + 1] ?? 0) << 8);
      const scale = (value: number, most: number) => Math.round((value * 65535) / most);
      return [scale(word >> 11, 31), scale((word >> 5) & 63, 63), scale(word & 31, 31), 65535];
    }
    case 'NV12': {
      const luma = memory[y * stride + x] ?? 0;
      const at = (offsets[1] ?? 0) + (y >> 1) * (strides[1] ?? 0) + (x >> 1) * 2;
      return bt601(luma, memory[at] ?? 0, memory[at + 1] ?? 0);
    }
  }
}

/** BT.601, limited range: what a plane without COLOR_ENCODING set uses. */
function bt601(y: number, u: number, v: number): Rgba16 {
  const luma = (255 / 219) * (y - 16);
  const chroma = 255 / 224;
  const clamp = (value: number) => Math.min(65535, Math.max(0, Math.round(value * 257)));
  return [
    clamp(luma + 1.402 * chroma * (v - 128)),
    clamp(luma - 0.344136 * chroma * (u - 128) - 0.714136 * chroma * (v - 128)),
    clamp(luma + 1.772 * chroma * (u - 128)),
    65535,
  ];
}

export interface DrawnLayer {
  buffer: TestBuffer;
  format: FormatName;
  /** Whole pixels of the buffer. */
  srcX: number;
  srcY: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Layers bottom to top, blended as pre-multiplied in 16 bits and rounded to eight. */
export function compose(width: number, height: number, layers: readonly DrawnLayer[]): Expected {
  const canvas = new Uint16Array(width * height * 3);
  for (const layer of layers) {
    for (let row = 0; row < layer.height; row++) {
      for (let column = 0; column < layer.width; column++) {
        const [r, g, b, a] = read(layer.buffer, layer.format, layer.srcX + column, layer.srcY + row);
        const at = ((layer.y + row) * width + layer.x + column) * 3;
        canvas[at] = blend(r, canvas[at] ?? 0, a);
        canvas[at + 1] = blend(g, canvas[at + 1] ?? 0, a);
        canvas[at + 2] = blend(b, canvas[at + 2] ?? 0, a);
      }
    }
  }
  return { width, height, data: Uint8Array.from(canvas, (value) => Math.round(value / 257)) };
}

function blend(source: number, below: number, alpha: number): number {
  return alpha === 65535
    ? source
    : Math.min(65535, Math.round((source * 65535 + below * (65535 - alpha)) / 65535));
}

/** Largest difference of any channel, and where. */
export function worst(picture: Expected, expected: Expected): { by: number; at: string } {
  if (picture.width !== expected.width || picture.height !== expected.height) return { by: 256, at: 'size' };
  let by = 0;
  let where = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const off = Math.abs((picture.data[i] ?? 0) - (expected.data[i] ?? 0));
    if (off > by) {
      by = off;
      where = i;
    }
  }
  const pixel = Math.floor(where / 3);
  const at = `${pixel % picture.width},${Math.floor(pixel / picture.width)}`;
  return { by, at: `${at} channel ${where % 3}: wanted ${expected.data[where]}, got ${picture.data[where]}` };
}
