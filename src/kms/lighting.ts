/** Mode sets: which outputs are lit, in which mode, and what to do when the display refuses. */
import { pickMode } from '../config/match.js';
import { isSystemError } from '../native/base.js';
import type { Card } from './card.js';
import type { PropertyValue } from './device.js';
import { drawIdlePicture } from './idle-picture.js';
import { type LitOutput, modesetProperties } from './modeset.js';
import type { Lit, Output } from './output.js';
import {
  assignPrimaries,
  assignWriteback,
  type CrtcInfo,
  type ModeInfo,
  type PlaneInfo,
} from './topology.js';

const DRM_MODE_ATOMIC_ALLOW_MODESET = 0x0400;
const XRGB8888 = 0x34325258;
/** How many modes are tried on one output before it stays dark. */
const MOST_MODES = 4;

interface Candidate {
  output: Output;
  crtc: CrtcInfo;
  primary: PlaneInfo;
  modes: ModeInfo[];
}

export class Lighting {
  constructor(private readonly card: Card) {}

  /** Brings every output to what its connector and its settings say. */
  async update(takeover: boolean): Promise<void> {
    const outputs = [...this.card.outputs.values()];
    for (const output of outputs) await this.restore(output);
    const wanted = outputs.filter((output) => output.lent === null && this.wants(output));
    // What is lent keeps its CRTC.
    const crtcs = this.card.matchCrtcs([...outputs.filter(({ lent }) => lent !== null), ...wanted]);
    const keeps = (output: Output) =>
      output.lit !== null && wanted.includes(output) && !this.mustRelight(output, crtcs);
    const dark = outputs.filter((output) => output.lit !== null && !keeps(output));
    if (dark.length > 0) await this.extinguish(dark);
    const candidates = wanted
      .filter(({ lit }) => lit === null)
      .flatMap((output) => this.candidate(output, crtcs));
    await this.light(candidates, takeover);
  }

  /** Lights what was lent, straight from its lessee's picture to ours. */
  private async restore(output: Output): Promise<void> {
    const lit = output.returned;
    if (lit === null) return;
    try {
      await this.modeset([{ output, lit }], false);
      output.returned = null;
      output.lit = lit;
      await output.showIdle(lit);
      await output.relit();
      this.card.log.info({ output: output.name }, 'lit again after its lease');
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.card.log.warn({ output: output.name, err: error }, 'mode set after a lease refused');
      output.returned = null;
      output.lit = null;
      this.discard(lit);
    }
  }

  private wants(output: Output): boolean {
    const { connector, settings } = output;
    if (!settings.enabled && !output.wantedForLease) output.reason = 'configuration: not enabled';
    else if (!connector.connected) output.reason = 'nothing is connected';
    // Modes can vanish for a while from a connector that is still connected: what is lit stays lit.
    else if (connector.modes.length === 0 && output.lit === null)
      output.reason = 'connected, but without any mode';
    else return true;
    return false;
  }

  private mustRelight(output: Output, crtcs: ReadonlyMap<number, number>): boolean {
    const { lit, connector } = output;
    if (lit === null || connector.modes.length === 0) return false;
    const crtc = crtcs.get(connector.id);
    if (crtc !== lit.crtc.id) {
      output.reason = `it moves from CRTC ${lit.crtc.id} to ${crtc ?? 'none'}`;
      return true;
    }
    const mode = this.modeFor(output);
    if (mode === null || Buffer.compare(mode.raw, lit.wantedMode.raw) === 0) return false;
    output.reason = `it changes to ${mode.width}x${mode.height} at ${mode.refreshMhz / 1000} Hz`;
    return true;
  }

  private candidate(output: Output, crtcs: ReadonlyMap<number, number>): Candidate[] {
    const { topology } = this.card;
    const crtc = topology.crtcs.find(({ id }) => id === crtcs.get(output.connector.id));
    if (crtc === undefined) {
      output.reason = 'no CRTC is free for it';
      return [];
    }
    const primary = assignPrimaries(topology).get(crtc.id);
    if (primary === undefined) {
      output.reason = `CRTC ${crtc.id} has no primary plane`;
      return [];
    }
    const first = this.modeFor(output);
    if (first === null) {
      output.reason = 'connected, but without any mode';
      return [];
    }
    const others = output.connector.modes.filter((mode) => mode !== first && !mode.interlaced);
    return [{ output, crtc, primary, modes: [first, ...others].slice(0, MOST_MODES) }];
  }

