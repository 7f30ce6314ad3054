/**
 * Buffers that another device draws into (vgem), with the fences that it puts on them: who is late holds up itself alone. The
 * kernel would wait for them within the commit, with everybody else's frame in it.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { exportSyncFile, fenceInfo, waitFenceAsync } from '../../src/native/buffers.js';
import type { Policy } from '../../src/native/flip.js';
import type { RigGuest } from './inside/flip-guests.js';
import { type FlipRig, rigs, words } from './inside/flip-rig.js';
import { present } from './inside/kms-rig.js';
import { type ForeignBuffer, Vgem } from './inside/vgem.js';

const open = rigs();
const RED = 0xffcc2211;
const BLUE = 0xff1122cc;
let vgem: Vgem;
before(async () => {
  vgem = await Vgem.start();
});
after(() => vgem.close());

interface Scene {
  on: FlipRig;
  late: RigGuest;
  buffers: ForeignBuffer[];
  others: RigGuest[];
}

/** A guest on the primary plane with two buffers of vgem, the first of them on the screen; others on overlays. */
async function scene(policy: Policy, others = 1): Promise<Scene> {
  const on = await open({ outputs: 1, overlays: others, writeback: true, policy });
  const out = on.out(0);
  const late = await on.guest('late', { crtc: out.crtc, planes: [out.plane.id] });
  const buffers: ForeignBuffer[] = [];
  for (const id of [0, 1]) {
    const buffer = await vgem.make(id, out.width, out.height);
    words(buffer.memory).fill(id === 0 ? RED : BLUE);
    await late.addForeign(buffer);
    buffers.push(buffer);
  }
  const rest: RigGuest[] = [];
  for (let i = 0; i < others; i++) {
    const plane = present(out.overlays[i]);
    const guest = await on.guest(`other${i}`, { crtc: out.crtc, planes: [plane] }, ['overlay']);
    for (const id of [0, 1]) words((await guest.addBuffer(id, 64, 64)).memory).fill(RED);
    await guest.show(0, { buffer: 0 });
    rest.push(guest);
  }
  await late.show(0, { buffer: 0 });
  return { on, late, buffers, others: rest };
}

/** Each of the others shows so many frames, one after the other. */
async function goOn(others: readonly RigGuest[], frames: number): Promise<void> {
  const run = async (guest: RigGuest) => {
    for (let i = 0; i < frames; i++) await guest.show(0, { buffer: await guest.client.acquire([0, 1]) });
  };
  await Promise.all(others.map(run));
}

async function pixel(on: FlipRig): Promise<number> {
  const { pixels } = await on.capture(0);
  return present(pixels[pixels.length - 1]) | 0xff000000;
}

const colour = (value: number) => value | 0;

for (const [policy, count] of [
  ['eager', 1],
  ['deadline', 3],
] as const) {
  test(`a frame that is still drawn holds up none of the ${count} others (${policy})`, async () => {
    const { on, late, buffers, others } = await scene(policy, count);
    const fence = await vgem.fence(present(buffers[1]));
    const { sequence } = late.client.submit(0, { buffer: 1 });
    await goOn(others, 12);
    assert.ok(late.client.feedback(0).taken >= sequence, 'it was taken');
    assert.ok(late.client.feedback(0).presented < sequence, 'and is not shown');
    assert.equal(await pixel(on), colour(RED), 'the former picture is on the screen');
    const mark = exportSyncFile(present(buffers[1]).dmabuf, 'read');
    assert.equal(fenceInfo(mark).status, 0, 'all that while the device drew');
    await vgem.signal(fence);
    await late.client.presented(0, sequence);
    assert.equal(await pixel(on), colour(BLUE));
    assert.ok(await waitFenceAsync(mark, 0));
    const signalled = Number(present(fenceInfo(mark).fences[0]).timeNs);
    mark.close();
    const flip = on
      .flips()
      .find((one) => one.sequence === Number(sequence) && one.commitEnterNs >= signalled);
    assert.ok(flip, 'it was committed after its fence');
    assert.equal(on.count('stalled'), 0);
  });
}

test('a newer frame, which nobody draws into any more, is shown in its place', async () => {
  const { on, late, buffers } = await scene('eager', 0);
  await late.addForeign(await vgem.make(2, on.out(0).width, on.out(0).height));
  const fence = await vgem.fence(present(buffers[1]));
  late.client.submit(0, { buffer: 1 });
  const { sequence } = late.client.submit(0, { buffer: 2 });
  await late.client.presented(0, sequence);
  const mark = exportSyncFile(present(buffers[1]).dmabuf, 'read');
  assert.equal(fenceInfo(mark).status, 0, 'the older one is still drawn');
  mark.close();
  assert.ok(late.client.bufferFree(1), 'and has come back');
  await vgem.signal(fence);
});

test('a fence that its device gives up is over', async () => {
  const { on, late, buffers, others } = await scene('eager');
  await vgem.fence(present(buffers[1]));
  const { sequence } = late.client.submit(0, { buffer: 1 });
  // vgem gives up after ten seconds. A frame that is drawn in part is better than none.
  while (late.client.feedback(0).presented < sequence) await goOn(others, 4);
  assert.equal(await pixel(on), colour(BLUE));
  assert.equal(on.count('stalled'), 0);
});

test('a guest that dies while its buffer is drawn is let go at once', async () => {
  const { on, late, buffers, others } = await scene('eager');
  const fence = await vgem.fence(present(buffers[1]));
  late.client.submit(0, { buffer: 1 });
  late.close();
  await on.until('it is gone', () => !on.producers.has('late'));
  const mark = exportSyncFile(present(buffers[1]).dmabuf, 'read');
  assert.equal(fenceInfo(mark).status, 0, 'while the device draws on');
  mark.close();
  await goOn(others, 4);
  await vgem.signal(fence);
});

test('both are waited for: the fence that a guest sends, and those of its buffer', async () => {
  const { late, buffers, others } = await scene('eager');
  const first = await vgem.fence(present(buffers[0]));
  const sent = exportSyncFile(present(buffers[0]).dmabuf, 'read');
  const second = await vgem.fence(present(buffers[1]));
  const { sequence } = late.client.submit(0, { buffer: 1, flags: 1, fence: sent });
  await vgem.signal(first);
  await goOn(others, 4);
  assert.ok(late.client.feedback(0).presented < sequence);
  await vgem.signal(second);
  await late.client.presented(0, sequence);
  sent.close();
});
