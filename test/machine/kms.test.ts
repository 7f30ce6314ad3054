/** Runs in the test machine: `test/machine/run -- node --test dist/test/machine/kms.test.js`. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { fenceInfo, mergeFences, waitFence, waitFenceAsync } from '../../src/native/buffers.js';
import {
  ATOMIC_ALLOW_MODESET,
  ATOMIC_NONBLOCK,
  AtomicRequest,
  formatName,
  KmsDevice,
  type KmsEvent,
  PAGE_FLIP_EVENT,
} from '../../src/native/kms.js';
import {
  add,
  dumb,
  light,
  lightRequest,
  nextEvent,
  openRig,
  output,
  paint,
  present,
  property,
  type Rig,
  refused,
  XRGB8888,
} from './inside/kms-rig.js';

const ATOMIC = 'DRM_IOCTL_MODE_ATOMIC';
let rig: Rig;
beforeEach(() => {
  rig = openRig({ outputs: 2, overlays: 1, cursor: true, writeback: true });
});
afterEach(() => rig.close());

test('a device says what it is', () => {
  const { device, vkms } = rig;
  assert.equal(device.path, vkms.card);
  assert.equal(device.driver.name, 'vkms');
  assert.equal(device.number.major, 226);
  assert.equal(device.number.minor, vkms.index);
  const { atomic, universalPlanes, writebackConnectors, stereo } = device.clientCaps;
  assert.deepEqual([atomic, universalPlanes, writebackConnectors, stereo], [true, true, true, false]);
  const capabilities = device.capabilities();
  assert.ok(capabilities.dumbBuffers && capabilities.primeImport && capabilities.modifiers);
  assert.ok(capabilities.monotonicTimestamps && capabilities.crtcInEvents);
  assert.equal(device.capability(1), 1n);
  assert.equal(device.capability(0xffff), null);
  assert.equal(device.setClientCap(0xffff, 1), false);
});

test('one is master, another waits for it', () => {
  const { device, vkms } = rig;
  const second = KmsDevice.open(vkms.card);
  assert.deepEqual([device.isMaster(), second.isMaster()], [true, false]);
  refused(() => second.setMaster(), 'EBUSY', 'DRM_IOCTL_SET_MASTER', /card/);
  device.dropMaster();
  second.setMaster();
  assert.deepEqual([device.isMaster(), second.isMaster()], [false, true]);
  refused(() => light(device, output(rig), 0), 'EACCES', ATOMIC, /ALLOW_MODESET/);
  second.close();
  device.setMaster();
});

test('objects are as configured', async () => {
  const { device, vkms, connectors, writebacks, planes } = rig;
  assert.deepEqual(
    connectors.map(({ name }) => name),
    vkms.connectors,
  );
  assert.equal(writebacks.length, 2);
  assert.ok(writebacks.every(({ name }) => name.startsWith('Writeback-')));
  assert.deepEqual(planes.map(({ type }) => type).sort(), [
    'cursor',
    'cursor',
    'overlay',
    'overlay',
    'primary',
    'primary',
  ]);
  connectors.forEach((connector, index) => {
    const encoder = device.encoder(present(connector.encoders[0]));
    assert.equal(encoder.possibleCrtcs, 1 << index);
    assert.equal(connector.status, 'connected');
    assert.ok(connector.modes.length > 0);
    assert.ok(connector.modes.every(({ refreshMhz, raw }) => refreshMhz > 20_000 && raw.byteLength === 68));
  });
  const formats = present(planes[0]).formats.find(({ format }) => format === XRGB8888);
  assert.ok(present(planes[0]).hasModifiers);
  assert.deepEqual(formats?.modifiers, [0n]);
  assert.ok(device.writebackFormats(present(writebacks[0]).id).includes(XRGB8888));
  assert.deepEqual(device.writebackFormats(present(connectors[0]).id), []);
  vkms.setConnector(1, 'disconnected');
  assert.equal((await device.probeConnector(present(connectors[1]).id)).status, 'disconnected');
  refused(() => device.connector(9999), 'ENOENT', 'DRM_IOCTL_MODE_GETCONNECTOR', /^connector 9999$/);
  await assert.rejects(device.probeConnector(9999), { code: 'ENOENT', subject: 'connector 9999' });
  refused(() => device.plane(9999), 'ENOENT', 'DRM_IOCTL_MODE_GETPLANE', /^plane 9999$/);
});

test('properties of every type are read', () => {
  const { device, crtcs, connectors, planes } = rig;
  const objects = [...crtcs, ...connectors.map(({ id }) => id), ...planes.map(({ id }) => id)];
  const all = objects.flatMap((object) => device.properties(object));
  for (const one of all) {
    if (one.type === 'range' || one.type === 'signed-range')
      assert.ok(one.value >= one.min && one.value <= one.max, one.name);
    if (one.type === 'enum')
      assert.ok(
        one.choices.some(({ value }) => value === one.value),
        one.name,
      );
    const { value, ...info } = one;
    assert.deepEqual(device.property(one.id), info);
    assert.equal(typeof value, 'bigint');
  }
  const typeOf = (name: string) => all.find((one) => one.name === name)?.type;
  const kinds = ['type', 'CRTC_ID', 'MODE_ID', 'CRTC_X', 'SRC_W', 'rotation'].map(typeOf);
  assert.deepEqual(kinds.slice(0, 5), ['enum', 'object', 'blob', 'signed-range', 'range']);
  const x = property(device, present(planes[0]).id, 'CRTC_X');
  assert.ok(x.type === 'signed-range' && x.min === -2147483648n && x.max === 2147483647n);
  const crtc = property(device, present(planes[0]).id, 'CRTC_ID');
  assert.ok(crtc.type === 'object' && crtc.objectType === 0xcccccccc && crtc.atomic && !crtc.immutable);
  refused(() => device.properties(9999), 'ENOENT', 'DRM_IOCTL_MODE_OBJ_GETPROPERTIES', /^object 9999$/);
});

test('flips are told one vblank after another', async () => {
  const { device } = rig;
  const out = output(rig);
  const buffers = [dumb(device, out), dumb(device, out)];
  light(device, out, present(buffers[0]).framebuffer);
  assert.equal(device.crtc(out.crtc).mode?.hdisplay, out.width);
  const fb = property(device, out.plane.id, 'FB_ID').id;
  const events: KmsEvent[] = [];
  for (let i = 1; i <= 10; i++) {
    const request = new AtomicRequest().add(out.plane.id, fb, present(buffers[i % 2]).framebuffer);
    const told = nextEvent(device);
    device.commit(request, ATOMIC_NONBLOCK | PAGE_FLIP_EVENT, 2n ** 63n + BigInt(i));
    if (i === 1) refused(() => device.commit(request, ATOMIC_NONBLOCK), 'EBUSY', ATOMIC, /NONBLOCK/);
    events.push(await told);
  }
  events.forEach((event, i) => {
    assert.deepEqual([event.type, event.crtc, event.userData], ['flip', out.crtc, 2n ** 63n + BigInt(i + 1)]);
    const before = events[i - 1];
    if (before !== undefined) assert.ok(event.timeNs > before.timeNs && event.sequence > before.sequence);
  });
  const now = device.getSequence(out.crtc);
  assert.ok(now.active && now.sequence >= present(events.at(-1)).sequence);
  const told = nextEvent(device);
  const queued = device.queueSequence(out.crtc, 2, { relative: true, userData: 7 });
  const event = await told;
  assert.deepEqual([event.type, event.sequence, event.userData], ['sequence', queued, 7n]);
  const off = present(rig.crtcs[1]); // the kernel's console has lit it
  const request = new AtomicRequest();
  const { connectors, planes } = rig;
  add(device, request, off, { MODE_ID: 0, ACTIVE: 0 });
  add(device, request, present(connectors[1]).id, { CRTC_ID: 0 });
  for (const { id, crtc } of planes) if (crtc === off) add(device, request, id, { CRTC_ID: 0, FB_ID: 0 });
  device.commit(request, ATOMIC_ALLOW_MODESET);
  assert.equal(device.crtc(off).mode, null);
  refused(() => device.getSequence(off), 'EINVAL', 'DRM_IOCTL_CRTC_GET_SEQUENCE', /^crtc \d+$/);
  refused(
    () => device.queueSequence(off, 1, { relative: true }),
    'EINVAL',
    'DRM_IOCTL_CRTC_QUEUE_SEQUENCE',
    /^crtc \d+$/,
  );
});

test('a callback that throws loses no event', async () => {
  const { device } = rig;
  const outs = [output(rig, 0), output(rig, 1)];
  for (const out of outs) light(device, out, dumb(device, out).framebuffer);
  const seen: bigint[] = [];
  const runners = process.rawListeners('uncaughtException') as NodeJS.UncaughtExceptionListener[];
  process.removeAllListeners('uncaughtException'); // the runner would take it for a failure of the file
  const failed = new Promise<Error>((resolve) => process.once('uncaughtException', resolve));
  const all = new Promise<void>((resolve) => {
    device.onEvent(({ userData }) => {
      seen.push(userData);
      if (seen.length === outs.length) resolve();
      if (seen.length === 1) throw new Error('of the callback');
    });
  });
  for (const [i, out] of outs.entries()) device.queueSequence(out.crtc, 1, { relative: true, userData: i });
  assert.equal((await failed).message, 'of the callback');
  await all;
  for (const runner of runners) process.on('uncaughtException', runner);
  device.onEvent(null);
  assert.deepEqual(seen.sort(), [0n, 1n]);
});

test('TEST_ONLY touches nothing', () => {
  const { device } = rig;
  const out = output(rig);
  const [shown, other] = [dumb(device, out), dumb(device, out)];
  light(device, out, shown.framebuffer);
  const state = () => [out.crtc, out.connector.id, out.plane.id].map((object) => device.properties(object));
  const before = state();
  assert.equal(device.test(lightRequest(device, out, other.framebuffer), ATOMIC_ALLOW_MODESET), 0);
  assert.deepEqual(state(), before);
  const wrong = new AtomicRequest();
  add(device, wrong, out.plane.id, { SRC_W: (out.width + 1) * 65536 });
  assert.equal(device.test(wrong), 28); // ENOSPC: the source is larger than the buffer
  assert.deepEqual(state(), before);
});

test('commits that cannot be say which objects they were about', () => {
  const { device } = rig;
  const out = output(rig);
  const { framebuffer } = dumb(device, out);
  const fb = property(device, out.plane.id, 'FB_ID').id;
  const commit =
    (object: number, id: number, value: number, flags = 0) =>
    () =>
      device.commit(new AtomicRequest().add(object, id, value), flags);
  refused(commit(9999, fb, 0), 'ENOENT', ATOMIC, /^objects 9999$/);
  refused(commit(out.plane.id, 9999, 0), 'ENOENT', ATOMIC, /^objects \d+$/);
  refused(commit(out.plane.id, fb, 9999), 'EINVAL', ATOMIC, /^objects \d+$/);
  refused(
    () => device.commit(lightRequest(device, out, framebuffer)),
    'EINVAL',
    ATOMIC,
    /objects \d+ \d+ \d+$/,
  );
  // An event of a CRTC that is and stays off.
  const off = new AtomicRequest();
  add(device, off, out.crtc, { ACTIVE: 0 });
  refused(() => device.commit(off, PAGE_FLIP_EVENT), 'EINVAL', ATOMIC, /PAGE_FLIP_EVENT$/);
  const full = new AtomicRequest({ objects: 1, properties: 1 }).add(1, 1, 1).add(1, 2, 1);
  refused(() => device.commit(full), 'E2BIG', ATOMIC, /objects 1/);
});

test('a writeback has the very pixels', async () => {
  const { device } = rig;
  const out = output(rig);
  const [shown, written] = [dumb(device, out), dumb(device, out)];
  const pixels = shown.buffer.map();
  paint(pixels, 1);
  light(device, out, shown.framebuffer);
  const writeback = present(rig.writebacks[0]).id;
  const request = new AtomicRequest();
  add(device, request, writeback, { CRTC_ID: out.crtc, WRITEBACK_FB_ID: written.framebuffer });
  request.addOutFence(writeback, property(device, writeback, 'WRITEBACK_OUT_FENCE_PTR').id);
  request.addOutFence(out.crtc, property(device, out.crtc, 'OUT_FENCE_PTR').id);
  const fences = await device.commitAsync(request, ATOMIC_ALLOW_MODESET | ATOMIC_NONBLOCK);
  assert.deepEqual(fences.map(({ object }) => object).sort(), [writeback, out.crtc].sort());
  const [a, b] = fences.map(({ fence }) => fence);
  const both = mergeFences(present(a), present(b), 'both');
  assert.equal(await waitFenceAsync(both, 5000), true);
  assert.equal(waitFence(both, 0), true);
  const info = fenceInfo(both);
  assert.deepEqual([info.name, info.status], ['both', 1]);
  assert.ok(info.fences.every(({ status, timeNs }) => status === 1 && timeNs > 0n));
  for (const fence of [both, a, b]) present(fence).close();
  assert.ok(Buffer.from(written.buffer.map()).equals(Buffer.from(pixels)), `${formatName(XRGB8888)} differs`);
});

test('a request cannot be touched while it is committed elsewhere', async () => {
  const { device } = rig;
  const out = output(rig);
  const request = lightRequest(device, out, dumb(device, out).framebuffer);
  const done = device.commitAsync(request, ATOMIC_ALLOW_MODESET);
  assert.throws(() => request.clear(), /being committed/);
  assert.throws(() => device.commit(request), /being committed/);
  await done;
  assert.equal(request.clear().size, 0);
  await assert.rejects(device.commitAsync(new AtomicRequest().add(9999, 1, 0)), {
    code: 'ENOENT',
    op: ATOMIC,
  });
});

test('a card that is taken away ends its calls', () => {
  const { device, vkms } = rig;
  const out = output(rig);
  const { framebuffer } = dumb(device, out);
  light(device, out, framebuffer);
  device.onEvent(() => {});
  vkms.destroy();
  assert.throws(() => light(device, out, framebuffer), { op: ATOMIC });
  device.close();
});
