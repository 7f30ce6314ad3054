import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Canvas, drawIdlePicture } from '../../src/kms/idle-picture.js';

const BACKGROUND = 0x101418;

function canvas(width: number, height: number): Canvas {
  const stride = width * 4 + 64;
  return { width, height, stride, pixels: new Uint8Array(stride * height) };
}

function word(picture: Canvas, x: number, y: number): number {
  return new DataView(picture.pixels.buffer).getUint32(y * picture.stride + x * 4, true);
}

/** Columns and rows that have something other than the background. */
function inked(picture: Canvas): { columns: Set<number>; rows: Set<number> } {
  const columns = new Set<number>();
  const rows = new Set<number>();
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < picture.width; x++) {
      if (word(picture, x, y) === BACKGROUND) continue;
      columns.add(x);
      rows.add(y);
    }
  }
  return { columns, rows };
}

const idle = { name: 'HDMI-A-1', lines: ['DEL U2720Q', 'no guest'], background: BACKGROUND, text: true };

test('the name is in the middle', () => {
  const picture = canvas(640, 480);
  drawIdlePicture(picture, idle);
  const { columns, rows } = inked(picture);
  const middle = (set: Set<number>) => (Math.min(...set) + Math.max(...set)) / 2;
  assert.ok(Math.abs(middle(columns) - 320) < 20, `${middle(columns)}`);
  assert.ok(Math.abs(middle(rows) - 240) < 20, `${middle(rows)}`);
  assert.ok(columns.size > 200);
});

test('without text there is the background alone', () => {
  const picture = canvas(64, 64);
  drawIdlePicture(picture, { ...idle, text: false });
  assert.equal(inked(picture).rows.size, 0);
});

test('different names give different pictures', () => {
  const [one, other] = [canvas(320, 240), canvas(320, 240)];
  drawIdlePicture(one, idle);
  drawIdlePicture(other, { ...idle, name: 'HDMI-A-2' });
  assert.notDeepEqual(one.pixels, other.pixels);
});

test('any name on any size stays inside, and is not invisible', () => {
  const size = fc.integer({ min: 64, max: 400 });
  fc.assert(
    fc.property(size, size, fc.string({ minLength: 1, maxLength: 60 }), (width, height, name) => {
      const picture = canvas(width, height);
      drawIdlePicture(picture, { ...idle, name: `X${name}` });
      assert.ok(inked(picture).rows.size > 0);
    }),
    { numRuns: 40 },
  );
});
