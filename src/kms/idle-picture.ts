/**
 * The picture of an output without a guest: its name, quietly, so that a kiosk is never a black screen.
 *
 * Drawn in runs of pixels by TypedArray.fill: a few hundred calls, whatever the size.
 */
import { GLYPH_HEIGHT, GLYPH_WIDTH, glyphRows } from './font.js';

/** XRGB8888 memory. */
export interface Canvas {
  width: number;
  height: number;
  /** Bytes from one row to the next, a multiple of four. */
  stride: number;
  pixels: Uint8Array;
}

export interface IdleText {
  /** Drawn large. */
  name: string;
  /** Drawn small beneath it. */
  lines: readonly string[];
  /** 0xRRGGBB */
  background: number;
  /** False: nothing but the background. */
  text: boolean;
}

const ADVANCE = GLYPH_WIDTH + 1;
/** How far the text is from the background towards white, of 256. */
const NAME_CONTRAST = 150;
const LINE_CONTRAST = 90;

export function drawIdlePicture(canvas: Canvas, idle: IdleText): void {
  const words = new Uint32Array(canvas.pixels.buffer, canvas.pixels.byteOffset, canvas.pixels.length >> 2);
  words.fill(idle.background);
  if (!idle.text) return;
  const nameScale = scaleFor(canvas, idle.name, 2, 5);
  const lineScale = Math.max(1, Math.round(nameScale / 4));
  const lineHeight = (GLYPH_HEIGHT + 4) * lineScale;
  const whole =
    GLYPH_HEIGHT * nameScale + idle.lines.length * lineHeight + (idle.lines.length > 0 ? lineHeight : 0);
  let y = Math.max(0, (canvas.height - whole) >> 1);
  drawLine(canvas, words, idle.name, y, nameScale, mix(idle.background, NAME_CONTRAST));
  y += GLYPH_HEIGHT * nameScale + lineHeight;
  for (const line of idle.lines) {
    const scale = Math.min(lineScale, scaleFor(canvas, line, 1, 10));
    drawLine(canvas, words, line, y, scale, mix(idle.background, LINE_CONTRAST));
    y += lineHeight;
  }
}

/** The largest scale at which the text takes `1 / part` of the height at most, and fits into the width. */
function scaleFor(canvas: Canvas, text: string, margin: number, part: number): number {
  const across = Math.floor(canvas.width / ((text.length + margin) * ADVANCE));
  const down = Math.floor(canvas.height / (part * GLYPH_HEIGHT));
  return Math.max(1, Math.min(across, down));
}

/** Centred; what does not fit is cut on the right. */
function drawLine(
  canvas: Canvas,
  words: Uint32Array,
  text: string,
  top: number,
  scale: number,
  color: number,
): void {
  const most = Math.floor(canvas.width / (ADVANCE * scale));
  const shown = text.slice(0, most);
  const left = Math.max(0, (canvas.width - (shown.length * ADVANCE - 1) * scale) >> 1);
  for (const [i, char] of [...shown].entries()) {
    for (const [row, bits] of glyphRows(char).entries()) {
      drawRow(canvas, words, bits, left + i * ADVANCE * scale, top + row * scale, scale, color);
    }
  }
}

/** One row of a glyph, `scale` pixels high. */
function drawRow(
  canvas: Canvas,
  words: Uint32Array,
  bits: number,
  left: number,
  top: number,
  scale: number,
  color: number,
): void {
  const pitch = canvas.stride >> 2;
  for (let column = 0; column < GLYPH_WIDTH; column++) {
    if ((bits & (1 << (GLYPH_WIDTH - 1 - column))) === 0) continue;
    const from = left + column * scale;
    const to = Math.min(canvas.width, from + scale);
    for (let y = top; y < Math.min(canvas.height, top + scale); y++) {
      if (from < to) words.fill(color, y * pitch + from, y * pitch + to);
    }
  }
}

/** `amount` of 256 of the way from a colour to white. */
function mix(color: number, amount: number): number {
  const channel = (shift: number) => {
    const value = (color >>> shift) & 255;
    return (value + (((255 - value) * amount) >> 8)) << shift;
  };
  return channel(16) | channel(8) | channel(0);
}
