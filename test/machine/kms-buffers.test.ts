/** Runs in the test machine: `test/machine/run -- node --test dist/test/machine/kms-buffers.test.js`. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { afterEach, beforeEach, test } from 'node:test';
import { Fd } from '../../src/native/base.js';
import {
  beginCpuAccess,
  createUdmabuf,
  dmabufInfo,
  endCpuAccess,
  exportSyncFile,
  importSyncFile,
  mapDmabuf,
  setDmabufName,
  udmabufOf,
  waitFence,
} from '../../src/native/buffers.js';
import { ATOMIC_ALLOW_MODESET, AtomicRequest, type KmsDevice } from '../../src/native/kms.js';
import {
  add,
  dumb,
  leakCheck,
  light,
  type Output,
  openRig,
  output,
  paint,
  present,
  property,
  type Rig,
  refused,
  XRGB8888,
} from './inside/kms-rig.js';

let rig: Rig;
let checkLeaks: () => void;
beforeEach(() => {
  rig = openRig({ outputs: 1, overlays: 1, writeback: true });
  checkLeaks = leakCheck(rig);
});
afterEach(() => {
  checkLeaks();
  rig.close();
});

/** What is on the screen, by writeback. */
function screen(device: KmsDevice, out: Output): Buffer {
  const written = dumb(device, out);
  const writeback = present(rig.writebacks[0]).id;
  const request = new AtomicRequest();
  add(device, request, writeback, { CRTC_ID: out.crtc, WRITEBACK_FB_ID: written.framebuffer });
  request.addOutFence(writeback, property(device, writeback, 'WRITEBACK_OUT_FENCE_PTR').id);
  const [done] = device.commit(request, ATOMIC_ALLOW_MODESET);
  assert.ok(waitFence(present(done).fence, 5000));
  present(done).fence.close();
  const pixels = Buffer.from(written.buffer.map());
  device.removeFramebuffer(written.framebuffer);
  written.buffer.destroy();
  return pixels;
}

test('a dumb buffer is mapped, shared and destroyed once', () => {
  const { device } = rig;
  const buffer = device.createDumb(64, 32);
  assert.deepEqual([buffer.width, buffer.height, buffer.pitch], [64, 32, 256]);
  const pixels = buffer.map();
  assert.equal(pixels.byteLength, buffer.size);
  assert.ok(pixels.every((byte) => byte === 0));
  assert.equal(buffer.map(), pixels);
  // It comes back as its own handle, which both of them hold.
  const shared = buffer.exportFd();
  const back = device.importDmabuf(shared);
  assert.equal(back.handle, buffer.handle);
  pixels[5] = 99;
  const mapping = mapDmabuf(shared);
  assert.equal(mapping.data[5], 99);
  const { data } = mapping;
  mapping.close();
  assert.equal(data.byteLength, 0);
  assert.throws(() => mapping.close(), /closed already/);
  buffer.destroy();
  assert.equal(pixels.byteLength, 0);
  assert.equal(device.gemHandles, 1);
  const framebuffer = device.addFramebuffer({
    width: 64,
    height: 32,
    format: XRGB8888,
    planes: [{ buffer: back, pitch: 256 }],
  });
  back.destroy();
  assert.equal(device.gemHandles, 0);
  device.removeFramebuffer(framebuffer);
  shared.close();
  assert.throws(() => buffer.destroy(), /destroyed already/);
  assert.throws(() => buffer.map(), /destroyed/);
  assert.throws(() => back.exportFd(), /destroyed/);
  refused(
    () => device.createDumb(100_000, 100_000),
    'EINVAL',
    'DRM_IOCTL_MODE_CREATE_DUMB',
    /^100000x100000 at 32 bits$/,
  );
});

