/** The layers of an output: what its guests show at the moment, in the terms of the planner and of the display's tests. */
import type { Guest, GuestBuffer } from '../guests/guest.js';
import type { PeekedFrame } from '../native/flip.js';
import { type PlaneTest, planeTestProperties } from './modeset.js';
import type { Lit } from './output.js';
import type { Layer, Placement } from './planner.js';
import type { Routes } from './routes.js';
import type { PlaneInfo } from './topology.js';
import { layoutKey, shapeKey, type Verdicts } from './verdicts.js';

export interface OutputLayer {
  layer: Layer;
  /** What the display's verdict depends on: format, size, rectangles. */
  layout: string;
  /** The same without positions. */
  shape: string;
  guest: Guest;
  /** Index of the guest's plane. */
  plane: number;
  frame: PeekedFrame;
}

/** Everything that has a frame, bottom to top. */
export async function gatherLayers(
  guests: readonly Guest[],
  lit: Lit,
  planes: readonly PlaneInfo[],
  routes: Routes,
  verdicts: Verdicts,
): Promise<OutputLayer[]> {
  const result: OutputLayer[] = [];
  for (const guest of guests) {
    for (const { index, stream } of guest.planes) {
      const frame = await routes.card.engine.peek(guest.producer, index).catch(() => null);
      if (frame === null) continue;
      if (frame.off) {
        // A picture that was copied gives its plane up: the idle picture may need it.
        await routes.rest(guest, index, index > 0 && routes.has(stream));
        continue;
      }
      const buffer = guest.buffer(frame.buffer);
      if (buffer === null) continue;
      const layout = layoutKey(buffer.layout, frame);
      const refusedBy = verdicts.refusedBy(stream, layout);
      const layer = {
        ...describe(guest, index, frame, buffer, lit, planes),
        current: routes.directPlane(stream),
        refusedBy,
      };
      const shape = shapeKey(buffer.layout, frame);
      result.push({ layer, guest, plane: index, frame, layout, shape });
    }
  }
  return result;
}

/** Whether a layer that is copied now has a frame of another shape than the one that was planned with. */
export async function movedOn(routes: Routes, layers: readonly OutputLayer[]): Promise<boolean> {
  for (const { guest, plane, layer, shape } of layers) {
    if (!routes.has(layer.id) || routes.directPlane(layer.id) !== null) continue;
    const frame = await routes.card.engine.peek(guest.producer, plane).catch(() => null);
    const buffer = frame === null || frame.off ? null : guest.buffer(frame.buffer);
    if (frame !== null && buffer !== null && shapeKey(buffer.layout, frame) !== shape) return true;
  }
  return false;
}

function describe(
  guest: Guest,
  index: number,
  frame: PeekedFrame,
  buffer: GuestBuffer,
  { mode }: Lit,
  planes: readonly PlaneInfo[],
): Omit<Layer, 'current' | 'refusedBy'> {
  const plane = guest.planes[index];
  if (plane === undefined) throw new RangeError(`guest ${guest.name} has no plane ${index}`);
  return {
    id: plane.stream,
    kind: plane.kind,
    fourcc: buffer.layout.fourcc,
    modifier: buffer.layout.modifier,
    importable: buffer.framebuffer !== 0,
    reason: buffer.reason,
    reflected: frame.reflectY,
    covers: frame.x === 0 && frame.y === 0 && frame.w === mode.width && frame.h === mode.height,
    allowed: index === 0 ? allowedPlanes(guest, planes) : null,
  };
}

function allowedPlanes({ planeRequest }: Guest, planes: readonly PlaneInfo[]): number[] | null {
  if (planeRequest === 'auto') return null;
  if (typeof planeRequest === 'number') return [planeRequest];
  return planes.filter(({ type }) => type === planeRequest).map(({ id }) => id);
}

/** Asks the display for these placements, with the output's other planes off. 0, or a positive errno. */
export function testPlacements(
  routes: Routes,
  verdicts: Verdicts,
  lit: Lit,
  planes: readonly PlaneInfo[],
  layers: readonly OutputLayer[],
  placements: readonly Placement[],
): number {
  const byId = new Map(layers.map((one) => [one.layer.id, one]));
  const tests: PlaneTest[] = planes.map((plane) => {
    const found = placements.find((one) => one.plane.id === plane.id);
    const frame = found?.shadow === false ? byId.get(found.layer.id)?.frame : undefined;
    // The idle picture stands for itself and for a shadow copy of the same size.
    return { plane, shows: frame ?? (plane.id === lit.primary.id ? idlePicture(lit) : null) };
  });
  const key = placements
    .map((one) => `${one.plane.id}=${one.shadow ? 'copy' : (byId.get(one.layer.id)?.layout ?? '')}`)
    .join(' ');
  return verdicts.test(key, () => routes.card.test(planeTestProperties(lit.crtc.id, tests)));
}

function idlePicture({ idle }: Lit): PlaneTest['shows'] {
  const { framebuffer, width, height } = idle;
  const source = { srcX: 0, srcY: 0, srcW: width * 65536, srcH: height * 65536 };
  return { framebuffer, ...source, x: 0, y: 0, w: width, h: height };
}
