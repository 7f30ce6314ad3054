/** When frames are shown: flips of the engine on a real kernel, vblank by vblank. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RECORD_FLAGS } from '../../src/native/flip.js';
import { endExample, startExample } from './inside/flip-guests.js';
import { type FlipRecord, rigs } from './inside/flip-rig.js';
import { present } from './inside/kms-rig.js';

const open = rigs();

/** The longest run of flips at one vblank after the other. */
function longestRun(flips: readonly FlipRecord[]): FlipRecord[] {
  let best: FlipRecord[] = [];
  let run: FlipRecord[] = [];
  for (const flip of flips) {
    if (flip.vblank !== (run.at(-1)?.vblank ?? Number.NaN) + 1) run = [];
    run.push(flip);
    if (run.length > best.length) best = [...run];
  }
  return best;
}

test('60 flips in 60 vblanks', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const guest = startExample(on, 'steady', { crtc: out.crtc, planes: [out.plane.id] });
  // Of as many as it takes, since an emulated machine stops for moments: but they are in one piece.
  await on.until('60 flips in one piece', () => longestRun(on.flips(out.crtc)).length >= 60);
  await endExample(guest);
  const run = longestRun(on.flips(out.crtc));
  for (const [i, flip] of run.entries()) {
    for (const flag of [RECORD_FLAGS.vsync, RECORD_FLAGS.hwClock, RECORD_FLAGS.direct])
      assert.ok(flip.flags & flag, JSON.stringify(flip));
    assert.equal(flip.retries, 0);
    const former = run[i - 1];
    if (former === undefined) continue; // what came before the first is not known
    assert.equal(flip.missed, 0);
    const step = flip.flipNs - former.flipNs;
    assert.ok(Math.abs(step - out.periodNs) < out.periodNs / 20, `${step} ns for ${out.periodNs}`);
    assert.ok(flip.commitEnterNs > former.flipNs, 'one commit is in flight at a time');
  }
  assert.equal(present(on.engine.stats(out.crtc)).busy, 0);
});

test('three planes of two outputs: every frame is shown, and frames of one vblank go together', async () => {
  const on = await open({ outputs: 2, overlays: 1, cursor: true, policy: 'deadline' });
  const guests = on.outputs.map(({ index, crtc, plane, overlays, cursor }) =>
    startExample(on, `guest${index}`, { crtc, planes: [plane.id, present(overlays[0]), present(cursor)] }),
  );
  for (const { crtc } of on.outputs) await on.more(300, { crtc });
  for (const { crtc } of on.outputs) {
    const { commits, refused } = present(on.engine.stats(crtc));
    const flips = on.flips(crtc);
    for (const stream of new Set(flips.map((flip) => flip.stream))) {
      const own = flips.filter((flip) => flip.stream === stream);
      for (const [i, flip] of own.entries()) {
        const former = own[i - 1];
        assert.ok(former === undefined || flip.sequence > former.sequence, 'in order');
        assert.ok(former === undefined || flip.vblank > former.vblank, 'one a vblank');
      }
    }
    assert.ok(flips.length > 1.2 * commits, `${flips.length} frames in ${commits} commits`);
    assert.equal(refused, 0);
  }
  for (const guest of guests) {
    const { planes } = await endExample(guest);
    assert.equal(planes.length, 3);
    for (const { kind, submitted, presented, superseded } of planes) {
      // Up to three buffers are on their way when it leaves. The example's cursor is no fifo: its newest place counts.
      const shown = kind === 'cursor' ? presented + superseded : presented;
      assert.ok(shown >= submitted - 3, JSON.stringify(planes));
    }
  }
  assert.deepEqual(on.notices, []);
});

test('mailbox: the newest wins, and what it replaced comes back', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const guest = await on.guest('mail', { crtc: out.crtc, planes: [out.plane.id] });
  for (let id = 0; id < 4; id++) await guest.addBuffer(id, out.width, out.height);
  await guest.show(0, { buffer: 0 });
  for (let round = 0; round < 30; round++) {
    const sequences = [1, 2, 3].map((buffer) => guest.client.submit(0, { buffer }).sequence);
    const newest = present(sequences.at(-1));
    const feedback = await guest.client.presented(0, newest);
    assert.equal(feedback.presented, newest);
    await guest.show(0, { buffer: 0 });
    for (const id of [1, 2, 3]) assert.ok(guest.client.bufferFree(id), `buffer ${id}`);
    assert.ok(!guest.client.bufferFree(0), 'on the screen');
  }
  const { taken, flips, superseded, refused } = guest.producer.stats(0);
  assert.equal(taken, flips + superseded);
  assert.equal(refused, 0);
});

test('async, which VKMS refuses, goes on in step with the vblank', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const guest = await on.guest('async', { crtc: out.crtc, planes: [out.plane.id] });
  for (const id of [0, 1]) await guest.addBuffer(id, out.width, out.height);
  await guest.client.setPresent(0, 'async');
  for (let i = 0; i < 30; i++) await guest.show(0, { buffer: i % 2 });
  const [notice, ...more] = on.notices;
  assert.deepEqual(
    [notice?.type, notice?.code, notice?.plane, more.length],
    ['asyncRefused', 'EINVAL', out.plane.id, 0],
  );
  assert.equal(guest.producer.stats(0).flips, 30);
  const streams = on.flips(out.crtc).filter(({ plane }) => plane === out.plane.id);
  assert.ok(streams.every(({ flags }) => flags & RECORD_FLAGS.vsync && !(flags & RECORD_FLAGS.async)));
});