test('two imports of one dma-buf share a handle', () => {
  const { device } = rig;
  const { memfd, dmabuf } = createUdmabuf(65536);
  const again = dmabuf.dup();
  const [first, second] = [device.importDmabuf(dmabuf), device.importDmabuf(again)];
  assert.equal(first.handle, second.handle);
  first.destroy();
  const third = second.exportFd(); // still open
  assert.equal(dmabufInfo(third).inode, dmabufInfo(dmabuf).inode);
  second.destroy();
  assert.equal(device.gemHandles, 0);
  const fresh = device.importDmabuf(dmabuf);
  fresh.destroy();
  for (const fd of [memfd, dmabuf, again, third]) fd.close();
  const zero = new Fd(openSync('/dev/zero', 'r'));
  refused(() => device.importDmabuf(zero), 'EINVAL', 'DRM_IOCTL_PRIME_FD_TO_HANDLE', /^dma-buf \d+$/);
  assert.throws(() => dmabufInfo(zero), { code: 'EINVAL', op: 'fstat' });
  zero.close();
});

test('a udmabuf is shown pixel by pixel', () => {
  const { device } = rig;
  const out = output(rig);
  const pitch = out.width * 4;
  const { memfd, dmabuf, size } = createUdmabuf(pitch * out.height, 'guest');
  setDmabufName(dmabuf, 'guest');
  assert.equal(dmabufInfo(dmabuf).size, size);
  const mapping = mapDmabuf(dmabuf);
  beginCpuAccess(dmabuf, 'write');
  const pixels = mapping.data.subarray(0, pitch * out.height);
  paint(pixels, 7);
  endCpuAccess(dmabuf, 'write');
  const buffer = device.importDmabuf(dmabuf);
  const framebuffer = device.addFramebuffer({
    width: out.width,
    height: out.height,
    format: XRGB8888,
    modifier: 0n,
    planes: [{ buffer, pitch, offset: 0 }],
  });
  buffer.destroy();
  light(device, out, framebuffer);
  const shown = screen(device, out);
  assert.ok(shown.subarray(0, pixels.byteLength).equals(Buffer.from(pixels)));
  const info = device.framebuffer(framebuffer);
  assert.deepEqual(
    [info.width, info.height, info.format, info.modifier],
    [out.width, out.height, XRGB8888, 0n],
  );
  const plane = present(info.planes[0]);
  assert.equal(dmabufInfo(present(plane.fd)).inode, dmabufInfo(dmabuf).inode);
  present(plane.fd).close();
  device.removeFramebuffer(framebuffer);
  mapping.close();
  memfd.close();
  dmabuf.close();
});

test('udmabufs of parts of memfds', () => {
  const { memfd, dmabuf } = createUdmabuf(4 * 4096);
  const whole = mapDmabuf(dmabuf);
  whole.data.fill(1, 0, 4096).fill(2, 4096, 8192).fill(3, 8192, 12288);
  const parts = udmabufOf([
    { memfd, offset: 8192, size: 4096 },
    { memfd, offset: 0, size: 4096 },
  ]);
  const mapping = mapDmabuf(parts);
  assert.deepEqual([mapping.data.byteLength, mapping.data[0], mapping.data[4096]], [8192, 3, 1]);
  refused(() => udmabufOf([{ memfd, offset: 1, size: 4096 }]), 'EINVAL', 'UDMABUF_CREATE_LIST', /^1 ranges$/);
  refused(() => udmabufOf([]), 'EINVAL', 'UDMABUF_CREATE_LIST', /^0 ranges$/);
  mapping.close();
  whole.close();
  for (const fd of [memfd, dmabuf, parts]) fd.close();
});

