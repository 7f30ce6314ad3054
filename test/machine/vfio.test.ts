/** Display planes of VFIO devices on hardware planes: the kernel's sample devices, played by a program and by QEMU. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { GuestDocument } from '../../src/api/documents.js';
import { TestDaemon } from './inside/daemon.js';
import type { GuestProcess } from './inside/guest-process.js';
import { type Mdev, makeMdev, released, startVgpu } from './inside/mdev.js';
import { pattern } from './inside/pattern.js';
import { worst } from './inside/pixels.js';
import { Qemu } from './inside/qemu.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const SIZE = { width: 640, height: 480 };
let card: VkmsDevice;

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
});
after(() => card.destroy());

function startDaemon(mdev: Mdev, more = ''): Promise<TestDaemon> {
  const guest = `[[guest]]\nname = "vgpu"\nkind = "vfio"\ndevice = "${mdev.path}"\n${more}`;
  return TestDaemon.start({ config: `[[output]]\nmode = "640x480"\n${guest}` });
}

/** Waits until the guest has shown a frame more than `flips`. */
async function flipped(daemon: TestDaemon, flips: number): Promise<GuestDocument> {
  const shows = (guest: GuestDocument) => (guest.planes[0]?.flips ?? 0) > flips;
  const status = await daemon.until(`more than ${flips} flips`, ({ guests }) => guests.some(shows));
  return status.guests[0] as GuestDocument;
}

/** The output shows that frame and nothing else, in every pixel. */
async function shows(daemon: TestDaemon, frame: number): Promise<void> {
  const [output] = (await daemon.status()).outputs;
  const deadline = performance.now() + 10_000;
  for (;;) {
    const picture = await daemon.screenshot(output?.name ?? '');
    assert.equal(picture.document.how, 'writeback');
    const { by, at } = worst(picture, pattern(SIZE.width, SIZE.height, frame));
    if (by === 0) return;
    if (performance.now() > deadline) assert.fail(`frame ${frame}: ${at}`);
    await sleep(100);
  }
}

/** Of the first detailed timing: eight lower bits of each side, and four upper ones. */
function preferredMode(edid: Uint8Array): { width: number; height: number } {
  const side = (low: number, high: number) => (edid[low] ?? 0) | (((edid[high] ?? 0) & 0xf0) << 4);
  return { width: side(56, 58), height: side(59, 61) };
}

async function during(daemon: TestDaemon, guest: GuestProcess, body: () => Promise<void>): Promise<void> {
  await guest.during(() => daemon.during(body));
}

test('dma-bufs of a device that a program has open are scanned out', async (t) => {
  const mdev = makeMdev('mbochs', { vmap: true });
  t.after(() => mdev.remove());
  const vgpu = await startVgpu(mdev);
  const daemon = await startDaemon(mdev);
  await during(daemon, vgpu, async () => {
    await daemon.until('the guest', ({ guests }) => guests.length === 1);
    for (let frame = 0; frame < 3; frame++) {
      vgpu.send('f');
      await vgpu.event('flip', { frame });
      await shows(daemon, frame);
    }
    const { planes, pid, kind } = await daemon.guest('vgpu');
    assert.equal(kind, 'vfio');
    assert.equal(pid, vgpu.pid);
    assert.equal(planes[0]?.state, 'direct', planes[0]?.reason);

    await t.test('two buffers are imported once each, however often they are flipped', async () => {
      const before = await daemon.guest('vgpu');
      const { imports } = (await daemon.status()).cards[0]?.framebuffers ?? { imports: -1 };
      vgpu.send('F');
      await vgpu.event('flips');
      const now = await daemon.guest('vgpu');
      const flips = (now.planes[0]?.flips ?? 0) - (before.planes[0]?.flips ?? 0);
      assert.ok(flips >= 8, `${flips} of 16 flips were seen`);
      assert.equal(now.copies, 0);
      assert.equal(now.buffers, 2);
      assert.equal((await daemon.status()).cards[0]?.framebuffers.imports, imports);
    });

    await t.test('the guest sees the EDID of its output', async () => {
      vgpu.send('e');
      const { values } = await vgpu.event('edid');
      const edid = Buffer.from(String(values.bytes), 'hex');
      assert.equal(edid.toString('hex', 0, 8), '00ffffffffffff00');
      assert.equal(edid.reduce((sum, byte) => sum + byte, 0) & 255, 0);
      assert.deepEqual(preferredMode(edid), SIZE);
    });

    await t.test('a display that is off shows the idle picture', async () => {
      vgpu.send('d');
      await vgpu.event('disabled');
      const [output] = (await daemon.status()).outputs;
      const deadline = performance.now() + 10_000;
      for (;;) {
        const picture = await daemon.screenshot(output?.name ?? '');
        if (picture.document.frames.length === 0) break;
        assert.ok(performance.now() < deadline, 'the frame stays');
        await sleep(100);
      }
      vgpu.send('f');
      await vgpu.event('flip', { frame: 19 });
      await shows(daemon, 19);
    });

    await t.test('its program ends: the guest leaves, and comes back with another', async () => {
      await vgpu.kill();
      await daemon.until(
        'no guest',
        ({ guests, outputs }) => guests.length === 0 && outputs[0]?.idle === true,
      );
      await released(mdev);
      const next = await startVgpu(mdev);
      await next.during(async () => {
        next.send('f');
        await next.event('flip', { frame: 0 });
        await flipped(daemon, 0);
        await shows(daemon, 0);
      });
    });
  });
});

