import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Layer, type Placement, type Plan, planOutput } from '../../src/kms/planner.js';
import type { PlaneInfo } from '../../src/kms/topology.js';

const XR24 = 0x34325258;
const AR24 = 0x34325241;
const NV12 = 0x3231564e;
const EINVAL = 22;

function plane(id: number, type: PlaneInfo['type'], formats: number[] = [XR24, AR24]): PlaneInfo {
  const zpos = { primary: 0, overlay: 1, cursor: 2 }[type];
  const list = new Map(formats.map((fourcc) => [fourcc, [0n] as readonly bigint[]]));
  return { id, type, possibleCrtcs: 1, crtc: 0, formats: list, zpos, properties: new Map() };
}

const PLANES = [plane(30, 'primary'), plane(31, 'overlay'), plane(32, 'overlay'), plane(33, 'cursor')];

function layer(id: number, kind: Layer['kind'], more: Partial<Layer> = {}): Layer {
  return {
    id,
    kind,
    fourcc: XR24,
    modifier: 0n,
    importable: true,
    reason: '',
    reflected: false,
    covers: kind === 'primary',
    allowed: null,
    refusedBy: new Map(),
    current: null,
    ...more,
  };
}

const accepted = () => 0;

/** "1:30 2:31 3:copy30": layer, plane, and whether it is copied. */
function show(plan: Plan): string {
  return plan.placements.map((one) => `${one.layer.id}:${one.shadow ? 'copy' : ''}${one.plane.id}`).join(' ');
}

test('each layer goes to a plane of its kind', () => {
  const plan = planOutput(PLANES, [layer(1, 'primary'), layer(2, 'overlay'), layer(3, 'cursor')], accepted);
  assert.equal(show(plan), '1:30 2:31 3:33');
});

test('a picture of part of the output leaves the primary plane to the idle picture', () => {
  assert.equal(show(planOutput(PLANES, [layer(1, 'primary', { covers: false })], accepted)), '1:31');
});

test('layers keep their order when a plane in the middle is refused', () => {
  const refuse31 = (placements: readonly Placement[]) =>
    placements.some((one) => !one.shadow && one.plane.id === 31) ? EINVAL : 0;
  const plan = planOutput(PLANES, [layer(1, 'primary'), layer(2, 'overlay'), layer(3, 'cursor')], refuse31);
  assert.equal(show(plan), '1:30 2:32 3:33');
});

test('a format that no plane lists is copied, with the reason', () => {
  const plan = planOutput(PLANES, [layer(1, 'primary', { fourcc: NV12 })], accepted);
  assert.equal(show(plan), '1:copy30');
  const [only] = plan.placements;
  assert.match(only?.shadow === true ? only.reason : '', /^format: .* does not list NV12$/);
});

test('a buffer without a framebuffer is copied', () => {
  assert.equal(show(planOutput(PLANES, [layer(1, 'primary', { importable: false })], accepted)), '1:copy30');
});

test('a plane that refused the layout in a commit is not trusted again', () => {
  const refusedBy = new Map([[30, EINVAL]]);
  assert.equal(show(planOutput(PLANES, [layer(1, 'primary', { refusedBy })], accepted)), '1:31');
});

test('more layers than planes: the fewest are copied, and neighbours share one copy', () => {
  const layers = [1, 2, 3, 4, 5, 6].map((id) =>
    layer(id, id === 1 ? 'primary' : 'overlay', { covers: id === 1 }),
  );
  const plan = planOutput(PLANES, layers, accepted);
  const copies = plan.placements.filter(({ shadow }) => shadow);
  assert.equal(plan.placements.length, 6);
  // Four planes for six layers: one carries a copy of three, the others one each.
  assert.equal(copies.length, 3);
  assert.equal(new Set(copies.map((one) => one.plane.id)).size, 1);
});

test('the configured plane is used, or the copy says that it was not', () => {
  assert.equal(show(planOutput(PLANES, [layer(1, 'primary', { allowed: [32] })], accepted)), '1:32');
  const refused = planOutput(PLANES, [layer(1, 'primary', { allowed: [32] })], (placements) =>
    placements.some((one) => !one.shadow) ? EINVAL : 0,
  );
  assert.equal(show(refused), '1:copy32');
});

test('what is shown already stays where it is', () => {
  assert.equal(show(planOutput(PLANES, [layer(1, 'overlay', { current: 32 })], accepted)), '1:32');
});

test('a display that refuses everything is asked a bounded number of times', () => {
  let asked = 0;
  const layers = [1, 2, 3, 4, 5, 6].map((id) => layer(id, 'overlay'));
  const plan = planOutput(PLANES, layers, () => {
    asked++;
    return EINVAL;
  });
  assert.ok(asked <= 200, `${asked} tests`);
  assert.ok(plan.placements.every(({ shadow }) => shadow));
});

test('any plan keeps the order, gives a plane to one only, and never shows what was refused', () => {
  const kinds = fc.constantFrom<Layer['kind']>('primary', 'overlay', 'cursor');
  const layers = fc.array(fc.tuple(kinds, fc.boolean(), fc.boolean(), fc.constantFrom(XR24, AR24, NV12)), {
    maxLength: 5,
  });
  fc.assert(
    fc.property(layers, fc.array(fc.integer({ min: 30, max: 33 }), { maxLength: 3 }), (list, forbidden) => {
      const made = list.map(([kind, covers, importable, fourcc], i) =>
        layer(i, kind, { covers, importable, fourcc }),
      );
      const plan = planOutput(PLANES, made, (placements) =>
        placements.some((one) => !one.shadow && forbidden.includes(one.plane.id)) ? EINVAL : 0,
      );
      assert.equal(plan.placements.length + plan.dropped.length, made.length);
      const direct = plan.placements.filter(({ shadow }) => !shadow);
      assert.equal(new Set(direct.map((one) => one.plane.id)).size, direct.length);
      for (const one of direct) {
        assert.ok(!forbidden.includes(one.plane.id));
        assert.ok(one.layer.importable && one.layer.fourcc !== NV12);
      }
      for (let i = 1; i < plan.placements.length; i++) {
        const [below, above] = [plan.placements[i - 1], plan.placements[i]];
        if (below === undefined || above === undefined) continue;
        const same = below.shadow && above.shadow && below.plane.id === above.plane.id;
        assert.ok(same || above.plane.id > below.plane.id, show(plan));
      }
    }),
    { numRuns: 300 },
  );
});