  /** The configured mode, or the preferred one where the monitor does not have that. */
  private modeFor(output: Output): ModeInfo | null {
    const { modes } = output.connector;
    const wanted = pickMode(modes, output.settings.mode);
    if (wanted !== null) return wanted;
    this.card.log.warn(
      { output: output.name, wanted: output.settings.mode },
      'no such mode: the preferred one instead',
    );
    return pickMode(modes, 'preferred');
  }

  /** All in one commit where that works, else one by one, so that an output that cannot be lit costs no other. */
  private async light(candidates: readonly Candidate[], takeover: boolean): Promise<void> {
    if (candidates.length === 0 && !takeover) return;
    if (await this.tryLight(candidates, takeover)) return;
    if (takeover) await this.tryLight([], true);
    for (const candidate of candidates) await this.lightAlone(candidate);
  }

  private async lightAlone(candidate: Candidate): Promise<void> {
    for (let first = 0; first < candidate.modes.length; first++) {
      if (await this.tryLight([{ ...candidate, modes: candidate.modes.slice(first) }], false)) return;
    }
  }

  /** Lights each candidate in its first mode. False when the display refused; nothing has changed then. */
  private async tryLight(candidates: readonly Candidate[], takeover: boolean): Promise<boolean> {
    const { card } = this;
    const fresh: { output: Output; lit: Lit }[] = [];
    try {
      const writebacks = this.writebacks(candidates.map(({ crtc }) => crtc));
      for (const candidate of candidates) {
        const { output } = candidate;
        const writeback = output.settings.writeback ? (writebacks.get(candidate.crtc.id) ?? null) : null;
        fresh.push({ output, lit: await this.prepare(candidate, writeback) });
      }
      await this.modeset(fresh, takeover);
    } catch (error) {
      for (const { lit } of fresh) this.discard(lit);
      if (!isSystemError(error)) throw error;
      const reason = `mode set: ${error.code}`;
      for (const { output, modes } of candidates) {
        output.reason = `${reason} for ${modes.map((mode) => `${mode.width}x${mode.height}`)[0]}`;
        output.lastError = { errno: error.errno, code: error.code, stage: 'mode set', count: 1 };
      }
      card.log.warn(
        { card: card.path, outputs: candidates.map(({ output }) => output.name), err: error },
        reason,
      );
      return false;
    }
    for (const { output, lit } of fresh) {
      output.lit = lit;
      await output.showIdle(lit);
      await output.relit();
      card.log.info({ output: output.name, mode: `${lit.mode.width}x${lit.mode.height}` }, 'lit');
    }
    return true;
  }

  /** What outputs that somebody else has lit are given back to, all or none of them. Throws a SystemError. */
  async prepareAsFound(places: readonly { output: Output; crtc: CrtcInfo }[]): Promise<Lit[]> {
    const made: Lit[] = [];
    try {
      for (const { output, crtc } of places) {
        const [candidate] = this.candidate(output, new Map([[output.connector.id, crtc.id]]));
        if (candidate === undefined) throw new Error(`${output.name}: ${output.reason}`);
        made.push(await this.prepare(candidate, this.writebacks([crtc]).get(crtc.id) ?? null));
      }
      return made;
    } catch (error) {
      for (const lit of made) this.discard(lit);
      throw error;
    }
  }

  /** Writeback connectors by CRTC: of those that are lit, and of those that are to be. */
  private writebacks(wanted: readonly CrtcInfo[]): Map<number, NonNullable<Lit['writeback']>> {
    const lit = [...this.card.outputs.values()].flatMap((one) => one.lit ?? one.lent?.lit ?? []);
    return assignWriteback(
      this.card.topology,
      [...lit, ...wanted.map((crtc) => ({ crtc }))].map(({ crtc }) => crtc.id),
    );
  }

