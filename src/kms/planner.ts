/**
 * Which hardware plane shows what: the search for an output's planes.
 *
 *        guests' layers, bottom to top            hardware planes, bottom to top
 *        [A primary] [B overlay] [A cursor]  -->  primary < overlay 1 < overlay 2 < cursor
 *
 * Layers keep their order: a layer must be on a plane above that of the layer beneath it. Layers that no plane takes are
 * drawn into a shadow copy; neighbours share one, and it needs a plane as well. Wanted is the assignment with the fewest
 * copied layers. The search deepens by that number: first none is copied, then one, and so on, so that the first
 * assignment that the display accepts is a best one. Each step down is asked of the display with everything beneath it
 * (TEST_ONLY), which prunes what cannot work; the verdicts are the caller's to cache.
 */
import { formatName } from '../native/kms.js';
import { type PlaneInfo, planeTakes } from './topology.js';

/** A layer to be placed. `id` is the stream's. */
export interface Layer {
  id: number;
  kind: 'primary' | 'overlay' | 'cursor';
  fourcc: number;
  modifier: bigint;
  /** False: the display has no framebuffer of it, it can only be copied. */
  importable: boolean;
  /** Why there is none; empty where there is. */
  reason: string;
  /** Its rows are from the lowest to the highest. */
  reflected: boolean;
  /** True when it covers the whole output. */
  covers: boolean;
  /** Only these planes may show it (configuration); null: any. */
  allowed: readonly number[] | null;
  /** Planes that refused this very layout in a commit, and the errno: a passed test is not trusted again. */
  refusedBy: ReadonlyMap<number, number>;
  /** Plane that shows it now, tried first so that nothing moves without need. */
  current: number | null;
}

export type Placement =
  | { layer: Layer; plane: PlaneInfo; shadow: false }
  | { layer: Layer; plane: PlaneInfo; shadow: true; reason: string };

/** Asks the display for an assignment as a whole. 0: accepted, else a positive errno. */
export type TestAssignment = (placements: readonly Placement[]) => number;

export interface Plan {
  placements: Placement[];
  tests: number;
  /** Layers that are not shown at all: there was no plane even for a copy. */
  dropped: { layer: Layer; reason: string }[];
}

/** How many assignments are asked of the display before the search settles for a copy of everything. */
const MOST_TESTS = 200;
/** What a shadow copy is drawn in. */
const XRGB8888 = 0x34325258;
const ARGB8888 = 0x34325241;
const LINEAR = 0n;
const MODIFIER_INVALID = 0x00ffffffffffffffn;

const KIND_ORDER: Record<Layer['kind'], readonly PlaneInfo['type'][]> = {
  primary: ['primary', 'overlay', 'cursor'],
  overlay: ['overlay', 'cursor', 'primary'],
  cursor: ['cursor', 'overlay', 'primary'],
};

interface Search {
  planes: readonly PlaneInfo[];
  layers: readonly Layer[];
  test: TestAssignment;
  tests: number;
  /** Why a layer was not shown directly, by its id: the newest refusal. */
  reasons: Map<number, string>;
}

/** `planes` are those that the output may use, `layers` bottom to top. */
export function planOutput(
  planes: readonly PlaneInfo[],
  layers: readonly Layer[],
  test: TestAssignment,
): Plan {
  const sorted = [...planes].sort((a, b) => a.zpos - b.zpos || a.id - b.id);
  const search: Search = { planes: sorted, layers, test, tests: 0, reasons: new Map() };
  for (let copies = 0; copies <= layers.length; copies++) {
    const placements = descend(search, [], copies);
    if (placements !== null) return { placements, tests: search.tests, dropped: [] };
    if (search.tests >= MOST_TESTS) break;
  }
  return copyEverything(search);
}

function descend(search: Search, placed: Placement[], copies: number): Placement[] | null {
  const layer = search.layers[placed.length];
  if (layer === undefined) return placed;
  for (const candidate of candidates(search, layer, placed, copies)) {
    if (search.tests >= MOST_TESTS) return null;
    const next = [...placed, candidate];
    const joins = candidate.shadow && sharesShadow(placed, candidate);
    if (!joins) {
      search.tests++;
      const errno = search.test(next);
      if (errno !== 0) {
        if (!candidate.shadow) search.reasons.set(layer.id, refusal(candidate.plane, errno));
        continue;
      }
    }
    const result = descend(search, next, candidate.shadow ? copies - 1 : copies);
    if (result !== null) return result;
  }
  return null;
}

