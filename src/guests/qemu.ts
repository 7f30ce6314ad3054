/** The control half of one console of QEMU's D-Bus display: its buffers, its size, and what is told of it. */
import type { GuestFacts, GuestPlaneDocument } from '../api/documents.js';
import type { Area, PlaneRequest, QemuGuestConfig } from '../config/config.js';
import type { Card } from '../kms/card.js';
import type { ImportedBuffer } from '../kms/device.js';
import { type Fd, isSystemError } from '../native/base.js';
import {
  FAULTS,
  FIRST_CURSOR,
  type QemuEvent,
  QemuListener,
  type QemuListener as QemuListenerType,
  QemuPicture,
  type QemuWanted,
} from '../native/qemu.js';
import type { GuestInput } from '../seats/sinks.js';
import type { Logger } from '../service/log.js';
import type { FlipStatistics } from '../service/statistics.js';
import { discard, importBuffer } from './buffers.js';
import { fencedBy } from './fences.js';
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

const ARGB8888 = 0x34325241;
/** Largest cursor of a display that is made use of; guests' are 64 pixels wide, seldom more. */
const MOST_CURSOR = 256;
const PICTURE = 0;
const CURSOR = 1;

/** Why a picture can only be copied. */
const COPIED: Readonly<Record<'pixels' | 'map', string>> = {
  pixels: 'QEMU sends its pixels in messages: it gives dma-bufs with gl=on only',
  map: 'QEMU shares it in memory that cannot become a dma-buf: it gives dma-bufs with gl=on only',
};

/**
 * The format without alpha of the same memory, by name. A screen is opaque whatever its format says: QEMU's textures of a
 * guest's XRGB8888 are ABGR8888, with whatever the guest left in the unused byte.
 */
const OPAQUE: Readonly<Record<string, string>> = {
  AR24: 'XR24',
  AB24: 'XB24',
  RA24: 'RX24',
  BA24: 'BX24',
  AR30: 'XR30',
  AB30: 'XB30',
};

function opaque(fourcc: number): number {
  const code = Buffer.alloc(4);
  code.writeUInt32LE(fourcc);
  code.write(OPAQUE[code.toString('latin1')] ?? '', 'latin1');
  return code.readUInt32LE();
}

interface Registered extends GuestBuffer {
  imported: ImportedBuffer | null;
}

/** How a guest reaches its virtual machine. */
export interface QemuConsole {
  /** Tells the guest a new size, in pixels. */
  resize(width: number, height: number): Promise<void>;
  /** The listener's connection is over; told once. */
  ended(guest: QemuGuest, why: string): void;
  /** Of QEMU's process, or null. */
  readonly pid: number | null;
}

export class QemuGuest implements Guest {
  readonly kind = 'qemu';
  readonly planes: GuestPlane[];
  readonly producer: QemuListenerType;
  wish: GuestWish | null = null;
  input: GuestInput | null = null;
  private readonly registered = new Map<number, Registered>();
  private readonly states: PlaneShown[];
  private place: GuestPlace | null = null;
  private size = '';
  private lastError = '';
  private left = false;
  private turn: Promise<void> = Promise.resolve();

  /** `socket` is our end of the listener's connection; taken over. Throws a SystemError. */
  constructor(
    readonly card: Card,
    readonly name: string,
    private readonly settings: QemuGuestConfig | null,
    private readonly console: QemuConsole,
    socket: Fd,
    private readonly statistics: FlipStatistics,
    private readonly log: Logger,
  ) {
    const stream = card.newStreams(2);
    this.planes = [
      { index: PICTURE, kind: 'primary', stream },
      { index: CURSOR, kind: 'cursor', stream: stream + 1 },
    ];
    this.states = this.planes.map(() => UNSHOWN);
    const { cursorWidth, cursorHeight } = card.device.native.capabilities();
    const [width, height] = [Math.min(cursorWidth, MOST_CURSOR), Math.min(cursorHeight, MOST_CURSOR)];
    this.producer = new QemuListener(card.engine, card.device.native, {
      firstStream: stream,
      socket,
      cursorWidth: width,
      cursorHeight: height,
      onEvent: (event, fds) => this.receive(event, fds),
    });
    for (const [i, { framebuffer, stride, memory }] of this.producer.cursors().entries()) {
      const layout = { width, height, fourcc: ARGB8888, modifier: 0n, strides: [stride], offsets: [0] };
      const id = FIRST_CURSOR + i;
      this.registered.set(id, {
        id,
        layout,
        framebuffer,
        reason: '',
        errno: 0,
        fds: [],
        memory,
        imported: null,
      });
    }
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
    return this.registered.get(id) ?? null;
  }

  buffers(): Iterable<GuestBuffer> {
    return this.registered.values();
  }

  // ---- what the flip thread tells, one after the other

  private receive(event: QemuEvent, fds: Fd[]): void {
    this.turn = this.turn
      .then(() => this.handle(event, fds))
      .catch((error: unknown) => {
        if (!isSystemError(error, 'ESHUTDOWN'))
          this.log.error({ guest: this.name, err: error }, 'guest failed');
      });
  }

