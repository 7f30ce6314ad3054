/** One card: its device, its flip thread, and its outputs as monitors come and go. */
import type { CardDocument } from '../api/documents.js';
import type { Config } from '../config/config.js';
import { outputSettings } from '../config/match.js';
import type { Guest } from '../guests/guest.js';
import { isSystemError } from '../native/base.js';
import {
  FIRST_VIRTUAL_CRTC,
  FlipEngine,
  type FlipNotice,
  Picture,
  type PlaneProperties,
  type Producer,
} from '../native/flip.js';
import type { Logger } from '../service/log.js';
import { Mastery } from '../session/mastery.js';
import type { MasterSource } from '../session/source.js';
import type { CardDevice, PropertyValue } from './device.js';
import { Lessor } from './lessor.js';
import { Lighting } from './lighting.js';
import { Output } from './output.js';
import { ShadowSet } from './shadows.js';
import { Suspension } from './suspension.js';
import { assignCrtcs, assignPrimaries, type CrtcInfo, type PlaneInfo, type Topology } from './topology.js';

const VIRTUAL_PERIOD_NS = 16_666_667;
const REQUIRED_PLANE_PROPERTIES = [
  'FB_ID',
  'CRTC_ID',
  'SRC_X',
  'SRC_Y',
  'SRC_W',
  'SRC_H',
  'CRTC_X',
  'CRTC_Y',
  'CRTC_W',
  'CRTC_H',
] as const;
const OPTIONAL_PLANE_PROPERTIES = ['FB_DAMAGE_CLIPS', 'HOTSPOT_X', 'HOTSPOT_Y', 'rotation'] as const;

let nextStream = 1;

/** What a card tells the daemon. */
export interface CardEvents {
  /** Outputs came, went, were lit or went dark. */
  changed(): void;
  /** The guest whose stream this is, or null when it has left. */
  guestOf(stream: number): Guest | null;
  gone(card: Card): void;
  /** Framebuffers that lessees have made, or have left on the screen. */
  lesseesFramebuffers(card: Card): ReadonlySet<number>;
  /** DRM master is lost, or about to be: leases are suspended. */
  paused(card: Card): void;
  /** Everything is on the screen again, leases too. */
  resumed(card: Card): void;
}

export class Card {
  readonly engine: FlipEngine;
  readonly outputs = new Map<string, Output>();
  readonly shadows: ShadowSet;
  topology: Topology;
  private readonly lighting: Lighting;
  private readonly knownCrtcs = new Set<number>();
  private virtualCrtcs = 0;
  private scanning: Promise<void> = Promise.resolve();
  readonly lessor: Lessor;
  readonly mastery: Mastery;
  private readonly suspension: Suspension;
  /** A scan that puts everything in order waits for DRM master. */
  private takeoverMissed = false;

  constructor(
    readonly device: CardDevice,
    readonly source: MasterSource,
    private config: Config,
    private readonly events: CardEvents,
    readonly log: Logger,
  ) {
    this.topology = device.readTopology();
    this.engine = new FlipEngine(device.fd, {
      realtimePriority: config.daemon.realtimePriority,
      onNotice: (notice) => this.onNotice(notice),
    });
    this.shadows = new ShadowSet(this);
    this.lighting = new Lighting(this);
    this.lessor = new Lessor(this);
    this.suspension = new Suspension(this, this.lighting, {
      lesseesFramebuffers: () => events.lesseesFramebuffers(this),
      paused: () => {
        events.paused(this);
        events.changed();
      },
      resumed: () => events.resumed(this),
    });
    this.mastery = new Mastery(this.suspension, source, log);
    if (!this.engine.realtime) {
      log.warn(
        { card: this.path, reason: this.engine.realtimeReason },
        'the flip thread has no real-time priority',
      );
    }
  }

  get path(): string {
    return this.device.path;
  }

  /** Ids for `count` streams in a row, which no other card has: flips are counted by them. */
  newStreams(count: number): number {
    const first = nextStream;
    nextStream += count;
    return first;
  }

  newPicture(): Picture {
    return new Picture(this.engine, this.newStreams(1));
  }

  /**
   * Reads the connectors anew and lights, changes and extinguishes outputs accordingly. Calls are done one after the
   * other. `takeover`: put every CRTC and plane of the card in order, whatever a former master left.
   */
  rescan(takeover = false): Promise<void> {
    return this.exclusively(() => this.scan(takeover)).catch((error: unknown) => {
      this.log.error({ card: this.path, err: error }, 'rescan failed');
    });
  }

