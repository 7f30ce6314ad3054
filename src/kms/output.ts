/** One output: what is lit on it, which guests it shows, and on which planes. */
import type { OutputDocument } from '../api/documents.js';
import type { OutputConfig } from '../config/config.js';
import type { Guest, GuestBuffer } from '../guests/guest.js';
import type { Fd } from '../native/base.js';
import { FIRST_VIRTUAL_CRTC, type PeekedFrame, type Picture } from '../native/flip.js';
import type { PictureLayer } from '../native/pixels.js';
import type { Logger } from '../service/log.js';
import type { Card } from './card.js';
import type { DumbPicture, KernelBlob } from './device.js';
import { type PlaneTest, planeTestProperties } from './modeset.js';
import { type Layer, type Placement, type Plan, planOutput } from './planner.js';
import { readable, type ShadowSet } from './shadows.js';
import type { ConnectorInfo, CrtcInfo, ModeInfo, PlaneInfo } from './topology.js';
import { layoutKey, Verdicts } from './verdicts.js';

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

interface LayerOf {
  layer: Layer;
  /** What the display's verdict depends on: format, size, rectangles. */
  layout: string;
  guest: Guest;
  plane: number;
  frame: PeekedFrame;
}

const XRGB8888 = 0x34325258;

export interface PictureLayers {
  layers: PictureLayer[];
  frames: { stream: number; sequence: bigint }[];
  owned: Fd[];
}

