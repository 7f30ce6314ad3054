/** One output: what is lit on it, which guests it shows, and on which planes. */
import type { OutputDocument } from '../api/documents.js';
import type { Area, OutputConfig } from '../config/config.js';
import type { OutputIdentity } from '../config/match.js';
import type { Guest } from '../guests/guest.js';
import type { Fd } from '../native/base.js';
import type { Picture } from '../native/flip.js';
import type { PictureLayer } from '../native/pixels.js';
import type { Logger } from '../service/log.js';
import type { Card } from './card.js';
import type { DumbPicture, KernelBlob } from './device.js';
import { gatherLayers, movedOn, testPlacements } from './layers.js';
import { planOutput } from './planner.js';
import { Routes } from './routes.js';
import { readable, type ShadowSet } from './shadows.js';
import type { ConnectorInfo, CrtcInfo, ModeInfo, PlaneInfo } from './topology.js';
import { Verdicts } from './verdicts.js';

/** What is there while an output is lit. */
export interface Lit {
  crtc: CrtcInfo;
  mode: ModeInfo;
  /** The mode that was asked for, of which `mode` may be a substitute. */
  wantedMode: ModeInfo;
  modeBlob: KernelBlob;
  primary: PlaneInfo;
  writeback: ConnectorInfo | null;
  idle: DumbPicture;
  picture: Picture;
}

/** All of an output that somebody else drives: nothing of it is committed until it is given back. */
export interface Lent {
  lease: string;
  lit: Lit;
}

const XRGB8888 = 0x34325258;
const RESHAPED_MS = 500;

export interface PictureLayers {
  layers: PictureLayer[];
  frames: { stream: number; sequence: bigint }[];
  owned: Fd[];
}

export class Output {
  connector: ConnectorInfo;
  settings: OutputConfig;
  lit: Lit | null = null;
  lent: Lent | null = null;
  /** Planes that are lent, or about to be. */
  private lentPlanes: readonly number[] = [];
  /** It was lent, and is to be lit as before with the next rescan. */
  returned: Lit | null = null;
  /** Lit for a lease, whatever the configuration says. */
  wantedForLease = false;
  /** Why it is not lit. */
  reason = 'not lit yet';
  lastError: OutputDocument['lastError'] = null;
  /** Bottom to top. */
  private guests: Guest[] = [];
  private readonly routes: Routes;
  private planning: Promise<void> = Promise.resolve();
  private planWanted = false;
  private reshaping: NodeJS.Timeout | null = null;
  private readonly verdicts = new Verdicts();

  constructor(
    readonly card: Card,
    connector: ConnectorInfo,
    settings: OutputConfig,
    readonly shadows: ShadowSet,
    private readonly log: Logger,
  ) {
    this.connector = connector;
    this.settings = settings;
    this.routes = new Routes(this, card, shadows);
  }

  get name(): string {
    return this.connector.name;
  }

  /** What entries of the configuration match by. */
  get identity(): OutputIdentity {
    const { name, card, connector } = this;
    const { make = null, model = null, serial = null } = connector.identity ?? {};
    return { connector: name, card: card.path, make, model, serial };
  }

  /** Planes that carry something of this output now. */
  usedPlanes(): Set<number> {
    const used = new Set(this.routes.planes());
    for (const lit of [this.lit, this.returned]) if (lit !== null) used.add(lit.primary.id);
    for (const plane of this.lentPlanes) used.add(plane);
    return used;
  }

  get lentPlaneIds(): readonly number[] {
    return this.lentPlanes;
  }

  shows(guest: Guest): boolean {
    return this.guests.includes(guest);
  }

  /** Guests and where they are, the lowest first; none while the output is dark. */
  places(): { guest: string; area: Area }[] {
    const { lit } = this;
    if (lit === null) return [];
    const whole = { x: 0, y: 0, width: lit.mode.width, height: lit.mode.height };
    return this.guests.map((guest) => ({ guest: guest.name, area: guest.areaRequest ?? whole }));
  }

  get guestCount(): number {
    return this.guests.length;
  }

  /** Shows a guest from now on, at its area. */
  async add(guest: Guest): Promise<void> {
    this.guests = [...this.guests, guest].sort((a, b) => a.z - b.z);
    await this.place(guest);
    await this.replan();
  }

