/** The control half of a socket guest: its messages, its buffers, and what it is told. */
import type { GuestFacts, GuestPlaneDocument } from '../api/documents.js';
import type {
  Area,
  PlaneRequest,
  PresentMode as PresentModeName,
  SocketGuestConfig,
} from '../config/config.js';
import type { Card } from '../kms/card.js';
import type { Fd } from '../native/base.js';
import { SocketGuest as NativeGuest, type SocketGuest as NativeGuestType } from '../native/guests.js';
import { type InputHost, NO_INPUT } from '../seats/sinks.js';
import type { FlipStatistics } from '../service/statistics.js';
import { GuestBuffers } from './buffers.js';
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
import {
  type AddBuffer,
  Capability,
  Code,
  type DaemonMessage,
  FLIP_PAGE_SIZE,
  type Hello,
  MAX,
  PlaneKind,
  PlaneState,
  PresentMode,
  ProtocolError,
  type SetPresent,
  type TakeInput,
  VERSION,
} from './protocol.js';
import { type RingInput, takeRing } from './ring-input.js';

export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

/** How a guest is answered; the connection's. */
export type SendMessage = (message: DaemonMessage, fds?: Fd[]) => void;

const KINDS = new Map<number, GuestPlane['kind']>([
  [PlaneKind.primary, 'primary'],
  [PlaneKind.overlay, 'overlay'],
  [PlaneKind.cursor, 'cursor'],
]);
const MODES: readonly PresentModeName[] = ['mailbox', 'fifo', 'async'];
const UNLIT_REFRESH_MHZ = 60_000;

export class SocketGuest implements Guest {
  readonly kind = 'socket';
  readonly planes: GuestPlane[];
  readonly producer: NativeGuestType;
  private readonly states: PlaneShown[];
  private readonly present: PresentModeName[];
  private readonly asyncReasons: string[];
  private readonly registered: GuestBuffers;
  private place: GuestPlace | null = null;
  private lastError = '';
  private left = false;
  private ring: RingInput | null = null;
  wish: GuestWish | null = null;

  constructor(
    readonly card: Card,
    private readonly hello: Hello,
    private readonly settings: SocketGuestConfig | null,
    readonly peer: PeerCredentials,
    descriptors: { kick: Fd; release: Fd },
    private readonly send: SendMessage,
    private readonly statistics: FlipStatistics,
    private readonly inputs: InputHost = NO_INPUT,
  ) {
    const first = card.newStreams(hello.planeCount);
    this.planes = hello.planeKinds.slice(0, hello.planeCount).map((kind, index) => ({
      index,
      kind: KINDS.get(kind) ?? 'overlay',
      stream: first + index,
    }));
    this.states = this.planes.map(() => UNSHOWN);
    this.present = this.planes.map(() => 'mailbox');
    this.asyncReasons = this.planes.map(() => '');
    this.registered = new GuestBuffers(card.device, settings?.maxBuffers ?? MAX.buffers, card.log);
    this.producer = new NativeGuest(card.engine, {
      planeCount: hello.planeCount,
      firstStream: first,
      kick: descriptors.kick,
      release: descriptors.release,
      fences: (hello.capabilities & Capability.fence) !== 0n,
    });
  }

  get name(): string {
    return this.hello.name;
  }

  /** The ring that it has asked for. */
  get input(): RingInput | null {
    return this.ring;
  }

  get outputRequest(): string | null {
    return this.settings?.output ?? null;
  }

  get z(): number {
    return this.settings?.z ?? 0;
  }

  get planeRequest(): PlaneRequest {
    return this.wish?.plane ?? this.settings?.plane ?? 'auto';
  }

  get areaRequest(): Area | null {
    return this.wish !== null ? this.wish.area : (this.settings?.area ?? null);
  }

  buffer(id: number): GuestBuffer | null {
    return this.registered.get(id);
  }

  buffers(): Iterable<GuestBuffer> {
    return this.registered.values();
  }

  welcome(): void {
    const fence = this.producer.fenceFd();
    const page = this.producer.pageFd();
    const fds = fence === null ? [page] : [page, fence];
    this.send(
      {
        type: 'welcome',
        serial: this.hello.serial,
        versionMajor: VERSION.major,
        versionMinor: Math.min(VERSION.minor, this.hello.versionMinor),
        capabilities: fence === null ? 0n : Capability.fence,
        pageSize: FLIP_PAGE_SIZE,
      },
      fds,
    );
    for (const fd of fds) fd.close();
  }

  // ---- messages; each throws a ProtocolError

  async addBuffer(message: AddBuffer, fds: Fd[]): Promise<void> {
    await this.registered.add(this.producer, message, fds);
    const buffer = this.registered.get(message.buffer);
    if (buffer !== null) await this.card.shadows.added(this, buffer);
  }

  async removeBuffer(id: number): Promise<void> {
    await this.registered.remove(this.producer, id, () => this.card.shadows.forget(this, id));
  }

