import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CrtcInfo, PlaneInfo, PlaneType } from '../../src/kms/topology.js';
import { type LeasedOutput, ShortageError, solvePlanes } from '../../src/leases/solver.js';

const crtc = (index: number): CrtcInfo => ({ id: 50 + index, index, properties: new Map() });
const plane = (id: number, type: PlaneType, possibleCrtcs: number): PlaneInfo => ({
  id,
  type,
  possibleCrtcs,
  crtc: 0,
  formats: new Map(),
  zpos: 0,
  properties: new Map(),
});
const PRIMARIES = [plane(30, 'primary', 1), plane(31, 'primary', 2)];
const outputs = PRIMARIES.map(
  (primary, index): LeasedOutput => ({ name: `DP-${index + 1}`, crtc: crtc(index), primary }),
);
const [first, second] = outputs as [LeasedOutput, LeasedOutput];

test('planes are those of the output, its primary plane first', () => {
  const planes = [...PRIMARIES, plane(32, 'overlay', 1), plane(33, 'overlay', 2), plane(34, 'cursor', 2)];
  const found = solvePlanes([second], { overlays: 1, cursor: true }, planes, new Map());
  assert.deepEqual([...found], [['DP-2', [31, 33, 34]]]);
});

test('a cursor plane that no card has is not missed', () => {
  assert.deepEqual(
    solvePlanes([first], { overlays: 0, cursor: true }, PRIMARIES, new Map()).get('DP-1'),
    [30],
  );
});

test('a plane that could serve both goes to the one that has no other', () => {
  // In order, DP-1 would take plane 32, which is all that DP-2 could have.
  const planes = [...PRIMARIES, plane(32, 'overlay', 3), plane(33, 'overlay', 1)];
  const found = solvePlanes(outputs, { overlays: 1, cursor: false }, planes, new Map());
  assert.deepEqual(
    [found.get('DP-1'), found.get('DP-2')],
    [
      [30, 33],
      [31, 32],
    ],
  );
});

test('what is short is said, with who has it', () => {
  const planes = [...PRIMARIES, plane(32, 'overlay', 1), plane(33, 'overlay', 1), plane(34, 'cursor', 3)];
  const refused = (wish: { overlays: number; cursor: boolean }, holders: [number, string][], says: string) =>
    assert.throws(() => solvePlanes([first], wish, planes, new Map(holders)), new ShortageError(says));
  refused({ overlays: 3, cursor: false }, [], 'DP-1: 3 overlay planes cannot be had: its CRTC has 2');
  refused(
    { overlays: 2, cursor: false },
    [[33, 'output DP-9']],
    'DP-1: 2 overlay planes cannot be had: held are plane 33 by output DP-9',
  );
  refused(
    { overlays: 0, cursor: true },
    [[34, 'lease wall']],
    'DP-1: a cursor plane cannot be had: held are plane 34 by lease wall',
  );
});
