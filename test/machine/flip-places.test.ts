/** What is on the screen: planes, outputs, modes and masters change under the flips of the engine, on a real kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FIRST_VIRTUAL_CRTC } from '../../src/native/flip.js';
import { ATOMIC_ALLOW_MODESET, AtomicRequest, KmsDevice } from '../../src/native/kms.js';
import { endExample, startExample } from './inside/flip-guests.js';
import { type FlipOutput, rigs, words } from './inside/flip-rig.js';
import { add, paint, present } from './inside/kms-rig.js';

const open = rigs();
/** More vblanks than an emulated machine misses. */
const LONG = 30n;

/** Draws noise into a buffer of 32 bits a pixel and gives it back as a writeback shows it. */
function draw(memory: Uint8Array, seed: number): Uint32Array {
  paint(memory, seed);
  return Uint32Array.from(words(memory));
}

function full(out: FlipOutput): { crtc: number; planes: number[] } {
  return { crtc: out.crtc, planes: [out.plane.id, ...out.overlays.slice(0, 1)] };
}

test('the mode set shows the idle picture', async () => {
  const on = await open({ outputs: 2, writeback: true });
  for (const out of on.outputs) {
    const { shown, pixels } = await on.capture(out.index);
    assert.deepEqual(
      shown.map(({ plane, framebuffer }) => [plane, framebuffer]),
      [[out.plane.id, out.idleFramebuffer]],
    );
    assert.deepEqual(pixels, words(Uint8Array.from(out.idleBuffer.map())));
    const [flip] = on.flips(out.crtc);
    assert.ok(flip && flip.missed < LONG, `${flip?.missed} vblanks missed: it is as old as its command`);
  }
  assert.deepEqual(on.notices, []);
});

test('what is drawn is what is scanned out', async () => {
  const on = await open({ outputs: 2, overlays: 1, writeback: true, policy: 'deadline' });
  for (const out of on.outputs) {
    const { width, height } = out;
    const guest = await on.guest(`capture${out.index}`, full(out), ['primary', 'overlay']);
    const below = draw((await guest.addBuffer(0, width, height)).memory, 11);
    const above = draw((await guest.addBuffer(1, 128, 96)).memory, 12);
    await guest.show(0, { buffer: 0 });
    // A part of the buffer, some of it beyond the lower right corner.
    const [x, y, cut] = [width - 64, height - 32, 16];
    const place = {
      dstX: x,
      dstY: y,
      dstW: 96,
      dstH: 64,
      srcX: cut << 16,
      srcY: cut << 16,
      srcW: 96 << 16,
      srcH: 64 << 16,
    };
    const overlay = await guest.show(1, { buffer: 1, ...place });
    const { shown, pixels } = await on.capture(out.index);
    assert.deepEqual(shown.map(({ plane }) => plane).sort(), full(out).planes.sort());
    assert.equal(present(shown.find(({ plane }) => plane === out.overlays[0])).sequence, overlay);
    const expected = below;
    for (let row = 0; row < 32; row++) {
      const from = (cut + row) * 128 + cut;
      expected.set(above.subarray(from, from + 64), (y + row) * width + x);
    }
    assert.deepEqual(pixels, expected);
    guest.close();
  }
});

test('a picture moves between planes, outputs and nowhere without a gap', async () => {
  const on = await open({ outputs: 2, overlays: 1, writeback: true });
  await on.engine.addCrtc(FIRST_VIRTUAL_CRTC, 16_666_667, 'eager');
  const [left, right] = [on.out(0), on.out(1)];
  const guest = await on.guest('mover', { crtc: left.crtc, planes: [present(left.overlays[0])] }, [
    'overlay',
  ]);
  const drawn = draw((await guest.addBuffer(0, 128, 128)).memory, 21);
  const idle = (out: FlipOutput) => Uint32Array.from(words(Uint8Array.from(out.idleBuffer.map())));
  const expect = async (out: FlipOutput, there: boolean) => {
    const expected = idle(out);
    for (let row = 0; row < 128 && there; row++)
      expected.set(drawn.subarray(row * 128, row * 128 + 128), row * out.width);
    assert.deepEqual((await on.capture(out.index)).pixels, expected, `CRTC ${out.crtc}`);
  };
  const sequence = await guest.show(0, { buffer: 0 });
  const flips = () => guest.producer.stats(0).flips;
  const move = async (crtc: number, plane: number) => {
    const before = flips();
    await on.attach(guest.producer, 0, crtc, plane);
    await on.until('shown there', () => flips() > before);
  };
  await expect(left, true);
  for (let round = 0; round < 3; round++) {
    await move(right.crtc, present(right.overlays[0]));
    await expect(right, true);
    await expect(left, false);
    await move(FIRST_VIRTUAL_CRTC, 0);
    await expect(right, false);
    await move(left.crtc, present(left.overlays[0]));
    await expect(left, true);
  }
  assert.equal(guest.client.feedback(0).presented, sequence);
  assert.ok(guest.client.feedback(0).missed < LONG, 'it was ready long before, but not here');
  assert.ok(!guest.client.bufferFree(0));
  await on.engine.detach(guest.producer, 0);
  await on.until('off', () => guest.client.bufferFree(0));
  await expect(left, false);
});