test('what the display refuses and nobody can read is said to be so', async (t) => {
  const mdev = makeMdev('mbochs', { vmap: false });
  t.after(() => mdev.remove());
  const vgpu = await startVgpu(mdev);
  const daemon = await startDaemon(mdev);
  await during(daemon, vgpu, async () => {
    vgpu.send('f');
    const refused = (guest: GuestDocument) => guest.planes[0]?.reason.includes('copy failed') === true;
    const status = await daemon.until('the refusal', ({ guests }) => guests.some(refused));
    const [plane] = status.guests[0]?.planes ?? [];
    assert.equal(plane?.state, 'unseen');
    assert.match(plane?.reason ?? '', /refused its frame.*its copy failed with EINVAL/);
    assert.ok((plane?.refused ?? 0) > 0);
    // The daemon lives, and so does the output.
    assert.equal(status.outputs[0]?.lit, true);
  });
});

test('a region is copied when it changes, and only then', async (t) => {
  const mdev = makeMdev('mdpy');
  t.after(() => mdev.remove());
  const vgpu = await startVgpu(mdev);
  const daemon = await startDaemon(mdev);
  await during(daemon, vgpu, async () => {
    for (let frame = 0; frame < 3; frame++) {
      vgpu.send('f');
      await vgpu.event('flip', { frame });
      await shows(daemon, frame);
    }
    const before = await daemon.guest('vgpu');
    assert.equal(before.planes[0]?.state, 'copied');
    assert.match(before.planes[0]?.reason ?? '', /region/);
    await sleep(1000);
    const now = await daemon.guest('vgpu');
    assert.equal(now.planes[0]?.flips, before.planes[0]?.flips, 'flips of a picture that stays');
  });
});

test('a device that the daemon opens itself', async (t) => {
  const mdev = makeMdev('mdpy');
  t.after(() => mdev.remove());
  const daemon = await startDaemon(mdev, 'owner = "daemon"');
  await daemon.during(async () => {
    const guest = await flipped(daemon, 0);
    assert.equal(guest.pid, null);
    const [output] = (await daemon.status()).outputs;
    const picture = await daemon.screenshot(output?.name ?? '');
    // What the driver fills it with: from black above to white below.
    const gray = (row: number) => Math.floor((row * 255) / SIZE.height);
    const wrong = picture.data.findIndex((value, i) => value !== gray(Math.floor(i / (SIZE.width * 3))));
    assert.equal(wrong, -1);

    await t.test('is let go when it is removed', async () => {
      await mdev.remove();
      await daemon.until('no guest', ({ guests }) => guests.length === 0);
    });
  });
});

test('the display of a running QEMU is taken from it', async (t) => {
  const mdev = makeMdev('mbochs', { vmap: true });
  t.after(() => mdev.remove());
  const options = {
    append: 'device=bochs size=640x480 step=1',
    args: ['-device', `vfio-pci,sysfsdev=${mdev.path},display=off`],
  };
  const daemon = await startDaemon(mdev);
  await daemon.during(async () => {
    for (const turn of ['first', 'second']) {
      await released(mdev);
      const qemu = await Qemu.start(options);
      await qemu.during(async () => {
        await qemu.event('buffers');
        for (let frame = 0; frame < 3; frame++) {
          qemu.send('f');
          await qemu.event('flip', { frame });
          await daemon.until('the guest', ({ guests }) => guests.length === 1);
          await shows(daemon, frame);
        }
        const guest = await daemon.guest('vgpu');
        assert.equal(guest.pid, qemu.pid, turn);
        assert.equal(guest.planes[0]?.state, 'direct');
        await qemu.kill();
        await daemon.until(
          'no guest',
          ({ guests, outputs }) => guests.length === 0 && outputs[0]?.idle === true,
        );
      });
    }
  });
});
