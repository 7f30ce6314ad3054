/** The properties of mode sets and of plane tests: what a commit says, as plain triples. */
import type { PeekedFrame } from '../native/flip.js';
import type { PropertyValue } from './device.js';
import type { ConnectorInfo, CrtcInfo, PlaneInfo, PropertyIds, Topology } from './topology.js';

/** An output as a mode set lights it: one picture of the daemon's own on the primary plane. */
export interface LitOutput {
  connector: ConnectorInfo;
  crtc: CrtcInfo;
  primary: PlaneInfo;
  modeBlob: number;
  framebuffer: number;
  width: number;
  height: number;
  writeback: ConnectorInfo | null;
}

/** Bits of the property `rotation` (DRM_MODE_ROTATE_0, DRM_MODE_REFLECT_Y). */
const ROTATE_0 = 1;
const REFLECT_Y = 1 << 5;

/** What a plane may carry over from whoever was master before, and its neutral value. */
const PLANE_NEUTRAL: readonly (readonly [name: string, value: number])[] = [
  ['rotation', ROTATE_0],
  ['alpha', 0xffff],
  ['pixel blend mode', 0],
  ['SCALING_FILTER', 0],
  ['FB_DAMAGE_CLIPS', 0],
  // Drivers differ in what they begin with. The guest protocol says BT.601 in limited range, and so does the copy.
  ['COLOR_ENCODING', 0],
  ['COLOR_RANGE', 0],
];
const CRTC_NEUTRAL = ['GAMMA_LUT', 'DEGAMMA_LUT', 'CTM', 'VRR_ENABLED', 'SCALING_FILTER'] as const;
const CONNECTOR_NEUTRAL = ['HDR_OUTPUT_METADATA'] as const;

/** Adds values by property name and leaves out what the driver does not have. */
class Properties {
  readonly list: PropertyValue[] = [];

  add(object: { id: number; properties: PropertyIds }, name: string, value: number | bigint): void {
    const property = object.properties.get(name);
    if (property !== undefined) this.list.push([object.id, property, value]);
  }
}

/**
 * Takes the CRTCs in `crtcs` over as a whole: what is lit gets its mode and one picture, what is not is switched off, and
 * planes and properties that a former master left behind are put back to neutral. What other CRTCs use is left alone: the
 * planes `elsewhere`, and those that only they could have taken since `topology` was read.
 */
export function modesetProperties(
  topology: Topology,
  crtcs: ReadonlySet<number>,
  lit: readonly LitOutput[],
  elsewhere: ReadonlySet<number>,
): PropertyValue[] {
  const properties = new Properties();
  for (const crtc of topology.crtcs.filter(({ id }) => crtcs.has(id))) {
    const output = lit.find((one) => one.crtc.id === crtc.id);
    properties.add(crtc, 'MODE_ID', output?.modeBlob ?? 0);
    properties.add(crtc, 'ACTIVE', output === undefined ? 0 : 1);
    for (const name of CRTC_NEUTRAL) properties.add(crtc, name, 0);
  }
  for (const connector of topology.connectors.filter((one) => concerns(one, crtcs, lit))) {
    const output = lit.find((one) => one.connector.id === connector.id || one.writeback?.id === connector.id);
    properties.add(connector, 'CRTC_ID', output?.crtc.id ?? 0);
    for (const name of CONNECTOR_NEUTRAL) properties.add(connector, name, 0);
  }
  for (const plane of ownPlanes(topology, crtcs, lit, elsewhere)) {
    const output = lit.find((one) => one.primary.id === plane.id);
    if (output === undefined) {
      properties.add(plane, 'FB_ID', 0);
      properties.add(plane, 'CRTC_ID', 0);
    } else {
      addWholePicture(properties, plane, output);
    }
    for (const [name, value] of PLANE_NEUTRAL) properties.add(plane, name, value);
  }
  return properties.list;
}

function concerns(connector: ConnectorInfo, crtcs: ReadonlySet<number>, lit: readonly LitOutput[]): boolean {
  const wanted = lit.some((one) => one.connector.id === connector.id || one.writeback?.id === connector.id);
  return wanted || crtcs.has(connector.crtc);
}

/** Planes that are on the CRTCs, that are to be, and those that no other CRTC can use. */
function ownPlanes(
  topology: Topology,
  crtcs: ReadonlySet<number>,
  lit: readonly LitOutput[],
  elsewhere: ReadonlySet<number>,
): PlaneInfo[] {
  const others = topology.crtcs
    .filter(({ id }) => !crtcs.has(id))
    .reduce((mask, { index }) => mask | (1 << index), 0);
  return topology.planes.filter(
    (plane) =>
      lit.some(({ primary }) => primary.id === plane.id) ||
      (!elsewhere.has(plane.id) && (crtcs.has(plane.crtc) || (plane.possibleCrtcs & others) === 0)),
  );
}

function addWholePicture(properties: Properties, plane: PlaneInfo, output: LitOutput): void {
  addPlane(properties, plane, output.crtc.id, output.framebuffer, {
    srcX: 0,
    srcY: 0,
    srcW: output.width * 65536,
    srcH: output.height * 65536,
    x: 0,
    y: 0,
    w: output.width,
    h: output.height,
  });
}

type Rectangles = Omit<PeekedFrame, 'framebuffer' | 'buffer' | 'sequence' | 'off' | 'reflectY'> & {
  reflectY?: boolean;
};

function addPlane(
  properties: Properties,
  plane: PlaneInfo,
  crtc: number,
  framebuffer: number,
  place: Rectangles,
): void {
  properties.add(plane, 'FB_ID', framebuffer);
  properties.add(plane, 'CRTC_ID', crtc);
  properties.add(plane, 'SRC_X', place.srcX);
  properties.add(plane, 'SRC_Y', place.srcY);
  properties.add(plane, 'SRC_W', place.srcW);
  properties.add(plane, 'SRC_H', place.srcH);
  properties.add(plane, 'CRTC_X', BigInt.asUintN(64, BigInt(place.x)));
  properties.add(plane, 'CRTC_Y', BigInt.asUintN(64, BigInt(place.y)));
  properties.add(plane, 'CRTC_W', place.w);
  properties.add(plane, 'CRTC_H', place.h);
}

/** One plane of a test: what it would show, or null for nothing. */
export interface PlaneTest {
  plane: PlaneInfo;
  shows: ({ framebuffer: number } & Rectangles) | null;
}

export function planeTestProperties(crtc: number, tests: readonly PlaneTest[]): PropertyValue[] {
  const properties = new Properties();
  for (const { plane, shows } of tests) {
    if (shows !== null) {
      addPlane(properties, plane, crtc, shows.framebuffer, shows);
      properties.add(plane, 'rotation', shows.reflectY === true ? ROTATE_0 | REFLECT_Y : ROTATE_0);
    } else {
      properties.add(plane, 'FB_ID', 0);
      properties.add(plane, 'CRTC_ID', 0);
    }
  }
  return properties.list;
}
