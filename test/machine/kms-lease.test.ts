/** Runs in the test machine: `test/machine/run -- node --test dist/test/machine/kms-lease.test.js`. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { KmsDevice } from '../../src/native/kms.js';
import { dumb, light, type Output, openRig, output, property, type Rig, refused } from './inside/kms-rig.js';

const CREATE = 'DRM_IOCTL_MODE_CREATE_LEASE';
let rig: Rig;
let out: Output;
let objects: number[];
beforeEach(() => {
  rig = openRig({ outputs: 2, overlays: 1 });
  out = output(rig, 1);
  objects = [out.crtc, out.connector.id, out.plane.id];
});
afterEach(() => rig.close());

test('a lease sees and lights what was leased, and nothing else', () => {
  const { device } = rig;
  const { lessee, fd } = device.createLease(objects);
  assert.deepEqual(device.lessees(), [lessee]);
  const lease = KmsDevice.adopt(fd);
  assert.equal(fd.closed, true);
  assert.deepEqual(lease.lease().sort(), [...objects].sort());
  assert.ok(lease.isMaster());
  const seen = lease.resources();
  assert.deepEqual([seen.crtcs, seen.planes], [[out.crtc], [out.plane.id]]);
  assert.deepEqual(seen.connectors, [out.connector.id]);
  assert.equal(lease.plane(out.plane.id).possibleCrtcs, 1); // counted anew
  const modeBlob = lease.createModeBlob(lease.connector(out.connector.id).modes[0] ?? assert.fail());
  const mode = lease.connector(out.connector.id).modes[0] ?? assert.fail();
  const leased = { ...out, modeBlob, width: mode.hdisplay, height: mode.vdisplay };
  const { framebuffer } = dumb(lease, leased);
  light(lease, leased, framebuffer);
  assert.equal(property(device, out.plane.id, 'FB_ID').value, BigInt(framebuffer));
  const other = output(rig, 0);
  refused(() => lease.crtc(other.crtc), 'ENOENT', 'DRM_IOCTL_MODE_GETCRTC', /^crtc/);
  refused(() => lease.dropMaster(), 'EINVAL', 'DRM_IOCTL_DROP_MASTER', /card/);
  refused(() => lease.createLease(objects), 'EINVAL', CREATE, /^objects/);
  lease.close();
  assert.deepEqual(device.lessees(), []);
});

test('leases that cannot be are refused', () => {
  const { device } = rig;
  refused(() => device.createLease([9999]), 'ENOENT', CREATE, /^objects 9999$/);
  refused(() => device.createLease([out.crtc]), 'EINVAL', CREATE, /^objects \d+$/);
  refused(
    () => device.createLease([...objects, out.connector.encoders[0] ?? 0]),
    'EINVAL',
    CREATE,
    /^objects/,
  );
  refused(() => device.createLease([...objects, out.plane.id]), 'ENOSPC', CREATE, /^objects/); // twice
  const { fd } = device.createLease(objects);
  refused(() => device.createLease(objects), 'EBUSY', CREATE, /^objects/);
  fd.close();
  device.createLease(objects).fd.close();
  const empty = device.createLease([]);
  empty.fd.close();
});

test('a revoked lease has nothing left', () => {
  const { device } = rig;
  const { lessee, fd } = device.createLease(objects);
  const lease = KmsDevice.adopt(fd);
  device.revokeLease(lessee);
  assert.deepEqual([device.lessees(), lease.lease()], [[], []]);
  refused(() => lease.crtc(out.crtc), 'ENOENT', 'DRM_IOCTL_MODE_GETCRTC', /^crtc/);
  lease.createDumb(64, 64).destroy(); // buffers work on
  device.createLease(objects).fd.close();
  lease.close();
  refused(() => device.revokeLease(lessee), 'ENOENT', 'DRM_IOCTL_MODE_REVOKE_LEASE', /^lessee \d+$/);
});

test('a lease sleeps while its lessor is not master', () => {
  const { device } = rig;
  const lease = KmsDevice.adopt(device.createLease(objects).fd);
  device.dropMaster();
  assert.equal(lease.isMaster(), false);
  refused(() => lease.setMaster(), 'EINVAL', 'DRM_IOCTL_SET_MASTER', /card/);
  const modeBlob = lease.createModeBlob(lease.connector(out.connector.id).modes[0] ?? assert.fail());
  refused(() => light(lease, { ...out, modeBlob }, 0), 'EACCES', 'DRM_IOCTL_MODE_ATOMIC', /^objects/);
  refused(() => device.createLease(objects), 'EACCES', CREATE, /^objects/);
  device.setMaster();
  assert.equal(lease.isMaster(), true);
  lease.close();
});

test('a second master leases what the first has leased, while it is master', () => {
  const { device } = rig;
  const lease = KmsDevice.adopt(device.createLease(objects).fd);
  const second = KmsDevice.open(device.path);
  refused(() => second.createLease(objects), 'EACCES', CREATE, /^objects/);
  device.dropMaster();
  second.setMaster();
  const other = KmsDevice.adopt(second.createLease(objects).fd);
  assert.deepEqual([lease.isMaster(), other.isMaster()], [false, true]);
  second.close(); // which drops master
  assert.equal(other.isMaster(), false);
  device.setMaster();
  assert.deepEqual([lease.isMaster(), other.isMaster()], [true, false]);
  other.close();
  lease.close();
});
