/** Real QEMU, its virtio-gpu device the daemon's: what the guest draws is what the display scans out. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { bandFrames, overlayCursor, pattern } from './inside/pattern.js';
import { Qemu, type QemuVersion, VERSIONS } from './inside/qemu.js';
import { assertSeen } from './inside/seen.js';
import { proveFlips, SIZE, startDaemon, vhost } from './inside/virtio.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;
let outputs: readonly string[];

before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
  outputs = card.connectors;
});
after(() => card.destroy());

for (const version of Object.keys(VERSIONS) as QemuVersion[]) {
  test(`QEMU ${version}: pages flip on a plane, directly`, async () => {
    const daemon = await startDaemon(`output = "${outputs[0]}"`);
    await daemon.during(async () => {
      const qemu = await Qemu.start(vhost({ version }));
      await qemu.during(async () => {
        await qemu.event('buffers');
        await proveFlips(daemon, qemu, outputs[0] ?? '', 0, 3);
        const { planes, copies, buffers, pid } = await daemon.guest('vm');
        assert.equal(planes[0]?.state, 'direct', planes[0]?.reason);
        assert.deepEqual([copies, buffers, pid], [0, 2, qemu.pid]);
        // Each buffer once, and nothing a flip.
        assert.equal((await daemon.status()).cards[0]?.framebuffers.imports, 2);
        const [display] = qemu.all('display');
        assert.deepEqual([display?.values.width, display?.values.height], [640, 480]);
        assert.match(String(qemu.all('edid')[0]?.values.bytes), /^00ffffffffffff00/);
      });
      await daemon.until('the idle picture', (status) => status.outputs.every(({ idle }) => idle));
      await daemon.until('no guest', ({ guests }) => guests.length === 0);
    });
  });
}

test('pages flip without EVENT_IDX and indirect descriptors, memory in pieces', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost({ append: 'step=1 event_idx=0 indirect=0 pieces=5' }));
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, outputs[0] ?? '', 0, 2);
      assert.equal((await daemon.guest('vm')).planes[0]?.state, 'direct');
    });
  });
});

test('memory that no dma-buf can be made of is copied, and said to be', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost({ append: 'step=1 pieces=3 offset=64' }));
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, outputs[0] ?? '', 0, 2);
      const { planes, copies } = await daemon.guest('vm');
      assert.equal(planes[0]?.state, 'copied');
      assert.match(planes[0]?.reason ?? '', /piece \d of 3 is not made of whole pages/);
      assert.ok(copies >= 3, `${copies} copies`);
    });
  });
});

test('one buffer is flushed by damage', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost({ append: 'step=1 mode=single band=48' }));
    await qemu.during(async () => {
      await qemu.event('buffers');
      for (let frame = 0; frame < 4; frame++) {
        qemu.send('f');
        await qemu.event('flip', { frame });
        const rows = bandFrames(SIZE.height, 48, 1, frame);
        await assertSeen(daemon, outputs[0] ?? '', pattern(SIZE.width, SIZE.height, rows), `frame ${frame}`);
      }
    });
  });
});

test('the cursor moves on the cursor plane', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost({ append: 'step=1 mode=cursor' }));
    await qemu.during(async () => {
      await qemu.event('buffers');
      for (let move = 0; move < 10; move++) {
        qemu.send('f');
        const { values } = await qemu.event('cursor', { move });
        const picture = pattern(SIZE.width, SIZE.height, 0);
        overlayCursor(picture, Number(values.image), Number(values.x), Number(values.y));
        await assertSeen(daemon, outputs[0] ?? '', picture, `move ${move}`);
      }
      const [, cursor] = (await daemon.guest('vm')).planes;
      assert.equal(cursor?.state, 'direct', cursor?.reason);
      assert.equal(cursor?.fourcc, 'AR24');
    });
  });
});

test('a picture that is smaller than its output stands in the middle', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"\nplane = "overlay"`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost({ append: 'step=1 size=320x200' }));
    await qemu.during(async () => {
      await qemu.event('buffers');
      qemu.send('f');
      await qemu.event('flip', { frame: 0 });
      // Where the display takes too long, the guest is told of a flip before it is seen.
      await assertSeen(daemon, outputs[0] ?? '', pattern(320, 200, 0), 'the picture', { x: 160, y: 140 });
    });
  });
});
