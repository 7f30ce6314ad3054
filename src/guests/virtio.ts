/** One scanout of a virtual machine's virtio-gpu device, as a guest. */
import type { GuestFacts, GuestPlaneDocument } from '../api/documents.js';
import type { Area, PlaneRequest, VirtioGuestConfig } from '../config/config.js';
import type { Card } from '../kms/card.js';
import { guestEdid } from '../kms/guest-edid.js';
import { type VirtioGpu, VirtioScanout } from '../native/virtio.js';
import type { FlipStatistics } from '../service/statistics.js';
import {
  type Guest,
  type GuestBuffer,
  type GuestPlace,
  type GuestPlane,
  type GuestWish,
  type PlaneShown,
  UNSHOWN,
} from './guest.js';
import { planeDocument } from './plane-document.js';
import type { VirtioBuffers } from './virtio-buffers.js';

/** What the first scanout is where no output shows it: a machine without any display does not start one. */
const UNPLACED = { width: 1024, height: 768, refreshMhz: 60_000 };
const UNLIT_REFRESH_MHZ = 60_000;

/** What the scanouts of a device share. */
export interface VirtioOwner {
  readonly card: Card;
  readonly gpu: VirtioGpu;
  readonly buffers: VirtioBuffers;
  readonly settings: VirtioGuestConfig;
  readonly peer: { pid: number; uid: number };
  readonly statistics: FlipStatistics;
  readonly lastError: string;
}

export class VirtioGuest implements Guest {
  readonly kind = 'virtio';
  readonly name: string;
  readonly planes: GuestPlane[];
  readonly producer: VirtioScanout;
  wish: GuestWish | null = null;
  private readonly states: PlaneShown[] = [UNSHOWN, UNSHOWN];
  private place: GuestPlace | null = null;
  private left = false;

  constructor(
    private readonly owner: VirtioOwner,
    private readonly scanout: number,
  ) {
    this.name = scanoutName(owner.settings, scanout);
    const first = owner.card.newStreams(2);
    this.planes = [
      { index: 0, kind: 'primary', stream: first },
      { index: 1, kind: 'cursor', stream: first + 1 },
    ];
    this.producer = new VirtioScanout(owner.gpu, scanout, first);
  }

  get card(): Card {
    return this.owner.card;
  }

  get z(): number {
    return this.owner.settings.z;
  }

  get outputRequest(): string | null {
    const { output, outputs } = this.owner.settings;
    return outputs === null ? output : (outputs[this.scanout] ?? null);
  }

  get planeRequest(): PlaneRequest {
    return this.wish?.plane ?? this.owner.settings.plane;
  }

  get areaRequest(): Area | null {
    return this.wish !== null ? this.wish.area : this.owner.settings.area;
  }

  buffer(id: number): GuestBuffer | null {
    return this.owner.buffers.get(id);
  }

  buffers(): Iterable<GuestBuffer> {
    return this.owner.buffers.values();
  }

  async placed(place: GuestPlace | null): Promise<void> {
    const first = this.place === null;
    this.place = place;
    if (this.left) return;
    if (place !== null) {
      const { x, y, width, height } = place.area;
      await this.producer.setArea(x, y, x + width, y + height);
      await this.tell(width, height, place);
    } else if (this.scanout > 0) {
      await this.owner.gpu.setDisplay(this.scanout, 0, 0, null);
    } else if (first) {
      const edid = guestEdid(null, UNPLACED, true, this.name);
      await this.owner.gpu.setDisplay(0, UNPLACED.width, UNPLACED.height, edid);
    }
    // Else the guest's only display stays what it was: it goes on unseen.
    this.owner.gpu.configChanged();
  }

  private async tell(width: number, height: number, place: GuestPlace): Promise<void> {
    const output = this.card.outputs.get(place.output);
    const mode = output?.lit?.mode;
    const whole = place.area.x === 0 && place.area.y === 0 && mode?.width === width && mode.height === height;
    const refreshMhz = place.refreshMhz > 0 ? place.refreshMhz : UNLIT_REFRESH_MHZ;
    const real = output?.connector.edid ?? null;
    const edid = guestEdid(real, { width, height, refreshMhz }, whole, place.output);
    await this.owner.gpu.setDisplay(this.scanout, width, height, edid);
  }

  shown(plane: number, how: PlaneShown): void {
    this.states[plane] = how;
  }

  asyncRefused(): void {
    // Its frames are never async.
  }

  formats(): void {
    // The device's formats are the specification's.
  }

  async leave(): Promise<void> {
    if (this.left) return;
    this.left = true;
    await this.producer.leave();
    await this.card.shadows.forget(this, null);
    this.owner.statistics.forget(this.planes.map(({ stream }) => stream));
  }

  document(): GuestFacts {
    const copies = (index: number) => (this.left ? 0 : this.producer.stats(index).copied);
    return {
      name: this.name,
      kind: this.kind,
      connected: !this.left,
      pid: this.owner.peer.pid,
      uid: this.owner.peer.uid,
      output: this.place?.output ?? null,
      area: this.place?.area ?? null,
      buffers: this.owner.buffers.size,
      copies: copies(0) + copies(1),
      late: this.left ? 0 : this.owner.gpu.stats().late,
      planes: this.planes.map((plane) => this.planeDocument(plane)),
      lastError: this.owner.lastError,
    };
  }

  private planeDocument(plane: GuestPlane): GuestPlaneDocument {
    const stats = this.left ? null : this.producer.stats(plane.index);
    const buffer = this.owner.buffers.get(stats?.newestBuffer ?? -1);
    const how = this.states[plane.index] ?? UNSHOWN;
    // A plane that shows the card's buffer directly shows a copy of the guest's all the same.
    const copied = how.state === 'direct' && buffer !== null && buffer.copy !== null;
    return planeDocument(
      plane,
      copied ? { ...how, state: 'copied', reason: buffer.reason } : how,
      'mailbox',
      stats,
      buffer,
      this.owner.statistics,
    );
  }
}

/** The first scanout has the guest's name. */
export function scanoutName(settings: VirtioGuestConfig, scanout: number): string {
  return scanout === 0 ? settings.name : `${settings.name}.${scanout}`;
}
