/** An unmodified QEMU shows its screen by its D-Bus display: every picture is proved by writeback. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestDaemon } from './inside/daemon.js';
import { overlayCursor, pattern } from './inside/pattern.js';
import { worst } from './inside/pixels.js';
import type { Qemu, QemuOptions, QemuVersion } from './inside/qemu.js';
import {
  GL,
  guestConfig,
  makeRenderNode,
  outputOf,
  proves,
  provesFlips,
  SLOW_MS,
  startDisplay,
} from './inside/qemu-display.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const SIZE = { width: 320, height: 256 };
/** Longer than it takes the daemon to believe a Disable. */
const QUIET_MS = 1500;
const WORDS = `step=1 size=${SIZE.width}x${SIZE.height}`;

let card: VkmsDevice;

before(() => {
  makeRenderNode();
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
});
after(() => card.destroy());

interface Shown {
  qemu: Qemu;
  daemon: TestDaemon;
  output: string;
}

/** A daemon that waits for a QEMU to show itself by D-Bus as guest `vm`. */
async function withDaemon(body: (daemon: TestDaemon, monitor: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'qemu-dbus-'));
  const monitor = join(directory, 'qmp');
  const output = '[[output]]\nmode = "1024x768"\nidle = { text = false }\n';
  const daemon = await TestDaemon.start({ config: output + guestConfig('vm', monitor) });
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
  const qemu = await startDisplay(monitor, options);
  await qemu.during(async () => {
    await body({ qemu, daemon, output: await outputOf(daemon, 'vm') });
  });
}

async function provesFrames({ daemon, qemu, output }: Shown, frames: number): Promise<void> {
  await qemu.event('buffers');
  await provesFlips(daemon, qemu, output, SIZE, 0, frames - 1);
}

test("the firmware's text is shown, pixel for pixel what QEMU takes for it", async () => {
  const args = ['-device', 'VGA', '-boot', 'menu=on,splash-time=65000'];
  await withDaemon((daemon, monitor) =>
    withQemu(daemon, monitor, { args }, async ({ qemu, output }) => {
      await daemon.until('a copy', ({ guests }) => guests[0]?.planes[0]?.state === 'copied', SLOW_MS);
      await proves(daemon, output, 'text', async () => {
        const dump = await qemu.screendump();
        // Before its text mode there is a message of QEMU's own, and nothing until it has written.
        return dump.height === 400 && dump.data.some((value) => value !== 0) ? dump : null;
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
        await provesFrames(shown, frames);
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
      display: GL,
      append: `${WORDS} mode=blob`,
      args: ['-device', 'virtio-gpu-pci,blob=on'],
    };
    await withDaemon((daemon, monitor) =>
      withQemu(daemon, monitor, options, async (shown) => {
        // QEMU 10.0 loses most of the scanouts of blobs on their way to any listener.
        await provesFrames(shown, version === 'debian' ? 1 : 6);
        const vm = await daemon.guest('vm');
        assert.equal(vm.planes[0]?.state, 'direct', JSON.stringify(vm));
        assert.equal(vm.planes[0]?.fourcc, 'XR24');
        assert.equal(vm.copies, 0, 'nothing was copied');
        if (version === 'debian') return;
        // The Disable that came with the last flip is not believed: that nothing happens has no event.
        await sleep(QUIET_MS);
        const last = pattern(SIZE.width, SIZE.height, 5);
        await proves(shown.daemon, shown.output, 'the last frame', () => last);
        assert.equal((await daemon.guest('vm')).planes[0]?.state, 'direct');
      }),
    );
  });
}

test('a screen that the guest switches off is what QEMU shows then, and comes back', async () => {
  const options: QemuOptions = { append: WORDS, args: ['-device', 'virtio-gpu-pci'] };
  await withDaemon((daemon, monitor) =>
    withQemu(daemon, monitor, options, async (shown) => {
      await provesFrames(shown, 1);
      const { qemu, output } = shown;
      qemu.send('d');
      await qemu.event('disabled');
      const dump = await qemu.screendump();
      assert.notEqual(worst(dump, pattern(SIZE.width, SIZE.height, 0)).by, 0, 'it is off');
      await proves(daemon, output, 'what QEMU says of it', () => dump);
      await provesFlips(daemon, qemu, output, SIZE, 1, 2);
    }),
  );
});

const VIRGL: readonly { version: QemuVersion; device: string }[] = [
  { version: 'debian', device: 'virtio-gpu-gl-pci' },
  { version: 'backports', device: 'virtio-vga-gl' },
];

for (const { version, device } of VIRGL) {
  test(`QEMU ${version}, ${device}: textures, whose first row is the lowest, are reflected by the plane`, async () => {
    const options: QemuOptions = { version, display: GL, append: WORDS, args: ['-device', device] };
    await withDaemon((daemon, monitor) =>
      withQemu(daemon, monitor, options, async (shown) => {
        await provesFrames(shown, 5);
        const vm = await daemon.guest('vm');
        assert.equal(vm.planes[0]?.state, 'direct', JSON.stringify(vm));
        assert.equal(vm.planes[0]?.fourcc, 'XB24');
        assert.equal(vm.copies, 0, 'nothing was copied');
      }),
    );
  });
}

test("the guest's cursor is on the cursor plane, where the guest put it", async () => {
  const options: QemuOptions = {
    append: `${WORDS} mode=cursor`,
    args: ['-device', 'virtio-gpu-pci'],
  };
  await withDaemon((daemon, monitor) =>
    withQemu(daemon, monitor, options, async ({ qemu, output }) => {
      await qemu.event('buffers');
      for (let move = 0; move < 10; move++) {
        qemu.send('f');
        const { values } = await qemu.event('cursor', { move });
        const expected = pattern(SIZE.width, SIZE.height, 0);
        overlayCursor(expected, Number(values.image), Number(values.x), Number(values.y));
        await proves(daemon, output, `move ${move}`, () => expected);
      }
      const [, cursor] = (await daemon.guest('vm')).planes;
      assert.equal(cursor?.state, 'direct', cursor?.reason);
      assert.equal(cursor?.fourcc, 'AR24');
    }),
  );
});
