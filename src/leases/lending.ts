/**
 * What a lease takes of the cards and gives back. It is made of outputs that the daemon has lit, so that what is granted is
 * known to light together with everything else, and goes back to them.
 */
import type { Config, LeaseConfig } from '../config/config.js';
import { isOutputNamed } from '../config/match.js';
import type { Card } from '../kms/card.js';
import type { Output } from '../kms/output.js';
import { type Fd, isSystemError } from '../native/base.js';
import { LeaseError } from './errors.js';
import type { LeasedObjects } from './held.js';
import { type LeasedOutput, ShortageError, solvePlanes } from './solver.js';

export interface Lent {
  card: Card;
  outputs: Output[];
  objects: LeasedObjects;
}

export class Lending {
  /** `holder`: the process that has a lease, for what is said to others. */
  constructor(
    private readonly cards: readonly Card[],
    private readonly holder: (lease: string) => number | null,
  ) {}

  /** Takes the outputs from the daemon. Rejects with a LeaseError; nothing has changed then. */
  async lend(settings: LeaseConfig, config: Config): Promise<Lent> {
    const outputs = settings.outputs.map((name) => this.output(name, config));
    const [card] = outputs.map((output) => output.card);
    if (card === undefined) throw new RangeError('a lease without outputs');
    const stranger = outputs.find((output) => output.card !== card);
    if (stranger !== undefined) {
      throw new LeaseError(
        'Unavailable',
        `${stranger.name} is on ${stranger.card.path}, not on ${card.path}`,
      );
    }
    const twice = outputs.find((output, i) => outputs.indexOf(output) !== i);
    if (twice !== undefined)
      throw new LeaseError('Unavailable', `lease ${settings.name} names output ${twice.name} twice`);
    mayLease(card);
    try {
      await light(card, outputs);
      const parts = outputs.flatMap(({ name, lit }): LeasedOutput[] =>
        lit === null ? [] : [{ name, crtc: lit.crtc, primary: lit.primary }],
      );
      const planes = this.planesFor(settings, card, outputs, parts);
      const objects = {
        crtcs: parts.map(({ crtc }) => crtc.id),
        connectors: outputs.map(({ connector }) => connector.id),
        planes: [...planes.values()].flat(),
        primaries: parts.map(({ primary }) => primary.id),
      };
      for (const output of outputs) await output.lend(settings.name, planes.get(output.name) ?? []);
      return { card, outputs, objects };
    } catch (error) {
      await this.giveBack(card, outputs);
      throw error;
    }
  }

  /** The outputs are the daemon's again, straight from the lessee's picture to its own. */
  async giveBack(card: Card, outputs: readonly Output[]): Promise<void> {
    for (const output of outputs) {
      output.wantedForLease = false;
      output.giveBack();
    }
    await card.rescan();
  }

  /** What is not there, or somebody else's, may be had later. */
  private output(name: string, config: Config): Output {
    const all = this.cards.flatMap((card) => [...card.outputs.values()]);
    const found = all.find((output) => isOutputNamed(config, output.identity, name));
    if (found === undefined) {
      const known = all.map((output) => output.name).join(', ');
      throw new LeaseError('Unavailable', `there is no output ${name}; known are: ${known || 'none'}`, true);
    }
    if (found.lent !== null) {
      const pid = this.holder(found.lent.lease);
      const who = pid === null ? '' : `, which process ${pid} has`;
      throw new LeaseError('Busy', `${name} is in lease ${found.lent.lease}${who}`, true);
    }
    if (!found.connector.connected) {
      throw new LeaseError('Unavailable', `${name} cannot be lit: nothing is connected`, true);
    }
    return found;
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
}

/** All of them, with nothing that is lit now moved or switched off for it. */
async function light(card: Card, outputs: readonly Output[]): Promise<void> {
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

/** Throws a LeaseError; master comes back, what is a lease itself stays one. */
function mayLease(card: Card): void {
  const reason = card.lessor.refusal();
  if (reason !== null) throw new LeaseError('Unavailable', reason, card.paused !== null);
}

/** The kernel's lease. Throws a LeaseError. `fd` is the caller's. */
export function createLease(
  card: Card,
  { crtcs, connectors, planes }: LeasedObjects,
): { lessee: number; fd: Fd } {
  mayLease(card);
  try {
    return card.lessor.create([...connectors, ...crtcs, ...planes]);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new LeaseError('Unavailable', `the kernel refused the lease: ${error.message}`);
  }
}
