/** Real QEMU, its virtio-gpu device the daemon's: limits of the kernel, and memory that is plugged in. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { TestDaemon } from './inside/daemon.js';
import { bandFrames, pattern } from './inside/pattern.js';
import { Qemu } from './inside/qemu.js';
import { assertSeen } from './inside/seen.js';
import { proveFlips, SIZE, startDaemon, vhost } from './inside/virtio.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;
let output: string;

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, writeback: true }));
  output = card.connectors[0] ?? '';
});
after(() => card.destroy());

const parameter = (name: string) => `/sys/module/udmabuf/parameters/${name}`;

/** With one of udmabuf's limits changed. */
async function withLimit(name: string, value: string, body: () => Promise<void>): Promise<void> {
  const former = readFileSync(parameter(name), 'utf8');
  writeFileSync(parameter(name), value);
  try {
    await body();
  } finally {
    writeFileSync(parameter(name), former);
  }
}

const LIMITS = [
  { name: 'size_limit_mb', value: '1', append: 'step=1', again: 'r' },
  { name: 'list_limit', value: '2', append: 'step=1 pieces=5', again: 'R' },
] as const;

for (const { name, value, append, again } of LIMITS) {
  test(`${name} is too low: the picture is copied, and the limit is named; raised, it is direct`, async () => {
    const daemon = await startDaemon(`output = "${output}"`);
    await daemon.during(async () => {
      const qemu = await Qemu.start(vhost({ append }));
      await qemu.during(async () => {
        await withLimit(name, value, async () => {
          await qemu.event('buffers');
          await proveFlips(daemon, qemu, output, 0, 1);
        });
        const { planes, copies } = await daemon.guest('vm');
        assert.equal(planes[0]?.state, 'copied');
        const advice = `raise ${parameter(name)}, which is ${value}`;
        assert.ok(planes[0]?.reason.includes(advice), planes[0]?.reason);
        assert.ok(copies >= 2, `${copies} copies`);

        const flips = qemu.all('flip').length;
        qemu.send(again);
        await qemu.eventAfter(1, 'buffers');
        qemu.send('f');
        const { values } = await qemu.eventAfter(flips, 'flip');
        const picture = pattern(SIZE.width, SIZE.height, Number(values.frame));
        await assertSeen(daemon, output, picture, 'with the limit raised');
        const [plane] = (await daemon.guest('vm')).planes;
        assert.deepEqual([plane?.state, plane?.reason], ['direct', '']);
      });
    });
  });
}

test('memory is plugged in while the guest flips: the picture stays, and flips go on', async () => {
  const daemon = await startDaemon(`output = "${output}"`);
  await daemon.during(async () => {
    const frames = 150;
    const options = vhost({ append: `frames=${frames} band=32` });
    const args = [...(options.args ?? []), '-m', 'slots=2,maxmem=512M'];
    const qemu = await Qemu.start({ ...options, args });
    await qemu.during(async () => {
      await qemu.event('flip', { frame: 10 });
      assert.ok(mappedMb(daemon) <= 128, `${mappedMb(daemon)} MB`);
      for (const [count, id] of ['dimm0', 'dimm1'].entries()) {
        await qemu.event('flip', { frame: 30 * (count + 1) });
        const memory = { id: `${id}-memory`, size: 64 << 20, share: true };
        await qemu.qmp('object-add', { 'qom-type': 'memory-backend-memfd', ...memory });
        await qemu.qmp('device_add', { driver: 'pc-dimm', id, memdev: memory.id });
      }
      await qemu.event('done', { frames });
      const last = bandFrames(SIZE.height, 32, 2, frames - 1);
      await assertSeen(daemon, output, pattern(SIZE.width, SIZE.height, last), 'the last frame');
      const { planes, lastError } = await daemon.guest('vm');
      assert.deepEqual([planes[0]?.state, planes[0]?.refused, lastError], ['direct', 0, '']);
      // The buffers of the former memory table are those of the new one.
      assert.equal((await daemon.status()).cards[0]?.framebuffers.imports, 2);
      const mapped = mappedMb(daemon);
      assert.ok(mapped > 128 + 2 * 64 - 1, `the daemon has ${mapped} MB of the machine's memory`);
    });
  });
});

/** How much of the machine's memory the daemon has mapped, in MB. */
function mappedMb(daemon: TestDaemon): number {
  const lines = readFileSync(`/proc/${daemon.child.pid}/maps`, 'utf8').split('\n');
  const sizes = lines
    .filter((line) => line.includes('/memfd:memory-backend'))
    .map((line) => {
      const [from = '0', to = '0'] = (line.split(' ')[0] ?? '').split('-');
      return Number.parseInt(to, 16) - Number.parseInt(from, 16);
    });
  return sizes.reduce((sum, size) => sum + size, 0) / (1 << 20);
}
