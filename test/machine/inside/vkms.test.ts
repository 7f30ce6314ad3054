/** Runs in the test machine: `test/machine/run -- node dist/test/machine/inside/vkms.test.js`. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { afterEach, test } from 'node:test';
import { createVkms, destroyAllVkms, type VkmsDevice, vkmsShape } from './vkms.js';

afterEach(destroyAllVkms);

/** How many objects of a kind the kernel made, by its atomic state in debugfs. */
function count(device: VkmsDevice, kind: 'plane' | 'crtc' | 'connector'): number {
  const state = readFileSync(`/sys/kernel/debug/dri/${device.name}/state`, 'utf8');
  return state.split('\n').filter((line) => line.startsWith(`${kind}[`)).length;
}

function status(device: VkmsDevice, connector: number): string {
  const path = `/sys/class/drm/card${device.index}-${device.connectors[connector]}/status`;
  return readFileSync(path, 'utf8').trim();
}

test('two outputs with an overlay, a cursor and writeback each', () => {
  const device = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
  assert.ok(existsSync(device.card));
  assert.equal(device.connectors.length, 2);
  assert.deepEqual([count(device, 'crtc'), count(device, 'plane'), count(device, 'connector')], [2, 6, 4]);
});

test('four CRTCs whose connectors can use any of them', () => {
  const device = createVkms(vkmsShape({ name: 'wall', outputs: 4, sharedOverlays: 2, anyCrtc: true }));
  assert.equal(device.name, 'wall');
  assert.deepEqual([count(device, 'crtc'), count(device, 'plane'), count(device, 'connector')], [4, 6, 4]);
});

test('connectors are plugged and unplugged, in the order of the shape', () => {
  const first = createVkms(vkmsShape({ outputs: 3, status: ['connected', 'disconnected', 'connected'] }));
  const second = createVkms(vkmsShape({ outputs: 2, status: 'disconnected' }));
  assert.notEqual(first.index, second.index);
  assert.deepEqual(
    [0, 1, 2].map((i) => status(first, i)),
    ['connected', 'disconnected', 'connected'],
  );
  first.setConnector(2, 'disconnected');
  second.setConnector(1, 'connected');
  assert.deepEqual(
    [0, 1, 2].map((i) => status(first, i)),
    ['connected', 'disconnected', 'disconnected'],
  );
  assert.deepEqual(
    [0, 1].map((i) => status(second, i)),
    ['disconnected', 'connected'],
  );
});

test('an encoder of two CRTCs, named CRTCs', () => {
  const device = createVkms({
    crtcs: [{ name: 'left' }, { name: 'right', writeback: true }],
    planes: [
      { type: 'primary', crtcs: [0] },
      { type: 'primary', crtcs: [1] },
      { type: 'overlay', crtcs: [0, 1] },
    ],
    encoders: [{ crtcs: [0, 1] }],
    connectors: [{ encoders: [0] }],
  });
  assert.deepEqual([count(device, 'crtc'), count(device, 'plane'), count(device, 'connector')], [2, 3, 2]);
});

test('a shape that the kernel refuses leaves nothing behind', () => {
  const shape = {
    crtcs: [{}],
    planes: [{ type: 'overlay' as const, crtcs: [0] }],
    connectors: [{ crtcs: [0] }],
  };
  assert.throws(() => createVkms(shape), /refused the shape/);
  assert.throws(() => createVkms({ ...shape, planes: [{ type: 'primary', crtcs: [7] }] }), RangeError);
  assert.deepEqual(readdirSync('/sys/kernel/config/vkms'), []);
});

test('a card is taken away while it is open', () => {
  const device = createVkms(vkmsShape({ outputs: 1 }));
  const fd = openSync(device.card, 'r+');
  device.destroy();
  assert.ok(!existsSync(device.card));
  device.destroy();
  closeSync(fd);
});
