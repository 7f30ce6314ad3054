/** What drivers do wrong: nobody loses the newest frame, and nobody but the one concerned loses a vblank. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { COMMIT } from '../faults/faults.js';
import type { Example } from './inside/example.js';
import { endExample, type RigGuest, startExample } from './inside/flip-guests.js';
import { type FlipOutput, type FlipRig, rigs, words } from './inside/flip-rig.js';
import { paint, present } from './inside/kms-rig.js';
import { withFaults } from './inside/preload.js';

const faults = withFaults();
const open = rigs();
afterEach(() => faults.clear());

/** A guest that shows every frame, and checks its buffers. */
function flipper(on: FlipRig, name: string, out: FlipOutput, args?: string[]): Example {
  return startExample(on, name, { crtc: out.crtc, planes: [out.plane.id] }, args);
}

async function still(on: FlipRig, name: string, out: FlipOutput, plane: number): Promise<RigGuest> {
  const kind = plane === out.plane.id ? 'primary' : 'overlay';
  const guest = await on.guest(name, { crtc: out.crtc, planes: [plane] }, [kind]);
  for (const id of [0, 1, 2]) paint((await guest.addBuffer(id, out.width, out.height)).memory, id);
  await guest.show(0, { buffer: 0 });
  return guest;
}

/** The picture on the screen is that of a buffer. */
async function expectBuffer(on: FlipRig, guest: RigGuest, id: number): Promise<void> {
  const { pixels } = await on.capture(0);
  assert.deepEqual(pixels, Uint32Array.from(words(present(guest.buffers.get(id)).memory)));
}

/** What the kernel was asked for so far, as soon as nothing more comes from a guest that is stopped. */
async function atRest(
  on: FlipRig,
  guest: Example,
): Promise<{ commits: number; others: number; flips: number }> {
  guest.child.kill('SIGSTOP');
  let last = -1;
  let since = performance.now();
  await on.until('rest', () => {
    if (faults.total() !== last) since = performance.now();
    last = faults.total();
    return performance.now() - since > 300;
  });
  const { nonblocking, events } = faults.commits();
  guest.child.kill('SIGCONT');
  return { commits: nonblocking, others: last - nonblocking, flips: events };
}

test('the steady state asks the kernel for flips and for nothing else', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const guest = flipper(on, 'steady', out);
  await on.more(30, { crtc: out.crtc });
  const before = await atRest(on, guest);
  await on.more(200, { crtc: out.crtc });
  const after = await atRest(on, guest);
  const commits = after.commits - before.commits;
  assert.ok(commits >= 200);
  assert.equal(after.flips - before.flips, commits, 'a flip for each commit');
  assert.equal(after.others, before.others, 'no import, no framebuffer, no test, no property');
  await endExample(guest);
});

test('a storm of EBUSY costs no frame and no word', async () => {
  const on = await open({ outputs: 1, writeback: true });
  const out = on.out(0);
  const guest = await still(on, 'busy', out, out.plane.id);
  const storm = faults.addRule({
    ioctl: 'MODE_ATOMIC',
    flags: COMMIT.NONBLOCK,
    action: { refuse: 'EBUSY' },
    count: 20,
  });
  const old = guest.client.submit(0, { buffer: 1 });
  await sleep(100);
  const newest = guest.client.submit(0, { buffer: 2 });
  await guest.client.presented(0, newest.sequence);
  assert.equal(storm.hits, 20);
  assert.ok(guest.client.bufferFree(1) && old.sequence < newest.sequence);
  await expectBuffer(on, guest, 2);
  assert.equal(present(on.engine.stats(out.crtc)).busy, 20);
  const record = present(on.flips(out.crtc).find(({ sequence }) => sequence === Number(newest.sequence)));
  assert.equal(record.retries, 20);
  assert.deepEqual(on.notices, []);
});

test('EINVAL after a passed test: the culprit is refused, its neighbour flips on', async () => {
  const on = await open({ outputs: 1, overlays: 1, writeback: true });
  const out = on.out(0);
  const plane = present(out.overlays[0]);
  const culprit = await still(on, 'culprit', out, plane);
  const neighbour = flipper(on, 'neighbour', out);
  await on.more(30, { crtc: out.crtc });
  const rule = faults.addRule({
    ioctl: 'MODE_ATOMIC',
    object: plane,
    flags: COMMIT.NONBLOCK,
    flagsClear: COMMIT.TEST_ONLY,
    action: { refuse: 'EINVAL' },
  });
  const { sequence } = culprit.client.submit(0, { buffer: 1 });
  await on.until('refused', () => on.count('refused') > 0);
  await on.more(30, { crtc: out.crtc });
  const [notice] = on.notices;
  assert.deepEqual(
    [notice?.type, notice?.code, notice?.plane, on.notices.length],
    ['refused', 'EINVAL', plane, 1],
  );
  assert.equal(culprit.client.feedback(0).refused, sequence);
  assert.ok(rule.hits >= 1 && rule.hits <= 4, `${rule.hits} commits with the culprit`);
  // The planner's turn: another way to show it. Here the display has changed its mind.
  rule.remove();
  await on.attach(culprit.producer, 0, out.crtc, plane);
  await culprit.client.presented(0, sequence);
  await endExample(neighbour);
});

