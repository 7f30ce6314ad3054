/** The files that the measured programs leave, and what they say together: one sample a flip. */
import { readFileSync } from 'node:fs';

/** Rows of test/bench/guest.c. */
export const KICK_COLUMNS = ['guest', 'sequence', 'kickNs', 'presentedNs', 'vblank', 'lost'] as const;
/** Rows of test/bench/stamp.c. `object`: of the card with minor number n, its id plus n * 2^32. */
export const STAMP_COLUMNS = ['object', 'enterNs', 'leaveNs', 'error'] as const;

const STAMP_HEADER = 4;
/** A frame that is there less than this before a vblank was not in time for it, as the daemon counts too. */
const GRACE_NS = 1_000_000;

export interface Kick {
  guest: number;
  sequence: number;
  kickNs: number;
  presentedNs: number;
  lost: boolean;
}

export interface Stamp {
  object: number;
  enterNs: number;
  leaveNs: number;
  error: number;
}

/** Where a guest's frames go. */
export interface Place {
  /** As in the stamps. */
  plane: number;
  /** A number that guests of one CRTC share. */
  crtc: number;
}

/** One frame's way. All in nanoseconds. */
export interface Flip {
  guest: number;
  kickNs: number;
  /**
   * From when it could be committed until the commit's entry: from its kick, or from the flip that freed its CRTC where
   * one was in flight.
   */
  latencyNs: number;
  /** Duration of the commit ioctl. */
  commitNs: number;
  presentedNs: number;
  /** Vblanks that it was in time for and did not make. */
  missed: number;
}

export function readKicks(path: string): Kick[] {
  const rows = doubles(path);
  const kicks: Kick[] = [];
  for (let at = 0; at + KICK_COLUMNS.length <= rows.length; at += KICK_COLUMNS.length) {
    const [guest = 0, sequence = 0, kickNs = 0, presentedNs = 0, , lost = 0] = rows.subarray(at, at + 6);
    kicks.push({ guest, sequence, kickNs, presentedNs, lost: lost !== 0 });
  }
  return kicks;
}

export function readStamps(path: string): Stamp[] {
  const file = doubles(path);
  const wanted = file[0] ?? 0;
  const rows = file.subarray(STAMP_HEADER);
  const count = Math.min(wanted, Math.floor(rows.length / STAMP_COLUMNS.length));
  if (count < wanted) throw new Error(`${path}: ${wanted - count} stamps did not fit`);
  return Array.from({ length: count }, (_, i) => {
    const [object = 0, enterNs = 0, leaveNs = 0, error = 0] = rows.subarray(i * 4, i * 4 + 4);
    return { object, enterNs, leaveNs, error };
  });
}

/**
 * Finds each frame's commit: the first one of its plane after its kick. Guests have one frame in flight, so there is no
 * doubt which it is. `places`: by number of the guest. Frames that were lost or have no commit are left out.
 */
export function matchFlips(
  kicks: readonly Kick[],
  stamps: readonly Stamp[],
  places: readonly Place[],
  periodNs: number,
): Flip[] {
  const commits = new Map<number, Stamp[]>();
  for (const stamp of stamps) {
    if (stamp.error !== 0) continue;
    const list = commits.get(stamp.object) ?? [];
    commits.set(stamp.object, list);
    list.push(stamp);
  }
  const vblanks = flipTimes(kicks, places);
  return kicks.flatMap((kick) => {
    const place = places[kick.guest];
    if (place === undefined || kick.lost) return [];
    const list = commits.get(place.plane) ?? [];
    const commit = list[firstAt(list, (stamp) => stamp.enterNs >= kick.kickNs)];
    if (commit === undefined || commit.enterNs > kick.presentedNs + GRACE_NS) return [];
    const times = vblanks.get(place.crtc) ?? [];
    const freed = times[firstAt(times, (time) => time > commit.enterNs) - 1] ?? 0;
    const since = Math.max(kick.kickNs, freed);
    return {
      guest: kick.guest,
      kickNs: kick.kickNs,
      latencyNs: commit.enterNs - since,
      commitNs: commit.leaveNs - commit.enterNs,
      presentedNs: kick.presentedNs,
      missed: Math.max(0, Math.floor((kick.presentedNs - since - GRACE_NS) / periodNs)),
    };
  });
}

/** Times of all flips of each CRTC, ascending. */
function flipTimes(kicks: readonly Kick[], places: readonly Place[]): Map<number, number[]> {
  const times = new Map<number, number[]>();
  for (const { guest, presentedNs, lost } of kicks) {
    const crtc = places[guest]?.crtc;
    if (crtc === undefined || lost) continue;
    const list = times.get(crtc) ?? [];
    times.set(crtc, list);
    list.push(presentedNs);
  }
  for (const list of times.values()) list.sort((a, b) => a - b);
  return times;
}

/** Index of the first element for which `holds`, which stays true after it; the length when there is none. */
function firstAt<T>(list: readonly T[], holds: (element: T) => boolean): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(list[middle] as T)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A file of doubles. Copied, since a small file's bytes may lie unaligned in a shared pool. */
export function doubles(path: string): Float64Array {
  const bytes = readFileSync(path);
  const whole = bytes.byteLength - (bytes.byteLength % 8);
  return new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + whole));
}