/** What a layer could do, best first: its plane of now, planes of its kind, other planes, a copy. */
function candidates(search: Search, layer: Layer, placed: readonly Placement[], copies: number): Placement[] {
  const below = placed.at(-1);
  const above = search.planes.filter((plane) => below === undefined || isAbove(plane, below.plane, search));
  const order = KIND_ORDER[layer.kind];
  // A primary plane must cover its CRTC on most hardware, and a picture of part of it belongs over the idle picture.
  const usable = above.filter((plane) => plane.type !== 'primary' || (layer.covers && placed.length === 0));
  const ranked = [...usable].sort(
    (a, b) =>
      Number(b.id === layer.current) - Number(a.id === layer.current) ||
      order.indexOf(a.type) - order.indexOf(b.type) ||
      search.planes.indexOf(a) - search.planes.indexOf(b),
  );
  const result: Placement[] = [];
  for (const plane of ranked) {
    const obstacle = obstacleTo(layer, plane);
    if (obstacle === null) result.push({ layer, plane, shadow: false });
    else if (!search.reasons.has(layer.id)) search.reasons.set(layer.id, obstacle);
  }
  if (copies > 0) result.push(...copiesOf(search, layer, placed, above));
  return result;
}

function copiesOf(
  search: Search,
  layer: Layer,
  placed: readonly Placement[],
  above: readonly PlaneInfo[],
): Placement[] {
  const reason = search.reasons.get(layer.id) ?? 'no hardware plane is free above what lies beneath it';
  const below = placed.at(-1);
  const joined: Placement[] = below?.shadow ? [{ layer, plane: below.plane, shadow: true, reason }] : [];
  const own = above
    .filter((plane) => planeTakes(plane, plane.type === 'primary' ? XRGB8888 : ARGB8888, LINEAR))
    .filter((plane) => plane.type !== 'cursor' && (plane.type !== 'primary' || placed.length === 0))
    .filter((plane) => layer.allowed === null || layer.allowed.includes(plane.id))
    .map((plane): Placement => ({ layer, plane, shadow: true, reason }));
  return [...joined, ...own];
}

/** Why a plane cannot show a layer directly without even asking the display; null: it might. */
function obstacleTo(layer: Layer, plane: PlaneInfo): string | null {
  if (layer.allowed !== null && !layer.allowed.includes(plane.id))
    return 'configuration: another plane is wanted';
  if (!layer.importable) return layer.reason || 'import: the display made no framebuffer of its buffers';
  if (layer.reflected && !plane.properties.has('rotation')) {
    return `rotation: ${plane.type} plane ${plane.id} cannot show a buffer whose first row is the lowest`;
  }
  const errno = layer.refusedBy.get(plane.id);
  if (errno !== undefined) return `commit: ${plane.type} plane ${plane.id} refused its frame, errno ${errno}`;
  if (!planeTakes(plane, layer.fourcc, layer.modifier)) {
    return `format: ${plane.type} plane ${plane.id} does not list ${describeFormat(layer.fourcc, layer.modifier)}`;
  }
  return null;
}

function isAbove(plane: PlaneInfo, other: PlaneInfo, search: Search): boolean {
  return search.planes.indexOf(plane) > search.planes.indexOf(other);
}

function sharesShadow(placed: readonly Placement[], candidate: Placement): boolean {
  const below = placed.at(-1);
  return below?.shadow === true && below.plane.id === candidate.plane.id;
}

/** The last resort: all in one shadow copy on the lowest plane that can show one. */
function copyEverything(search: Search): Plan {
  const plane = search.planes.find(({ type, ...rest }) =>
    planeTakes({ type, ...rest }, type === 'primary' ? XRGB8888 : ARGB8888, LINEAR),
  );
  const reasonOf = (layer: Layer) => search.reasons.get(layer.id) ?? 'the search for planes gave up';
  if (plane === undefined) {
    const dropped = search.layers.map((layer) => ({ layer, reason: 'no plane shows even a copy' }));
    return { placements: [], tests: search.tests, dropped };
  }
  const placements = search.layers.map(
    (layer): Placement => ({ layer, plane, shadow: true, reason: reasonOf(layer) }),
  );
  return { placements, tests: search.tests, dropped: [] };
}

function refusal(plane: PlaneInfo, errno: number): string {
  return `commit: ${plane.type} plane ${plane.id} was refused in TEST_ONLY, errno ${errno}`;
}

/** E.g. "XR24" or "NV12 modifier 0x100000000000001". */
function describeFormat(fourcc: number, modifier: bigint): string {
  const name = formatName(fourcc);
  return modifier === LINEAR || modifier === MODIFIER_INVALID
    ? name
    : `${name} modifier 0x${modifier.toString(16)}`;
}
