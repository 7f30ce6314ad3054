/**
 * Linux guests under QEMU's D-Bus display: software frames from the firmware on, blobs, and virgl.
 * The two displays that need OpenGL are in one virtual machine.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ctl } from '../inside/ctl.js';
import { TestDaemon } from '../inside/daemon.js';
import { BOOT_MS, startLinux } from '../inside/linux-guest.js';
import { overlayCursor, pattern } from '../inside/pattern.js';
import type { Expected } from '../inside/pixels.js';
import type { Qemu } from '../inside/qemu.js';
import { GL, guestConfig, makeRenderNode, monitorArgs, NO_GL, proves } from '../inside/qemu-display.js';
import { createVkms, type VkmsDevice, vkmsShape } from '../inside/vkms.js';

const SIZE = { width: 800, height: 600 };
/** Of the text mode that the firmware sets. */
const TEXT_HEIGHT = 400;
/** More of them are lit by a line of text than by a cursor. */
const TEXT_VALUES = 1500;
const FRAMES = 3;

let card: VkmsDevice;

before(() => {
  makeRenderNode();
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
});
after(() => card.destroy());

/** A daemon that shows the consoles of one QEMU as these guests, each on an output. */
async function withDaemon(
  t: TestContext,
  guests: readonly string[],
  body: (daemon: TestDaemon, monitor: string, tell: (what: string) => void) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'qemu-linux-'));
  const monitor = join(directory, 'qmp');
  const consoles = guests.map((name, number) =>
    guestConfig(name, monitor, `output = "${card.connectors[number]}"\nconsole = ${number}`),
  );
  const output = `[[output]]\nmode = "${SIZE.width}x${SIZE.height}"\nidle = { text = false }\n`;
  const daemon = await TestDaemon.start({ config: output + consoles.join('') });
  const since = performance.now();
  const tell = (what: string) => t.diagnostic(`${what}: ${Math.round(performance.now() - since)} ms`);
  await daemon.during(() => body(daemon, monitor, tell));
  rmSync(directory, { recursive: true });
}

/** What QEMU takes for the picture of its first console, once there is something to be seen on it. */
async function dumped(qemu: Qemu): Promise<Expected | null> {
  const dump = await qemu.screendump();
  return dump.data.some((value) => value !== 0) ? dump : null;
}

/** Text, and neither a cursor alone nor a message of QEMU's own, which has another size. */
function isText({ height, data }: Expected): boolean {
  return height === TEXT_HEIGHT && data.filter((value) => value !== 0).length > TEXT_VALUES;
}

/** The firmware's text, for which the machine is stopped: it boots on. */
async function provesFirmware(daemon: TestDaemon, qemu: Qemu, output: string): Promise<void> {
  const deadline = performance.now() + BOOT_MS;
  await qemu.qmp('stop');
  while (!isText(await qemu.screendump())) {
    assert.ok(performance.now() < deadline, 'the firmware shows no text');
    await qemu.qmp('cont');
    await sleep(200);
    await qemu.qmp('stop');
  }
  await proves(daemon, output, 'text of the firmware', () => dumped(qemu));
  assert.equal(qemu.all('boot').length, 0, 'no kernel had the screen yet');
  await qemu.qmp('cont');
}

/** Test cards of the size that the guest was told; the guest's earlier display flipped `earlier`. */
async function provesCards(daemon: TestDaemon, qemu: Qemu, output: string, earlier: number): Promise<void> {
  const { values } = await qemu.eventAfter(earlier === 0 ? 0 : 1, 'buffers', BOOT_MS);
  assert.deepEqual([values.width, values.height], [SIZE.width, SIZE.height]);
  for (let frame = 0; frame < FRAMES; frame++) {
    qemu.send('f');
    await qemu.eventAfter(earlier + frame, 'flip');
    const expected = pattern(SIZE.width, SIZE.height, frame);
    await proves(daemon, output, `${output}: card ${frame}`, () => expected);
  }
}

/** The guest's cursor over its last test card. */
async function provesCursor(daemon: TestDaemon, qemu: Qemu, output: string): Promise<void> {
  for (let move = 0; move < 2; move++) {
    qemu.send('m');
    const { values } = await qemu.event('cursor', { move });
    const expected = pattern(SIZE.width, SIZE.height, FRAMES - 1);
    overlayCursor(expected, Number(values.image), Number(values.x), Number(values.y));
    await proves(daemon, output, `${output}: cursor ${move}`, () => expected);
  }
}

/** What status says of a guest's primary plane, and `scanoutctl guests` as well. */
async function truthOf(daemon: TestDaemon, name: string) {
  const { planes, copies, lastError, output } = await daemon.guest(name);
  const [plane] = planes;
  assert.ok(plane !== undefined);
  const { state, fourcc, reason } = plane;
  assert.equal(lastError, '');
  const { code, out, err } = await ctl(daemon, 'guests');
  assert.equal(code, 0, err);
  const row = out.split('\n').find((line) => line.startsWith(`${name} `)) ?? '';
  for (const word of ['qemu', output ?? '', state, `${SIZE.width}x${SIZE.height} `, fourcc ?? ''])
    assert.ok(row.includes(` ${word}`), `${word} in ${out}`);
  if (state !== 'direct') assert.ok(out.includes(`${name}: plane 0 is ${state}: ${reason}`), out);
  return { state, fourcc, reason, copies };
}

test('software frames of Linux are copied: the firmware, its console, test cards', async (t) => {
  await withDaemon(t, ['soft'], async (daemon, monitor, tell) => {
    const [output = ''] = card.connectors;
    const qemu = await startLinux({
      append: 'step=1 text=1',
      display: NO_GL,
      args: ['-device', 'virtio-vga', '-boot', 'menu=on,splash-time=3000', ...monitorArgs(monitor)],
    });
    await qemu.during(async () => {
      await provesFirmware(daemon, qemu, output);
      tell('firmware');
      await qemu.event('console', {}, BOOT_MS);
      tell('booted');
      await proves(daemon, output, 'console of the kernel', () => dumped(qemu));
      qemu.send('\n');
      await provesCards(daemon, qemu, output, 0);
      await provesCursor(daemon, qemu, output);
      const { state, reason, copies } = await truthOf(daemon, 'soft');
      assert.equal(state, 'copied');
      assert.match(reason, /memory that cannot become a dma-buf: it gives dma-bufs with gl=on only/);
      assert.ok(copies > 0);
      tell('copied');
    });
  });
});

test('blobs of Linux, and its textures with their lowest row first, are scanned out directly', async (t) => {
  await withDaemon(t, ['blob', 'virgl'], async (daemon, monitor, tell) => {
    const [first = '', second = ''] = card.connectors;
    const qemu = await startLinux({
      version: 'backports',
      append: 'step=1 displays=2',
      display: GL,
      args: [
        ...['-device', 'virtio-gpu-pci,blob=on', '-device', 'virtio-gpu-gl-pci'],
        ...monitorArgs(monitor),
      ],
    });
    await qemu.during(async () => {
      await provesCards(daemon, qemu, first, 0);
      tell('blobs');
      const blob = await truthOf(daemon, 'blob');
      assert.deepEqual([blob.state, blob.fourcc, blob.copies], ['direct', 'XR24', 0], blob.reason);

      qemu.send('q');
      await provesCards(daemon, qemu, second, FRAMES);
      const virgl = await truthOf(daemon, 'virgl');
      assert.deepEqual([virgl.state, virgl.fourcc, virgl.copies], ['direct', 'XB24', 0], virgl.reason);
      tell('textures');
    });
  });
});