test('a lost flip event stops one output for a moment, and no other', async () => {
  const on = await open({ outputs: 2 });
  const [out, other] = [on.out(0), on.out(1)];
  const guests = [flipper(on, 'a', out), flipper(on, 'b', other)];
  for (const { crtc } of [out, other]) await on.more(30, { crtc });
  const lost = faults.addRule({ event: 'drop', crtc: out.crtc, count: 1 });
  await on.until('it is lost', () => lost.hits === 1);
  const before = on.flips(other.crtc).length;
  await on.until('it was recovered', () => on.count('recovered') === 1);
  const meanwhile = on.flips(other.crtc).length - before;
  assert.ok(meanwhile > 10, `${meanwhile} flips of the other output`);
  for (const { crtc } of [out, other]) await on.more(30, { crtc });
  assert.equal(lost.hits, 1);
  assert.deepEqual(
    on.notices.map(({ type, crtc }) => [type, crtc]),
    [
      ['stalled', out.crtc],
      ['recovered', out.crtc],
    ],
  );
  assert.equal(present(on.engine.stats(out.crtc)).recovered, 1);
  for (const guest of guests) await endExample(guest);
});

test('a flip event that comes after its recovery is passed over', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const guest = flipper(on, 'late', out);
  await on.more(30, { crtc: out.crtc });
  faults.addRule({ event: { delayRefreshes: 150 }, count: 1 });
  await on.until('the late event came', () => present(on.engine.stats(out.crtc)).staleEvents === 1);
  assert.equal(on.count('recovered'), 1);
  await on.more(30, { crtc: out.crtc });
  const { commits, flips } = present(on.engine.stats(out.crtc));
  assert.ok(commits - flips <= 1);
  await endExample(guest);
});

test('a flip event that is late, but not lost, is waited for', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const guest = flipper(on, 'slow', out);
  await on.more(30, { crtc: out.crtc });
  const since = on.flips(out.crtc).length;
  faults.addRule({ event: { delayRefreshes: 20 }, count: 1 });
  await on.more(30, { crtc: out.crtc });
  const { recovered, staleEvents } = present(on.engine.stats(out.crtc));
  assert.deepEqual([recovered, staleEvents], [0, 0]);
  assert.deepEqual(on.notices, []);
  const flips = on.flips(out.crtc).slice(since - 1);
  const waited = flips.some((flip, i) => i > 0 && flip.vblank - present(flips[i - 1]).vblank > 15);
  assert.ok(waited, 'there was something to wait for');
  await endExample(guest);
});

test('a flip event that is told twice completes one flip', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const guest = flipper(on, 'twice', out);
  faults.addRule({ event: 'duplicate' });
  await on.more(30, { crtc: out.crtc });
  const { commits, flips, staleEvents } = present(on.engine.stats(out.crtc));
  assert.ok(staleEvents >= 20);
  assert.ok(commits - flips <= 1);
  await endExample(guest);
});

test('without memory it is tried again, more and more slowly, with the newest frame', async () => {
  const on = await open({ outputs: 1, writeback: true });
  const out = on.out(0);
  const guest = await still(on, 'poor', out, out.plane.id);
  const rule = faults.addRule({
    ioctl: 'MODE_ATOMIC',
    flags: COMMIT.NONBLOCK,
    action: { refuse: 'ENOMEM' },
    count: 9,
  });
  guest.client.submit(0, { buffer: 1 });
  await sleep(50);
  const { sequence } = guest.client.submit(0, { buffer: 2 });
  await guest.client.presented(0, sequence);
  assert.equal(rule.hits, 9);
  await expectBuffer(on, guest, 2);
  assert.deepEqual(
    on.notices.map(({ type, code, count }) => [type, code, count]),
    [1, 2, 4, 8].map((count) => ['backingOff', 'ENOMEM', count]),
  );
});

test('slow commits lose no frame that is newest', async () => {
  const on = await open({ outputs: 1, overlays: 1, writeback: true, policy: 'deadline' });
  const out = on.out(0);
  const guest = await still(on, 'still', out, present(out.overlays[0]));
  const neighbour = flipper(on, 'moving', out, []);
  await on.more(30, { crtc: out.crtc });
  const slow = faults.addRule({
    ioctl: 'MODE_ATOMIC',
    flags: COMMIT.NONBLOCK,
    action: { sleep: 30 },
    count: 40,
  });
  for (let i = 0; i < 6; i++) {
    const { sequence } = guest.client.submit(0, { buffer: i % 3 });
    const { presented } = await guest.client.presented(0, sequence);
    assert.equal(presented, sequence);
  }
  await on.until('all were slow', () => slow.hits === 40);
  assert.deepEqual(on.notices, []);
  await endExample(neighbour);
});

test('a slow mode set holds up no other output', async () => {
  const on = await open({ outputs: 2 });
  const [out, other] = [on.out(0), on.out(1)];
  const guests = [flipper(on, 'a', out), flipper(on, 'b', other)];
  for (const { crtc } of [out, other]) await on.more(30, { crtc });
  const before = on.flips(other.crtc).length;
  const slow = faults.addRule({
    ioctl: 'MODE_ATOMIC',
    flags: COMMIT.ALLOW_MODESET,
    action: { sleep: 3000 },
    count: 1,
  });
  await on.modeset(out);
  const meanwhile = on.flips(other.crtc).length - before;
  assert.equal(slow.hits, 1);
  assert.ok(meanwhile > 20, `${meanwhile} flips of the other output`);
  await on.more(30, { crtc: out.crtc });
  for (const guest of guests) await endExample(guest);
});

test('a refused mode set changes nothing', async () => {
  const on = await open({ outputs: 1, writeback: true });
  const out = on.out(0);
  const guest = await still(on, 'static', out, out.plane.id);
  faults.addRule({
    ioctl: 'MODE_ATOMIC',
    flags: COMMIT.ALLOW_MODESET,
    action: { refuse: 'ENOSPC' },
    count: 1,
  });
  await assert.rejects(on.modeset(out), { code: 'ENOSPC' });
  await expectBuffer(on, guest, 0);
  await guest.show(0, { buffer: 1 });
  await expectBuffer(on, guest, 1);
});
