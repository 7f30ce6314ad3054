/** Virtual machines with QEMU's D-Bus display: consoles, sizes, ways to reach them, and what becomes of them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { TestDaemon } from './inside/daemon.js';
import { pattern } from './inside/pattern.js';
import { guestConfig, outputOf, proves, provesFlips, SLOW_MS, startDisplay } from './inside/qemu-display.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const BIG = { width: 800, height: 600 };
const SMALL = { width: 640, height: 480 };

let card: VkmsDevice;
let first: string;
let second: string;
let directory: string;

before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
  [first = '', second = ''] = card.connectors;
  directory = mkdtempSync(join(tmpdir(), 'qemu-life-'));
});
after(() => {
  card.destroy();
  rmSync(directory, { recursive: true });
});

/** The first output is small, the second is big. */
function start(guests: string, earlier?: TestDaemon): Promise<TestDaemon> {
  const output = (connector: string, { width, height }: typeof BIG) =>
    `[[output]]\nconnector = "${connector}"\nmode = "${width}x${height}"\nidle = { text = false }\n`;
  const config = output(first, SMALL) + output(second, BIG) + guests;
  return TestDaemon.start({ config, ...(earlier === undefined ? {} : { directory: earlier.directory }) });
}

test('each console is a guest, and its guest follows the size of the output that it is on', async () => {
  const monitor = join(directory, 'heads');
  const guests =
    guestConfig('left', monitor, `output = "${first}"\nconsole = 0`) +
    guestConfig('right', monitor, `output = "${second}"\nconsole = 1`);
  const daemon = await start(guests);
  await daemon.during(async () => {
    const qemu = await startDisplay(monitor, {
      append: 'step=1 size=auto output=1',
      args: ['-device', 'virtio-gpu-pci,max_outputs=2'],
    });
    await qemu.during(async () => {
      assert.deepEqual([await outputOf(daemon, 'left'), await outputOf(daemon, 'right')], [first, second]);
      await qemu.event('buffers', { ...BIG }, SLOW_MS);
      await provesFlips(daemon, qemu, second, BIG, 0, 1);
      // To another output, of another size; the other console stays where it is, below.
      await daemon.assign('right', { output: first });
      await qemu.event('buffers', { ...SMALL }, SLOW_MS);
      await provesFlips(daemon, qemu, first, SMALL, 2, 3);
      await daemon.until('the other output is idle', ({ outputs }) =>
        outputs.every(({ name, idle }) => name !== second || idle),
      );
    });
  });
});

test('a machine that reboots is shown again, and under a daemon that comes anew its picture as it was', async () => {
  const monitor = join(directory, 'lasting');
  const guests = guestConfig('vm', monitor, `output = "${first}"`);
  const former = await start(guests);
  try {
    const qemu = await startDisplay(monitor, {
      append: `step=1 size=${SMALL.width}x${SMALL.height}`,
      args: ['-device', 'virtio-gpu-pci'],
    });
    await qemu.during(async () => {
      await outputOf(former, 'vm');
      await qemu.event('buffers');
      await provesFlips(former, qemu, first, SMALL, 0, 1);
      qemu.send('r');
      await qemu.eventAfter(1, 'buffers');
      qemu.send('f');
      await qemu.eventAfter(2, 'flip');
      const last = pattern(SMALL.width, SMALL.height, 0);
      await proves(former, first, 'after the reboot', () => last);

      await former.stop('SIGKILL');
      const daemon = await start(guests, former);
      await daemon.during(async () => {
        await proves(daemon, first, 'what it showed before', () => last);
        assert.equal(qemu.all('flip').length, 3, 'the guest did nothing');
        qemu.send('ff');
        await qemu.eventAfter(4, 'flip');
        const next = pattern(SMALL.width, SMALL.height, 2);
        await proves(daemon, first, 'what it flipped then', () => next);
      });
    });
  } finally {
    await former.dispose();
  }
});

test('two machines on two outputs: one is killed and comes back, the other keeps its frames', async () => {
  const monitors = { stays: join(directory, 'stays'), dies: join(directory, 'dies') };
  const daemon = await start(
    guestConfig('stays', monitors.stays, `output = "${first}"`) +
      guestConfig('dies', monitors.dies, `output = "${second}"`),
  );
  const machine = (monitor: string, { width, height }: typeof BIG) =>
    startDisplay(monitor, {
      append: `step=1 size=${width}x${height}`,
      args: ['-device', 'virtio-gpu-pci'],
    });
  await daemon.during(async () => {
    const stays = await machine(monitors.stays, SMALL);
    await stays.during(async () => {
      for (const frame of [0, 2]) {
        const dies = await machine(monitors.dies, BIG);
        await dies.during(async () => {
          assert.equal(await outputOf(daemon, 'dies'), second);
          await dies.event('buffers');
          await provesFlips(daemon, dies, second, BIG, 0, 1);
          assert.equal(await outputOf(daemon, 'stays'), first);
          await stays.event('buffers');
          await provesFlips(daemon, stays, first, SMALL, frame, frame);
        });
        // It was killed: its output is idle, and the other one goes on.
        await provesFlips(daemon, stays, first, SMALL, frame + 1, frame + 1);
        const status = await daemon.until('one guest', ({ guests }) => guests.length === 1, SLOW_MS);
        assert.equal(status.guests[0]?.name, 'stays');
        await daemon.until('idle', ({ outputs }) =>
          outputs.every(({ name, idle }) => name !== second || idle),
        );
      }
      const { planes, lastError } = await daemon.guest('stays');
      assert.deepEqual([planes[0]?.refused, lastError], [0, '']);
    });
  });
});