  /** After every scan that was asked for before, and before those that are asked for after. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.scanning.then(work);
    this.scanning = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  /** Why nothing is committed (another program is DRM master), or null. */
  get paused(): string | null {
    return this.suspension.paused;
  }

  /** Uses another configuration from the next rescan on. */
  configure(config: Config): void {
    this.config = config;
  }

  /** Reads what there is; what is lit stays as it is. */
  private async discover(): Promise<void> {
    this.topology = this.device.readTopology();
    const connectors = this.topology.connectors.filter(({ writeback }) => !writeback);
    for (const connector of connectors) {
      const settings = outputSettings(this.config, {
        connector: connector.name,
        card: this.path,
        make: connector.identity?.make ?? null,
        model: connector.identity?.model ?? null,
        serial: connector.identity?.serial ?? null,
      });
      const known = this.outputs.get(connector.name);
      if (known !== undefined) {
        known.connector = connector;
        known.settings = settings;
      } else {
        this.outputs.set(connector.name, new Output(this, connector, settings, this.shadows, this.log));
      }
    }
    await this.dropVanished(new Set(connectors.map(({ name }) => name)));
  }

  private async scan(takeover: boolean): Promise<void> {
    this.takeoverMissed ||= takeover;
    // Done when master is back.
    if (this.paused !== null) return;
    const all = this.takeoverMissed;
    this.takeoverMissed = false;
    await this.discover();
    await this.lighting.update(all);
    this.events.changed();
  }

  /** Leaves an output to its lessee as that has lit it, after a restart of the daemon. Before the first rescan. */
  async lendAsFound(
    { name, crtcs }: { name: string; crtcs: number[] },
    outputs: readonly string[],
    planes: readonly number[],
  ): Promise<Output[]> {
    await this.discover();
    const found = outputs.map((one, i) => this.asFound(one, crtcs[i]));
    const lit = await this.lighting.prepareAsFound(found);
    found.forEach(({ output }, i) => {
      const own = lit[i];
      if (own !== undefined) output.lendAsFound(name, own, planes);
    });
    return found.map(({ output }) => output);
  }

  private asFound(name: string, id: number | undefined): { output: Output; crtc: CrtcInfo } {
    const output = this.outputs.get(name);
    const crtc = this.topology.crtcs.find((one) => one.id === id);
    if (output === undefined) throw new RangeError(`there is no output ${name}`);
    if (crtc === undefined || output.lent !== null) throw new RangeError(`${name} is not as it was`);
    return { output, crtc };
  }

  /** Connectors of docks go away altogether. */
  private async dropVanished(names: ReadonlySet<string>): Promise<void> {
    for (const [name, output] of this.outputs) {
      // What is lent goes when it is given back.
      if (names.has(name) || output.lent !== null) continue;
      output.reason = 'the connector is gone';
      await this.lighting.extinguish([output]);
      this.outputs.delete(name);
    }
  }

  /** The CRTC of each output that is to be lit, keyed by connector id. */
  matchCrtcs(outputs: readonly Output[]): Map<number, number> {
    const current = new Map(
      outputs.flatMap(({ connector, lit, lent, returned }) => {
        const had = lit ?? lent?.lit ?? returned;
        return had == null ? [] : [[connector.id, had.crtc.id] as const];
      }),
    );
    return assignCrtcs(
      outputs.map(({ connector }) => connector),
      this.topology.crtcs,
      current,
    );
  }

  /** Makes the CRTC known to the engine once. */
  async useCrtc(crtc: CrtcInfo, periodNs: number): Promise<void> {
    if (this.knownCrtcs.has(crtc.id)) return;
    await this.engine.addCrtc(crtc.id, periodNs, 'eager');
    this.knownCrtcs.add(crtc.id);
  }

  knowsCrtc(id: number): boolean {
    return this.knownCrtcs.has(id);
  }

  /** Planes that an output may use: of its CRTC, no other's primary, and not in use by another output. */
  planesFor(output: Output, crtc: CrtcInfo, primary: PlaneInfo): PlaneInfo[] {
    const primaries = new Set([...assignPrimaries(this.topology).values()].map(({ id }) => id));
    const others = [...this.outputs.values()].filter((one) => one !== output);
    const taken = new Set(others.flatMap((one) => [...one.usedPlanes()]));
    return this.topology.planes.filter(
      ({ id, possibleCrtcs }) =>
        (possibleCrtcs & (1 << crtc.index)) !== 0 &&
        !taken.has(id) &&
        (id === primary.id || !primaries.has(id)),
    );
  }

