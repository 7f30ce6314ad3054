/** How a guest's plane is told in `scanoutctl guests`, the same for every kind. */
import type { GuestPlaneDocument } from '../api/documents.js';
import type { GuestPlaneStats } from '../native/guests.js';
import { formatName } from '../native/kms.js';
import type { FlipStatistics } from '../service/statistics.js';
import type { GuestBuffer, GuestPlane, PlaneShown } from './guest.js';

/** `stats` is null for a guest that has left, `buffer` the one of its newest frame. */
export function planeDocument(
  plane: GuestPlane,
  how: PlaneShown,
  present: GuestPlaneDocument['present'],
  stats: GuestPlaneStats | null,
  buffer: GuestBuffer | null,
  statistics: FlipStatistics,
): GuestPlaneDocument {
  return {
    index: plane.index,
    kind: plane.kind,
    state: how.state,
    reason: how.reason,
    plane: how.plane,
    present,
    fourcc: buffer === null ? null : formatName(buffer.layout.fourcc),
    modifier: buffer === null ? null : `0x${buffer.layout.modifier.toString(16)}`,
    size: buffer === null ? null : { width: buffer.layout.width, height: buffer.layout.height },
    flips: stats?.flips ?? 0,
    superseded: stats?.superseded ?? 0,
    missed: stats?.missed ?? 0,
    refused: stats?.refused ?? 0,
    latencyUs: statistics.latency(plane.stream),
  };
}
