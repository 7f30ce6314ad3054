/** A Linux guest under QEMU alone: it boots, and what its program flips by KMS is what a test computes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BOOT_MS, startLinux } from './inside/linux-guest.js';
import { pattern } from './inside/pattern.js';
import { worst } from './inside/pixels.js';

test('Linux flips test cards on virtio-gpu', async (t) => {
  const since = performance.now();
  const qemu = await startLinux({ append: 'step=1 size=640x480', args: ['-device', 'virtio-gpu-pci'] });
  await qemu.during(async () => {
    for (const stage of ['init', 'modules', 'card']) {
      const { values } = await qemu.event('boot', { stage }, BOOT_MS);
      t.diagnostic(
        `${stage}: ${values.at_ms} ms of the guest, ${Math.round(performance.now() - since)} ms of ours`,
      );
    }
    await qemu.event('buffers', {}, BOOT_MS);
    t.diagnostic(`ready after ${Math.round(performance.now() - since)} ms`);
    for (let frame = 0; frame < 3; frame++) {
      qemu.send('f');
      const { values } = await qemu.event('flip', { frame });
      t.diagnostic(`flip ${frame}: ${values.flip_us} us`);
      const { by, at } = worst(await qemu.screendump(), pattern(640, 480, frame));
      assert.equal(by, 0, `frame ${frame}: ${at}`);
    }
    assert.match(String(qemu.all('edid')[0]?.values.bytes), /^00ffffffffffff00/);
    qemu.send('m');
    const { values } = await qemu.event('cursor');
    assert.deepEqual([values.x, values.y, values.image], [0, 0, 0]);
  });
});
