/** Virtual machines that flip as fast as they are let: paced by the display, or not. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Qemu } from './inside/qemu.js';
import { assertInOrder, framesTold, SIZE, startDaemon, vhost } from './inside/virtio.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;
let outputs: readonly string[];

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, writeback: true }));
  outputs = card.connectors;
});
after(() => card.destroy());

const FRAMES = 120;

for (const fence of [1, 0]) {
  const how = fence === 1 ? 'is paced by the display' : 'without fences is not, and its newest frame wins';
  test(`a guest that runs free ${how}; nothing is copied or imported on the way`, async (t) => {
    const daemon = await startDaemon(`output = "${outputs[0]}"`);
    await daemon.during(async () => {
      const qemu = await Qemu.start(vhost({ append: `frames=${FRAMES} band=32 fence=${fence}` }));
      await qemu.during(async () => {
        await qemu.event('done', { frames: FRAMES }, 120_000);
        await daemon.until('all frames', ({ guests }) => framesTold(guests[0]) >= FRAMES);
        const guest = await daemon.guest('vm');
        const { planes, copies, late, mode } = guest;
        const flips = await daemon.records('vm');
        const [plane] = planes;
        t.diagnostic(`${flips.length} shown, ${plane?.superseded} superseded, ${late} late`);
        assert.equal(framesTold(guest), FRAMES, 'every frame is shown, or replaced by a newer one');
        assert.deepEqual([plane?.state, plane?.refused, copies], ['direct', 0, 0]);
        assert.deepEqual([plane?.size, mode?.width, mode?.height], [SIZE, SIZE.width, SIZE.height]);
        assert.equal((await daemon.status()).cards[0]?.framebuffers.imports, 2);
        assert.equal(flips.length, plane?.flips);
        assertInOrder(flips);
        assert.equal(flips.at(-1)?.sequence, FRAMES, 'the last one is on the screen');
        if (fence === 1) {
          // Only a frame that was answered by the clock can be replaced: all others are waited for.
          assert.ok((plane?.superseded ?? 0) <= late, `${plane?.superseded} superseded, ${late} late`);
          assert.ok(late < FRAMES / 2, `${late} were answered by the clock`);
        } else {
          assert.equal(late, 0);
        }
      });
    });
  });
}