  /**
   * The memory behind a buffer has moved: `fds` are its dma-bufs from now on, taken over on success, or none where these stay
   * the same. The display may show the former memory until `bufferRenewed` resolves.
   */
  async renewBuffer(id: number, fds: Fd[]): Promise<void> {
    if (this.hello.versionMinor < 2) {
      const text = 'RENEW_BUFFER is of version 1.2, which the guest does not speak';
      throw new ProtocolError(Code.badMessage, text);
    }
    const reread = (buffer: GuestBuffer) => this.card.shadows.renewed(this, buffer);
    await this.registered.renew(this.producer, id, fds, reread);
    await this.card.outputShowing(this)?.renewed(this);
  }

  bufferRenewed(id: number): Promise<void> {
    return this.registered.dropped(this.producer, id);
  }

  async setPresent(message: SetPresent): Promise<void> {
    const mode = MODES[message.mode];
    if (message.plane >= this.planes.length || mode === undefined) {
      throw new ProtocolError(
        Code.badPlane,
        `the guest has ${this.planes.length} planes, not a plane ${message.plane}`,
      );
    }
    if (this.settings !== null && !this.settings.present.includes(mode)) {
      throw new ProtocolError(Code.notAllowed, `present mode ${mode} is not allowed by the configuration`);
    }
    await this.producer.setMode(message.plane, PresentMode[mode]);
    this.present[message.plane] = mode;
    this.asyncReasons[message.plane] = '';
  }

  /** The guest wants its seat's input, by these eventfds, and is answered when the seat gives it. */
  takeInput(message: TakeInput, eventfds: Fd[]): void {
    const ended = () => {
      this.ring = null;
    };
    this.ring = takeRing(this, this.hello.versionMinor, message, eventfds, this.inputs, this.send, ended);
    this.inputs.changed(this.name);
  }

  async leave(): Promise<void> {
    if (this.left) return;
    this.left = true;
    this.ring?.close();
    await this.producer.leave();
    await this.card.shadows.forget(this, null);
    this.registered.freeAll();
    this.statistics.forget(this.planes.map(({ stream }) => stream));
  }

  // ---- what the output tells

  async placed(place: GuestPlace | null): Promise<void> {
    this.place = place;
    if (this.left) return;
    if (place !== null) {
      const { x, y, width, height } = place.area;
      await this.producer.setArea(x, y, x + width, y + height);
    }
    this.send({
      type: 'configure',
      serial: 0,
      width: place?.area.width ?? 0,
      height: place?.area.height ?? 0,
      refreshMhz: place?.refreshMhz ?? UNLIT_REFRESH_MHZ,
      lit: place === null ? 0 : 1,
      output: place?.output ?? '',
    });
  }

  shown(plane: number, how: PlaneShown): void {
    const former = this.states[plane];
    this.states[plane] = how;
    if (this.left || (former?.state === how.state && former.reason === how.reason)) return;
    this.send({
      type: 'state',
      serial: 0,
      plane,
      state: PlaneState[how.state],
      errnum: how.errno,
      text: how.reason,
    });
  }

  asyncRefused(stream: number, code: string): void {
    const plane = this.planes.find((one) => one.stream === stream);
    const how = plane === undefined ? undefined : this.states[plane.index];
    if (plane === undefined || how === undefined || this.left) return;
    const reason = `async flips are refused with ${code}: mailbox instead`;
    this.asyncReasons[plane.index] = reason;
    this.send({
      type: 'state',
      serial: 0,
      plane: plane.index,
      state: PlaneState[how.state],
      errnum: 0,
      text: reason,
    });
  }

  formats(plane: number, formats: readonly { fourcc: number; modifier: bigint }[]): void {
    if (this.left) return;
    this.send({ type: 'formats', serial: 0, plane, formats: formats.slice(0, MAX.formats) });
  }

  told(error: string): void {
    this.lastError = error;
  }

  document(): GuestFacts {
    const planes = this.planes.map((plane) => this.planeDocument(plane));
    return {
      name: this.name,
      kind: this.kind,
      connected: !this.left,
      pid: this.peer.pid,
      uid: this.peer.uid,
      output: this.place?.output ?? null,
      area: this.place?.area ?? null,
      buffers: this.registered.size,
      copies: this.left
        ? 0
        : this.planes.reduce((sum, { index }) => sum + this.producer.stats(index).copied, 0),
      late: 0, // they wait as long as it takes
      planes,
      lastError: this.lastError,
    };
  }

  private planeDocument(plane: GuestPlane): GuestPlaneDocument {
    const how = this.states[plane.index] ?? UNSHOWN;
    const stats = this.left ? null : this.producer.stats(plane.index);
    const reasons = [how.reason, this.asyncReasons[plane.index] ?? ''].filter((text) => text !== '');
    return planeDocument(
      plane,
      { ...how, reason: reasons.join('; ') },
      this.present[plane.index] ?? 'mailbox',
      stats,
      this.registered.get(stats?.newestBuffer ?? -1),
      this.statistics,
    );
  }
}
