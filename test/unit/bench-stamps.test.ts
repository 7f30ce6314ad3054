import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Kick, matchFlips, readKicks, readStamps, type Stamp } from '../../src/bench/stamps.js';

const MS = 1_000_000;
const PERIOD = 16 * MS;
const ONE = [{ plane: 31, crtc: 0 }];

function kick(change: Partial<Kick>): Kick {
  return { guest: 0, sequence: 1, kickNs: 0, presentedNs: 0, lost: false, ...change };
}

function stamp(enterNs: number, change: Partial<Stamp> = {}): Stamp {
  return { object: 31, enterNs, leaveNs: enterNs + 20_000, error: 0, ...change };
}

test('a frame goes with the first commit of its plane after its kick', () => {
  const kicks = [
    kick({ kickNs: 2 * MS, presentedNs: 16 * MS }),
    kick({ sequence: 2, kickNs: 20 * MS, presentedNs: 32 * MS }),
  ];
  const stamps = [stamp(2 * MS + 50_000, { object: 32 }), stamp(2 * MS + 100_000), stamp(20 * MS + 150_000)];
  const flips = matchFlips(kicks, stamps, ONE, PERIOD);
  assert.deepEqual(
    flips.map(({ latencyNs }) => latencyNs),
    [100_000, 150_000],
  );
  assert.deepEqual(
    flips.map(({ commitNs, missed }) => [commitNs, missed]),
    [
      [20_000, 0],
      [20_000, 0],
    ],
  );
});

test('a frame that waits for its CRTC is timed from the flip that freed it', () => {
  const places = [
    { plane: 31, crtc: 0 },
    { plane: 32, crtc: 0 },
  ];
  const kicks = [
    kick({ guest: 0, kickNs: 2 * MS, presentedNs: 16 * MS }),
    kick({ guest: 1, kickNs: 5 * MS, presentedNs: 32 * MS }),
  ];
  const stamps = [stamp(2 * MS + 100_000), stamp(16 * MS + 70_000, { object: 32 })];
  const flips = matchFlips(kicks, stamps, places, PERIOD);
  assert.deepEqual(
    flips.map(({ guest, latencyNs, missed }) => [guest, latencyNs, missed]),
    [
      [0, 100_000, 0],
      [1, 70_000, 0],
    ],
  );
});

test('vblanks that a frame was in time for count as missed', () => {
  const kicks = [kick({ kickNs: 2 * MS, presentedNs: 48 * MS })];
  const [flip] = matchFlips(kicks, [stamp(40 * MS)], ONE, PERIOD);
  assert.equal(flip?.missed, 2);
});

test('refused commits, lost frames and unknown guests give no sample', () => {
  const kicks = [
    kick({ kickNs: 2 * MS, presentedNs: 16 * MS }),
    kick({ sequence: 2, kickNs: 20 * MS, lost: true }),
    kick({ guest: 5, kickNs: 20 * MS, presentedNs: 32 * MS }),
  ];
  const stamps = [stamp(3 * MS, { error: 16 }), stamp(4 * MS), stamp(21 * MS)];
  const flips = matchFlips(kicks, stamps, ONE, PERIOD);
  assert.deepEqual(
    flips.map(({ latencyNs }) => latencyNs),
    [2 * MS],
  );
});

test('the files of guest and libstamp are read', () => {
  const directory = mkdtempSync(join(tmpdir(), 'bench-stamps-'));
  const file = join(directory, 'rows');
  try {
    writeFileSync(file, new Float64Array([3, 17, 1000, 2000, 5, 0, 3, 18, 3000, 4000, 6, 1]));
    assert.deepEqual(readKicks(file), [
      { guest: 3, sequence: 17, kickNs: 1000, presentedNs: 2000, lost: false },
      { guest: 3, sequence: 18, kickNs: 3000, presentedNs: 4000, lost: true },
    ]);
    writeFileSync(file, new Float64Array([1, 0, 0, 0, 31, 1000, 1500, 0, 0, 0, 0, 0]));
    assert.deepEqual(readStamps(file), [{ object: 31, enterNs: 1000, leaveNs: 1500, error: 0 }]);
    writeFileSync(file, new Float64Array([5, 0, 0, 0, 31, 1000, 1500, 0]));
    assert.throws(() => readStamps(file), /4 stamps did not fit/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
