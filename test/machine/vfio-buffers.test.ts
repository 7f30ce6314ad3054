/**
 * Which of a device's dma-bufs are kept. The device is a fake one of real dma-bufs: mbochs cannot export a buffer a second
 * time without harm to the kernel.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Guest } from '../../src/guests/guest.js';
import { VfioBuffers, VfioPlaneError } from '../../src/guests/vfio-buffers.js';
import type { CardDevice } from '../../src/kms/device.js';
import type { ShadowSet } from '../../src/kms/shadows.js';
import type { Fd } from '../../src/native/base.js';
import { createUdmabuf } from '../../src/native/buffers.js';
import type { VfioDevice, VfioGuest, VfioPlane } from '../../src/native/vfio.js';

const XRGB8888 = 0x34325258;

function shape(id: number, more: Partial<VfioPlane> = {}): VfioPlane {
  return { id, fourcc: XRGB8888, modifier: 0n, width: 64, height: 64, stride: 256, size: 16384, ...more };
}

function rig() {
  const state = {
    open: new Map<number, Fd>(),
    newest: -1,
    imported: 0,
    /** Slots whose retirement waits for their successor. */
    waiting: new Map<number, () => void>(),
    onScreen: new Set<number>(),
  };
  const device = {
    dmaBuf(id: number): Fd {
      assert.ok(state.open.get(id)?.closed !== false, `dma-buf ${id} is asked for while it is open`);
      const { memfd, dmabuf } = createUdmabuf(16384);
      memfd.close();
      state.open.set(id, dmabuf);
      return dmabuf;
    },
  } as unknown as VfioDevice;
  const native = {
    stats: () => ({ newestBuffer: state.newest }),
    addBuffer: async () => {},
    retireBuffer: (slot: number) =>
      state.onScreen.has(slot)
        ? new Promise<void>((resolve) => state.waiting.set(slot, resolve))
        : Promise.resolve(),
  } as unknown as VfioGuest;
  const card = {
    importBuffer: () => {
      state.imported++;
      return { id: 1, release: () => state.imported-- };
    },
  } as unknown as CardDevice;
  const shadows = { added: async () => {}, forget: async () => {} } as unknown as ShadowSet;
  const guest = {} as Guest;
  const buffers = new VfioBuffers(card, shadows, device, { warn: () => {} });
  return { state, buffers, add: (plane: VfioPlane) => buffers.add(guest, native, 0, plane) };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

test('eight are kept, the oldest goes', async () => {
  const { state, buffers, add } = rig();
  for (let id = 1; id <= 20; id++) await add(shape(id));
  await settled();
  assert.equal(buffers.size, 8);
  assert.equal(state.imported, 8);
  assert.deepEqual(
    [...state.open].filter(([, fd]) => !fd.closed).map(([id]) => id),
    [13, 14, 15, 16, 17, 18, 19, 20],
  );
  buffers.freeAll();
  assert.ok([...state.open.values()].every((fd) => fd.closed));
  assert.equal(state.imported, 0);
});

test('the newest stays, however old it is', async () => {
  const { state, buffers, add } = rig();
  await add(shape(1));
  state.newest = [...buffers.values()][0]?.id ?? -1;
  for (let id = 2; id <= 20; id++) await add(shape(id));
  await settled();
  assert.equal(state.open.get(1)?.closed, false);
  buffers.freeAll();
});

test('one that comes back while it goes is asked for when it is gone', async () => {
  const { state, buffers, add } = rig();
  await add(shape(1));
  const slot = [...buffers.values()][0]?.id ?? -1;
  state.onScreen.add(slot);
  for (let id = 2; id <= 9; id++) await add(shape(id));
  let added = false;
  const again = add(shape(1)).then(() => {
    added = true;
  });
  await settled();
  assert.equal(added, false);
  state.waiting.get(slot)?.();
  await again;
  assert.equal(state.open.get(1)?.closed, false);
  buffers.freeAll();
});

test('what cannot be is refused, and nothing is left open', async () => {
  const { state, buffers, add } = rig();
  await add(shape(1));
  const refused: VfioPlane[] = [
    shape(1, { width: 32 }),
    shape(2, { fourcc: 0x20202020 }),
    shape(3, { stride: 128 }),
    shape(4, { height: 4096 }),
    shape(5, { width: 1 << 20, stride: 1 << 22 }),
  ];
  for (const plane of refused) await assert.rejects(add(plane), VfioPlaneError, `id ${plane.id}`);
  assert.equal(buffers.size, 1);
  assert.deepEqual(
    [...state.open].filter(([, fd]) => !fd.closed).map(([id]) => id),
    [1],
  );
  buffers.freeAll();
});
