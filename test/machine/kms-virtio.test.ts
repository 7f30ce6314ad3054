/**
 * What VKMS does not have and virtio-gpu does. Runs in the test machine, with such a card:
 * `test/machine/run --qemu "-device virtio-gpu-pci" -- node --test dist/test/machine/kms-virtio.test.js`.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { isSystemError } from '../../src/native/base.js';
import { createUdmabuf, fenceInfo, waitFence } from '../../src/native/buffers.js';
import { KmsDevice } from '../../src/native/kms.js';
import { property, refused } from './inside/kms-rig.js';

/** Without one there is nothing to test. */
function findCard(): string | null {
  execFileSync('modprobe', ['virtio-gpu']);
  execFileSync('udevadm', ['settle']);
  if (!existsSync('/dev/dri')) return null;
  for (const name of readdirSync('/dev/dri').filter((entry) => entry.startsWith('card'))) {
    const device = KmsDevice.open(`/dev/dri/${name}`);
    const driver = device.driver.name;
    device.close();
    if (driver === 'virtio_gpu') return `/dev/dri/${name}`;
  }
  return null;
}

const card = findCard();
const skip = card === null ? 'no virtio-gpu card' : false;
let device: KmsDevice;
before(() => {
  if (card !== null) device = KmsDevice.open(card, { cursorHotspot: true });
});
after(() => {
  if (card !== null) device.close();
});

test('a cursor plane has a hotspot for who asks for it', { skip }, () => {
  assert.equal(device.clientCaps.cursorHotspot, true);
  const cursor = device.resources().planes.find((id) => device.plane(id).type === 'cursor') ?? assert.fail();
  assert.equal(property(device, cursor, 'HOTSPOT_X').type, 'signed-range');
});

test('a binary sync object', { skip }, async () => {
  assert.ok(device.capabilities().syncobj);
  const empty = device.createSyncobj();
  assert.ok(empty.handle > 0);
  refused(() => empty.exportSyncFile(), 'EINVAL', 'DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD', /^syncobj \d+$/);
  assert.equal(empty.wait(0n, 0), false);
  const full = device.createSyncobj({ signalled: true });
  assert.equal(full.wait(0n, 0), true);
  const fence = full.exportSyncFile();
  assert.ok(waitFence(fence, 0));
  assert.equal(fenceInfo(fence).status, 1);
  const waiting = empty.waitAsync(0n, 10_000);
  empty.importSyncFile(fence);
  assert.equal(await waiting, true);
  empty.reset();
  assert.equal(empty.wait(0n, 0), false);
  empty.signal();
  assert.equal(empty.wait(0n, -1), true);
  fence.close();
  empty.destroy();
  full.destroy();
  assert.throws(() => full.destroy(), /destroyed already/);
  assert.throws(() => full.handle, /destroyed/);
});

test('a timeline is shared and signalled point by point', { skip }, async () => {
  assert.ok(device.capabilities().syncobjTimeline);
  const timeline = device.createSyncobj();
  const shared = timeline.exportFd();
  const other = device.importSyncobj(shared);
  shared.close();
  timeline.signal(3n);
  assert.deepEqual([other.query(), other.query({ lastSubmitted: true })], [3n, 3n]);
  assert.deepEqual(
    [other.wait(3n, 0), other.wait(4n, 10), other.wait(4n, 0, { available: true })],
    [true, false, false],
  );
  const waiting = other.waitAsync(4n, 10_000);
  timeline.signal(4n);
  assert.equal(await waiting, true);
  const binary = device.createSyncobj({ signalled: true });
  timeline.transferFrom(binary, 0n, 9n);
  assert.equal(other.query(), 9n);
  const another = KmsDevice.open(card ?? assert.fail());
  const foreign = another.createSyncobj();
  assert.throws(() => timeline.transferFrom(foreign), /of another KmsDevice/);
  another.close();
  assert.throws(() => foreign.query(), /KmsDevice is closed/);
  for (const one of [timeline, other, binary]) one.destroy();
});

test('what is no sync object is refused', { skip }, () => {
  const { memfd, dmabuf } = createUdmabuf(4096);
  refused(() => device.importSyncobj(memfd), 'EINVAL', 'DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE', /card/);
  const one = device.createSyncobj();
  refused(() => one.importSyncFile(memfd), 'EINVAL', 'DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE', /^syncobj/);
  refused(() => one.notify(0n, memfd), 'EINVAL', 'DRM_IOCTL_SYNCOBJ_EVENTFD', /^syncobj/);
  one.destroy();
  memfd.close();
  dmabuf.close();
});

test('a display that cannot reach a buffer says at which stage', { skip }, () => {
  const { memfd, dmabuf } = createUdmabuf(64 * 256);
  const cache = device.framebufferCache();
  try {
    cache
      .acquire({ width: 64, height: 64, format: 0x34325258, planes: [{ fd: dmabuf, pitch: 256 }] })
      .release();
  } catch (error) {
    assert.ok(isSystemError(error, 'ENODEV'), String(error));
    assert.equal(error.op, 'DRM_IOCTL_PRIME_FD_TO_HANDLE');
  }
  assert.equal(device.gemHandles, 0);
  memfd.close();
  dmabuf.close();
});
