import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseEdid } from '../../src/kms/edid.js';
import { guestEdid } from '../../src/kms/guest-edid.js';

const FULL_HD = { width: 1920, height: 1080, refreshMhz: 60_000 };

/** First detailed timing (VESA E-EDID 1.4, 3.10.2), read independently of how it is written. */
function preferred(edid: Uint8Array) {
  const d = edid.subarray(54, 72);
  const at = (index: number) => d[index] ?? 0;
  const width = at(2) + (at(4) >> 4) * 256;
  const hBlank = at(3) + (at(4) & 15) * 256;
  const height = at(5) + (at(7) >> 4) * 256;
  const vBlank = at(6) + (at(7) & 15) * 256;
  const hz = ((at(0) + at(1) * 256) * 10_000) / ((width + hBlank) * (height + vBlank));
  return { width, height, hz };
}

function isSound(edid: Uint8Array): boolean {
  return parseEdid(edid) !== null && edid.length % 128 === 0 && edid.length === 128 * (1 + (edid[126] ?? 0));
}

test('without a monitor a guest gets an EDID with its mode and the name of its output', () => {
  const edid = guestEdid(null, FULL_HD, true, 'HDMI-A-1');
  assert.ok(isSound(edid));
  const { width, height, hz } = preferred(edid);
  assert.deepEqual([width, height], [1920, 1080]);
  assert.ok(Math.abs(hz - 60) < 0.05, `${hz} Hz`);
  assert.equal(parseEdid(edid)?.model, 'HDMI-A-1');
});

/** A monitor with two modes, of which the first is preferred, and one extension block. */
function monitor(): Uint8Array {
  const base = guestEdid(null, FULL_HD, true, 'Real');
  const edid = new Uint8Array(256);
  edid.set(base);
  edid.set([0x10, 0xac, 0x34, 0x12, 1, 2, 3, 4], 8);
  edid[35] = 0x21;
  edid[126] = 1;
  edid[127] = 0;
  edid[127] = (256 - (edid.subarray(0, 127).reduce((sum, byte) => sum + byte, 0) % 256)) % 256;
  edid.fill(7, 128);
  return edid;
}

test('the real one is passed on as it is where its preferred mode is lit', () => {
  assert.deepEqual(guestEdid(monitor(), FULL_HD, true, 'x'), monitor());
});

test('another mode becomes the preferred one, and the rest stays', () => {
  const edid = guestEdid(monitor(), { width: 1280, height: 1024, refreshMhz: 75_025 }, true, 'x');
  assert.ok(isSound(edid));
  assert.equal(edid.length, 256);
  const { width, height, hz } = preferred(edid);
  assert.deepEqual([width, height], [1280, 1024]);
  assert.ok(Math.abs(hz - 75.025) < 0.1);
  assert.equal(parseEdid(edid)?.make, 'DEL');
  assert.equal(edid[35], 0x21);
});

test('a part of an output is its only mode, of the same monitor', () => {
  const edid = guestEdid(monitor(), { width: 320, height: 240, refreshMhz: 60_000 }, false, 'x');
  assert.ok(isSound(edid));
  assert.equal(edid.length, 128);
  assert.deepEqual([preferred(edid).width, preferred(edid).height], [320, 240]);
  assert.deepEqual(parseEdid(edid), parseEdid(monitor()));
  assert.deepEqual([...edid.subarray(35, 54)], [0, 0, 0, ...new Array(16).fill(1)]);
});

test('what a monitor says that is no EDID is left alone', () => {
  for (const broken of [new Uint8Array(0), new Uint8Array(128), monitor().fill(1, 0, 1)]) {
    assert.equal(parseEdid(guestEdid(broken, FULL_HD, true, 'name'))?.model, 'name');
  }
});

test('an EDID that says it has more than it has, or more than fits, is cut to whole blocks', () => {
  const long = new Uint8Array(128 * 20);
  long.set(guestEdid(null, FULL_HD, true, 'Real'));
  long[126] = 19;
  long[127] = ((long[127] ?? 0) + 256 - 19) % 256;
  const edid = guestEdid(long, FULL_HD, true, 'x');
  assert.equal(edid.length, 1024);
  assert.ok(isSound(edid));
  const short = guestEdid(long.subarray(0, 300), FULL_HD, true, 'x');
  assert.equal(short.length, 256);
  assert.ok(isSound(short));
});

test('every mode gives a sound EDID that is no larger than the mode', () => {
  const mode = fc.record({
    width: fc.integer({ min: 1, max: 16384 }),
    height: fc.integer({ min: 1, max: 16384 }),
    refreshMhz: fc.integer({ min: 1000, max: 500_000 }),
  });
  fc.assert(
    fc.property(mode, fc.boolean(), fc.string(), (wanted, whole, name) => {
      const edid = guestEdid(whole ? monitor() : null, wanted, whole, name);
      assert.ok(isSound(edid));
      const { width, height } = preferred(edid);
      assert.equal(width, Math.min(wanted.width, 4095));
      assert.equal(height, Math.min(wanted.height, 4095));
    }),
  );
});
