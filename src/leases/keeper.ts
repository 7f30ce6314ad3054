/** Has the leases that are out kept by the service manager, for the daemon after this one. */
import { readFileSync, writeSync } from 'node:fs';
import { createMemfd, type Fd, isSystemError } from '../native/base.js';
import type { Logger } from '../service/log.js';
import type { FdStore } from '../service/store.js';
import { type BrokerState, type FormerLeases, readState } from './adopt.js';

const OWNER = 'leases';
const STATE = 'state';
const EMPTY = JSON.stringify({ version: 1, leases: [] } satisfies BrokerState);

export class LeaseKeeper {
  /** What is kept, by name; of the former daemon, until it is told what of that goes on. */
  private readonly kept = new Map<string, Fd>();
  private document = EMPTY;

  constructor(
    private readonly store: FdStore,
    private readonly log: Logger,
  ) {}

  /** What the former daemon has left; the caller's. Where that cannot be read, its leases end with their descriptors. */
  claim(): FormerLeases {
    const fds = this.store.claim(OWNER) ?? new Map<string, Fd>();
    const state = fds.get(STATE);
    fds.delete(STATE);
    for (const [name, fd] of fds) this.kept.set(name, fd);
    // To be replaced, whatever it says.
    if (state !== undefined) this.document = '';
    try {
      if (state === undefined) return readState(EMPTY, fds);
      return readState(readFileSync(`/proc/self/fd/${state.number}`, 'utf8'), fds);
    } catch (error) {
      this.log.error({ err: error }, 'the leases of the former daemon are lost');
      return { leases: [], cards: new Map() };
    } finally {
      state?.close();
    }
  }

  /** Brings what is kept up to date. What cannot be kept is lost at a restart, and at no other time. */
  update({ document, fds }: { document: BrokerState; fds: Map<string, Fd> }): void {
    if (!this.store.kept) return;
    for (const name of [...this.kept.keys()]) {
      if (fds.has(name)) continue;
      this.kept.delete(name);
      this.store.remove(OWNER, name);
    }
    for (const [name, fd] of fds) {
      if (this.kept.get(name) === fd) continue;
      this.kept.set(name, fd);
      this.store.put(OWNER, name, fd);
    }
    const json = JSON.stringify(document);
    if (json === this.document) return;
    try {
      this.putState(json);
      this.document = json;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.log.warn({ err: error }, 'the state of the leases is not kept for the next daemon');
    }
  }

  /** Last, so that it names nothing that is not there yet. */
  private putState(json: string): void {
    const memory = createMemfd('scanoutd-leases');
    try {
      writeSync(memory.number, json);
      this.store.put(OWNER, STATE, memory);
    } finally {
      memory.close();
    }
  }
}
