import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  cardsFor,
  comparisons,
  GUESTS_PER_CARD,
  layoutFor,
  layoutOf,
  orderOf,
  scenarios,
} from '../../src/bench/scenarios.js';
import { differenceOf, ratioOf, seeded, summarize, tailCurve } from '../../src/bench/statistics.js';
import { parseStrace } from '../../src/bench/usage.js';

/** `count` samples around `middle`, as skewed as latencies are. */
function samples(count: number, middle: number, random: () => number): Float64Array {
  return Float64Array.from({ length: count }, () => middle * (0.8 - 0.3 * Math.log(1 - random())));
}

test('percentiles are by nearest rank, in whatever order the samples are', () => {
  const values = Array.from({ length: 100 }, (_, i) => ((i * 37) % 100) + 1);
  assert.deepEqual(summarize(values), { count: 100, p50: 50, p99: 99, max: 100 });
  assert.deepEqual(summarize([]), { count: 0, p50: 0, p99: 0, max: 0 });
  assert.deepEqual(summarize([10, 9]), { count: 2, p50: 9, p99: 10, max: 10 });
});

test('the interval of a ratio has the true one in it, and is narrow with many samples', () => {
  const random = seeded(7);
  const rounds = (middle: number) => Array.from({ length: 6 }, () => samples(400, middle, random));
  const ratio = ratioOf(rounds(120), rounds(100), 0.5);
  assert.ok(ratio !== null && ratio.low < 1.2 && ratio.high > 1.2, JSON.stringify(ratio));
  assert.ok(ratio.low <= ratio.value && ratio.value <= ratio.high);
  assert.ok(ratio.high - ratio.low < 0.15, JSON.stringify(ratio));
});

test('rounds that differ widen the interval', () => {
  const random = seeded(3);
  const even = Array.from({ length: 4 }, () => samples(300, 100, random));
  const uneven = [60, 80, 120, 200].map((middle) => samples(300, middle, random));
  const width = (rounds: Float64Array[]) => {
    const ratio = ratioOf(rounds, even, 0.5);
    return (ratio?.high ?? 0) - (ratio?.low ?? 0);
  };
  assert.ok(width(uneven) > 3 * width(even));
});

test('a difference of means has an interval, and says whether it is more than chance', () => {
  const random = seeded(5);
  const missed = (share: number) =>
    Array.from({ length: 5 }, () => Array.from({ length: 200 }, () => (random() < share ? 1000 : 0)));
  const [some, same, more] = [missed(0.05), missed(0.05), missed(0.2)];
  const alike = differenceOf(same, some);
  const worse = differenceOf(more, some);
  assert.ok(alike !== null && alike.low < 0 && alike.high > 0, JSON.stringify(alike));
  assert.ok(worse !== null && worse.low > 0 && worse.high > 150, JSON.stringify(worse));
  assert.equal(differenceOf([], some), null);
});

test('there is no ratio without samples', () => {
  assert.equal(ratioOf([], [[1, 2]], 0.5), null);
  assert.equal(ratioOf([[1]], [[]], 0.5), null);
});

test('the curve of the tail ends at the largest sample', () => {
  const { nines, values } = tailCurve(Array.from({ length: 1000 }, (_, i) => i + 1));
  assert.equal(nines.at(-1), 3);
  assert.equal(values.at(-1), 999);
  assert.ok(values.every((value, i) => i === 0 || value >= (values[i - 1] ?? 0)));
});

test('every program comes first in a round as often as every other', () => {
  const firsts = Array.from({ length: 6 }, (_, round) => orderOf(['a', 'b', 'c'], round));
  for (const order of firsts) assert.deepEqual([...order].sort(), ['a', 'b', 'c']);
  assert.equal(new Set(firsts.map((order) => order.join(''))).size > 2, true);
  assert.deepEqual(orderOf(['a', 'b'], 0), ['a', 'b']);
  assert.deepEqual(orderOf(['a', 'b'], 1), ['a', 'b']);
});

test('guests fill the CRTCs, then their planes, then further cards', () => {
  const layout = layoutOf(64);
  assert.equal(cardsFor(layout), 3);
  assert.equal(new Set(layout.map(({ card, crtc, plane }) => `${card}.${crtc}.${plane}`)).size, 64);
  assert.deepEqual(
    layout.slice(0, 5).map(({ crtc, plane }) => [crtc, plane]),
    [
      [0, 0],
      [1, 0],
      [2, 0],
      [3, 0],
      [0, 1],
    ],
  );
  assert.equal(layout[GUESTS_PER_CARD]?.card, 1);
  const inside = layout.every(({ x, width }) => x + width <= 640);
  assert.ok(inside, 'VKMS takes no plane that reaches beyond the output');
});

test('each program has the guests that it is about', () => {
  assert.deepEqual(layoutFor('socket', 1), layoutOf(1));
  assert.deepEqual(
    layoutFor('virtio', 1).map(({ kind }) => kind),
    ['virtio'],
  );
  const [first, second, apart, ...machines] = layoutFor('neighbours', 3);
  // One guest shares its output with each machine, and lies over it; one is by itself.
  assert.deepEqual(
    machines.map(({ crtc, printing }) => [crtc, printing]),
    [
      [first?.crtc, 'map'],
      [second?.crtc, 'pixels'],
    ],
  );
  assert.ok(machines.every(({ crtc, plane }) => crtc !== apart?.crtc && plane === 0));
});

test('every comparison is between subjects that are measured', () => {
  for (const length of ['quick', 'normal', 'long'] as const) {
    const list = scenarios(length);
    const known = new Set(
      list.flatMap(({ name, subjects }) => subjects.map((subject) => `${name} ${subject}`)),
    );
    for (const { over, under } of comparisons(list)) {
      assert.ok(known.has(`${over.scenario} ${over.subject}`), JSON.stringify(over));
      assert.ok(known.has(`${under.scenario} ${under.subject}`), JSON.stringify(under));
    }
  }
});

test('system calls are read from what strace prints', () => {
  const text = [
    '% time     seconds  usecs/call     calls    errors syscall',
    '------ ----------- ----------- --------- --------- ----------------',
    ' 62.10    0.012345          68       180           ioctl',
    ' 20.05    0.004000          11       361         1 ppoll',
    '------ ----------- ----------- --------- --------- ----------------',
    '100.00    0.019876          36       541         1 total',
  ].join('\n');
  assert.deepEqual(
    [...parseStrace(text)],
    [
      ['ioctl', 180],
      ['ppoll', 361],
    ],
  );
});
