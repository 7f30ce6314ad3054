/** The control half of a vfio guest: imports what its planes show, and gives it the monitor's EDID. */
import type { GuestFacts, GuestPlaneDocument } from '../api/documents.js';
import type { Area, PlaneRequest, VfioGuestConfig } from '../config/config.js';
import type { Card } from '../kms/card.js';
import { guestEdid } from '../kms/guest-edid.js';
import {
  VfioGuest as NativeGuest,
  type VfioGuest as NativeGuestType,
  VFIO_PLANE_TYPES,
  type VfioDevice,
  type VfioNews,
  type VfioPlaneNews,
} from '../native/vfio.js';
import type { Logger } from '../service/log.js';
import type { FlipStatistics } from '../service/statistics.js';
import type { Guest, GuestBuffer, GuestPlace, GuestPlane, GuestWish, PlaneShown } from './guest.js';
import { planeDocument } from './plane-document.js';
import type { PeerCredentials } from './socket.js';
import { VfioBuffers } from './vfio-buffers.js';

const UNPLACED_PERIOD_NS = 16_666_667;
const NOTHING: PlaneShown = { state: 'off', plane: null, reason: 'nothing was shown yet', errno: 0 };
const REGION_REASON = 'the device has its picture in a region, which no display can scan out';

export class VfioGuest implements Guest {
  readonly kind = 'vfio';
  readonly planes: GuestPlane[];
  readonly producer: NativeGuestType;
  wish: GuestWish | null = null;
  private readonly region: boolean;
  private readonly buffersKept: VfioBuffers;
  private readonly states: PlaneShown[];
  private place: GuestPlace | null = null;
  private edid: Uint8Array | null = null;
  private lastError = '';
  private left = false;
  private work: Promise<void> = Promise.resolve();

  /** Takes the device over. Throws a TypeError for one without a display plane, which stays the caller's. */
  constructor(
    readonly card: Card,
    private readonly settings: VfioGuestConfig,
    private readonly device: VfioDevice,
    /** Who offered the device; null: it was opened here, or taken from a process. */
    private readonly peer: PeerCredentials | null,
    private readonly statistics: FlipStatistics,
    private readonly log: Logger,
    private readonly gone: (reason: string) => void,
  ) {
    const how = device.probe(VFIO_PLANE_TYPES.primary);
    if (how === null) throw new TypeError('the device has no display plane');
    this.region = how === 'region';
    // Of devices with regions nothing is known to tell a cursor plane from the primary one.
    const kinds: GuestPlane['kind'][] =
      !this.region && device.probe(VFIO_PLANE_TYPES.cursor) === 'dma-buf'
        ? ['primary', 'cursor']
        : ['primary'];
    const first = card.newStreams(kinds.length);
    this.planes = kinds.map((kind, index) => ({ index, kind, stream: first + index }));
    this.states = this.planes.map(() => NOTHING);
    this.buffersKept = new VfioBuffers(card.device, card.shadows, device, log);
    this.producer = new NativeGuest(card.engine, {
      device,
      planeCount: kinds.length,
      firstStream: first,
      region: this.region,
      periodNs: UNPLACED_PERIOD_NS,
      onNews: (news) => this.onNews(news),
    });
    const { heard } = this.producer;
    if (typeof heard === 'boolean') log.debug({ guest: this.name, flipIrq: heard }, 'how flips are noticed');
    else log.warn({ guest: this.name, code: heard }, 'the flip irq is not to be had: asking each refresh');
  }

  get name(): string {
    return this.settings.name;
  }

  get outputRequest(): string | null {
    return this.settings.output;
  }

  get z(): number {
    return this.settings.z;
  }

  get planeRequest(): PlaneRequest {
    return this.wish?.plane ?? this.settings.plane;
  }

  get areaRequest(): Area | null {
    return this.wish !== null ? this.wish.area : this.settings.area;
  }

  buffer(id: number): GuestBuffer | null {
    return this.buffersKept.get(id);
  }

  buffers(): Iterable<GuestBuffer> {
    return this.buffersKept.values();
  }

  /** Whoever has the device still has it. */
  stillOwned(): boolean {
    return this.device.stillOwned();
  }

  /** The process whose device it is, where there is one. */
  private get pid(): number | null {
    if (this.peer !== null) return this.peer.pid;
    return this.device.owner === 0 ? null : this.device.owner;
  }

  private onNews(news: VfioNews): void {
    if (news.type === 'ended') {
      this.gone('its virtual machine has ended');
      return;
    }
    const { code, index } = news;
    switch (news.type) {
      case 'unknown':
        this.work = this.work.then(() => this.add(news));
        return;
      case 'failed':
        this.lastError = `plane ${index}: ${code}`;
        this.log.warn({ guest: this.name, plane: index, code }, 'asking the device failed');
        return;
      case 'gone':
        this.gone(`the device answers with ${code}`);
    }
  }

