/** An unmodified QEMU shows its screen by its D-Bus display: every picture is proved by writeback. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { StatusDocument } from '../../src/api/documents.js';
import { type Picture, TestDaemon } from './inside/daemon.js';
import { pattern } from './inside/pattern.js';
import { type Expected, worst } from './inside/pixels.js';
import { Qemu, type QemuOptions } from './inside/qemu.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const OUTPUT = { width: 1024, height: 768 };
const SIZE = { width: 320, height: 256 };
const WORDS = `step=1 size=${SIZE.width}x${SIZE.height}`;
const RENDER_NODE = '/dev/dri/renderD128';
/** QEMU, its guest and the daemon, all emulated. */
const SLOW_MS = 60_000;

let card: VkmsDevice;

before(() => {
  // Only vgem has a render node here, on which Mesa's software OpenGL works.
  execFileSync('modprobe', ['vgem']);
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
});
after(() => card.destroy());

/** The part of a picture where a guest of this size is: in the middle. */
function middle(picture: Picture, { width, height }: { width: number; height: number }): Expected {
  const data = new Uint8Array(width * height * 3);
  const left = Math.floor((picture.width - width) / 2);
  const top = Math.floor((picture.height - height) / 2);
  for (let row = 0; row < height; row++) {
    const from = ((top + row) * picture.width + left) * 3;
    data.set(picture.data.subarray(from, from + width * 3), row * width * 3);
  }
  return { width, height, data };
}

interface Shown {
  qemu: Qemu;
  daemon: TestDaemon;
  output: string;
}

/** A daemon that waits for a QEMU to show itself by D-Bus as guest `vm`. */
async function withDaemon(body: (daemon: TestDaemon, monitor: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'qemu-dbus-'));
  const monitor = join(directory, 'qmp');
  const config = [
    `[[output]]\nmode = "${OUTPUT.width}x${OUTPUT.height}"\nidle = { text = false }`,
    `[[guest]]\nname = "vm"\nkind = "qemu"\nscale = "none"\nsocket = "${monitor}"`,
  ].join('\n');
  const daemon = await TestDaemon.start({ config });
  await daemon.during(() => body(daemon, monitor));
  rmSync(directory, { recursive: true });
}

/** Starts the QEMU that the daemon waits for; `body` runs when it is on an output. */
async function withQemu(
  daemon: TestDaemon,
  monitor: string,
  options: QemuOptions,
  body: (shown: Shown) => Promise<void>,
): Promise<void> {
  const qemu = await Qemu.start({
    display: 'dbus,p2p=on',
    ...options,
    args: [...(options.args ?? []), '-qmp', `unix:${monitor},server=on,wait=off`],
  });
  await qemu.during(async () => {
    const onOutput = ({ guests }: StatusDocument) => guests[0]?.output != null;
    const status = await daemon.until('the guest on an output', onOutput, SLOW_MS);
    await body({ qemu, daemon, output: status.guests[0]?.output ?? '' });
  });
}

/** Compares what is scanned out with what ought to be, until it is that; null: there is nothing to compare yet. */
async function proves(
  { daemon, output }: Shown,
  what: string,
  expected: () => Promise<Expected | null> | Expected,
): Promise<void> {
  const deadline = performance.now() + SLOW_MS;
  for (;;) {
    const wanted = await expected();
    const found =
      wanted === null
        ? { by: 256, at: 'nothing to be seen' }
        : worst(middle(await daemon.screenshot(output), wanted), wanted);
    if (found.by === 0) return;
    if (performance.now() > deadline) assert.fail(`${what}: off by ${found.by} at ${found.at}`);
  }
}

async function provesFlips(shown: Shown, frames: number): Promise<void> {
  const { qemu } = shown;
  await qemu.event('buffers');
  for (let frame = 0; frame < frames; frame++) {
    qemu.send('f');
    await qemu.event('flip', { frame });
    const expected = pattern(SIZE.width, SIZE.height, frame);
    await proves(shown, `frame ${frame}`, () => expected);
  }
}

test("the firmware's text is shown, pixel for pixel what QEMU takes for it", async () => {
  const args = ['-device', 'VGA', '-boot', 'menu=on,splash-time=65000'];
  await withDaemon((daemon, monitor) =>
    withQemu(daemon, monitor, { args }, async (shown) => {
      await daemon.until('a copy', ({ guests }) => guests[0]?.planes[0]?.state === 'copied', SLOW_MS);
      await proves(shown, 'text', async () => {
        const dump = await shown.qemu.screendump();
        // Until the firmware has written there is nothing to prove.
        return dump.data.some((value) => value !== 0) ? dump : null;
      });
      const vm = await daemon.guest('vm');
      assert.match(vm.planes[0]?.reason ?? '', /gl=on/);
      assert.ok(vm.copies > 0);
    }),
  );
});

test('frames of a guest are copied from shared memory, and those of its successor too', async () => {
  const options = { append: WORDS, args: ['-device', 'virtio-gpu-pci'] };
  await withDaemon(async (daemon, monitor) => {
    for (const frames of [4, 2]) {
      await withQemu(daemon, monitor, options, async (shown) => {
        await provesFlips(shown, frames);
        const vm = await daemon.guest('vm');
        assert.equal(vm.planes[0]?.state, 'copied');
        assert.match(vm.planes[0]?.reason ?? '', /memory that cannot become a dma-buf/);
      });
      // It was killed: it goes, and is waited for.
      await daemon.until('no guest', ({ guests }) => guests.length === 0, SLOW_MS);
    }
  });
});

for (const version of ['backports', 'debian'] as const) {
  test(`QEMU ${version}: blobs are scanned out from the guest's own memory`, async () => {
    const options: QemuOptions = {
      version,
      display: `dbus,p2p=on,gl=on,rendernode=${RENDER_NODE}`,
      append: `${WORDS} mode=blob`,
      args: ['-device', 'virtio-gpu-pci,blob=on'],
    };
    await withDaemon((daemon, monitor) =>
      withQemu(daemon, monitor, options, async (shown) => {
        // QEMU 10.0 loses most of the scanouts of blobs on their way to any listener.
        await provesFlips(shown, version === 'debian' ? 1 : 6);
        const vm = await daemon.guest('vm');
        assert.equal(vm.planes[0]?.state, 'direct', JSON.stringify(vm));
        assert.equal(vm.planes[0]?.fourcc, 'XR24');
        assert.equal(vm.copies, 0, 'nothing was copied');
      }),
    );
  });
}
