/** Real QEMU, its virtio-gpu device the daemon's: what the guest draws is what the display scans out. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestDaemon } from './inside/daemon.js';
import { bandFrames, overlayCursor, pattern } from './inside/pattern.js';
import { Qemu, type QemuOptions, type QemuVersion, VERSIONS } from './inside/qemu.js';
import { assertSeen } from './inside/seen.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;
let outputs: readonly string[];

before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
  outputs = card.connectors;
});
after(() => card.destroy());

const SIZE = { width: 640, height: 480 };
const SOCKET = '/run/scanoutd-test-vm.sock';

/** With a guest "vm" on the first output, or wherever `more` says. */
function startDaemon(more = `output = "${outputs[0]}"`): Promise<TestDaemon> {
  const guest = `[[guest]]\nname = "vm"\nkind = "virtio"\nsocket = "${SOCKET}"\n${more}`;
  return TestDaemon.start({ config: `[[output]]\nmode = "640x480"\n${guest}` });
}

function vhost(more: Partial<QemuOptions> = {}, properties = '', socket = SOCKET): QemuOptions {
  const device = `vhost-user-gpu-pci,chardev=gpu${properties}`;
  return { append: 'step=1', ...more, args: ['-chardev', `socket,id=gpu,path=${socket}`, '-device', device] };
}

/** Flips, and compares what is scanned out. Under load a flush may be answered by the clock, before its flip. */
async function proveFlips(daemon: TestDaemon, qemu: Qemu, first: number, last: number, output = outputs[0]) {
  for (let frame = first; frame <= last; frame++) {
    qemu.send('f');
    await qemu.event('flip', { frame });
    await assertSeen(daemon, output ?? '', pattern(SIZE.width, SIZE.height, frame), `frame ${frame}`);
  }
}

for (const version of Object.keys(VERSIONS) as QemuVersion[]) {
  test(`QEMU ${version}: pages flip on a plane, directly`, async () => {
    const daemon = await startDaemon();
    await daemon.during(async () => {
      const qemu = await Qemu.start(vhost({ version }));
      await qemu.during(async () => {
        await qemu.event('buffers');
        await proveFlips(daemon, qemu, 0, 3);
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
  const daemon = await startDaemon();
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost({ append: 'step=1 event_idx=0 indirect=0 pieces=5' }));
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, 0, 2);
      assert.equal((await daemon.guest('vm')).planes[0]?.state, 'direct');
    });
  });
});

test('memory that no dma-buf can be made of is copied, and said to be', async () => {
  const daemon = await startDaemon();
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost({ append: 'step=1 pieces=3 offset=64' }));
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, 0, 2);
      const { planes, copies } = await daemon.guest('vm');
      assert.equal(planes[0]?.state, 'copied');
      assert.match(planes[0]?.reason ?? '', /piece \d of 3 is not made of whole pages/);
      assert.ok(copies >= 3, `${copies} copies`);
    });
  });
});

test('one buffer is flushed by damage', async () => {
  const daemon = await startDaemon();
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
  const daemon = await startDaemon();
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
      const { data } = await daemon.screenshot(outputs[0] ?? '');
      const expected = pattern(320, 200, 0);
      for (let row = 0; row < 200; row++) {
        const at = ((140 + row) * SIZE.width + 160) * 3;
        const wanted = expected.data.subarray(row * 320 * 3, (row + 1) * 320 * 3);
        assert.ok(Buffer.from(data.subarray(at, at + 320 * 3)).equals(Buffer.from(wanted)), `row ${row}`);
      }
    });
  });
});

test('the scanout is switched off, its resource goes, and the guest goes on', async () => {
  const daemon = await startDaemon();
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost());
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, 0, 1);
      qemu.send('d');
      await qemu.event('disabled');
      await daemon.until('the idle picture', (status) => status.outputs[0]?.idle === true);
      await proveFlips(daemon, qemu, 2, 3);
      qemu.send('u');
      await qemu.event('unref');
      await daemon.until('the idle picture', (status) => status.outputs[0]?.idle === true);
      await daemon.until('one buffer', ({ guests }) => guests[0]?.buffers === 1);
      assert.equal((await daemon.status()).cards[0]?.framebuffers.live, 1);
    });
  });
});

test('a reset, one in the middle of a flip, and a reboot: the picture comes back', async () => {
  const daemon = await startDaemon();
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost());
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, 0, 1);
      let frame = 2;
      for (const [count, command] of ['R', 'X'].entries()) {
        qemu.send(command);
        await qemu.eventAfter(count + 1, 'hello');
        await qemu.eventAfter(count + 1, 'buffers');
        await proveFlips(daemon, qemu, frame, frame + 1);
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
  const daemon = await startDaemon();
  await daemon.during(async () => {
    const qemu = await Qemu.start(vhost());
    await qemu.during(async () => {
      await qemu.event('buffers');
      await proveFlips(daemon, qemu, 0, 1);
      await qemu.qmp('stop');
      await assertSeen(daemon, outputs[0] ?? '', pattern(SIZE.width, SIZE.height, 1), 'paused');
      await qemu.qmp('cont');
      await proveFlips(daemon, qemu, 2, 3);
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
      await proveFlips(daemon, qemu, 0, 2, outputs[1]);
      assert.equal((await daemon.guest('vm.1')).output, outputs[1]);
      assert.equal((await daemon.output(outputs[0] ?? '')).idle, true);
      // A second VMM at the same socket is turned away.
      const second = await Qemu.start(vhost()).catch((error: Error) => error);
      if (second instanceof Qemu) await second.dispose();
      assert.match(daemon.log, /another one is connected/);
      await proveFlips(daemon, qemu, 3, 3, outputs[1]);
    });
  });
});

test('memory that could be cut off is refused, with what to do about it', async () => {
  const daemon = await startDaemon();
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

test('a free-running guest is paced by the display and needs no copy and no import', async (t) => {
  const daemon = await startDaemon();
  await daemon.during(async () => {
    const frames = 60;
    const qemu = await Qemu.start(vhost({ append: `frames=${frames}` }));
    await qemu.during(async () => {
      await qemu.event('done', { frames }, 120_000);
      const { planes, copies } = await daemon.guest('vm');
      assert.equal(planes[0]?.state, 'direct');
      assert.equal(copies, 0);
      // A fenced flush is answered when it is shown: no frame was replaced unseen.
      assert.deepEqual([planes[0]?.flips, planes[0]?.superseded], [frames, 0]);
      assert.equal((await daemon.status()).cards[0]?.framebuffers.imports, 2);
      const flips = qemu.all('flip').map(({ values }) => Number(values.at_us));
      const span = ((flips.at(-1) ?? 0) - (flips[0] ?? 0)) / 1000;
      assert.ok(span >= (frames - 1) * 16 - 17, `${frames} frames in ${span} ms`);
      t.diagnostic(`latency ${JSON.stringify(planes[0]?.latencyUs)}, ${frames} frames in ${span} ms`);
    });
  });
});
