/** What a guest draws is what the display scans out, pixel for pixel: guest, daemon, real KMS, writeback. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Picture, TestDaemon } from './inside/daemon.js';
import { type TestBuffer, TestGuest } from './inside/guest.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;

before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 2, cursor: true, writeback: true }));
});
after(() => card.destroy());

/** A different value for every pixel near it, so that a shift or a wrong stride shows. */
const noise = (x: number, y: number) => (Math.imul(x + 1, 0x9e3779b1) ^ Math.imul(y + 1, 0x85ebca6b)) >>> 0;

function draw32(buffer: TestBuffer, alpha: (x: number, y: number) => number): void {
  const words = new Uint32Array(buffer.memory.buffer, buffer.memory.byteOffset, buffer.memory.length >> 2);
  const stride = (buffer.strides[0] ?? 0) >> 2;
  for (let y = 0; y < buffer.height; y++) {
    for (let x = 0; x < buffer.width; x++) {
      const a = alpha(x, y);
      const scale = (shift: number) => (((noise(x, y) >>> shift) & 255) * a) >> 8;
      words[y * stride + x] = ((a << 24) | (scale(16) << 16) | (scale(8) << 8) | scale(0)) >>> 0;
    }
  }
}

function word(buffer: TestBuffer, x: number, y: number): number {
  const at = y * (buffer.strides[0] ?? 0) + x * 4;
  return new DataView(buffer.memory.buffer, buffer.memory.byteOffset).getUint32(at, true);
}

function rgbOf(picture: Picture, x: number, y: number): number {
  const at = (y * picture.width + x) * 3;
  return ((picture.data[at] ?? 0) << 16) | ((picture.data[at + 1] ?? 0) << 8) | (picture.data[at + 2] ?? 0);
}

/** Largest difference of a channel between the picture and what is expected there. */
function worst(
  picture: Picture,
  expected: (x: number, y: number) => number | null,
): { by: number; at: string } {
  let by = 0;
  let at = '';
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < picture.width; x++) {
      const want = expected(x, y);
      if (want === null) continue;
      const got = rgbOf(picture, x, y);
      const off = Math.max(...[16, 8, 0].map((s) => Math.abs(((want >> s) & 255) - ((got >> s) & 255))));
      if (off > by) {
        by = off;
        at = `${x},${y}: wanted ${want.toString(16)}, got ${got.toString(16)}`;
      }
    }
  }
  return { by, at };
}

for (const policy of ['eager', 'deadline'] as const) {
  test(`XRGB8888 over the whole output, ${policy}`, async () => {
    const daemon = await TestDaemon.start({ config: outputs(policy) });
    await daemon.during(async () => {
      const guest = new TestGuest({ name: 'one', path: daemon.guestSocket });
      await guest.client.connect({ timeoutMs: 5000 });
      await daemon.until('a place', () => guest.area?.lit === true);
      const { width, height, output } = guest.area ?? { width: 0, height: 0, output: '' };
      const buffer = await guest.addBuffer(0, width, height, 'XRGB8888');
      draw32(buffer, () => 255);
      const { sequence } = guest.client.submit(0, { buffer: 0 });
      await guest.client.presented(0, sequence);
      const picture = await daemon.screenshot(output);
      assert.equal(picture.document.how, 'writeback');
      assert.deepEqual(picture.document.frames, [{ guest: 'one', plane: 0, sequence: String(sequence) }]);
      const { by, at } = worst(picture, (x, y) => word(buffer, x, y) & 0xffffff);
      assert.equal(by, 0, at);
      const document = await daemon.guest('one');
      assert.equal(document.planes[0]?.state, 'direct');
      guest.close();
    });
  });
}

function outputs(policy: string): string {
  return card.connectors
    .map((name) => `[[output]]\nconnector = "${name}"\nmode = "640x480"\npolicy = "${policy}"`)
    .join('\n');
}
