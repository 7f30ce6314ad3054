/**
 * Which planes a lease gets with its outputs: by what they can do, in one matching over all outputs of the lease, so that
 * a plane that could serve two of them goes to the one that has no other.
 */
import type { CrtcInfo, PlaneInfo, PlaneType } from '../kms/topology.js';

export interface LeasedOutput {
  /** Connector name. */
  name: string;
  crtc: CrtcInfo;
  primary: PlaneInfo;
}

export interface PlaneWish {
  overlays: number;
  cursor: boolean;
}

/** What is short, and who has it. */
export class ShortageError extends Error {}

interface Demand {
  output: LeasedOutput;
  type: PlaneType;
}

/**
 * Ids of the planes of each output, its primary plane first. `planes` are those of the card, `holders` who has which of them
 * already, by id. A cursor plane that does not exist is not missed; one that somebody else has is. Throws a ShortageError.
 */
export function solvePlanes(
  outputs: readonly LeasedOutput[],
  wish: PlaneWish,
  planes: readonly PlaneInfo[],
  holders: ReadonlyMap<number, string>,
): Map<string, number[]> {
  const demands = outputs.flatMap((output): Demand[] => [
    ...Array.from({ length: wish.overlays }, () => ({ output, type: 'overlay' as const })),
    ...(wish.cursor && fitting(output, 'cursor', planes).length > 0
      ? [{ output, type: 'cursor' as const }]
      : []),
  ]);
  const owner = new Map<number, Demand>();
  const place = (demand: Demand, seen: Set<number>): boolean => {
    for (const { id } of fitting(demand.output, demand.type, planes)) {
      if (seen.has(id) || holders.has(id)) continue;
      seen.add(id);
      const holder = owner.get(id);
      if (holder !== undefined && !place(holder, seen)) continue;
      owner.set(id, demand);
      return true;
    }
    return false;
  };
  for (const demand of demands) {
    if (!place(demand, new Set())) throw shortage(demand, wish, planes, holders);
  }
  return new Map(
    outputs.map((output) => {
      const own = [...owner].filter(([, demand]) => demand.output === output).map(([id]) => id);
      return [output.name, [output.primary.id, ...own.sort((a, b) => a - b)]];
    }),
  );
}

function fitting({ crtc }: LeasedOutput, type: PlaneType, planes: readonly PlaneInfo[]): PlaneInfo[] {
  return planes.filter((plane) => plane.type === type && (plane.possibleCrtcs & (1 << crtc.index)) !== 0);
}

function shortage(
  { output, type }: Demand,
  wish: PlaneWish,
  planes: readonly PlaneInfo[],
  holders: ReadonlyMap<number, string>,
): ShortageError {
  const all = fitting(output, type, planes);
  const held = all.flatMap(({ id }) => {
    const holder = holders.get(id);
    return holder === undefined ? [] : [`plane ${id} by ${holder}`];
  });
  const wanted = type === 'cursor' ? 'a cursor plane' : `${wish.overlays} overlay planes`;
  const why = held.length > 0 ? `held are ${held.join(', ')}` : `its CRTC has ${all.length}`;
  return new ShortageError(`${output.name}: ${wanted} cannot be had: ${why}`);
}
