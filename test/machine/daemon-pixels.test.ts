/** What guests draw is what the display scans out, pixel for pixel: guest, daemon, real KMS, writeback. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestDaemon } from './inside/daemon.js';
import { type FormatName, TestGuest } from './inside/guest.js';
import { compose, type DrawnLayer, drawNoise, worst } from './inside/pixels.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, overlays: 2, cursor: true, writeback: true }));
});
after(() => card.destroy());

const AREA = { width: 640, height: 480 };
const OVERLAY = { x: 120, y: 72, width: 200, height: 150 };
/** Each buffer is larger than what is shown of it, by this much on the left and on top. */
const CROP = { x: 16, y: 8 };

async function showCropped(
  guest: TestGuest,
  plane: number,
  id: number,
  format: FormatName,
  place: { x: number; y: number; width: number; height: number },
): Promise<{ sequence: bigint; layer: DrawnLayer }> {
  const buffer = await guest.addBuffer(id, place.width + CROP.x + 6, place.height + CROP.y + 4, format);
  drawNoise(buffer, format, id);
  const { sequence } = guest.client.submit(plane, {
    buffer: id,
    srcX: CROP.x << 16,
    srcY: CROP.y << 16,
    srcW: place.width << 16,
    srcH: place.height << 16,
    dstX: place.x,
    dstY: place.y,
    dstW: place.width,
    dstH: place.height,
  });
  await guest.client.presented(plane, sequence);
  return { sequence, layer: { buffer, format, srcX: CROP.x, srcY: CROP.y, ...place } };
}

/** Formats and how far a channel may be off: VKMS converts YUV in fixed point of its own. */
const FORMATS: [FormatName, number][] = [
  ['XRGB8888', 0],
  ['RGB565', 0],
  ['NV12', 1],
];

for (const policy of ['eager', 'deadline'] as const) {
  test(`cropped frames and blending are exact, policy ${policy}`, async (t) => {
    const config = `[[output]]\nmode = "640x480"\npolicy = "${policy}"`;
    const daemon = await TestDaemon.start({ config });
    await daemon.during(async () => {
      const guest = new TestGuest({ name: 'one', path: daemon.guestSocket, planes: ['primary', 'overlay'] });
      await guest.client.connect({ timeoutMs: 5000 });
      await daemon.until('a place', () => guest.area?.lit === true);
      const output = guest.area?.output ?? '';
      let primary: DrawnLayer | null = null;
      for (const [id, [format, tolerance]] of FORMATS.entries()) {
        await t.test(`${format} on the primary plane`, async () => {
          const shown = await showCropped(guest, 0, id, format, { x: 0, y: 0, ...AREA });
          primary = shown.layer;
          const picture = await daemon.screenshot(output);
          assert.equal(picture.document.how, 'writeback');
          assert.deepEqual(picture.document.frames, [
            { guest: 'one', plane: 0, sequence: String(shown.sequence) },
          ]);
          const { by, at } = worst(picture, compose(AREA.width, AREA.height, [shown.layer]));
          assert.ok(by <= tolerance, `off by ${by} at ${at}`);
          assert.equal((await daemon.guest('one')).planes[0]?.state, 'direct');
        });
      }
      await t.test('ARGB8888 on an overlay, blended', async () => {
        assert.ok(primary !== null, 'a primary frame is shown');
        const { layer } = await showCropped(guest, 1, 10, 'ARGB8888', OVERLAY);
        const below = await showCropped(guest, 0, 11, 'XRGB8888', { x: 0, y: 0, ...AREA });
        const picture = await daemon.screenshot(output);
        const { by, at } = worst(picture, compose(AREA.width, AREA.height, [below.layer, layer]));
        assert.equal(by, 0, at);
        const { planes } = await daemon.guest('one');
        assert.deepEqual(
          planes.map(({ state }) => state),
          ['direct', 'direct'],
        );
      });
      await guest.client.bye();
      guest.close();
      await daemon.until('the idle picture', ({ outputs }) => outputs.every(({ idle }) => idle));
    });
  });
}
