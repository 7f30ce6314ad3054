/** The buffers of a vfio guest: dma-bufs by the driver's ids, or canvases that a region is copied into. */
import type { BufferLayout, CardDevice, ImportedBuffer } from '../kms/device.js';
import type { ShadowSet } from '../kms/shadows.js';
import type { Fd } from '../native/base.js';
import { isSystemError } from '../native/base.js';
import { createUdmabuf } from '../native/buffers.js';
import { dmaBufSize } from '../native/guests.js';
import { pixelFormats, planeNeeds } from '../native/pixels.js';
import type { VfioDevice, VfioGuest, VfioPlane } from '../native/vfio.js';
import { fencedBy, type Warner } from './fences.js';
import type { Guest, GuestBuffer } from './guest.js';

/** Slots of the native half. */
const SLOTS = 32;
/** Dma-bufs of one plane that are kept; a guest that flips between more has the oldest imported anew. */
const MOST_KEPT = 8;
const CANVASES = 3;
/** Larger than any display. */
const MOST_PIXELS = 32767;

const FORMATS = new Map(pixelFormats().map((format) => [format.fourcc, format]));

/** What a driver says of a plane cannot be. */
export class VfioPlaneError extends Error {}

interface Kept extends GuestBuffer {
  readonly plane: number;
  readonly dmabufId: number | null;
  readonly imported: ImportedBuffer | null;
  readonly memfd: Fd | null;
}

export class VfioBuffers {
  /** By slot. */
  private readonly kept = new Map<number, Kept>();
  /** Those that go, when they are gone. */
  private readonly freeing = new Map<number, Promise<void>>();

  constructor(
    private readonly card: CardDevice,
    private readonly shadows: ShadowSet,
    private readonly device: VfioDevice,
    private readonly log: Warner,
  ) {}

  get size(): number {
    return this.kept.size;
  }

  get(slot: number): GuestBuffer | null {
    return this.kept.get(slot) ?? null;
  }

  values(): Iterable<GuestBuffer> {
    return this.kept.values();
  }

  /** Imports a dma-buf that a plane shows. Throws a VfioPlaneError, or a SystemError of the driver. */
  async add(guest: Guest, native: VfioGuest, plane: number, shape: VfioPlane): Promise<void> {
    const layout = layoutOf(shape);
    // Some drivers count no reference for a second descriptor of one id: the first must be closed by then.
    const former = [...this.kept.values()].find(({ dmabufId }) => dmabufId === shape.id);
    if (former !== undefined) {
      const freed = this.freeing.get(former.id);
      if (freed === undefined) throw new VfioPlaneError(`dma-buf ${shape.id} has another layout already`);
      await freed;
    }
    this.makeRoom(guest, native, plane);
    const fd = this.device.dmaBuf(shape.id);
    try {
      checkSize(layout, dmaBufSize(fd));
    } catch (error) {
      fd.close();
      throw error;
    }
    await this.keep(guest, native, { plane, shape, layout, fd, memfd: null, dmabufId: shape.id });
  }

  /** Makes what a region is copied into, instead of what the former one was. */
  async addRegion(guest: Guest, native: VfioGuest, shape: VfioPlane): Promise<void> {
    const layout = layoutOf(shape);
    const former = [...this.kept.values()];
    const canvases = [];
    for (let i = 0; i < CANVASES; i++) {
      const { memfd, dmabuf } = createUdmabuf(shape.stride * shape.height, guest.name);
      const made = { plane: 0, shape, layout, fd: dmabuf, memfd, dmabufId: null };
      const slot = await this.keep(guest, native, made);
      canvases.push({ slot, memfd, dmabuf });
    }
    await native.setRegion(shape, canvases);
    for (const one of former) this.remove(guest, native, one);
  }