  private async prepare(candidate: Candidate, writeback: Lit['writeback']): Promise<Lit> {
    const { card } = this;
    const { output, crtc, primary } = candidate;
    const mode = candidate.modes[0];
    if (mode === undefined) throw new RangeError('a candidate without a mode');
    await card.useCrtc(crtc, periodNs(mode));
    const idle = card.device.createDumb(mode.width, mode.height, XRGB8888);
    const { identity } = output.connector;
    drawIdlePicture(idle, {
      name: output.name,
      lines: [
        identity === null ? '' : `${identity.make} ${identity.model} ${identity.serial ?? ''}`.trim(),
        `${mode.width}x${mode.height} ${(mode.refreshMhz / 1000).toFixed(2)} Hz`,
        'no guest',
      ].filter((line) => line !== ''),
      background: output.settings.idle.background,
      text: output.settings.idle.text,
    });
    return {
      crtc,
      mode,
      wantedMode: this.modeFor(output) ?? mode,
      modeBlob: card.device.modeBlob(mode.raw),
      primary,
      writeback,
      idle,
      picture: card.newPicture(),
    };
  }

  private async modeset(fresh: readonly { output: Output; lit: Lit }[], takeover: boolean): Promise<void> {
    const { card } = this;
    const lent = new Set([...card.outputs.values()].flatMap((output) => output.lent?.lit.crtc.id ?? []));
    const all = card.topology.crtcs.map(({ id }) => id).filter((id) => !lent.has(id));
    const crtcs = new Set(takeover ? all : fresh.map(({ lit }) => lit.crtc.id));
    await this.commit(crtcs, fresh.map(asLit), fresh.map(asTarget));
  }

  /** `retake`: made although the engine is paused, with properties besides, of which the last said of each counts. */
  async commit(
    crtcs: ReadonlySet<number>,
    lit: LitOutput[],
    targets: { crtc: number; primaryPlane: number; periodNs?: number }[],
    retake: { first: readonly PropertyValue[]; last: readonly PropertyValue[] } | null = null,
  ): Promise<void> {
    const elsewhere = new Set(
      [...this.card.outputs.values()].flatMap((output) => {
        const lit = output.lit ?? output.lent?.lit;
        return lit == null || crtcs.has(lit.crtc.id) ? [] : [...output.usedPlanes()];
      }),
    );
    const own = modesetProperties(this.card.topology, crtcs, lit, elsewhere);
    // What is said last of a property counts.
    const all = [...(retake?.first ?? []), ...own, ...(retake?.last ?? [])];
    const byProperty = new Map(all.map((one): [string, PropertyValue] => [`${one[0]}.${one[1]}`, one]));
    await this.card.engine.modeset({
      flags: DRM_MODE_ATOMIC_ALLOW_MODESET,
      properties: [...byProperty.values()],
      targets,
      retakes: retake !== null,
    });
  }

  /** Switches outputs off. Their guests get synthetic completions until they are shown again. */
  async extinguish(outputs: readonly Output[]): Promise<void> {
    const { card } = this;
    for (const output of outputs) {
      const { lit } = output;
      if (lit === null) continue;
      await output.darken();
      const off = { crtc: lit.crtc.id, primaryPlane: lit.primary.id };
      await this.commit(new Set([lit.crtc.id]), [], [off]).catch((error: unknown) => {
        // The connector or the whole card may be gone: then it is dark anyway.
        card.log.warn({ output: output.name, err: error }, 'switching off failed');
      });
      this.discard(lit);
      card.log.info({ output: output.name, reason: output.reason }, 'dark');
    }
  }

  /** Frees what an output was lit with, once the engine shows it no more. */
  discard(lit: Lit): void {
    const free = () => {
      lit.idle.destroy();
      lit.modeBlob.destroy();
    };
    void lit.picture.leave().then(free, free);
  }
}

export function asLit({ output, lit }: { output: Output; lit: Lit }): LitOutput {
  return {
    connector: output.connector,
    crtc: lit.crtc,
    primary: lit.primary,
    modeBlob: lit.modeBlob.id,
    framebuffer: lit.idle.framebuffer,
    width: lit.mode.width,
    height: lit.mode.height,
    writeback: lit.writeback,
  };
}

export function asTarget({ lit }: { lit: Lit }): { crtc: number; primaryPlane: number; periodNs: number } {
  return { crtc: lit.crtc.id, primaryPlane: lit.primary.id, periodNs: periodNs(lit.mode) };
}

/** One refresh. */
function periodNs(mode: ModeInfo): number {
  return Math.round(1e12 / mode.refreshMhz);
}
