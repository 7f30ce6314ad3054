/** The commits that take the screen back from another DRM master. */
import { isSystemError } from '../native/base.js';
import type { Card } from './card.js';
import type { PropertyValue } from './device.js';
import { isTheirs, type LentState, type Restoration, restoration, wasFaster } from './lent-state.js';
import { asLit, asTarget, type Lighting } from './lighting.js';
import { modesetProperties } from './modeset.js';
import type { Lit, Output } from './output.js';

export class Retake {
  constructor(
    private readonly card: Card,
    private readonly lighting: Lighting,
  ) {}

  /**
   * After another master: puts everything back in one commit where that works, else one output after the other. What
   * lessees had is brought back as `states` say, of which `theirs` are the framebuffers. False: there is no master.
   */
  async everything(states: readonly LentState[], theirs: ReadonlySet<number>): Promise<boolean> {
    const outputs = [...this.card.outputs.values()];
    const lit = outputs.flatMap((output) => (output.lit === null ? [] : [{ output, lit: output.lit }]));
    const noted = new Map(states.map((state) => [state.output, state]));
    const lent = outputs
      .filter((output) => output.lent !== null)
      .map((output) => noted.get(output) ?? { output, noted: [] });
    if (await this.tryRetake(lit, lent, theirs, true)) return true;
    await this.tryRetake([], [], theirs, true);
    for (const one of lit) {
      if (await this.tryRetake([one], [], theirs, false)) continue;
      if (!this.card.device.isMaster()) return false;
      one.output.reason = 'mode set after a pause refused';
      await one.output.darken();
      this.lighting.discard(one.lit);
    }
    for (const one of lent) await this.tryRetake([], [one], theirs, false);
    return this.card.device.isMaster();
  }

  /** `all`: the CRTCs and planes of nobody as well, which are switched off. */
  private async tryRetake(
    lit: readonly { output: Output; lit: Lit }[],
    lent: readonly LentState[],
    theirs: ReadonlySet<number>,
    all: boolean,
  ): Promise<boolean> {
    const { card } = this;
    const restorations: Restoration[] = [];
    try {
      for (const state of lent) {
        const one = this.restorationOf(state, theirs);
        if (one !== null) restorations.push(one);
      }
      const lentCrtcs = new Set([...card.outputs.values()].map((output) => output.lent?.lit.crtc.id));
      const rest = card.topology.crtcs.filter(({ id }) => !lentCrtcs.has(id)).map(({ id }) => id);
      const crtcs = new Set(all ? rest : lit.map((one) => one.lit.crtc.id));
      const last = restorations.flatMap(({ properties }) => properties);
      await this.lighting.commit(crtcs, lit.map(asLit), lit.map(asTarget), {
        first: this.strays(lentCrtcs),
        last,
      });
      return true;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      const names = [...lit, ...lent].map(({ output }) => output.name);
      card.log.warn({ card: card.path, outputs: names, err: error }, 'mode set after a pause refused');
      return false;
    } finally {
      for (const { blobs } of restorations) for (const blob of blobs) blob.destroy();
    }
  }

  /** What a lessee has set already is left alone, but for the writeback connector, which is not its own. */
  private restorationOf(state: LentState, theirs: ReadonlySet<number>): Restoration | null {
    const { card } = this;
    if (wasFaster(card, state, theirs))
      return restoration(card, state, state.output.lent?.lit.writeback?.id ?? 0);
    return isTheirs(state, theirs) ? restoration(card, state) : this.asGranted(state.output);
  }

  /** A lent output as its lessee got it: its picture is gone. */
  private asGranted(output: Output): Restoration | null {
    const { lent } = output;
    if (lent === null) return null;
    const { topology, outputs } = this.card;
    const others = [...outputs.values()].filter((one) => one !== output);
    const elsewhere = new Set(others.flatMap((one) => [...one.usedPlanes()]));
    const lit = asLit({ output, lit: lent.lit });
    const properties = modesetProperties(topology, new Set([lit.crtc.id]), [lit], elsewhere);
    return { properties, blobs: [] };
  }

  /** What another master has put on CRTCs that are lent: connectors and planes that are not leased with them. */
  private strays(lentCrtcs: ReadonlySet<number | undefined>): PropertyValue[] {
    const { topology, outputs } = this.card;
    const lent = [...outputs.values()].filter((output) => output.lent !== null);
    const planes = new Set(lent.flatMap((output) => output.lentPlaneIds));
    const connectors = new Set(
      lent.flatMap(({ connector, lent: it }) => [connector.id, it?.lit.writeback?.id]),
    );
    const off = (object: { id: number; properties: ReadonlyMap<string, number> }, names: readonly string[]) =>
      names.flatMap((name): PropertyValue[] => {
        const property = object.properties.get(name);
        return property === undefined ? [] : [[object.id, property, 0]];
      });
    return [
      ...topology.connectors
        .filter(({ id, crtc }) => lentCrtcs.has(crtc) && !connectors.has(id))
        .flatMap((connector) => off(connector, ['CRTC_ID'])),
      ...topology.planes
        .filter(({ id, crtc }) => lentCrtcs.has(crtc) && !planes.has(id))
        .flatMap((plane) => off(plane, ['FB_ID', 'CRTC_ID'])),
    ];
  }
}