  private async handle(event: QemuEvent, fds: Fd[]): Promise<void> {
    if (this.left) {
      for (const fd of fds) discard(fd);
      return;
    }
    if (event.type === 'wanted') await this.add(event, fds);
    else if (event.type === 'idle') await this.remove(event.slot);
    else {
      const code = event.errno === 0 ? '' : `, errno ${event.errno}`;
      this.lastError = `${FAULTS[event.fault] ?? 'unknown fault'}${code}`;
      this.console.ended(this, this.lastError);
    }
  }

  private async add(wanted: QemuWanted, fds: Fd[]): Promise<void> {
    let buffer: Registered;
    try {
      buffer = wanted.kind === 'dmabuf' ? this.import(wanted, fds) : this.mirror(wanted, wanted.kind, fds);
    } catch (error) {
      for (const fd of fds) discard(fd);
      this.lastError = error instanceof Error ? error.message : String(error);
      this.log.warn({ guest: this.name, err: error }, `refused: ${this.lastError}`);
      await this.producer.failed(wanted.slot);
      return;
    }
    this.registered.set(buffer.id, buffer);
    await this.card.shadows.added(this, buffer);
    await this.producer.ready(
      buffer.id,
      buffer.framebuffer,
      wanted.kind === 'dmabuf' ? null : (buffer.memory ?? null),
      buffer.fenced,
    );
  }

  private import(wanted: QemuWanted, fds: Fd[]): Registered {
    const { slot, backingWidth: width, backingHeight: height, modifier, strides, offsets } = wanted;
    const layout = { width, height, fourcc: opaque(wanted.fourcc), modifier, strides, offsets };
    const imported = importBuffer(this.card.device, layout, fds);
    return { id: slot, layout, fds, fenced: fencedBy(fds, this.log), ...imported };
  }

  private mirror(wanted: QemuWanted, kind: 'pixels' | 'map', fds: Fd[]): Registered {
    const { slot: id, width, height, strides, offsets } = wanted;
    const fourcc = opaque(wanted.fourcc);
    const [stride = 0] = strides;
    const [offset = 0] = offsets;
    const memory = new QemuPicture({ width, height, fourcc, stride, offset }, fds[0] ?? null);
    const layout = { width, height, fourcc, modifier: 0n, strides: [stride], offsets: [0] };
    return { id, layout, framebuffer: 0, reason: COPIED[kind], errno: 0, fds: [], memory, imported: null };
  }

  private async remove(slot: number): Promise<void> {
    const buffer = this.registered.get(slot);
    if (buffer !== undefined) {
      await this.card.shadows.forget(this, slot);
      this.free(buffer);
    }
    await this.producer.freed(slot);
  }

  private free(buffer: Registered): void {
    this.registered.delete(buffer.id);
    buffer.imported?.release();
    for (const fd of buffer.fds) fd.close();
  }

  async leave(): Promise<void> {
    if (this.left) return;
    this.left = true;
    await this.producer.leave();
    await this.turn;
    await this.card.shadows.forget(this, null);
    for (const buffer of [...this.registered.values()]) this.free(buffer);
    this.statistics.forget(this.planes.map(({ stream }) => stream));
  }

  // ---- what the output tells

  async placed(place: GuestPlace | null): Promise<void> {
    this.place = place;
    if (place === null || this.left) return;
    const { x, y, width, height } = place.area;
    const fit = this.settings?.scale !== 'none';
    await this.producer.setArea(x, y, x + width, y + height, this.areaRequest === null, fit);
    const size = `${width}x${height}`;
    if (size === this.size) return;
    this.size = size;
    // The guest may take it or leave it; nobody waits for that.
    this.console.resize(width, height).catch((error: unknown) => {
      this.log.debug({ guest: this.name, err: error }, 'the guest was not told its size');
    });
  }

  shown(plane: number, how: PlaneShown): void {
    this.states[plane] = how;
  }

  asyncRefused(): void {} // it never asks for any

  formats(): void {} // QEMU is not told

  document(): GuestFacts {
    return {
      name: this.name,
      kind: 'qemu',
      connected: !this.left,
      pid: this.console.pid,
      uid: null,
      output: this.place?.output ?? null,
      area: this.place?.area ?? null,
      buffers: [...this.registered.keys()].filter((id) => id < FIRST_CURSOR).length,
      copies: this.left
        ? 0
        : this.planes.reduce((sum, { index }) => sum + this.producer.stats(index).copied, 0),
      late: this.left ? 0 : this.producer.counters().lateReplies,
      planes: this.planes.map((plane) => this.planeDocument(plane)),
      lastError: this.lastError,
    };
  }

  private planeDocument(plane: GuestPlane): GuestPlaneDocument {
    const stats = this.left ? null : this.producer.stats(plane.index);
    const buffer = this.buffer(stats?.newestBuffer ?? -1);
    const how = this.states[plane.index] ?? UNSHOWN;
    return planeDocument(plane, how, 'mailbox', stats, buffer, this.statistics);
  }
}
