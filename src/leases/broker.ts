/**
 * The lessor: who has which lease, and what becomes of it. A lease is granted from outputs that the daemon has lit, so that
 * what is granted is known to light together with everything else, and goes back to them.
 *
 *     free --take--> leased --release--> free
 *                      |  '--crash, on_crash = "keep"--> kept --take--> leased
 *                      '--revoke--> free
 */
import type { LeaseDocument } from '../api/documents.js';
import type { Config, LeaseConfig } from '../config/config.js';
import { allowsPeer, isOutputNamed } from '../config/match.js';
import type { Card } from '../kms/card.js';
import type { Output } from '../kms/output.js';
import { type Fd, isSystemError } from '../native/base.js';
import type { Log } from '../service/log.js';
import { type LeasedOutput, ShortageError, solvePlanes } from './solver.js';

/** How often a former lessee's picture is looked for on the screen, and for how long at most. */
const LOOK_MS = 50;
const MOST_LOOKS = 1200;

/** A lease that cannot be; the text says why. */
export class LeaseError extends Error {
  constructor(
    readonly kind: 'NotFound' | 'NotAllowed' | 'Busy' | 'Unavailable',
    message: string,
  ) {
    super(message);
  }
}

/** Who holds a lease, by the kernel's word. */
export interface Lessee {
  pid: number;
  uid: number;
  /** The first of its groups, or null where that is not known. */
  gid: number | null;
}

/** What a lessee gets. `fd` is the caller's. */
export interface Grant {
  fd: Fd;
  document: LeaseDocument;
}

interface Held {
  settings: LeaseConfig;
  /** Null: its lessee is gone, and its last frame was kept. */
  who: Lessee | null;
  card: Card;
  outputs: Output[];
  objects: { crtcs: number[]; connectors: number[]; planes: number[] };
  lessee: number;
  /** Keeps the lessee's framebuffers, and so its picture, until ours is there. */
  fd: Fd;
  since: number;
  ended: (reason: string) => void;
}

