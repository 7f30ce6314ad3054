/** Real QEMU, its virtio-gpu device the daemon's: resets, pauses, deaths, and what is refused. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestDaemon } from './inside/daemon.js';
import { pattern } from './inside/pattern.js';
import { Qemu } from './inside/qemu.js';
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

test('the scanout is switched off, its resource goes, and the guest goes on', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost());
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, outputs[0] ?? '', 0, 1);
      qemu.send('d');
      await qemu.event('disabled');
      await daemon.until('the idle picture', (status) => status.outputs[0]?.idle === true);
      await proveFlips(daemon, qemu, outputs[0] ?? '', 2, 3);
      qemu.send('u');
      await qemu.event('unref');
      await daemon.until('the idle picture', (status) => status.outputs[0]?.idle === true);
      await daemon.until('one buffer', ({ guests }) => guests[0]?.buffers === 1);
      assert.equal((await daemon.status()).cards[0]?.framebuffers.live, 1);
    });
  });
});

test('a reset, one in the middle of a flip, and a reboot: the picture comes back', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost());
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, outputs[0] ?? '', 0, 1);
      let frame = 2;
      for (const [count, command] of ['R', 'X'].entries()) {
        qemu.send(command);
        await qemu.eventAfter(count + 1, 'hello');
        await qemu.eventAfter(count + 1, 'buffers');
        await proveFlips(daemon, qemu, outputs[0] ?? '', frame, frame + 1);
        frame += 2;
      }
      const flips = qemu.all('flip').length;
      qemu.send('r');
      await qemu.eventAfter(3, 'buffers');
      qemu.send('f');
      await qemu.eventAfter(flips, 'flip');
      await assertSeen(daemon, outputs[0] ?? '', pattern(SIZE.width, SIZE.height, 0), 'after the reboot');
      // Nothing of the former lives is left.
      await daemon.until('two buffers', ({ guests }) => guests[0]?.buffers === 2);
      assert.equal((await daemon.guest('vm')).lastError, '');
    });
  });
});

test('a pause keeps the picture, and it goes on from there', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost());
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, outputs[0] ?? '', 0, 1);
      await qemu.qmp('stop');
      await assertSeen(daemon, outputs[0] ?? '', pattern(SIZE.width, SIZE.height, 1), 'paused');
      await qemu.qmp('cont');
      await proveFlips(daemon, qemu, outputs[0] ?? '', 2, 3);
      assert.equal((await daemon.status()).cards[0]?.framebuffers.imports, 2);
    });
  });
});

test('two machines on one output and one on another: one dies and comes back, the others miss nothing', async () => {
  const sockets = ['big', 'small', 'other'].map((name) => `/run/scanoutd-test-${name}.sock`);
  const daemon = await TestDaemon.start({
    config: `
      [[output]]
      mode = "640x480"
      [[guest]]
      name = "big"
      kind = "virtio"
      socket = "${sockets[0]}"
      output = "${outputs[0]}"
      [[guest]]
      name = "small"
      kind = "virtio"
      socket = "${sockets[1]}"
      output = "${outputs[0]}"
      plane = "overlay"
      z = 1
      area = { x = 400, y = 300, width = 160, height = 120 }
      [[guest]]
      name = "other"
      kind = "virtio"
      socket = "${sockets[2]}"
      output = "${outputs[1]}"`,
  });
  await daemon.during(async () => {
    const append = 'step=1 size=auto';
    const start = (index: number) => Qemu.start(vhost({ append }, '', sockets[index]));
    const [big, small, other] = [await start(0), await start(1), await start(2)];
    try {
      for (const qemu of [big, small, other]) {
        await qemu.event('buffers');
        qemu.send('f');
        await qemu.event('flip', { frame: 0 });
      }
      // The small one was told the size of its area.
      assert.deepEqual(small.all('buffers')[0]?.values.width, 160);
      const picture = () => {
        const whole = pattern(SIZE.width, SIZE.height, 0);
        const part = pattern(160, 120, 0);
        for (let row = 0; row < 120; row++) {
          const at = ((300 + row) * SIZE.width + 400) * 3;
          whole.data.set(part.data.subarray(row * 480, (row + 1) * 480), at);
        }
        return whole;
      };
      await assertSeen(daemon, outputs[0] ?? '', picture(), 'both');
      await assertSeen(daemon, outputs[1] ?? '', pattern(SIZE.width, SIZE.height, 0), 'the other output');
      await small.kill();
      await daemon.until('two guests', ({ guests }) => guests.length === 2);
      await assertSeen(daemon, outputs[0] ?? '', pattern(SIZE.width, SIZE.height, 0), 'one is gone');
      const again = await start(1);
      await again.during(async () => {
        await again.event('buffers');
        again.send('f');
        await again.event('flip', { frame: 0 });
        await assertSeen(daemon, outputs[0] ?? '', picture(), 'it is back');
      });
      assert.equal((await daemon.guest('big')).planes[0]?.refused, 0);
    } finally {
      for (const qemu of [big, small, other]) await qemu.dispose();
    }
  });
});

test('a device with two scanouts shows each on its own output', async () => {
  const daemon = await startDaemon(`outputs = ["${outputs[0]}", "${outputs[1]}"]`);
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost({ append: 'step=1 output=1' }, ',max_outputs=2'));
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, outputs[1] ?? '', 0, 2);
      assert.equal((await daemon.guest('vm.1')).output, outputs[1]);
      assert.equal((await daemon.output(outputs[0] ?? '')).idle, true);
      // A second VMM at the same socket is turned away.
      const second = await Qemu.start(vhost()).catch((error: Error) => error);
      if (second instanceof Qemu) await second.dispose();
      assert.match(daemon.log, /another one is connected/);
      await proveFlips(daemon, qemu, outputs[1] ?? '', 3, 3);
    });
  });
});

test('memory that could be cut off is refused, with what to do about it', async () => {
  const daemon = await startDaemon(`output = "${outputs[0]}"`);
  await daemon.during(async () => {
    const options = vhost();
    const args = [
      ...(options.args ?? []),
      '-object',
      'memory-backend-memfd,id=loose,size=128M,share=on,seal=off',
    ];
    const qemu = await Qemu.start({ ...options, args: [...args, '-machine', 'memory-backend=loose'] });
    try {
      await daemon.until('the refusal', () => /F_SEAL_SHRINK/.test(daemon.log));
      assert.match(daemon.log, /memory-backend-memfd, share=on/);
    } finally {
      await qemu.dispose();
    }
  });
});