export class Output {
  connector: ConnectorInfo;
  settings: OutputConfig;
  lit: Lit | null = null;
  /** Why it is not lit. */
  reason = 'not lit yet';
  lastError: OutputDocument['lastError'] = null;
  /** Bottom to top. */
  private guests: Guest[] = [];
  /** What is routed where, by stream id. */
  private routes = new Map<number, { plane: number; shadow: boolean }>();
  private idleShown = true;
  private planning: Promise<void> = Promise.resolve();
  private planWanted = false;
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
  }

  get name(): string {
    return this.connector.name;
  }

  /** Planes that carry something of this output now. */
  usedPlanes(): Set<number> {
    const used = new Set([...this.routes.values()].map(({ plane }) => plane));
    if (this.lit !== null) used.add(this.lit.primary.id);
    return used;
  }

  shows(guest: Guest): boolean {
    return this.guests.includes(guest);
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
    for (const plane of guest.planes) await this.unroute(guest, plane.index);
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
      await this.park(guest);
      await guest.placed(null);
    }
    this.shadows.end(this);
  }

  /** Routes a guest's streams to a virtual CRTC, where a timer completes their flips. */
  async park(guest: Guest): Promise<void> {
    for (const plane of guest.planes) {
      this.routes.delete(plane.stream);
      this.shadows.left(plane.stream);
      await this.card.attachVirtual(guest.producer, plane.index);
      guest.shown(plane.index, { state: 'unseen', plane: null, reason: this.reason, errno: 0 });
    }
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
    try {
      const layers = await this.layers();
      const planes = this.planes();
      const plan = planOutput(
        planes,
        layers.map(({ layer }) => layer),
        (placements) => this.test(lit, planes, layers, placements),
      );
      await this.apply(lit, layers, plan);
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

  /** Everything that has a frame, bottom to top. */
  private async layers(): Promise<LayerOf[]> {
    const result: LayerOf[] = [];
    for (const guest of this.guests) {
      for (const plane of guest.planes) {
        const frame = await this.card.engine.peek(guest.producer, plane.index).catch(() => null);
        const buffer = frame === null ? null : guest.buffer(frame.buffer);
        if (frame === null || buffer === null) continue;
        if (frame.off) {
          // Hidden: it keeps the plane that it has, or waits for one until it can be seen.
          if (!this.routes.has(plane.stream)) await this.card.attachVirtual(guest.producer, plane.index);
          continue;
        }
        const layout = layoutKey(buffer.layout, frame);
        const layer = this.layerOf(guest, plane.index, frame, buffer);
        layer.refusedBy = this.verdicts.refusedBy(plane.stream, layout);
        result.push({ layer, guest, plane: plane.index, frame, layout });
      }
    }
    return result;
  }

  private layerOf(guest: Guest, index: number, frame: PeekedFrame, buffer: GuestBuffer): Layer {
    const plane = guest.planes[index];
    if (plane === undefined) throw new RangeError(`guest ${guest.name} has no plane ${index}`);
    const mode = this.lit?.mode;
    const covers = frame.x === 0 && frame.y === 0 && frame.w === mode?.width && frame.h === mode.height;
    const route = this.routes.get(plane.stream);
    return {
      id: plane.stream,
      kind: plane.kind,
      fourcc: buffer.layout.fourcc,
      modifier: buffer.layout.modifier,
      importable: buffer.framebuffer !== 0,
      reason: buffer.reason,
      reflected: frame.reflectY,
      refusedBy: new Map(),
      covers,
      allowed: index === 0 ? this.allowedPlanes(guest) : null,
      current: route !== undefined && !route.shadow ? route.plane : null,
    };
  }

  private allowedPlanes(guest: Guest): number[] | null {
    const { planeRequest } = guest;
    if (planeRequest === 'auto') return null;
    if (typeof planeRequest === 'number') return [planeRequest];
    return this.planes()
      .filter(({ type }) => type === planeRequest)
      .map(({ id }) => id);
  }

  private test(
    lit: Lit,
    planes: readonly PlaneInfo[],
    layers: readonly LayerOf[],
    placements: readonly Placement[],
  ): number {
    const tests: PlaneTest[] = planes.map((plane) => {
      const found = placements.find((one) => one.plane.id === plane.id);
      if (found?.shadow === false) {
        const frame = layers.find(({ layer }) => layer.id === found.layer.id)?.frame;
        if (frame !== undefined) return { plane, shows: frame };
      }
      // The idle picture stands for itself and for a shadow copy of the same size.
      const whole = plane.id === lit.primary.id ? wholePicture(lit) : null;
      return { plane, shows: whole };
    });
    const layoutOf = (id: number) => layers.find(({ layer }) => layer.id === id)?.layout ?? '';
    const key = placements
      .map((one) => `${one.plane.id}=${one.shadow ? 'copy' : layoutOf(one.layer.id)}`)
      .join(' ');
    return this.verdicts.test(key, () => this.card.test(planeTestProperties(lit.crtc.id, tests)));
  }

  private async apply(lit: Lit, layers: readonly LayerOf[], plan: Plan): Promise<void> {
    const wanted = new Map(plan.placements.map((one) => [one.layer.id, one]));
    const primaryTaken = plan.placements.some(({ plane }) => plane.id === lit.primary.id);
    // Before anybody leaves it: without its primary plane some hardware shows nothing at all.
    if (!primaryTaken && !this.idleShown) await this.showIdle(lit);
    this.idleShown = !primaryTaken;
    for (const { guest, plane, layer } of layers) {
      const next = wanted.get(layer.id);
      const route = this.routes.get(layer.id);
      // What moves is moved below, straight from one place to the other, and takes its picture along.
      if (next === undefined && route !== undefined) await this.unroute(guest, plane);
      if (next?.shadow === false) this.shadows.left(layer.id);
    }
    const copied = plan.placements.filter(({ shadow }) => shadow).map(({ plane }) => plane);
    await this.shadows.prepare(this, lit, copied);
    for (const { guest, plane, layer } of layers) {
      const next = wanted.get(layer.id);
      if (next === undefined) {
        const reason = plan.dropped.find((one) => one.layer.id === layer.id)?.reason ?? 'no plane is free';
        await this.card.attachVirtual(guest.producer, plane);
        guest.shown(plane, { state: 'unseen', plane: null, reason, errno: 0 });
        continue;
      }
      await this.route(guest, plane, layer.id, next, plan.placements.indexOf(next));
    }
    this.shadows.sweep(this);
  }

  private async route(
    guest: Guest,
    plane: number,
    stream: number,
    next: Placement,
    z: number,
  ): Promise<void> {
    const { engine } = this.card;
    if (next.shadow) await this.shadows.route(guest, plane, next.plane, z);
    else
      await engine.attach(
        guest.producer,
        plane,
        this.crtcId(),
        next.plane.id,
        this.card.engineProperties(next.plane),
      );
    this.routes.set(stream, { plane: next.plane.id, shadow: next.shadow });
    guest.shown(plane, {
      state: next.shadow ? 'copied' : 'direct',
      plane: next.plane.id,
      reason: next.shadow ? next.reason : '',
      errno: 0,
    });
  }

  private async unroute(guest: Guest, index: number): Promise<void> {
    const stream = guest.planes[index]?.stream;
    const route = stream === undefined ? undefined : this.routes.get(stream);
    if (stream === undefined || route === undefined) return;
    this.routes.delete(stream);
    this.shadows.left(stream);
    const { lit } = this;
    // The primary plane is never switched off: without it some hardware shows nothing at all.
    if (lit !== null && route.plane === lit.primary.id && !route.shadow) await this.showIdle(lit);
    else await this.card.engine.detach(guest.producer, index);
  }

  private crtcId(): number {
    return this.lit?.crtc.id ?? FIRST_VIRTUAL_CRTC;
  }

  /** Puts the idle picture on the primary plane, in place of whoever was there. */
  async showIdle(lit: Lit): Promise<void> {
    const { engine } = this.card;
    this.idleShown = true;
    await engine.attach(lit.picture, 0, lit.crtc.id, lit.primary.id, this.card.engineProperties(lit.primary));
    await lit.picture.show(lit.idle.framebuffer, lit.idle.width, lit.idle.height);
  }

  /**
   * What the planes show, for a card that cannot write it back: layers bottom to top, over the idle picture. `owned` are
   * descriptors that the caller closes when the layers are drawn.
   */
  async pictureLayers(): Promise<PictureLayers> {
    const { lit } = this;
    const result: PictureLayers = { layers: [], frames: [], owned: [] };
    if (lit !== null && this.idleShown) {
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

  document(): OutputDocument {
    const { connector, lit } = this;
    const stats = lit === null ? null : this.card.engine.stats(lit.crtc.id);
    const mode = lit?.mode ?? null;
    return {
      name: this.name,
      card: this.card.path,
      make: connector.identity?.make ?? null,
      model: connector.identity?.model ?? null,
      serial: connector.identity?.serial ?? null,
      connected: connector.connected,
      lit: lit !== null,
      reason: lit === null ? this.reason : '',
      mode: mode === null ? null : { width: mode.width, height: mode.height, refreshMhz: mode.refreshMhz },
      modes: connector.modes.map(({ width, height, refreshMhz, preferred }) => ({
        width,
        height,
        refreshMhz,
        preferred,
      })),
      crtc: lit?.crtc.id ?? null,
      policy: this.policy(),
      guests: this.guests.map(({ name }) => name),
      idle: lit !== null && this.idleShown,
      writeback: lit !== null && lit.writeback !== null,
      flips: stats?.flips ?? 0,
      missed: stats?.missed ?? 0,
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

function wholePicture(lit: Lit): PlaneTest['shows'] {
  const { idle } = lit;
  return {
    framebuffer: idle.framebuffer,
    srcX: 0,
    srcY: 0,
    srcW: idle.width * 65536,
    srcH: idle.height * 65536,
    x: 0,
    y: 0,
    w: idle.width,
    h: idle.height,
  };
}