test('framebuffers that cannot be are refused by name', () => {
  const { device } = rig;
  const buffer = device.createDumb(64, 64);
  const ADDFB = 'DRM_IOCTL_MODE_ADDFB2';
  const make =
    (change: object, plane: object = {}) =>
    () =>
      device.addFramebuffer({
        width: 64,
        height: 64,
        format: XRGB8888,
        planes: [{ buffer, pitch: 256, ...plane }],
        ...change,
      });
  refused(make({}, { pitch: 4 }), 'EINVAL', ADDFB, /^fb 64x64 XR24 from gem \d+$/);
  refused(make({ height: 65 }), 'EINVAL', ADDFB, /^fb 64x65/);
  refused(make({}, { offset: 4096 }), 'EINVAL', ADDFB, /gem/);
  refused(make({ format: 0x20202020 }), 'EINVAL', ADDFB, /\?\?\?\?/);
  refused(make({ modifier: 0x0100000000000001n }), 'EINVAL', ADDFB, /modifier 0x100000000000001/);
  assert.throws(make({ planes: [] }), RangeError);
  const other = openRig({ outputs: 1 });
  const foreign = other.device.createDumb(64, 64);
  assert.throws(make({}, { buffer: foreign }), /of another KmsDevice/);
  other.close();
  assert.throws(() => foreign.map(), /KmsDevice is closed/);
  foreign.destroy();
  assert.throws(() => foreign.destroy(), /destroyed already/);
  refused(() => device.removeFramebuffer(9999), 'ENOENT', 'DRM_IOCTL_MODE_RMFB', /^fb 9999$/);
  refused(() => device.closeFramebuffer(9999), 'ENOENT', 'DRM_IOCTL_MODE_CLOSEFB', /^fb 9999$/);
  refused(() => device.framebuffer(9999), 'ENOENT', 'DRM_IOCTL_MODE_GETFB2', /^fb 9999$/);
  buffer.destroy();
  refused(() => device.readBlob(9999), 'ENOENT', 'DRM_IOCTL_MODE_GETPROPBLOB', /^blob 9999$/);
  refused(() => device.createBlob(new Uint8Array(0)), 'EINVAL', 'DRM_IOCTL_MODE_CREATEPROPBLOB', /^0 bytes$/);
});

test('a closed framebuffer stays on its plane, a removed one does not', () => {
  const { device } = rig;
  const out = output(rig);
  for (const [close, stays] of [
    [true, true],
    [false, false],
  ]) {
    const { buffer, framebuffer } = dumb(device, out);
    light(device, out, framebuffer);
    if (close) device.closeFramebuffer(framebuffer);
    else device.removeFramebuffer(framebuffer);
    buffer.destroy();
    assert.equal(property(device, out.plane.id, 'FB_ID').value === BigInt(framebuffer), stays);
  }
});

test('implicit fences go in and out of a dma-buf', () => {
  const { memfd, dmabuf } = createUdmabuf(4096);
  const fence = exportSyncFile(dmabuf, 'read');
  assert.ok(waitFence(fence, 0));
  importSyncFile(dmabuf, fence, 'write');
  refused(
    () => importSyncFile(dmabuf, memfd, 'write'),
    'EINVAL',
    'DMA_BUF_IOCTL_IMPORT_SYNC_FILE',
    /^dma-buf/,
  );
  refused(() => exportSyncFile(memfd, 'read'), 'ENOTTY', 'DMA_BUF_IOCTL_EXPORT_SYNC_FILE', /^dma-buf/);
  assert.throws(() => waitFence(memfd, 0), /not a sync_file/);
  for (const fd of [memfd, dmabuf, fence]) fd.close();
});

test('sync objects work, or the driver says that it has none', async () => {
  const { device } = rig;
  if (!device.capabilities().syncobjTimeline) {
    refused(() => device.createSyncobj(), 'EOPNOTSUPP', 'DRM_IOCTL_SYNCOBJ_CREATE', /card/);
    return;
  }
  const timeline = device.createSyncobj();
  timeline.signal(3n);
  assert.equal(timeline.query(), 3n);
  assert.equal(timeline.wait(3n, 0), true);
  assert.equal(timeline.wait(4n, 0), false);
  const waiting = timeline.waitAsync(4n, 5000);
  timeline.signal(4n);
  assert.equal(await waiting, true);
  timeline.destroy();
});
