/** Where the streams of an output's guests go: to a plane each, into a shadow copy, or nowhere. */
import type { Guest, PlaneShown } from '../guests/guest.js';
import type { Card } from './card.js';
import type { OutputLayer } from './layers.js';
import type { Lit, Output } from './output.js';
import type { Placement, Plan } from './planner.js';
import type { ShadowSet } from './shadows.js';
import type { PlaneInfo } from './topology.js';

const HIDDEN: Readonly<PlaneShown> = { state: 'off', plane: null, reason: 'the guest hides it', errno: 0 };

export class Routes {
  /** By stream id. */
  private readonly routes = new Map<number, { plane: number; shadow: boolean }>();
  /** Streams on a virtual CRTC. */
  private readonly resting = new Set<number>();
  /** The primary plane shows the idle picture. */
  idleShown = true;

  constructor(
    private readonly output: Output,
    readonly card: Card,
    private readonly shadows: ShadowSet,
  ) {}

  has(stream: number): boolean {
    return this.routes.has(stream);
  }

  /** The plane that shows the stream without a copy, or null. */
  directPlane(stream: number): number | null {
    const route = this.routes.get(stream);
    return route === undefined || route.shadow ? null : route.plane;
  }

  /** Ids of the planes that show a guest. */
  planes(): number[] {
    return [...this.routes.values()].map(({ plane }) => plane);
  }

  /** Brings every stream to where the plan wants it. */
  async apply(lit: Lit, layers: readonly OutputLayer[], plan: Plan): Promise<void> {
    const wanted = new Map(plan.placements.map((one) => [one.layer.id, one]));
    const primaryTaken = plan.placements.some(({ plane }) => plane.id === lit.primary.id);
    // Before anybody leaves it: without its primary plane some hardware shows nothing at all.
    if (!primaryTaken && !this.idleShown) await this.showIdle(lit);
    this.idleShown = !primaryTaken;
    for (const { guest, plane, layer } of layers) {
      const next = wanted.get(layer.id);
      // What moves is moved below, straight from one place to the other, and takes its picture along.
      if (next === undefined && this.routes.has(layer.id)) await this.leave(guest, plane, lit);
      if (next?.shadow === false) this.shadows.left(layer.id);
    }
    const copied = plan.placements.filter(({ shadow }) => shadow).map(({ plane }) => plane);
    await this.shadows.prepare(this.output, lit, copied);
    for (const { guest, plane, layer } of layers) {
      const next = wanted.get(layer.id);
      if (next === undefined) {
        const reason = plan.dropped.find((one) => one.layer.id === layer.id)?.reason ?? 'no plane is free';
        await this.hide(guest, plane, layer.id, reason);
        continue;
      }
      await this.route(guest, plane, lit, next, plan.placements.indexOf(next));
    }
    this.shadows.sweep(this.output);
  }

  private async route(guest: Guest, index: number, lit: Lit, next: Placement, z: number): Promise<void> {
    const { plane, shadow, layer } = next;
    const former = this.routes.get(layer.id);
    // Before it is there, so that what another output does meanwhile leaves the plane alone.
    this.routes.set(layer.id, { plane: plane.id, shadow });
    try {
      if (shadow) await this.shadows.route(guest, index, plane, z);
      else await this.attach(guest, index, lit, plane);
    } catch (error) {
      if (former === undefined) this.routes.delete(layer.id);
      else this.routes.set(layer.id, former);
      throw error;
    }
    this.resting.delete(layer.id);
    guest.shown(index, {
      state: shadow ? 'copied' : 'direct',
      plane: plane.id,
      reason: next.shadow ? next.reason : '',
      errno: 0,
    });
  }

  private attach({ producer }: Guest, index: number, lit: Lit, plane: PlaneInfo): Promise<void> {
    return this.card.engine.attach(producer, index, lit.crtc.id, plane.id, this.card.engineProperties(plane));
  }

  /** Takes a guest's plane off its hardware plane or out of its copy; null: the output is dark. */
  async leave(guest: Guest, index: number, lit: Lit | null): Promise<void> {
    const stream = guest.planes[index]?.stream;
    if (stream === undefined) return;
    this.resting.delete(stream);
    const route = this.routes.get(stream);
    if (route === undefined) return;
    this.routes.delete(stream);
    this.shadows.left(stream);
    // The primary plane is never switched off: without it some hardware shows nothing at all.
    if (lit !== null && route.plane === lit.primary.id && !route.shadow) await this.showIdle(lit);
    else await this.card.engine.detach(guest.producer, index);
  }

  /** Routes all of a guest's streams to a virtual CRTC, where a timer completes their flips. */
  async park(guest: Guest, reason: string): Promise<void> {
    for (const { index, stream } of guest.planes) {
      this.routes.delete(stream);
      this.shadows.left(stream);
      await this.hide(guest, index, stream, reason);
    }
  }

  /** A hidden stream keeps its own plane, and with `keep` its place in a copy; otherwise it waits until it can be seen. */
  async rest(guest: Guest, index: number, keep: boolean): Promise<void> {
    const stream = guest.planes[index]?.stream;
    if (stream === undefined) return;
    if (!keep && this.directPlane(stream) === null) {
      this.routes.delete(stream);
      this.shadows.left(stream);
      await this.retire(guest, index, stream);
    }
    guest.shown(index, HIDDEN);
  }

  /** Brings a stream to a virtual CRTC, which tells when there is something of it to be seen; once. */
  private async retire(guest: Guest, index: number, stream: number): Promise<void> {
    if (this.resting.has(stream)) return;
    await this.card.attachVirtual(guest.producer, index);
    this.resting.add(stream);
  }

  private async hide(guest: Guest, index: number, stream: number, reason: string): Promise<void> {
    await this.retire(guest, index, stream);
    guest.shown(index, { state: 'unseen', plane: null, reason, errno: 0 });
  }

  /** Puts the idle picture on the primary plane, in place of whoever was there. */
  async showIdle(lit: Lit): Promise<void> {
    const { engine } = this.card;
    this.idleShown = true;
    await engine.attach(lit.picture, 0, lit.crtc.id, lit.primary.id, this.card.engineProperties(lit.primary));
    await lit.picture.show(lit.idle.framebuffer, lit.idle.width, lit.idle.height);
  }
}
