import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { assignCrtcs, type CrtcInfo } from '../../src/kms/topology.js';

const crtcs = (count: number): CrtcInfo[] =>
  Array.from({ length: count }, (_, index) => ({ id: 100 + index, index, properties: new Map() }));

test('a connector that fits everywhere gives way to one that fits one CRTC only', () => {
  const connectors = [
    { id: 1, possibleCrtcs: 0b11 },
    { id: 2, possibleCrtcs: 0b01 },
  ];
  assert.deepEqual(
    assignCrtcs(connectors, crtcs(2), new Map()),
    new Map([
      [2, 100],
      [1, 101],
    ]),
  );
});

test('what is lit keeps its CRTC', () => {
  const connectors = [
    { id: 1, possibleCrtcs: 0b11 },
    { id: 2, possibleCrtcs: 0b11 },
  ];
  assert.equal(assignCrtcs(connectors, crtcs(2), new Map([[2, 100]])).get(2), 100);
});

test('the matching is as large as any', () => {
  const masks = fc.array(fc.integer({ min: 0, max: 31 }), { maxLength: 5 });
  fc.assert(
    fc.property(masks, (list) => {
      const connectors = list.map((possibleCrtcs, i) => ({ id: i + 1, possibleCrtcs }));
      const result = assignCrtcs(connectors, crtcs(5), new Map());
      assert.equal(new Set(result.values()).size, result.size, 'one CRTC, one connector');
      for (const [id, crtc] of result) assert.ok(((list[id - 1] ?? 0) >> (crtc - 100)) & 1, 'possible');
      assert.equal(result.size, largest(list, 0));
    }),
  );
});

/** By trying everything. */
function largest(masks: readonly number[], used: number): number {
  const [first, ...rest] = masks;
  if (first === undefined) return 0;
  let best = largest(rest, used);
  for (let bit = 0; bit < 5; bit++) {
    if (first & ~used & (1 << bit)) best = Math.max(best, 1 + largest(rest, used | (1 << bit)));
  }
  return best;
}
