/** Every kind of guest that there is. */
import type { GuestKindEntry } from './kind.js';
import { leaseKind } from './lease-kind.js';
import { qemuKind } from './qemu-kind.js';
import { socketKind } from './socket-kind.js';
import { vfioKind } from './vfio-kind.js';
import { virtioKind } from './virtio-kind.js';

export const GUEST_KIND_ENTRIES: readonly GuestKindEntry[] = [
  socketKind,
  virtioKind,
  qemuKind,
  vfioKind,
  leaseKind,
];