  /** Shows it no longer. Its streams go nowhere; the caller routes them elsewhere or lets the guest leave. */
  async remove(guest: Guest): Promise<void> {
    this.guests = this.guests.filter((one) => one !== guest);
    await this.settled();
    for (const { index } of guest.planes) await this.routes.leave(guest, index, this.lit);
    await this.replan();
  }

  /** Plans anew: a guest came, went or changed what it shows, or the display refused something. */
  replan(): Promise<void> {
    if (!this.planWanted) {
      this.planWanted = true;
      this.planning = this.planning.then(() => this.plan());
    }
    return this.planning;
  }

  /** The display refused a frame in a commit, although its test had passed or its layout has changed. */
  refused(guest: Guest, stream: number, plane: number, errno: number): Promise<void> {
    this.verdicts.refused(stream, plane, errno);
    this.log.warn({ output: this.name, guest: guest.name, plane, errno }, 'the display refused a frame');
    return this.replan();
  }

  /**
   * A picture that is copied has got another shape, which a plane may take. Planned anew at most twice a second, as a
   * guest may do that with every frame.
   */
  reshaped(): void {
    if (this.reshaping !== null) return;
    this.reshaping = setTimeout(() => {
      this.reshaping = null;
      void this.replan();
    }, RESHAPED_MS).unref();
  }

  /** The memory of a guest's buffer is elsewhere: what the display said of it before says nothing now. */
  renewed(guest: Guest): Promise<void> {
    this.verdicts.forget(guest.planes.map(({ stream }) => stream));
    return this.replan();
  }

  /** Resolves when no planning is under way. */
  settled(): Promise<void> {
    return this.planning;
  }

  /** The mode was set, or the output was switched off: guests are told, and planes are planned anew. */
  async relit(): Promise<void> {
    await this.settled();
    this.verdicts.clear();
    for (const guest of this.guests) await this.place(guest);
    await this.replan();
  }

  /** The output is about to be switched off: guests go to a virtual CRTC before their planes do. */
  async darken(): Promise<void> {
    await this.settled();
    this.lit = null;
    for (const guest of this.guests) {
      await this.routes.park(guest, this.reason);
      await guest.placed(null);
    }
    this.shadows.end(this);
  }

  /**
   * Leaves everything to a lessee: guests go to a virtual CRTC, and the idle picture stays on the screen until the lessee's
   * first frame. Does nothing where the output is dark.
   */
  async lend(lease: string, planes: readonly number[]): Promise<void> {
    const { lit } = this;
    if (lit === null) return;
    // At once, so that no other output takes one of them meanwhile.
    this.lentPlanes = planes;
    await this.settled();
    if (!this.routes.idleShown) await this.routes.showIdle(lit);
    this.reason = `leased as ${lease}`;
    await this.darken();
    await this.card.engine.lend(lit.crtc.id);
    this.lent = { lease, lit };
  }

  /** The same for what a lessee has already, and shows: nothing is committed. `lit` is what it is given back to. */
  lendAsFound(lease: string, lit: Lit, planes: readonly number[]): void {
    this.lentPlanes = planes;
    this.reason = `leased as ${lease}`;
    this.lent = { lease, lit };
  }

  /** The lessee is gone: the next rescan lights it. */
  giveBack(): void {
    this.lentPlanes = [];
    if (this.lent === null) return;
    this.returned = this.lent.lit;
    this.lent = null;
    this.reason = 'it was leased';
  }

  private async place(guest: Guest): Promise<void> {
    const { lit } = this;
    if (lit === null) {
      await guest.placed(null);
      return;
    }
    const whole = { x: 0, y: 0, width: lit.mode.width, height: lit.mode.height };
    await guest.placed({
      output: this.name,
      area: guest.areaRequest ?? whole,
      refreshMhz: lit.mode.refreshMhz,
    });
    for (const plane of guest.planes) guest.formats(plane.index, this.formatsFor(plane.kind));
  }

  private formatsFor(kind: PlaneInfo['type']): { fourcc: number; modifier: bigint }[] {
    const planes = this.planes();
    const plane = planes.find(({ type }) => type === kind) ?? planes[0];
    const list = [...(plane?.formats ?? [])];
    return list.flatMap(([fourcc, modifiers]) =>
      (modifiers.length > 0 ? modifiers : [0n]).map((modifier) => ({ fourcc, modifier })),
    );
  }

