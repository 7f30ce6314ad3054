/** What a card has, as the planner sees it: plain data, made from the kernel's answers by card.ts. */
import type { EdidIdentity } from './edid.js';

export type PlaneType = 'primary' | 'overlay' | 'cursor';

/** Property ids by name. */
export type PropertyIds = ReadonlyMap<string, number>;

export interface CrtcInfo {
  id: number;
  /** Bit in every possible_crtcs mask. */
  index: number;
  properties: PropertyIds;
}

export interface ModeInfo {
  width: number;
  height: number;
  /** Thousandths of a hertz. */
  refreshMhz: number;
  preferred: boolean;
  interlaced: boolean;
  /** struct drm_mode_modeinfo, for a mode blob. */
  raw: Uint8Array;
}

export interface ConnectorInfo {
  id: number;
  /** E.g. HDMI-A-1. */
  name: string;
  connected: boolean;
  writeback: boolean;
  possibleCrtcs: number;
  /** CRTC that the kernel has it on, 0 for none. */
  crtc: number;
  modes: ModeInfo[];
  identity: EdidIdentity | null;
  /** As the kernel has it, not checked; null where there is none. */
  edid: Uint8Array | null;
  properties: PropertyIds;
}

export interface PlaneInfo {
  id: number;
  type: PlaneType;
  possibleCrtcs: number;
  /** CRTC that the kernel has it on, 0 for none. */
  crtc: number;
  /** Modifiers by fourcc; an empty list where the driver has no IN_FORMATS: no modifier may be given then. */
  formats: ReadonlyMap<number, readonly bigint[]>;
  /** Stacking order where the driver says one, else by type: primary below overlays below cursors. */
  zpos: number;
  properties: PropertyIds;
}

export interface Topology {
  crtcs: CrtcInfo[];
  connectors: ConnectorInfo[];
  planes: PlaneInfo[];
}

export const DRM_FORMAT_MOD_LINEAR = 0n;
export const DRM_FORMAT_MOD_INVALID = 0x00ffffffffffffffn;

/** Whether a plane lists the format. No modifier given (INVALID) fits any. */
export function planeTakes(plane: PlaneInfo, fourcc: number, modifier: bigint): boolean {
  const modifiers = plane.formats.get(fourcc);
  if (modifiers === undefined) return false;
  if (modifier === DRM_FORMAT_MOD_INVALID || modifiers.length === 0) return true;
  return modifiers.includes(modifier);
}

/** A connector or a plane: something that can serve some CRTCs. */
type NeedsCrtc = Pick<ConnectorInfo, 'id' | 'possibleCrtcs'>;

/**
 * Gives each connector a CRTC: the largest matching (augmenting paths), and of those one that leaves `current`
 * assignments alone as far as they hold. Connectors that get none are absent; the first in the list come first.
 */
export function assignCrtcs(
  connectors: readonly NeedsCrtc[],
  crtcs: readonly CrtcInfo[],
  current: ReadonlyMap<number, number>,
): Map<number, number> {
  const owner = new Map<number, NeedsCrtc>();
  const fits = (connector: NeedsCrtc, crtc: CrtcInfo) => (connector.possibleCrtcs & (1 << crtc.index)) !== 0;
  for (const connector of connectors) {
    const crtc = crtcs.find(({ id }) => id === current.get(connector.id));
    if (crtc !== undefined && fits(connector, crtc) && !owner.has(crtc.id)) owner.set(crtc.id, connector);
  }
  const place = (connector: NeedsCrtc, seen: Set<number>): boolean => {
    // Free ones first: whoever has a CRTC moves only where there is no other way.
    const freeFirst = [...crtcs].sort((a, b) => Number(owner.has(a.id)) - Number(owner.has(b.id)));
    for (const crtc of freeFirst) {
      if (!fits(connector, crtc) || seen.has(crtc.id)) continue;
      seen.add(crtc.id);
      const holder = owner.get(crtc.id);
      if (holder === undefined || place(holder, seen)) {
        owner.set(crtc.id, connector);
        return true;
      }
    }
    return false;
  };
  const placed = new Set([...owner.values()].map(({ id }) => id));
  for (const connector of connectors) {
    if (!placed.has(connector.id)) place(connector, new Set());
  }
  return new Map([...owner].map(([crtc, connector]) => [connector.id, crtc]));
}

/** A writeback connector for every CRTC that can have one of its own. Keyed by CRTC id. */
export function assignWriteback(topology: Topology, lit: readonly number[]): Map<number, ConnectorInfo> {
  const writebacks = topology.connectors.filter(({ writeback }) => writeback);
  const crtcs = topology.crtcs.filter(({ id }) => lit.includes(id));
  const byConnector = assignCrtcs(writebacks, crtcs, new Map());
  const result = new Map<number, ConnectorInfo>();
  for (const connector of writebacks) {
    const crtc = byConnector.get(connector.id);
    if (crtc !== undefined) result.set(crtc, connector);
  }
  return result;
}

/**
 * The primary plane of each CRTC. The kernel does not say which belongs to which; where one plane could serve several
 * CRTCs each CRTC gets one of its own, again by matching.
 */
export function assignPrimaries(topology: Topology): Map<number, PlaneInfo> {
  const primaries = topology.planes.filter(({ type }) => type === 'primary');
  const byPlane = assignCrtcs(primaries, topology.crtcs, new Map());
  const result = new Map<number, PlaneInfo>();
  for (const plane of primaries) {
    const crtc = byPlane.get(plane.id);
    if (crtc !== undefined) result.set(crtc, plane);
  }
  return result;
}
