/** What the add-on's KMS part says to wrong arguments. Needs no device. */
import assert from 'node:assert/strict';
import { openSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { addon } from '../../src/native/addon.js';
import { Fd, isSystemError } from '../../src/native/base.js';
import {
  createUdmabuf,
  dmabufInfo,
  exportSyncFile,
  fenceInfo,
  mapDmabuf,
  mergeFences,
  setDmabufName,
  udmabufOf,
  waitFence,
  waitFenceAsync,
} from '../../src/native/buffers.js';
import { AtomicRequest, formatName, KmsDevice } from '../../src/native/kms.js';

/** Calls with arguments that the types forbid. */
// biome-ignore lint/suspicious/noExplicitAny: that is what is tested
const wrong = (value: unknown): any => value;

const openNull = () => new Fd(openSync('/dev/null', 'r+'));

test('what is no DRM device is not opened', () => {
  const before = readdirSync('/proc/self/fd').length;
  assert.throws(() => KmsDevice.open('/nonexistent/card0'), {
    code: 'ENOENT',
    errno: 2,
    op: 'open',
    subject: '/nonexistent/card0',
  });
  assert.throws(() => KmsDevice.open('/dev/null'), {
    code: 'ENOTTY',
    errno: 25,
    op: 'DRM_IOCTL_VERSION',
    subject: '/dev/null',
  });
  const fd = openNull();
  assert.throws(() => KmsDevice.adopt(fd), { code: 'ENOTTY', op: 'DRM_IOCTL_VERSION' });
  assert.equal(fd.closed, true); // it was taken over
  assert.equal(readdirSync('/proc/self/fd').length, before);
});

test('arguments of the wrong type leave everything as it was', () => {
  const fd = openNull();
  for (const path of [undefined, null, 5, {}]) assert.throws(() => KmsDevice.open(wrong(path)), TypeError);
  for (const value of [undefined, 3, {}, Object.create(Fd.prototype)]) {
    assert.throws(() => KmsDevice.adopt(wrong(value)));
    assert.throws(() => dmabufInfo(wrong(value)));
  }
  assert.throws(() => KmsDevice.adopt(fd, wrong('atomic')), TypeError);
  assert.equal(fd.closed, false);
  fd.close();
  assert.throws(() => KmsDevice.adopt(fd), /closed/);
});

test('only the add-on makes objects of devices', () => {
  const classes = [
    'KmsDevice',
    'DumbBuffer',
    'GemBuffer',
    'FramebufferCache',
    'CachedFramebuffer',
    'Syncobj',
    'DmabufMapping',
  ];
  for (const name of classes) {
    const Class = wrong(addon[name]);
    for (const args of [[], [{}], [1, 2]])
      assert.throws(() => new Class(...args), { name: 'TypeError', message: new RegExp(`^${name}: use `) });
    const forged = Object.create(Class.prototype);
    for (const key of Object.getOwnPropertyNames(Class.prototype))
      if (key !== 'constructor')
        assert.throws(() => (typeof forged[key] === 'function' ? forged[key]() : forged[key]));
  }
  // Another class's object is no request, whatever its prototype says.
  const forged = Object.setPrototypeOf(openNull(), AtomicRequest.prototype);
  assert.throws(() => forged.size, TypeError);
});

test('a request checks what is put into it', () => {
  const request = new AtomicRequest();
  assert.equal(
    request
      .add(31, 20, 1)
      .add(31, 21, -5)
      .add(31, 22, 2n ** 64n - 1n)
      .add(31, 23, true).size,
    4,
  );
  const mark = request.mark();
  request.add(32, 20, 1).add(33, 20, 1);
  assert.equal(request.rewind(mark).size, 4);
  assert.equal(request.clear().size, 0);
  for (const id of [0, -1, 1.5, 2 ** 32, Number.NaN]) {
    assert.throws(() => request.add(id, 20, 0), RangeError);
    assert.throws(() => request.add(31, id, 0), RangeError);
    assert.throws(() => request.addOutFence(31, id), RangeError);
  }
  for (const value of [
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 53,
    -(2 ** 53),
    2n ** 64n,
    -(2n ** 63n) - 1n,
  ])
    assert.throws(() => request.add(31, 20, value), RangeError, String(value));
  for (const value of [undefined, null, '1', {}])
    assert.throws(() => request.add(31, 20, wrong(value)), TypeError);
  assert.equal(request.size, 0);
  for (const objects of [0, -1, 65537]) assert.throws(() => new AtomicRequest({ objects }), RangeError);
  assert.throws(() => new AtomicRequest(wrong(5)), TypeError);
});

test('buffers and fences are told apart from other files', async () => {
  const fd = openNull();
  for (const [call, code, op] of [
    [() => dmabufInfo(fd), 'EINVAL', 'fstat'],
    [() => mapDmabuf(fd), 'EINVAL', 'fstat'],
    [() => waitFence(fd, 0), 'EINVAL', 'poll'],
    [() => fenceInfo(fd), 'ENOTTY', 'SYNC_IOC_FILE_INFO'],
    [() => mergeFences(fd, fd), 'ENOTTY', 'SYNC_IOC_MERGE'],
    [() => exportSyncFile(fd, 'read'), 'ENOTTY', 'DMA_BUF_IOCTL_EXPORT_SYNC_FILE'],
    [() => setDmabufName(fd, 'x'), 'ENOTTY', 'DMA_BUF_SET_NAME'],
  ] as const)
    assert.throws(call, (error) => isSystemError(error, code) && error.op === op && error.subject !== '', op);
  assert.throws(() => waitFenceAsync(fd, 0), { code: 'EINVAL' });
  assert.throws(() => exportSyncFile(fd, wrong('execute')), TypeError);
  assert.throws(() => waitFence(fd, 2 ** 40), RangeError);
  assert.throws(() => createUdmabuf(-1), RangeError);
  assert.throws(() => createUdmabuf(4096, wrong(5)), TypeError);
  assert.throws(() => udmabufOf(wrong('all')), TypeError);
  assert.throws(() => udmabufOf([wrong({ memfd: 3, offset: 0, size: 4096 })]), TypeError);
  fd.close();
  assert.throws(() => dmabufInfo(fd), /closed/);
});

test('formats have names', () => {
  assert.equal(formatName(0x34325258), 'XR24');
  assert.equal(formatName(0), '????');
  assert.throws(() => formatName(-1), RangeError);
});

test('a system error is known by its errno', () => {
  assert.equal(isSystemError(new Error('no')), false);
  assert.equal(isSystemError(Object.assign(new Error('of Node'), { code: 'ENOENT', errno: -2 })), false);
  assert.equal(isSystemError(null), false);
  const error = (() => {
    try {
      return KmsDevice.open('/nonexistent');
    } catch (thrown) {
      return thrown;
    }
  })();
  assert.equal(isSystemError(error, 'EBUSY'), false);
  assert.ok(isSystemError(error, 'ENOENT'));
  assert.match(error.message, /^open \(\/nonexistent\): ENOENT/);
});
