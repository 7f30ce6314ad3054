/** Runs in the test machine: `test/machine/run -- node --test dist/test/machine/kms-cache.test.js`. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { afterEach, beforeEach, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Fd, isSystemError } from '../../src/native/base.js';
import { createUdmabuf } from '../../src/native/buffers.js';
import { framebuffers, leakCheck, openRig, present, type Rig, refused, XRGB8888 } from './inside/kms-rig.js';

let rig: Rig;
let checkLeaks: () => void;
beforeEach(() => {
  rig = openRig({ outputs: 1 });
  checkLeaks = leakCheck(rig);
});
afterEach(() => {
  checkLeaks();
  rig.close();
});

test('the cache imports each buffer once and leaves nothing behind', () => {
  const { device, vkms } = rig;
  const cache = device.framebufferCache();
  const keeping = device.framebufferCache({ idle: 1 });
  const none = framebuffers(vkms);
  const buffers = [createUdmabuf(64 * 256), createUdmabuf(64 * 256)];
  const [first, second] = buffers.map(({ dmabuf }) => dmabuf);
  const layout = (fd: Fd | undefined, height = 64) => ({
    width: 64,
    height,
    format: XRGB8888,
    planes: [{ fd: present(fd), pitch: 256 }],
  });
  const a = cache.acquire(layout(first));
  const again = present(first).dup(); // as when it is sent a second time
  const b = cache.acquire(layout(again));
  assert.equal(a.id, b.id);
  const c = cache.acquire(layout(second));
  const d = cache.acquire(layout(first, 32));
  assert.equal(new Set([a.id, c.id, d.id]).size, 3);
  assert.equal(device.gemHandles, 0); // closed as soon as the framebuffers hold the buffers
  assert.deepEqual(cache.statistics(), { imports: 3, hits: 1, live: 3, idle: 0 });
  a.release();
  assert.throws(() => a.release(), /released already/);
  assert.throws(() => a.id, /released/);
  assert.equal(framebuffers(vkms), none + 3);
  for (const use of [b, c, d]) use.release();
  assert.deepEqual(cache.statistics(), { imports: 3, hits: 1, live: 0, idle: 0 });
  assert.equal(framebuffers(vkms), none);

  keeping.acquire(layout(first)).release();
  keeping.acquire(layout(second)).release();
  assert.deepEqual(keeping.statistics(), { imports: 2, hits: 0, live: 1, idle: 1 });
  keeping.acquire(layout(second)).release();
  assert.equal(keeping.statistics().hits, 1);
  keeping.trim();
  assert.equal(framebuffers(vkms), none);

  // The stage that says no is named.
  const zero = new Fd(openSync('/dev/zero', 'r'));
  refused(() => cache.acquire(layout(zero)), 'EINVAL', 'dma-buf', /^fb 64x64 XR24$/);
  refused(() => cache.acquire(layout(first, 4096)), 'EINVAL', 'DRM_IOCTL_MODE_ADDFB2', /^fb 64x4096 XR24$/);
  assert.equal(device.gemHandles, 0);

  const last = cache.acquire(layout(first));
  cache.close();
  assert.throws(() => cache.statistics(), /closed/);
  assert.equal(framebuffers(vkms), none + 1); // still in use
  last.release();
  assert.equal(framebuffers(vkms), none);
  for (const { memfd, dmabuf } of buffers) {
    memfd.close();
    dmabuf.close();
  }
  again.close();
  zero.close();
});

test('closing a device ends what was made from it', () => {
  const { device } = rig;
  const buffer = device.createDumb(64, 64);
  const pixels = buffer.map();
  const cache = device.framebufferCache();
  const { memfd, dmabuf } = createUdmabuf(4096);
  const imported = device.importDmabuf(dmabuf);
  const used = cache.acquire({
    width: 16,
    height: 16,
    format: XRGB8888,
    planes: [{ fd: dmabuf, pitch: 64 }],
  });
  device.onEvent(() => {});
  device.close();
  assert.equal(pixels.byteLength, 0);
  for (const use of [() => buffer.map(), () => imported.handle, () => used.id, () => cache.statistics()])
    assert.throws(use, (error) => !isSystemError(error) && /KmsDevice is closed/.test(String(error)));
  for (const use of [() => device.close(), () => device.path, () => device.resources(), () => device.dupFd()])
    assert.throws(use, /KmsDevice is closed/);
  assert.equal(device.closed, true);
  used.release();
  imported.destroy();
  buffer.destroy();
  memfd.close();
  dmabuf.close();
});

test('what nobody holds is collected, an array in use keeps its memory', async () => {
  const { device } = rig;
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const make = () => {
    const buffer = device.createDumb(64, 64);
    const pixels = buffer.map().fill(7);
    device.framebufferCache({ idle: 4 });
    return pixels;
  };
  const arrays = Array.from({ length: 20 }, make);
  for (let round = 0; round < 50 && device.gemHandles > 0; round++) {
    collect();
    await setImmediate();
  }
  assert.equal(device.gemHandles, 0);
  assert.ok(arrays.every((pixels) => pixels.every((byte) => byte === 7)));
});