  /** Planes that this output may use: those of its CRTC that no other output uses. */
  private planes(): PlaneInfo[] {
    const { lit } = this;
    return lit === null ? [] : this.card.planesFor(this, lit.crtc, lit.primary);
  }

  private async plan(): Promise<void> {
    this.planWanted = false;
    const { lit } = this;
    if (lit === null) return;
    const { paused } = this.card;
    if (paused !== null) {
      // No test would pass. What comes meanwhile is paced by a timer, and planned when the screen is ours again.
      for (const guest of this.guests) await this.routes.park(guest, `not DRM master: ${paused}`);
      return;
    }
    try {
      const planes = this.planes();
      const layers = await gatherLayers(this.guests, lit, planes, this.routes, this.verdicts);
      const plan = planOutput(
        planes,
        layers.map(({ layer }) => layer),
        (placements) => testPlacements(this.routes, this.verdicts, lit, planes, layers, placements),
      );
      await this.routes.apply(lit, layers, plan);
      if (await movedOn(this.routes, layers)) this.reshaped();
      await this.card.engine.setPolicy(lit.crtc.id, this.policy());
      this.log.debug({ output: this.name, tests: plan.tests, layers: layers.length }, 'planned');
    } catch (error) {
      this.log.error({ output: this.name, err: error }, 'planning failed');
    }
  }

  policy(): 'eager' | 'deadline' {
    const { policy } = this.settings;
    return policy === 'auto' ? (this.guests.length > 1 ? 'deadline' : 'eager') : policy;
  }

  /** Puts the idle picture on the primary plane, in place of whoever was there. */
  showIdle(lit: Lit): Promise<void> {
    return this.routes.showIdle(lit);
  }

  /**
   * What the planes show, for a card that cannot write it back: layers bottom to top, over the idle picture. `owned` are
   * descriptors that the caller closes when the layers are drawn.
   */
  async pictureLayers(): Promise<PictureLayers> {
    const { lit } = this;
    const result: PictureLayers = { layers: [], frames: [], owned: [] };
    if (lit !== null && this.routes.idleShown) {
      const fd = lit.idle.exportFd();
      result.owned.push(fd);
      result.layers.push(idleLayer(lit, fd));
    }
    for (const guest of this.guests) {
      for (const plane of guest.planes) {
        const frame = await this.card.engine.peek(guest.producer, plane.index);
        const buffer = frame === null || frame.off ? null : guest.buffer(frame.buffer);
        if (frame === null || buffer === null || !this.routes.has(plane.stream)) continue;
        result.layers.push({ ...frame, ...readable(buffer) });
        result.frames.push({ stream: plane.stream, sequence: frame.sequence });
      }
    }
    return result;
  }

  modeDocument(): OutputDocument['mode'] {
    if (this.lit === null) return null;
    const { width, height, refreshMhz } = this.lit.mode;
    return { width, height, refreshMhz };
  }

  document(): OutputDocument {
    const { connector, lit } = this;
    const stats = lit === null ? null : this.card.engine.stats(lit.crtc.id);
    return {
      name: this.name,
      card: this.card.path,
      make: connector.identity?.make ?? null,
      model: connector.identity?.model ?? null,
      serial: connector.identity?.serial ?? null,
      connected: connector.connected,
      lit: lit !== null,
      reason: lit === null ? this.reason : '',
      mode: this.modeDocument(),
      modes: connector.modes.map(({ width, height, refreshMhz, preferred }) => ({
        width,
        height,
        refreshMhz,
        preferred,
      })),
      crtc: lit?.crtc.id ?? null,
      policy: this.policy(),
      guests: this.guests.map(({ name }) => name),
      idle: lit !== null && this.routes.idleShown,
      writeback: lit !== null && lit.writeback !== null,
      flips: stats?.flips ?? 0,
      missed: stats?.missed ?? 0,
      copied: this.shadows.copied(this),
      lastError: this.lastError,
    };
  }
}

function idleLayer(lit: Lit, fd: Fd): PictureLayer {
  const { width, height, stride } = lit.idle;
  const place = {
    srcX: 0,
    srcY: 0,
    srcW: width * 65536,
    srcH: height * 65536,
    x: 0,
    y: 0,
    w: width,
    h: height,
  };
  const layout = { width, height, fourcc: XRGB8888, modifier: 0n, strides: [stride], offsets: [0] };
  return { ...place, ...layout, fds: [fd] };
}