  engineProperties(plane: PlaneInfo): PlaneProperties {
    const properties: Partial<Record<string, number>> = {};
    for (const name of REQUIRED_PLANE_PROPERTIES) {
      const id = plane.properties.get(name);
      if (id === undefined) throw new Error(`plane ${plane.id} has no property ${name}`);
      properties[name] = id;
    }
    for (const name of OPTIONAL_PLANE_PROPERTIES) {
      const id = plane.properties.get(name);
      if (id !== undefined) properties[name] = id;
    }
    return properties as unknown as PlaneProperties;
  }

  test(properties: readonly PropertyValue[]): number {
    return this.device.test(properties, false);
  }

  /** Routes a stream to a virtual CRTC, of which there are as many as the streams need. */
  async attachVirtual(producer: Producer, stream: number): Promise<void> {
    for (let number = 0; ; number++) {
      const id = FIRST_VIRTUAL_CRTC + number;
      if (number === this.virtualCrtcs) {
        await this.engine.addCrtc(id, VIRTUAL_PERIOD_NS, 'eager');
        this.virtualCrtcs++;
      }
      try {
        await this.engine.attach(producer, stream, id, 0);
        return;
      } catch (error) {
        if (!isSystemError(error) || error.code !== 'ENOSPC') throw error;
      }
    }
  }

  private outputOfCrtc(crtc: number): Output | undefined {
    return [...this.outputs.values()].find(({ lit }) => lit?.crtc.id === crtc);
  }

  private onNotice(notice: FlipNotice): void {
    const output = this.outputOfCrtc(notice.crtc);
    if (output !== undefined && notice.errno !== 0) {
      const { errno, code, type, count } = notice;
      output.lastError = { errno, code, stage: type, count };
    }
    switch (notice.type) {
      case 'refused':
      case 'unrouted':
        this.planStream(notice, output);
        return;
      case 'reshaped':
        this.outputShowing(this.events.guestOf(notice.stream))?.reshaped();
        return;
      case 'asyncRefused':
        this.events.guestOf(notice.stream)?.asyncRefused(notice.stream, notice.code);
        return;
      case 'shadowFailed':
        this.log.warn({ card: this.path, ...notice }, 'a shadow copy could not be drawn');
        this.events.guestOf(notice.stream)?.copyFailed?.(notice.stream, notice.code);
        return;
      case 'gone':
        this.log.error({ card: this.path, ...notice }, 'an object of the display is gone');
        void this.rescan().then(() => (this.paused === null ? this.engine.resume() : undefined));
        if (notice.code === 'ENODEV' || notice.code === 'ENXIO') this.events.gone(this);
        return;
      case 'paused':
        this.mastery.lost(`a commit was refused (${notice.code})`);
        return;
      default:
        this.log.warn({ card: this.path, output: output?.name, ...notice }, `flip engine: ${notice.type}`);
    }
  }

  /** The output that shows the guest; null is a guest that has left. */
  outputShowing(guest: Guest | null): Output | undefined {
    return guest === null ? undefined : [...this.outputs.values()].find((one) => one.shows(guest));
  }

  private planStream(notice: FlipNotice, output: Output | undefined): void {
    const guest = this.events.guestOf(notice.stream);
    if (guest === null) return;
    const shown = output ?? this.outputShowing(guest);
    if (notice.type === 'refused') void shown?.refused(guest, notice.stream, notice.plane, notice.errno);
    else void shown?.replan();
  }

  document(): CardDocument {
    return {
      path: this.path,
      driver: this.device.driver,
      realtime: this.engine.realtime,
      realtimeReason: this.engine.realtimeReason,
      master: { source: this.source.kind, detail: this.source.detail },
      paused: this.paused !== null || this.engine.paused,
      pausedReason: this.paused ?? '',
      framebuffers: this.device.framebufferCounts(),
    };
  }

  /** Stops the flip thread and lets the card go. What is on the screen goes with the last descriptor. */
  close(): void {
    this.mastery.stop();
    this.engine.close();
    this.device.close();
    this.source.close();
  }
}
