/** Runs in the test machine: `test/machine/run -- node --test dist/test/machine/kms-color.test.js`. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { waitFence } from '../../src/native/buffers.js';
import { ATOMIC_ALLOW_MODESET, AtomicRequest } from '../../src/native/kms.js';
import {
  add,
  dumb,
  light,
  openRig,
  output,
  paint,
  present,
  property,
  type Rig,
  refused,
} from './inside/kms-rig.js';

const NV12 = 0x3231564e;
let rig: Rig;
beforeEach(() => {
  rig = openRig({ outputs: 1, overlays: 1, writeback: true });
});
afterEach(() => rig.close());

test('a gamma table changes what is written back', () => {
  const { device } = rig;
  const out = output(rig);
  const [shown, written] = [dumb(device, out), dumb(device, out)];
  paint(shown.buffer.map(), 3);
  light(device, out, shown.framebuffer);
  const size = Number(property(device, out.crtc, 'GAMMA_LUT_SIZE').value);
  const inverse = new Uint16Array(size * 3).map(
    (_, i) => 65535 - Math.round((Math.floor(i / 3) * 65535) / (size - 1)),
  );
  const lut = device.createLutBlob(inverse);
  const blob = device.readBlob(lut);
  assert.equal(blob.byteLength, size * 8);
  const writeback = present(rig.writebacks[0]).id;
  const request = new AtomicRequest();
  add(device, request, out.crtc, { GAMMA_LUT: lut });
  add(device, request, writeback, { CRTC_ID: out.crtc, WRITEBACK_FB_ID: written.framebuffer });
  request.addOutFence(writeback, property(device, writeback, 'WRITEBACK_OUT_FENCE_PTR').id);
  const [done] = device.commit(request, ATOMIC_ALLOW_MODESET);
  assert.ok(waitFence(present(done).fence, 5000));
  const [before, after] = [shown.buffer.map(), written.buffer.map()];
  for (let i = 0; i < before.length; i += 4001)
    if (i % 4 !== 3) assert.ok(Math.abs(present(before[i]) + present(after[i]) - 255) <= 1, `byte ${i}`);
  device.destroyBlob(lut);
  const wrong = device.createBlob(new Uint8Array(7)); // no whole entry
  const bad = new AtomicRequest();
  add(device, bad, out.crtc, { GAMMA_LUT: wrong });
  refused(() => device.commit(bad), 'EINVAL', 'DRM_IOCTL_MODE_ATOMIC', /^objects/);
});

test('blobs hold what was put into them', () => {
  const { device } = rig;
  const words = (blob: number) => [...new BigUint64Array(device.readBlob(blob).slice().buffer)];
  assert.deepEqual(words(device.createCtmBlob([1, 0, 0, 0, -1, 0, 0, 0, 0.5])), [
    1n << 32n,
    0n,
    0n,
    0n,
    (1n << 63n) | (1n << 32n),
    0n,
    0n,
    0n,
    1n << 31n,
  ]);
  const damage = device.createDamageBlob([
    [0, 0, 8, 8],
    [-1, 2, 3, 4],
  ]);
  assert.deepEqual([...new Int32Array(device.readBlob(damage).slice().buffer)], [0, 0, 8, 8, -1, 2, 3, 4]);
  const mode = present(present(rig.connectors[0]).modes[0]);
  assert.deepEqual(device.readBlob(device.createModeBlob(mode)), mode.raw);
  const any = device.createBlob(Uint8Array.of(1, 2, 3));
  assert.deepEqual(device.readBlob(any), Uint8Array.of(1, 2, 3));
  device.destroyBlob(any);
  refused(() => device.destroyBlob(any), 'ENOENT', 'DRM_IOCTL_MODE_DESTROYPROPBLOB', /^blob \d+$/);
  assert.throws(() => device.createLutBlob(new Uint16Array(4)), /red, green and blue/);
  assert.throws(() => device.createCtmBlob([1]), /nine numbers/);
  assert.throws(() => device.createCtmBlob(new Array(9).fill(Number.NaN)), RangeError);
});

test('a framebuffer of two planes in one buffer', () => {
  const { device } = rig;
  assert.ok(rig.planes.some(({ formats }) => formats.some(({ format }) => format === NV12)));
  const buffer = device.createDumb(64, 96, 8);
  const planes = [
    { buffer, pitch: buffer.pitch },
    { buffer, pitch: buffer.pitch, offset: buffer.pitch * 64 },
  ];
  const framebuffer = device.addFramebuffer({ width: 64, height: 64, format: NV12, planes });
  const info = device.framebuffer(framebuffer);
  assert.deepEqual(
    info.planes.map(({ pitch, offset }) => [pitch, offset]),
    [
      [buffer.pitch, 0],
      [buffer.pitch, buffer.pitch * 64],
    ],
  );
  for (const { fd } of info.planes) present(fd).close();
  assert.equal(device.gemHandles, 1);
  const dmabuf = buffer.exportFd();
  const cache = device.framebufferCache();
  const layout = planes.map(({ pitch, offset = 0 }) => ({ fd: dmabuf, pitch, offset }));
  const cached = cache.acquire({ width: 64, height: 64, format: NV12, planes: layout });
  assert.equal(device.gemHandles, 1); // the dumb buffer's own, which the import has shared
  assert.deepEqual(new Uint8Array(buffer.map().subarray(0, 4)), new Uint8Array(4)); // and not closed
  cached.release();
  device.removeFramebuffer(framebuffer);
  dmabuf.close();
  buffer.destroy();
  assert.equal(device.gemHandles, 0);
});

test('a framebuffer is marked dirty where the driver wants to know', () => {
  const { device } = rig;
  const { framebuffer } = dumb(device, output(rig));
  const mark = () => device.dirtyFramebuffer(framebuffer, [[0, 0, 8, 8]]);
  try {
    mark();
  } catch {
    refused(mark, 'ENOSYS', 'DRM_IOCTL_MODE_DIRTYFB', /^fb \d+$/);
  }
  refused(() => device.dirtyFramebuffer(9999), 'ENOENT', 'DRM_IOCTL_MODE_DIRTYFB', /^fb 9999$/);
  const many = new Array(257).fill([0, 0, 1, 1]);
  refused(() => device.dirtyFramebuffer(framebuffer, many), 'EINVAL', 'DRM_IOCTL_MODE_DIRTYFB', /^fb/);
});