export class LeaseBroker {
  private readonly held = new Map<string, Held>();
  /** Grants and ends are done one after the other: each reads what the one before has left. */
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly cards: readonly Card[],
    private config: Config,
    private readonly logs: Log,
    private readonly changed: () => void,
  ) {}

  /** Leases that the configuration has no more, or otherwise, are left to their lessees until they end. */
  configure(config: Config): void {
    this.config = config;
  }

  private inTurn<T>(body: () => Promise<T>): Promise<T> {
    const result = this.turn.then(body);
    this.turn = result.catch(() => {});
    return result;
  }

  /** `ended` is called once when the lease ends otherwise than by `release`. Rejects with a LeaseError. */
  take(name: string, who: Lessee, ended: (reason: string) => void): Promise<Grant> {
    return this.inTurn(async () => {
      try {
        const grant = await this.grant(name, who, ended);
        this.logs.audit('lease', { lease: name, ...who, result: 'granted' });
        return grant;
      } catch (error) {
        if (!(error instanceof LeaseError)) throw error;
        this.logs.audit('lease', { lease: name, ...who, result: error.message });
        throw error;
      }
    });
  }

  /** Its lessee is done with it; `crashed`: it went without a word. Does nothing when somebody else has it by now. */
  release(name: string, who: Lessee, crashed: boolean): Promise<void> {
    return this.inTurn(async () => {
      const held = this.held.get(name);
      if (held === undefined || held.who !== who) return;
      this.logs.audit('lease', { lease: name, ...who, result: crashed ? 'lessee is gone' : 'released' });
      held.card.revokeLease(held.lessee);
      if (crashed && held.settings.onCrash === 'keep') {
        held.who = null;
        this.changed();
        return;
      }
      await this.giveBack(held);
    });
  }

  /** Takes it from whoever has it. Rejects with a LeaseError when nobody has. */
  revoke(name: string, by: Lessee, reason: string): Promise<void> {
    return this.inTurn(async () => {
      const held = this.held.get(name);
      if (held === undefined) {
        this.settingsOf(name);
        throw new LeaseError('NotFound', `nobody has lease ${name}`);
      }
      this.logs.audit('lease', { lease: name, ...by, result: 'revoked', reason, lessee: held.who });
      await this.end(held, reason);
    });
  }

  /** The daemon ends. */
  stop(): Promise<void> {
    return this.inTurn(async () => {
      for (const held of [...this.held.values()]) {
        held.card.revokeLease(held.lessee);
        if (held.who !== null) held.ended('the daemon ends');
        held.fd.close();
      }
      this.held.clear();
    });
  }

  private async end(held: Held, reason: string): Promise<void> {
    held.card.revokeLease(held.lessee);
    const { who } = held;
    await this.giveBack(held);
    if (who !== null) held.ended(reason);
  }

  private settingsOf(name: string): LeaseConfig {
    const settings = this.config.leases.find((one) => one.name === name);
    if (settings !== undefined) return settings;
    const known = this.config.leases.map((one) => one.name).join(', ');
    throw new LeaseError('NotFound', `there is no lease ${name}; configured are: ${known || 'none'}`);
  }

  private async grant(name: string, who: Lessee, ended: Held['ended']): Promise<Grant> {
    const settings = this.settingsOf(name);
    if (who.uid !== 0 && !allowsPeer(settings, who.uid, who.gid ?? -1)) {
      throw new LeaseError('NotAllowed', `uid ${who.uid} may not have lease ${name}`);
    }
    const former = this.held.get(name);
    if (former !== undefined && former.who !== null) {
      throw new LeaseError(
        'Busy',
        `lease ${name} is held by process ${former.who.pid}, uid ${former.who.uid}`,
      );
    }
    if (former !== undefined) return this.succeed(former, who, ended);
    const outputs = settings.outputs.map((output) => this.output(output));
    const [card] = outputs.map((output) => output.card);
    if (card === undefined) throw new RangeError('a lease without outputs');
    const stranger = outputs.find((output) => output.card !== card);
    if (stranger !== undefined) {
      throw new LeaseError(
        'Unavailable',
        `${stranger.name} is on ${stranger.card.path}, not on ${card.path}`,
      );
    }
    try {
      await this.light(card, outputs);
      return await this.lend(settings, who, card, outputs, ended);
    } catch (error) {
      await this.restore(card, outputs);
      throw error;
    }
  }

  private output(name: string): Output {
    const all = this.cards.flatMap((card) => [...card.outputs.values()]);
    const found = all.find((output) => isOutputNamed(this.config, output.identity, name));
    if (found === undefined) {
      const known = all.map((output) => output.name).join(', ');
      throw new LeaseError('Unavailable', `there is no output ${name}; known are: ${known || 'none'}`);
    }
    if (found.lent !== null) {
      const other = this.held.get(found.lent.lease);
      const holder = other?.who == null ? '' : `, which process ${other.who.pid} has`;
      throw new LeaseError('Busy', `${name} is in lease ${found.lent.lease}${holder}`);
    }
    return found;
  }

  /** All of them, with nothing that is lit now moved or switched off for it. */
  private async light(card: Card, outputs: readonly Output[]): Promise<void> {
    const dark = outputs.filter(({ lit }) => lit === null);
    if (dark.length === 0) return;
    const lit = [...card.outputs.values()].filter((one) => one.lit !== null || one.lent !== null);
    const crtcs = card.matchCrtcs([...lit, ...dark]);
    const moved = lit.find((one) => crtcs.get(one.connector.id) !== (one.lit ?? one.lent?.lit)?.crtc.id);
    const without = dark.find((one) => !crtcs.has(one.connector.id));
    if (moved !== undefined || without !== undefined) {
      const has = lit.map((one) => one.name).join(', ');
      const whom = (without ?? moved)?.name;
      throw new LeaseError('Unavailable', `no CRTC is free for ${whom}: they are used by ${has}`);
    }
    for (const output of dark) output.wantedForLease = true;
    await card.rescan();
    const failed = dark.find((one) => one.lit === null);
    if (failed !== undefined)
      throw new LeaseError('Unavailable', `${failed.name} cannot be lit: ${failed.reason}`);
  }

  private async lend(
    settings: LeaseConfig,
    who: Lessee,
    card: Card,
    outputs: Output[],
    ended: Held['ended'],
  ): Promise<Grant> {
    const parts = outputs.flatMap(({ name, lit }): LeasedOutput[] =>
      lit === null ? [] : [{ name, crtc: lit.crtc, primary: lit.primary }],
    );
    const planes = this.planesFor(settings, card, outputs, parts);
    const objects = {
      crtcs: parts.map(({ crtc }) => crtc.id),
      connectors: outputs.map(({ connector }) => connector.id),
      planes: [...planes.values()].flat(),
    };
    for (const output of outputs) await output.lend(settings.name, planes.get(output.name) ?? []);
    const { held, fd } = this.hold({ settings, who, card, outputs, objects, ended });
    this.changed();
    return { fd, document: documentOf(held) };
  }

  private planesFor(
    settings: LeaseConfig,
    card: Card,
    outputs: readonly Output[],
    parts: readonly LeasedOutput[],
  ): Map<string, number[]> {
    const holders = new Map<number, string>();
    for (const other of card.outputs.values()) {
      if (outputs.includes(other)) continue;
      const name = other.lent === null ? `output ${other.name}` : `lease ${other.lent.lease}`;
      for (const plane of other.usedPlanes()) holders.set(plane, name);
    }
    try {
      return solvePlanes(parts, settings, card.topology.planes, holders);
    } catch (error) {
      if (error instanceof ShortageError) throw new LeaseError('Unavailable', error.message);
      throw error;
    }
  }

  private create(card: Card, { crtcs, connectors, planes }: Held['objects']): { lessee: number; fd: Fd } {
    try {
      return card.createLease([...connectors, ...crtcs, ...planes]);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw new LeaseError('Unavailable', `the kernel refused the lease: ${error.message}`);
    }
  }

  /** From here on it is somebody's, who gets `fd`. Where that cannot be made, nothing is left of the lease. */
  private hold(parts: Omit<Held, 'lessee' | 'fd' | 'since'>): { held: Held; fd: Fd } {
    const { lessee, fd } = this.create(parts.card, parts.objects);
    try {
      const own = fd.dup();
      const held: Held = { ...parts, lessee, fd, since: Date.now() };
      this.held.set(parts.settings.name, held);
      return { held, fd: own };
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** The outputs of a lessee that crashed go to another one, its last frame until the first of that one. */
  private succeed(former: Held, who: Lessee, ended: Held['ended']): Grant {
    const { settings, card, outputs, objects } = former;
    const { held, fd } = this.hold({ settings, who, card, outputs, objects, ended });
    this.outlive(former);
    this.changed();
    return { fd, document: documentOf(held) };
  }

  /** Closes the former lessee's file, which takes its framebuffers along, when its picture is replaced. */
  private outlive({ card, objects, fd }: Held): void {
    const shown = () => {
      try {
        return objects.planes.map((plane) => card.device.native.plane(plane).framebuffer).join();
      } catch (error) {
        if (isSystemError(error)) return '';
        throw error;
      }
    };
    const before = shown();
    let looks = 0;
    const timer = setInterval(() => {
      if (++looks < MOST_LOOKS && shown() === before) return;
      clearInterval(timer);
      fd.close();
    }, LOOK_MS).unref();
  }

  private async giveBack(held: Held): Promise<void> {
    this.held.delete(held.settings.name);
    await this.restore(held.card, held.outputs);
    // Its framebuffers go with this, and planes that still showed one would have been switched off.
    held.fd.close();
    this.changed();
  }

  private async restore(card: Card, outputs: readonly Output[]): Promise<void> {
    for (const output of outputs) {
      output.wantedForLease = false;
      output.giveBack();
    }
    await card.rescan();
  }

  documents(): LeaseDocument[] {
    const held = [...this.held.values()];
    const free = this.config.leases.filter(({ name }) => !this.held.has(name));
    return [...held.map(documentOf), ...free.map(freeDocument)].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}

function documentOf({ settings, who, card, outputs, objects, since }: Held): LeaseDocument {
  return {
    name: settings.name,
    state: who === null ? 'kept' : 'leased',
    outputs: outputs.map(({ name }) => name),
    card: card.path,
    pid: who?.pid ?? null,
    uid: who?.uid ?? null,
    heldMs: Date.now() - since,
    ...objects,
  };
}

function freeDocument({ name, outputs }: LeaseConfig): LeaseDocument {
  return {
    name,
    state: 'free',
    outputs,
    card: null,
    pid: null,
    uid: null,
    heldMs: 0,
    crtcs: [],
    connectors: [],
    planes: [],
  };
}