test('a mode set in mid-flip keeps the newest frame and holds up nobody else', async () => {
  const on = await open({ outputs: 2, writeback: true });
  const [out, other] = [on.out(0), on.out(1)];
  const guest = await on.guest('static', { crtc: out.crtc, planes: [out.plane.id] });
  const drawn = draw((await guest.addBuffer(0, out.width, out.height)).memory, 31);
  const neighbour = startExample(on, 'other', { crtc: other.crtc, planes: [other.plane.id] });
  await guest.show(0, { buffer: 0 });
  await on.more(30, { crtc: other.crtc });
  for (let i = 0; i < 5; i++) await on.modeset(out);
  await on.until('shown again', () => guest.producer.stats(0).flips >= 6);
  assert.deepEqual((await on.capture(0)).pixels, drawn);
  assert.ok(guest.client.feedback(0).missed < LONG, 'it was ready, but the output was not');
  await on.more(30, { crtc: other.crtc });
  await endExample(neighbour);
  assert.deepEqual(on.notices, []);
});

test('mode sets that overlap are done one after the other', async () => {
  const on = await open({ outputs: 2 });
  const guests = on.outputs.map((out) =>
    startExample(on, `busy${out.index}`, { crtc: out.crtc, planes: [out.plane.id] }),
  );
  for (const { crtc } of on.outputs) await on.more(20, { crtc });
  await Promise.all(Array.from({ length: 10 }, (_, i) => on.modeset(on.out(i % 2))));
  for (const { crtc } of on.outputs) await on.more(20, { crtc });
  for (const guest of guests) await endExample(guest);
  assert.deepEqual(on.notices, []);
});

test('the card is taken away in mid-flip: nothing hangs', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const guest = startExample(on, 'orphan', { crtc: out.crtc, planes: [out.plane.id] }, []);
  await on.more(20, { crtc: out.crtc });
  on.kms.vkms.destroy();
  // VKMS goes on answering, with its outputs off; other drivers say ENODEV.
  await on.until('it is noticed', () => on.count('refused') + on.count('gone') > 0);
  const heartbeat = on.engine.heartbeat;
  on.engine.wake();
  await on.until('the thread turns', () => on.engine.heartbeat > heartbeat);
  await guest.kill('SIGKILL');
  await on.until('the guest leaves', () => on.leaving > 0);
  on.stopEngine(); // which takes back what no commit gave back
});

test('another master pauses the commits, and the newest frame is shown afterwards', async () => {
  const on = await open({ outputs: 1, writeback: true });
  const out = on.out(0);
  const guest = await on.guest('paused', { crtc: out.crtc, planes: [out.plane.id] });
  await guest.addBuffer(0, out.width, out.height);
  const drawn = draw((await guest.addBuffer(1, out.width, out.height)).memory, 41);
  await guest.show(0, { buffer: 0 });
  on.kms.device.dropMaster();
  const thief = KmsDevice.open(on.kms.vkms.card);
  assert.ok(thief.isMaster());
  const { sequence } = guest.client.submit(0, { buffer: 1 });
  await on.until('paused', () => on.engine.paused);
  const { commits } = present(on.engine.stats(out.crtc));
  // The other session leaves the plane to nobody.
  const off = new AtomicRequest();
  add(thief, off, out.plane.id, { FB_ID: 0, CRTC_ID: 0 });
  thief.commit(off, ATOMIC_ALLOW_MODESET);
  await sleep(1000);
  assert.equal(present(on.engine.stats(out.crtc)).commits, commits);
  thief.dropMaster();
  thief.close();
  on.kms.device.setMaster();
  await on.engine.resume();
  await guest.client.presented(0, sequence);
  assert.deepEqual((await on.capture(0)).pixels, drawn);
  assert.deepEqual(
    on.notices.map(({ type, code }) => [type, code]),
    [['paused', 'EACCES']],
  );
  assert.ok(guest.client.feedback(0).missed < LONG, 'it was ready, but the output was not');
});
