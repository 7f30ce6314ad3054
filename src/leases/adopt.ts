/** Leases that outlive the daemon: its state as one document and descriptors by name, and the way back from these. */
import { basename } from 'node:path';
import * as z from 'zod';
import type { LeaseConfig } from '../config/config.js';
import type { Card } from '../kms/card.js';
import type { Output } from '../kms/output.js';
import { type Fd, isSystemError } from '../native/base.js';
import type { Held } from './held.js';

const id = z.int().min(0).max(0xffffffff);
const ids = z.array(id).max(64);
const name = z.string().min(1).max(128);
const account = z.int().min(0).max(0xffffffff);

const leaseState = z.strictObject({
  name,
  /** Path of the card, whose descriptor is `card-` and the end of it. */
  card: name,
  lessee: id,
  who: z.strictObject({ pid: z.int().min(0), uid: account, gid: account.nullable() }).nullable(),
  since: z.number(),
  /** Names of connectors. */
  outputs: z.array(name).min(1).max(64),
  objects: z.strictObject({ crtcs: ids, connectors: ids, planes: ids, primaries: ids }),
  settings: z.strictObject({
    name,
    outputs: z.array(name).max(64),
    overlays: z.int().min(0),
    cursor: z.boolean(),
    onCrash: z.enum(['clear', 'keep']),
    uids: z.array(account).nullable(),
    gids: z.array(account).nullable(),
    units: z.array(name).nullable(),
    queue: z.int().min(0),
    transfer: z.boolean(),
    noticeMs: z.int().min(0),
  }),
});
const brokerState = z.strictObject({ version: z.literal(1), leases: z.array(leaseState).max(256) });

export type LeaseState = z.output<typeof leaseState>;
export type BrokerState = z.output<typeof brokerState>;

/** `fd` is the lease; `process` a pidfd of the lessee, null where there was none. */
export interface AdoptedLease {
  state: LeaseState;
  fd: Fd;
  process: Fd | null;
}

const fdNames = {
  lease: (lease: string) => `lease-${lease}`,
  process: (lease: string) => `process-${lease}`,
  card: (path: string) => `card-${basename(path)}`,
};

/** The descriptors are borrowed: good for as long as nothing of a lease changes. */
export function stateOf(all: readonly Held[]): { document: BrokerState; fds: Map<string, Fd> } {
  const fds = new Map<string, Fd>();
  const leases = all.map((held): LeaseState => {
    const { settings, card, lessee, who, since, outputs, objects } = held;
    fds.set(fdNames.lease(settings.name), held.fd);
    if (held.process !== null) fds.set(fdNames.process(settings.name), held.process);
    fds.set(fdNames.card(card.path), card.device.fd);
    const owner = who === null ? null : { pid: who.pid, uid: who.uid, gid: who.gid };
    const names = outputs.map((output) => output.name);
    return {
      name: settings.name,
      card: card.path,
      lessee,
      who: owner,
      since,
      outputs: names,
      objects,
      settings,
    };
  });
  return { document: { version: 1, leases }, fds };
}

/** What a former daemon has left. */
export interface FormerLeases {
  leases: AdoptedLease[];
  /** Descriptors of cards, which are their master, by path. */
  cards: Map<string, Fd>;
}

/** Takes over `fds`, of which it closes those that belong to nothing. Throws an Error for a document that is none. */
export function readState(json: string, fds: Map<string, Fd>): FormerLeases {
  const left = new Map(fds);
  const take = (key: string): Fd | null => {
    const fd = left.get(key) ?? null;
    left.delete(key);
    return fd;
  };
  try {
    const result = brokerState.safeParse(JSON.parse(json));
    if (!result.success) throw new Error(z.prettifyError(result.error));
    const cards = new Map<string, Fd>();
    const leases = result.data.leases.flatMap((state): AdoptedLease[] => {
      const card = take(fdNames.card(state.card));
      if (card !== null) cards.set(state.card, card);
      const fd = take(fdNames.lease(state.name));
      const process = take(fdNames.process(state.name));
      if (fd !== null) return [{ state, fd, process }];
      process?.close();
      return [];
    });
    return { leases, cards };
  } finally {
    for (const fd of left.values()) fd.close();
  }
}

/**
 * Lends its outputs as they are, with nothing committed. The descriptors of `lease` are taken over. A text: why it cannot be
 * gone on with; they are closed then, and the kernel's lease is for `reconcile` to end.
 */
export async function adoptLease(
  { state, fd, process }: AdoptedLease,
  cards: readonly Card[],
  settings: LeaseConfig | null,
): Promise<Held | string> {
  const refuse = (why: string) => {
    fd.close();
    process?.close();
    return why;
  };
  const card = cards.find(({ path }) => path === state.card);
  if (card === undefined) return refuse(`${state.card} is not driven`);
  if (state.who !== null && !hasLessee(card, state.lessee)) return refuse('the kernel has it no more');
  let outputs: Output[];
  try {
    const { crtcs, planes } = state.objects;
    outputs = await card.lendAsFound({ name: state.name, crtcs }, state.outputs, planes);
  } catch (error) {
    return refuse((error as Error).message);
  }
  const { who, since, lessee, objects } = state;
  const now = settings !== null && sameShape(settings, state.settings) ? settings : state.settings;
  const none = { remains: null, ending: null, suspended: false, watch: null, events: { ended: () => {} } };
  return { settings: now, who, card, outputs, objects, lessee, fd, process, since, ...none };
}

function hasLessee(card: Card, lessee: number): boolean {
  try {
    return card.device.native.lessees().includes(lessee);
  } catch (error) {
    if (isSystemError(error)) return false;
    throw error;
  }
}

/** Whether a lease by one can go on as one by the other. */
export function sameShape(a: LeaseConfig, b: LeaseConfig): boolean {
  return a.overlays === b.overlays && a.cursor === b.cursor && a.outputs.join('\n') === b.outputs.join('\n');
}
