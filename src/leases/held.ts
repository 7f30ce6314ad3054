/** A lease that somebody has, and what is said of it. */
import type { LeaseDocument } from '../api/documents.js';
import type { LeaseConfig } from '../config/config.js';
import type { Card } from '../kms/card.js';
import type { Output } from '../kms/output.js';
import type { Fd } from '../native/base.js';
import type { ProcessWatch } from '../native/process.js';
import type { Remains } from './remains.js';

/** Who holds a lease, by the kernel's word. */
export interface Lessee {
  pid: number;
  uid: number;
  /** The first of its groups, or null where that is not known. */
  gid: number | null;
}

/** What a lessee is told. */
export interface LesseeEvents {
  /** The lease is over, and why. Once, and not for `release`. */
  ended(reason: string): void;
  /** The lease will be over in so many milliseconds, if it is not released before. Absent: it cannot be told, and gets no time. */
  notice?(reason: string, ms: number): void;
  /** The daemon has lost DRM master, or has it again. What it commits meanwhile fails with EACCES. */
  suspended?(suspended: boolean): void;
}

/** What a lease has of its card: ids, those of one output at the same place in `crtcs` and `connectors`. */
export interface LeasedObjects {
  crtcs: number[];
  connectors: number[];
  planes: number[];
  /** Of `planes`, the primary one of each output. */
  primaries: number[];
}

/** What a lease is made of, and whose it is. */
export interface LeaseParts {
  settings: LeaseConfig;
  /** Null: its lessee is gone, and its last frame was kept. */
  who: Lessee | null;
  events: LesseeEvents;
  card: Card;
  outputs: Output[];
  objects: LeasedObjects;
}

export interface Held extends LeaseParts {
  /** The kernel's id of it. */
  lessee: number;
  /** Keeps the lessee's framebuffers, and so its picture, until ours is there. */
  fd: Fd;
  /** Milliseconds since the epoch. */
  since: number;
  /** The last frame of who had it before, until this one has shown its first. */
  remains: Remains | null;
  ending: Ending | null;
  suspended: boolean;
  /** Of a lessee that has no connection to this daemon, but had one to the former: it has the lease while it lives. */
  watch: ProcessWatch | null;
  /** Of the lessee, so that the next daemon can watch it; null where there is none. */
  process: Fd | null;
}

/** It was told that the lease will be over. */
export interface Ending {
  reason: string;
  /** Milliseconds since the epoch. */
  at: number;
  timer: NodeJS.Timeout;
  over: Promise<void>;
  /** Resolves `over`. */
  done(): void;
}

export function documentOf(held: Held): LeaseDocument {
  const { settings, who, card, outputs, objects, since, ending, suspended } = held;
  const { crtcs, connectors, planes } = objects;
  const now = Date.now();
  return {
    name: settings.name,
    state: who === null ? 'kept' : 'leased',
    outputs: outputs.map(({ name }) => name),
    card: card.path,
    pid: who?.pid ?? null,
    uid: who?.uid ?? null,
    heldMs: now - since,
    ending: ending === null ? null : { reason: ending.reason, inMs: Math.max(ending.at - now, 0) },
    suspended,
    waiting: [],
    crtcs,
    connectors,
    planes,
  };
}

export function freeDocument({ name, outputs }: LeaseConfig): LeaseDocument {
  return {
    name,
    state: 'free',
    outputs,
    card: null,
    pid: null,
    uid: null,
    heldMs: 0,
    ending: null,
    suspended: false,
    waiting: [],
    crtcs: [],
    connectors: [],
    planes: [],
  };
}