  private async keep(
    guest: Guest,
    native: VfioGuest,
    made: {
      plane: number;
      shape: VfioPlane;
      layout: BufferLayout;
      fd: Fd;
      memfd: Fd | null;
      dmabufId: number | null;
    },
  ): Promise<number> {
    const { plane, layout, fd, memfd, dmabufId } = made;
    const buffer: Kept = {
      id: this.freeSlot(),
      plane,
      dmabufId,
      layout,
      fds: [fd],
      fenced: fencedBy([fd], this.log),
      memfd,
      ...this.import(layout, fd),
    };
    this.kept.set(buffer.id, buffer);
    await native.addBuffer(plane, buffer.id, made.shape, buffer.framebuffer, buffer.fenced);
    await this.shadows.added(guest, buffer);
    return buffer.id;
  }

  private import(
    layout: BufferLayout,
    fd: Fd,
  ): { imported: ImportedBuffer | null; framebuffer: number; reason: string; errno: number } {
    try {
      const imported = this.card.importBuffer([fd], layout);
      return { imported, framebuffer: imported.id, reason: '', errno: 0 };
    } catch (error) {
      if (!isSystemError(error)) throw error;
      return { imported: null, framebuffer: 0, reason: `import: ${error.message}`, errno: error.errno };
    }
  }

  private freeSlot(): number {
    for (let slot = 0; slot < SLOTS; slot++) if (!this.kept.has(slot)) return slot;
    throw new VfioPlaneError(`more than ${SLOTS} buffers at a time`);
  }

  private makeRoom(guest: Guest, native: VfioGuest, plane: number): void {
    const own = [...this.kept.values()].filter((one) => one.plane === plane && !this.freeing.has(one.id));
    if (own.length < MOST_KEPT) return;
    const { newestBuffer } = native.stats(plane);
    const oldest = own.find(({ id }) => id !== newestBuffer);
    if (oldest !== undefined) this.remove(guest, native, oldest);
  }

  /** Not waited for, as it may be on the screen: its successor is still to come. */
  private remove(guest: Guest, native: VfioGuest, buffer: Kept): void {
    const freed = native
      .retireBuffer(buffer.id)
      .then(() => this.shadows.forget(guest, buffer.id))
      .then(() => this.free(buffer))
      .catch(() => {}); // the engine was closed meanwhile; freeAll follows
    this.freeing.set(buffer.id, freed);
  }

  /** After the native half has left: nothing shows any of them. */
  freeAll(): void {
    for (const buffer of [...this.kept.values()]) this.free(buffer);
  }

  private free(buffer: Kept): void {
    if (!this.kept.delete(buffer.id)) return;
    this.freeing.delete(buffer.id);
    buffer.imported?.release();
    for (const fd of buffer.fds) fd.close();
    buffer.memfd?.close();
  }
}

function layoutOf(shape: VfioPlane): BufferLayout {
  const { width, height, fourcc, modifier, stride } = shape;
  const format = FORMATS.get(fourcc);
  if (format === undefined || format.planeCount !== 1) {
    throw new VfioPlaneError(`fourcc 0x${fourcc.toString(16)} is none of a single memory plane`);
  }
  if (width > MOST_PIXELS || height > MOST_PIXELS) throw new VfioPlaneError(`a plane of ${width}x${height}`);
  const layout = { width, height, fourcc, modifier, strides: [stride], offsets: [0] };
  checkSize(layout, Math.max(shape.size, stride * height));
  return layout;
}

/** Linear memory must hold the picture; what a modifier needs is the display's to check. */
function checkSize(layout: BufferLayout, size: number): void {
  const { width, height, fourcc, modifier, strides } = layout;
  const stride = strides[0] ?? 0;
  if (modifier !== 0n) return;
  const needs = planeNeeds(fourcc, 0, width, height, stride, 0);
  if (stride < needs.stride || needs.bytes > size) {
    throw new VfioPlaneError(`${width}x${height} with ${stride} bytes a row is not in ${size} bytes`);
  }
}
