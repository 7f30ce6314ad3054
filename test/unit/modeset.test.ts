/** Which planes a mode set touches. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { modesetProperties } from '../../src/kms/modeset.js';
import type { PlaneInfo, PlaneType, Topology } from '../../src/kms/topology.js';

const NAMES = ['FB_ID', 'CRTC_ID', 'MODE_ID', 'ACTIVE'];
const properties = new Map(NAMES.map((name, i) => [name, i + 1]));

function plane(id: number, type: PlaneType, possibleCrtcs: number, crtc: number): PlaneInfo {
  return { id, type, possibleCrtcs, crtc, formats: new Map(), zpos: 0, properties };
}

/** Two CRTCs, 1 and 2, each with a primary plane and an overlay, and an overlay that both can use. */
function topology(onCrtc: Readonly<Record<number, number>> = {}): Topology {
  return {
    crtcs: [1, 2].map((id) => ({ id, index: id - 1, properties })),
    connectors: [],
    planes: [
      plane(11, 'primary', 1, onCrtc[11] ?? 1),
      plane(12, 'overlay', 1, onCrtc[12] ?? 0),
      plane(21, 'primary', 2, onCrtc[21] ?? 2),
      plane(22, 'overlay', 2, onCrtc[22] ?? 0),
      plane(30, 'overlay', 3, onCrtc[30] ?? 0),
    ],
  };
}

/** Planes that the mode set names, which lights nothing. */
function planesOf(crtcs: readonly number[], from: Topology, elsewhere: readonly number[] = []) {
  const list = modesetProperties(from, new Set(crtcs), [], new Set(elsewhere));
  const id = properties.get('CRTC_ID');
  return list.filter(([object, property]) => object > 10 && property === id).map(([object]) => object);
}

test('a CRTC that is switched off takes its own planes along', () => {
  assert.deepEqual(planesOf([2], topology()), [21, 22]);
  assert.deepEqual(planesOf([2], topology({ 30: 2 })), [21, 22, 30]);
});

test('planes that another CRTC could have taken meanwhile are left alone', () => {
  // 12 was off when the topology was read, and is of CRTC 1 alone; 30 may be on either.
  const touched = planesOf([2], topology());
  assert.ok(!touched.includes(12) && !touched.includes(30));
});

test('a plane that has moved to another output since is left alone', () => {
  assert.deepEqual(planesOf([2], topology({ 30: 2 }), [30]), [21, 22]);
});

test('a takeover puts every plane in order', () => {
  assert.deepEqual(planesOf([1, 2], topology()), [11, 12, 21, 22, 30]);
});
