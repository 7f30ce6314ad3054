/** The bare guest under QEMU alone: what a test computes is what it draws, in each of its ways to show it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bandFrames, pattern } from './inside/pattern.js';
import { worst } from './inside/pixels.js';
import { Qemu, type QemuOptions, type QemuVersion, VERSIONS } from './inside/qemu.js';

const SIZE = { width: 320, height: 256 };
const WORDS = `step=1 size=${SIZE.width}x${SIZE.height}`;
const versions = Object.keys(VERSIONS) as QemuVersion[];

/** Flips one by one and compares what QEMU shows each time. */
async function proveFlips(options: QemuOptions, frames = 3): Promise<Qemu> {
  const qemu = await Qemu.start(options);
  await qemu.during(async () => {
    await qemu.event('buffers');
    for (let frame = 0; frame < frames; frame++) {
      qemu.send('f');
      await qemu.event('flip', { frame });
      const { by, at } = worst(await qemu.screendump(), pattern(SIZE.width, SIZE.height, frame));
      assert.equal(by, 0, `frame ${frame}: ${at}`);
    }
  });
  return qemu;
}

for (const version of versions) {
  test(`QEMU ${version}: pages flip on virtio-gpu`, async () => {
    const qemu = await proveFlips({ version, append: WORDS, args: ['-device', 'virtio-gpu-pci'] });
    const [hello] = qemu.all('hello');
    assert.equal(hello?.values.event_idx, 1);
    assert.equal(hello?.values.indirect, 1);
    assert.match(String(qemu.all('edid')[0]?.values.bytes), /^00ffffffffffff00/);
  });

  test(`QEMU ${version}: pages flip on virtio-gpu without EVENT_IDX, memory in pieces`, async () => {
    const append = `${WORDS} event_idx=0 indirect=0 pieces=5`;
    const qemu = await proveFlips({ version, append, args: ['-device', 'virtio-gpu-pci'] });
    assert.equal(qemu.all('hello')[0]?.values.event_idx, 0);
  });

  test(`QEMU ${version}: pages flip in blobs`, async () => {
    const args = ['-device', 'virtio-gpu-pci,blob=on'];
    await proveFlips({ version, append: `${WORDS} mode=blob pieces=3`, args });
  });

  test(`QEMU ${version}: pages flip on a bochs display`, async () => {
    await proveFlips({ version, append: `${WORDS} device=bochs`, args: ['-device', 'bochs-display'] });
  });
}

test('damage alone is drawn and flushed', async () => {
  const append = `${WORDS} mode=single band=48`;
  const qemu = await Qemu.start({ append, args: ['-device', 'virtio-gpu-pci'] });
  await qemu.during(async () => {
    await qemu.event('buffers');
    for (let frame = 0; frame < 4; frame++) {
      qemu.send('f');
      await qemu.event('flip', { frame });
    }
    const expected = pattern(SIZE.width, SIZE.height, bandFrames(SIZE.height, 48, 1, 3));
    const { by, at } = worst(await qemu.screendump(), expected);
    assert.equal(by, 0, at);
  });
});

test('a reset, a reset in the middle of a flip, and a reboot start it anew', async () => {
  const qemu = await Qemu.start({ append: WORDS, args: ['-device', 'virtio-gpu-pci'] });
  await qemu.during(async () => {
    await qemu.event('buffers');
    for (const [count, command] of ['R', 'X', 'r'].entries()) {
      qemu.send(command);
      await qemu.eventAfter(count + 1, 'hello');
      await qemu.eventAfter(count + 1, 'buffers');
    }
    qemu.send('f');
    await qemu.event('flip', { frame: 0 });
    const { by, at } = worst(await qemu.screendump(), pattern(SIZE.width, SIZE.height, 0));
    assert.equal(by, 0, at);
    qemu.send('o');
    await qemu.end();
    assert.equal(qemu.child.exitCode, 0);
  });
});

test('a cursor moves, and the guest runs as fast as the device answers', async () => {
  const append = 'mode=cursor frames=20 size=320x256 end=off';
  const qemu = await Qemu.start({ append, args: ['-device', 'virtio-gpu-pci'] });
  await qemu.during(async () => {
    await qemu.event('done', { frames: 20 });
    assert.equal(qemu.all('cursor').length, 20);
    assert.deepEqual(qemu.all('error'), []);
  });
});

test('a guest that complains fails whoever waits for it', async () => {
  const qemu = await Qemu.start({ append: 'nonsense=1', args: ['-device', 'virtio-gpu-pci'] });
  await qemu.during(async () => {
    await assert.rejects(qemu.event('hello'), /the guest said {"what":"option"}/);
    await qemu.kill();
    await assert.rejects(qemu.qmp('query-status'), /not connected|went away/);
  });
});
