/** PNG files read back by another decoder, and what the add-on's pixel part says to wrong arguments. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { decode } from 'fast-png';
import { Fd } from '../../src/native/base.js';
import {
  composePicture,
  encodePng,
  type PictureLayer,
  pixelFormats,
  planeNeeds,
} from '../../src/native/pixels.js';

const XRGB8888 = 0x34325258;
const NV12 = 0x3231564e;

/** Calls with arguments that the types forbid. */
// biome-ignore lint/suspicious/noExplicitAny: that is what is tested
const wrong = (value: unknown): any => value;

/** Memory of XRGB8888 pixels whose every byte is random. */
function noise(stride: number, height: number): Uint8Array {
  const data = new Uint8Array(stride * height);
  let state = 1;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    data[i] = state >>> 24;
  }
  return data;
}

/** Red, green and blue of the pixels in that memory. */
function colors(data: Uint8Array, width: number, height: number, stride: number): Uint8Array {
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = y * stride + x * 4;
      rgb.set([data[from + 2] ?? 0, data[from + 1] ?? 0, data[from] ?? 0], (y * width + x) * 3);
    }
  }
  return rgb;
}

test('a PNG has the pixels of the memory, of any size', async () => {
  const size = fc.integer({ min: 1, max: 70 });
  const property = fc.asyncProperty(size, size, fc.nat(40), async (width, height, spare) => {
    const stride = width * 4 + spare;
    const data = noise(stride, height);
    const png = decode(await encodePng({ width, height, stride, data, text: {} }));
    assert.deepEqual([png.width, png.height, png.channels, png.depth], [width, height, 3, 8]);
    assert.ok(Buffer.from(png.data.buffer).equals(colors(data, width, height, stride)));
  });
  await fc.assert(property, { numRuns: 60 });
});

test('a PNG has text chunks', async () => {
  const text = { Software: 'scanoutd', Source: 'HDMI-A-1' };
  const png = decode(await encodePng({ width: 2, height: 2, stride: 8, data: noise(8, 2), text }));
  assert.deepEqual({ ...png.text }, text);
});

test('the memory may change as soon as encodePng has returned', async () => {
  const [width, height, stride] = [64, 64, 256];
  const data = noise(stride, height);
  const wanted = colors(data, width, height, stride);
  const encoding = encodePng({ width, height, stride, data, text: {} });
  data.fill(0);
  assert.ok(Buffer.from(decode(await encoding).data.buffer).equals(wanted));
});

test('wrong sizes are refused', async () => {
  const data = new Uint8Array(64);
  const good = { width: 4, height: 4, stride: 16, data, text: {} };
  for (const bad of [
    { width: 5 },
    { height: 5 },
    { width: 0 },
    { height: 0 },
    { stride: 15 },
    { stride: 17 },
  ]) {
    assert.throws(() => encodePng({ ...good, ...bad }), TypeError, JSON.stringify(bad));
  }
  assert.throws(() => encodePng({ ...good, width: -1 }), RangeError);
  assert.throws(() => encodePng({ ...good, data: wrong('text') }), TypeError);
  assert.throws(() => encodePng({ ...good, text: wrong({ Software: 1 }) }), TypeError);
  await assert.rejects(encodePng({ ...good, text: { '': 'no keyword' } }), TypeError);
});

test('formats are known by their fourcc, and say what the CPU can read', () => {
  const formats = pixelFormats();
  const named = (name: string) => formats.find((format) => format.name === name);
  assert.equal(new Set(formats.map(({ fourcc }) => fourcc)).size, formats.length);
  assert.deepEqual(named('XRGB8888'), {
    fourcc: XRGB8888,
    name: 'XRGB8888',
    alpha: false,
    convertible: true,
    planeCount: 1,
  });
  assert.equal(named('ARGB8888')?.alpha, true);
  assert.equal(named('NV12')?.planeCount, 2);
  assert.equal(named('NV15')?.convertible, false);
  for (const { fourcc } of formats) {
    const letters = Buffer.from([fourcc & 255, (fourcc >> 8) & 255, (fourcc >> 16) & 255, fourcc >>> 24]);
    assert.match(letters.toString('latin1'), /^[A-Z0-9 ]{4}$/);
  }
});

test('a plane needs its rows, and no more', () => {
  assert.deepEqual(planeNeeds(XRGB8888, 0, 100, 10, 512, 64), { stride: 400, bytes: 64 + 9 * 512 + 400 });
  assert.deepEqual(planeNeeds(NV12, 1, 101, 11, 128, 0), { stride: 102, bytes: 5 * 128 + 102 });
  assert.equal(planeNeeds(XRGB8888, 0, 16384, 16384, 0xffffffff, 0).bytes, 16383 * 0xffffffff + 65536);
  assert.throws(() => planeNeeds(1, 0, 1, 1, 4, 0), TypeError);
  assert.throws(() => planeNeeds(XRGB8888, 1, 1, 1, 4, 0), TypeError);
});

test('a picture of nothing is black', async () => {
  const png = decode(await composePicture({ width: 3, height: 2, layers: [], text: {} }));
  assert.deepEqual([png.width, png.height, [...png.data]], [3, 2, new Array(18).fill(0)]);
});

test('nothing but a dma-buf is mapped', () => {
  const fd = new Fd(openSync('/dev/zero', 'r'));
  const layer: PictureLayer = {
    width: 1,
    height: 1,
    fourcc: XRGB8888,
    modifier: 0n,
    strides: [4],
    offsets: [0],
    fds: [fd],
    srcX: 0,
    srcY: 0,
    srcW: 0x10000,
    srcH: 0x10000,
    x: 0,
    y: 0,
    w: 1,
    h: 1,
  };
  const compose = (change: Partial<PictureLayer>) =>
    composePicture({ width: 1, height: 1, layers: [{ ...layer, ...change }], text: {} });
  assert.throws(() => compose({}), { code: 'EINVAL', op: 'fstat' });
  assert.throws(() => compose({ fourcc: 1 }), { code: 'EOPNOTSUPP' });
  assert.throws(() => compose({ modifier: 1n }), { code: 'EOPNOTSUPP' });
  assert.throws(() => compose({ strides: [3] }), { code: 'EINVAL' });
  assert.throws(() => compose({ fds: [] }), { code: 'EINVAL' });
  assert.throws(() => compose({ fds: [wrong(1)] }), TypeError);
  fd.close();
  assert.throws(() => compose({}), /closed/);
});