  private async add({ index, plane }: VfioPlaneNews): Promise<void> {
    if (this.left) return;
    try {
      if (this.region) await this.buffersKept.addRegion(this, this.producer, plane);
      else await this.buffersKept.add(this, this.producer, index, plane);
      this.log.debug({ guest: this.name, plane: index, buffer: plane.id }, 'a buffer of the device is known');
    } catch (error) {
      if (this.left) return;
      this.lastError = (error as Error).message;
      this.log.warn({ guest: this.name, plane: index, buffer: plane.id, err: error }, 'a buffer was refused');
    }
  }

  async placed(place: GuestPlace | null): Promise<void> {
    this.place = place;
    if (this.left) return;
    const output = place === null ? undefined : this.card.outputs.get(place.output);
    const { x, y, width, height } = place?.area ?? { x: 0, y: 0, width: 0, height: 0 };
    const period = place === null ? UNPLACED_PERIOD_NS : Math.round(1e12 / place.refreshMhz);
    await this.producer.setArea(x, y, x + width, y + height, output?.lit?.crtc.id ?? 0, period);
    if (place !== null) this.setMonitor(place, output?.lit?.mode, output?.connector.edid ?? null);
  }

  /** Told again only when it is another, since the guest sees it unplugged meanwhile. */
  private setMonitor(
    { area, refreshMhz, output }: GuestPlace,
    lit: { width: number; height: number } | undefined,
    real: Uint8Array | null,
  ): void {
    const { x, y, width, height } = area;
    const whole = x === 0 && y === 0 && lit?.width === width && lit.height === height;
    const edid = guestEdid(real, { width, height, refreshMhz }, whole, output);
    if (this.edid !== null && Buffer.compare(this.edid, edid) === 0) return;
    this.edid = edid;
    this.work = this.work.then(() => this.giveEdid(edid));
  }

  private async giveEdid(edid: Uint8Array): Promise<void> {
    if (this.left) return;
    try {
      const given = await this.device.writeEdid(edid);
      this.log.debug({ guest: this.name, given }, "the monitor's EDID");
    } catch (error) {
      this.log.warn({ guest: this.name, err: error }, 'the device did not take the EDID');
    }
  }

  shown(plane: number, how: PlaneShown): void {
    const copied = how.state === 'copied';
    if (!this.left && copied !== (this.states[plane]?.state === 'copied')) {
      this.producer.setCopied(plane, copied).catch(() => {}); // the engine was closed
    }
    this.states[plane] = how;
  }

  copyFailed(stream: number, code: string): void {
    const index = this.planes.findIndex((plane) => plane.stream === stream);
    const how = this.states[index];
    if (this.left || how === undefined || how.state !== 'copied') return;
    // Not again with every refresh; a buffer that is new is tried.
    this.producer.setCopied(index, false).catch(() => {}); // the engine was closed
    this.states[index] = { ...how, state: 'unseen', reason: `${how.reason}; its copy failed with ${code}` };
  }

  asyncRefused(): void {}

  formats(): void {}

  async leave(): Promise<void> {
    if (this.left) return;
    this.left = true;
    await this.work;
    await this.producer.leave();
    await this.card.shadows.forget(this, null);
    this.buffersKept.freeAll();
    this.device.close();
    this.statistics.forget(this.planes.map(({ stream }) => stream));
  }

  document(): GuestFacts {
    const stats = this.planes.map(({ index }) => (this.left ? null : this.producer.stats(index)));
    return {
      name: this.name,
      kind: this.kind,
      connected: !this.left,
      pid: this.left ? null : this.pid,
      uid: this.left ? null : (this.peer?.uid ?? null),
      output: this.place?.output ?? null,
      area: this.place?.area ?? null,
      buffers: this.buffersKept.size,
      copies: stats.reduce((sum, one) => sum + (one?.copied ?? 0), 0),
      late: 0, // nobody waits
      planes: this.planes.map((plane) => this.planeDocument(plane)),
      lastError: this.lastError,
    };
  }

  private planeDocument(plane: GuestPlane): GuestPlaneDocument {
    const how = this.states[plane.index] ?? NOTHING;
    const stats = this.left ? null : this.producer.stats(plane.index);
    const buffer = this.buffersKept.get(stats?.newestBuffer ?? -1);
    // What the display scans out directly is a copy already.
    const copy: PlaneShown = { ...how, state: 'copied', reason: REGION_REASON };
    const told = this.region && how.state === 'direct' ? copy : how;
    return planeDocument(plane, told, 'mailbox', stats, buffer, this.statistics);
  }
}
