/**
 * A Linux guest whose devices are the daemon's, by vhost-user: its console, its flips, its cursor, the EDID that it sees, and its
 * seat's keyboard and mouse.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestDaemon } from '../inside/daemon.js';
import { EV, endAll, FRAMES, KEYBOARD, MOUSE, TestInput } from '../inside/evdev.js';
import { BOOT_MS, startLinux } from '../inside/linux-guest.js';
import { overlayCursor, pattern } from '../inside/pattern.js';
import type { Qemu } from '../inside/qemu.js';
import { assertSeen } from '../inside/seen.js';
import { assertInOrder, framesTold, SIZE, startDaemon, vhost } from '../inside/virtio.js';
import { createVkms, type VkmsDevice, vkmsShape } from '../inside/vkms.js';

let card: VkmsDevice;
let output: string;

before(() => {
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
  output = card.connectors[0] ?? '';
});
after(async () => {
  await endAll();
  card.destroy();
});

/** Flips in a row, each asked for before the former was shown. */
const STREAM = 40;
const PATIENCE_MS = 10_000;
const INPUTS = { keyboard: KEYBOARD, pointer: MOUSE } as const;
const CLASSES = ['keyboard', 'pointer'] as const;

const inputSocket = (of: string) => `/run/scanoutd-test-vm-input-${of}.sock`;

function config(): string {
  return [
    `output = "${output}"\ninput = "virtio"\ninput_socket = "${inputSocket('{class}')}"`,
    `[[seat]]\nname = "desk"\noutputs = ["${output}"]\nguests = ["vm"]`,
    '[[input]]\nphys = "vm/*"\nseat = "desk"\nread = "raw"',
  ].join('\n');
}

/** Each frame of a device of the seat comes out of the guest's own device of that class, event by event. */
async function proveInput(qemu: Qemu, of: keyof typeof INPUTS, input: TestInput): Promise<void> {
  const wanted = (FRAMES[of] ?? []).flat().map((event) => event.join(' '));
  const came = () =>
    qemu
      .all('input')
      .filter(
        ({ values }) =>
          values.type !== 'ready' && String(values.device).includes(INPUTS[of].name.replaceAll(' ', '_')),
      )
      .map(({ values: { type, code, value } }) => `${type} ${code} ${value}`)
      .filter((event) => !event.startsWith(`${EV.LED} `));
  for (const frame of FRAMES[of] ?? []) input.send(...frame);
  for (const until = performance.now() + BOOT_MS; came().length < wanted.length; ) {
    assert.ok(performance.now() < until, `${of}: ${came().join(', ')}`);
    await sleep(20);
  }
  assert.deepEqual(came(), wanted);
}

/** As the guest's /dev/fb0 has it: blue, green, red, nothing. */
async function hashOfScreen(daemon: TestDaemon): Promise<string> {
  const { data } = await daemon.screenshot(output);
  const pixels = Buffer.alloc((data.length / 3) * 4);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    pixels[to] = data[from + 2] ?? 0;
    pixels[to + 1] = data[from + 1] ?? 0;
    pixels[to + 2] = data[from] ?? 0;
  }
  return createHash('md5').update(pixels).digest('hex');
}

async function assertConsole(daemon: TestDaemon, hash: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while ((await hashOfScreen(daemon)) !== hash) {
    assert.ok(performance.now() < deadline, 'the console is not what the guest has in its framebuffer');
    await sleep(50);
  }
}

test('Linux is on a plane and at a seat: console, page flips, cursor, EDID, keyboard, mouse', async (t) => {
  const keyboard = await TestInput.make({ ...KEYBOARD, phys: 'vm/keyboard' });
  const mouse = await TestInput.make({ ...MOUSE, phys: 'vm/mouse' });
  const daemon = await startDaemon(config());
  await daemon.during(async () => {
    const args = [
      ...(vhost().args ?? []),
      ...CLASSES.flatMap((of) => [
        ...['-chardev', `socket,id=${of},path=${inputSocket(of)}`],
        ...['-device', `vhost-user-input-pci,chardev=${of}`],
      ]),
    ];
    const qemu = await startLinux({
      drivers: ['virtio_pci', 'virtio-gpu', 'virtio_input', 'evdev'],
      append: 'step=1 text=1 events=1 size=640x480',
      args,
    });
    await qemu.during(async () => {
      const { values: text } = await qemu.event('console', {}, BOOT_MS);
      assert.equal(text.size, SIZE.width * SIZE.height * 4);
      await assertConsole(daemon, String(text.hash));
      const [console] = (await daemon.guest('vm')).planes;
      assert.deepEqual([console?.state, console?.kind], ['direct', 'primary'], console?.reason);

      qemu.send('\n');
      await qemu.event('buffers', {}, BOOT_MS);
      for (let frame = 0; frame < 3; frame++) {
        qemu.send('f');
        await qemu.event('flip', { frame });
        await assertSeen(daemon, output, pattern(SIZE.width, SIZE.height, frame), `frame ${frame}`);
      }
      // The monitor that it is on: our maker's name ("SCO") and the output's.
      const edid = Buffer.from(String(qemu.all('edid')[0]?.values.bytes), 'hex');
      assert.equal(edid.readUInt16BE(8), 0x4c6f);
      assert.ok(edid.toString('latin1').includes(output));

      const shown = (await daemon.records('vm')).length;
      const before = framesTold(await daemon.guest('vm'));
      qemu.send('f'.repeat(STREAM));
      await qemu.event('flip', { frame: 3 + STREAM - 1 });
      const last = pattern(SIZE.width, SIZE.height, 3 + STREAM - 1);
      await assertSeen(daemon, output, last, 'the last frame of a stream');
      await daemon.until('all of them', ({ guests }) => framesTold(guests[0]) >= before + STREAM);
      const guest = await daemon.guest('vm');
      const stream = (await daemon.records('vm')).slice(shown);
      t.diagnostic(`${stream.length} of ${STREAM} shown, ${guest.late} answered before they were`);
      assertInOrder(stream);
      // Only what was answered by the clock may be replaced before it is shown.
      assert.ok(stream.length >= STREAM - guest.late, `${stream.length} shown, ${guest.late} late`);
      assert.ok(guest.late < STREAM / 2, `${guest.late} answered by the clock`);

      for (let move = 0; move < 3; move++) {
        qemu.send('m');
        const { values } = await qemu.event('cursor', { move });
        const picture = pattern(SIZE.width, SIZE.height, 3 + STREAM - 1);
        overlayCursor(picture, Number(values.image), Number(values.x), Number(values.y));
        await assertSeen(daemon, output, picture, `cursor ${move}`);
      }
      const { planes, copies, lastError } = await daemon.guest('vm');
      assert.deepEqual(
        planes.map(({ kind, state }) => [kind, state]),
        [
          ['primary', 'direct'],
          ['cursor', 'direct'],
        ],
      );
      assert.deepEqual([copies, lastError], [0, '']);

      await proveInput(qemu, 'keyboard', keyboard);
      await proveInput(qemu, 'pointer', mouse);
    });
  });
});
