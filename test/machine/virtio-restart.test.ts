/** The daemon ends and another one comes, under a real QEMU that knows nothing of it: the picture comes back by itself. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { TestDaemon } from './inside/daemon.js';
import { StoreServer } from './inside/fd-store.js';
import { pattern } from './inside/pattern.js';
import { Qemu } from './inside/qemu.js';
import { assertSeen } from './inside/seen.js';
import { proveFlips, SIZE, startDaemon, vhost } from './inside/virtio.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;
let output: string;
let store: StoreServer;

before(async () => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
  output = card.connectors[0] ?? '';
  store = await StoreServer.start();
});
after(async () => {
  await store.dispose();
  card.destroy();
});

function start(former?: TestDaemon): Promise<TestDaemon> {
  const directory = former === undefined ? {} : { directory: former.directory };
  return startDaemon(`output = "${output}"`, { ...directory, through: store.through });
}

/** The next daemon, and that it goes on with the machine of the former. */
async function restart(former: TestDaemon, signal: NodeJS.Signals): Promise<TestDaemon> {
  await former.stop(signal);
  const daemon = await start(former);
  assert.match(daemon.log, /went on with the virtual machine of the former daemon/);
  assert.doesNotMatch(daemon.log, /listening for a virtual machine.*failed|let go|queue is not served/);
  return daemon;
}

function picture(frame: number) {
  return pattern(SIZE.width, SIZE.height, frame);
}

test('killed and ended in order: the picture is back before the guest does anything, and it flips on', async () => {
  let daemon = await start();
  const qemu = await Qemu.start(vhost());
  try {
    await qemu.event('buffers');
    await proveFlips(daemon, qemu, output, 0, 1);
    let frame = 1;
    for (const signal of ['SIGKILL', 'SIGTERM', 'SIGKILL'] as const) {
      daemon = await restart(daemon, signal);
      await assertSeen(daemon, output, picture(frame), `after ${signal}`);
      const guest = await daemon.guest('vm');
      assert.equal(guest.planes[0]?.state, 'direct');
      assert.equal(guest.buffers, 2);
      await proveFlips(daemon, qemu, output, frame + 1, frame + 2);
      frame += 2;
    }
    // Its life goes on, too: a reset, and a reboot.
    qemu.send('R');
    await qemu.eventAfter(1, 'buffers');
    await proveFlips(daemon, qemu, output, frame + 1, frame + 2);
    qemu.send('r');
    await qemu.eventAfter(2, 'buffers');
    const flips = qemu.all('flip').length;
    qemu.send('f');
    await qemu.eventAfter(flips, 'flip');
    await assertSeen(daemon, output, picture(0), 'after the reboot');
    await daemon.until('two buffers', ({ guests }) => guests[0]?.buffers === 2);
    assert.equal((await daemon.guest('vm')).lastError, '');
  } finally {
    await qemu.dispose();
  }
  await daemon.until('nobody', ({ guests }) => guests.length === 0);
  // Nothing is kept of a machine that is gone.
  await daemon.stop('SIGKILL');
  daemon = await start(daemon);
  assert.doesNotMatch(daemon.log, /former daemon|kept for somebody/);
  await daemon.dispose();
});

test('killed at any point of a stream of flips', async () => {
  let daemon = await start();
  const qemu = await Qemu.start(vhost({ append: '' }));
  try {
    await qemu.event('flip');
    for (let round = 0; round < 4; round++) {
      daemon = await restart(daemon, 'SIGKILL');
      const flips = qemu.all('flip').length;
      await qemu.eventAfter(flips + 3 + round, 'flip');
      await daemon.until('flips', ({ guests }) => (guests[0]?.planes[0]?.flips ?? 0) > 2);
    }
    assert.equal((await daemon.guest('vm')).lastError, '');
  } finally {
    await qemu.dispose();
    await daemon.dispose();
  }
});

test('what is copied is copied again', async () => {
  const limit = '/sys/module/udmabuf/parameters/size_limit_mb';
  const former = readFileSync(limit, 'utf8');
  writeFileSync(limit, '1');
  let daemon = await start();
  const qemu = await Qemu.start(vhost());
  try {
    await qemu.event('buffers');
    await proveFlips(daemon, qemu, output, 0, 1);
    assert.equal((await daemon.guest('vm')).planes[0]?.state, 'copied');
    daemon = await restart(daemon, 'SIGKILL');
    await assertSeen(daemon, output, picture(1), 'after the restart');
    assert.match((await daemon.guest('vm')).planes[0]?.reason ?? '', /size_limit_mb/);
    await proveFlips(daemon, qemu, output, 2, 3);
  } finally {
    await qemu.dispose();
    await daemon.dispose();
    writeFileSync(limit, former);
  }
});

test('a machine that ends while there is no daemon is let go, and so is one whose guest is not configured any more', async () => {
  let daemon = await start();
  const first = await Qemu.start(vhost());
  await first.event('buffers');
  await daemon.stop('SIGKILL');
  await first.dispose();
  daemon = await start(daemon);
  assert.match(daemon.log, /virtual machine let go: it is gone/);
  const second = await Qemu.start(vhost());
  try {
    await second.event('buffers');
    await proveFlips(daemon, second, output, 0, 0);
    await daemon.stop('SIGKILL');
    daemon = await startDaemon(`output = "${output}"`, {
      directory: daemon.directory,
      through: store.through,
      socket: '/run/scanoutd-test-elsewhere.sock',
    });
    assert.match(daemon.log, /the device was at/);
    assert.equal((await daemon.status()).guests.length, 0);
  } finally {
    await second.dispose();
    await daemon.dispose();
  }
});
