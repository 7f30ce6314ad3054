/** A guest's buffers: every field checked before anything is imported, and one owner for each descriptor. */
import type { BufferLayout, CardDevice, ImportedBuffer } from '../kms/device.js';
import { DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR } from '../kms/topology.js';
import { type Fd, isSystemError } from '../native/base.js';
import { closeUntrusted, dmaBufSize, fdKind, type SocketGuest } from '../native/guests.js';
import { type PixelFormat, pixelFormats, planeNeeds } from '../native/pixels.js';
import { fencedBy, type Warner } from './fences.js';
import type { GuestBuffer } from './guest.js';
import { type AddBuffer, Code, ProtocolError } from './protocol.js';

const FORMATS = new Map(pixelFormats().map((format) => [format.fourcc, format]));

interface Registered extends GuestBuffer {
  imported: ImportedBuffer | null;
  retiring: boolean;
  /** What it was before it was renewed, while the display still shows that. */
  former: Former | null;
}

interface Former {
  imported: ImportedBuffer | null;
  /** Those that it has no more. */
  fds: readonly Fd[];
}

export class GuestBuffers {
  private readonly buffers = new Map<number, Registered>();

  constructor(
    private readonly device: CardDevice,
    private readonly limit: number,
    private readonly log: Warner,
  ) {}

  get size(): number {
    return this.buffers.size;
  }

  get(id: number): GuestBuffer | null {
    return this.buffers.get(id) ?? null;
  }

  values(): Iterable<GuestBuffer> {
    return this.buffers.values();
  }

  /** Takes the descriptors over, whatever comes of it. Throws a ProtocolError. */
  async add(native: SocketGuest, message: AddBuffer, fds: Fd[]): Promise<void> {
    let buffer: Registered | null = null;
    try {
      buffer = this.check(message, fds);
      this.buffers.set(buffer.id, buffer);
      const { framebuffer, fenced } = buffer;
      await native.addBuffer(buffer.id, framebuffer, message.width, message.height, fenced);
    } catch (error) {
      if (buffer !== null) this.buffers.delete(buffer.id);
      buffer?.imported?.release();
      for (const fd of fds) discard(fd);
      throw error;
    }
  }

  private check(message: AddBuffer, fds: readonly Fd[]): Registered {
    const { buffer: id } = message;
    if (this.buffers.has(id)) throw new ProtocolError(Code.badBuffer, `buffer ${id} is in use`);
    if (this.buffers.size >= this.limit) {
      throw new ProtocolError(Code.busy, `a guest has at most ${this.limit} buffers here (max_buffers)`);
    }
    const layout: BufferLayout = {
      width: message.width,
      height: message.height,
      fourcc: message.fourcc,
      modifier: message.modifier,
      strides: message.strides.slice(0, message.planeCount),
      offsets: message.offsets.slice(0, message.planeCount),
    };
    const imported = importBuffer(this.device, layout, fds);
    return { id, layout, fds, fenced: fencedBy(fds, this.log), retiring: false, former: null, ...imported };
  }

  /**
   * Imports a buffer anew, from `fds` (taken over on success) or, when there are none, from the dma-bufs that it has; `reread`
   * makes copies read these. What is on the screen stays there until the new import replaces it, which `dropped` waits for.
   * Throws a ProtocolError; the buffer is what it was then.
   */
  async renew(
    native: SocketGuest,
    id: number,
    fds: readonly Fd[],
    reread: (buffer: GuestBuffer) => Promise<void>,
  ): Promise<void> {
    const old = this.checkRenewal(id, fds.length);
    const given = fds.length > 0 ? [...fds] : old.fds;
    const imported = importBuffer(this.device, old.layout, given, true);
    let fenced: Fd[];
    try {
      fenced = fencedBy(given, this.log);
    } catch (error) {
      imported.imported?.release();
      throw error;
    }
    const former = { imported: old.imported, fds: fds.length > 0 ? old.fds : [] };
    const buffer: Registered = { ...old, fds: given, fenced, former, ...imported };
    this.buffers.set(id, buffer);
    await reread(buffer); // before frames say that this is its picture
    await native.renewBuffer(id, buffer.framebuffer, fenced);
  }

  /** Resolves when nothing shows what a buffer was before it was renewed. */
  async dropped(native: SocketGuest, id: number): Promise<void> {
    const buffer = this.buffers.get(id);
    if (buffer === undefined) return;
    await native.awaitFormer(id);
    freeFormer(buffer);
  }

  private checkRenewal(id: number, fdCount: number): Registered {
    const buffer = this.buffers.get(id);
    if (buffer === undefined || buffer.retiring) {
      throw new ProtocolError(Code.badBuffer, `there is no buffer ${id}`);
    }
    if (buffer.former !== null) {
      const text = `buffer ${id} was renewed before, and the display still shows what it was then`;
      throw new ProtocolError(Code.busy, text);
    }
    if (fdCount > 0 && fdCount !== buffer.fds.length) {
      const text = `buffer ${id} was registered with ${buffer.fds.length} descriptors, got ${fdCount}`;
      throw new ProtocolError(Code.badFd, text);
    }
    return buffer;
  }

  /** Resolves when nothing shows the buffer any more; `unread` ends its copying. Throws a ProtocolError. */
  async remove(native: SocketGuest, id: number, unread: () => Promise<void>): Promise<void> {
    const buffer = this.buffers.get(id);
    if (buffer === undefined || buffer.retiring) {
      throw new ProtocolError(Code.badBuffer, `there is no buffer ${id}`);
    }
    buffer.retiring = true;
    await native.retireBuffer(id);
    await unread();
    this.free(buffer);
  }

  /** After the native half has left: nothing shows any of them. */
  freeAll(): void {
    for (const buffer of [...this.buffers.values()]) this.free(buffer);
  }

  private free(buffer: Registered): void {
    if (!this.buffers.delete(buffer.id)) return;
    freeFormer(buffer);
    buffer.imported?.release();
    for (const fd of buffer.fds) fd.close();
  }
}

function freeFormer(buffer: Registered): void {
  const { former } = buffer;
  buffer.former = null;
  former?.imported?.release();
  for (const fd of former?.fds ?? []) fd.close();
}

/** The display refused a buffer that cannot be copied either. */
export class ImportError extends ProtocolError {
  constructor(
    text: string,
    readonly errno: number,
  ) {
    super(Code.importFailed, text);
  }
}

/** Closes a descriptor from a guest; one that may be anything is closed elsewhere. */
export function discard(fd: Fd): void {
  if (fd.closed) return;
  if (fdKind(fd) === 'other') closeUntrusted(fd);
  else fd.close();
}

/** What came of an import. */
export type Imported = Pick<Registered, 'imported' | 'framebuffer' | 'reason' | 'errno'>;

/**
 * Checks a layout against its dma-bufs (borrowed), then makes a framebuffer of them, anew where their memory has moved
 * (`fresh`). What the display refuses can still be copied, if its pixels can be read. Throws a ProtocolError.
 */
export function importBuffer(
  device: CardDevice,
  layout: BufferLayout,
  fds: readonly Fd[],
  fresh = false,
): Imported {
  const format = FORMATS.get(layout.fourcc);
  if (format === undefined) {
    throw new ProtocolError(Code.badFormat, `fourcc 0x${layout.fourcc.toString(16)} is unknown`);
  }
  const sizes = fds.map((fd, i) => sizeOf(fd, i));
  checkLayout(layout, format, sizes);
  try {
    const imported = device.importBuffer(fds, layout, fresh);
    return { imported, framebuffer: imported.id, reason: '', errno: 0 };
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (isLinear(layout.modifier) && format.convertible) {
      return { imported: null, framebuffer: 0, reason: `import: ${error.message}`, errno: error.errno };
    }
    throw new ImportError(error.message, error.errno);
  }
}

function isLinear(modifier: bigint): boolean {
  return modifier === DRM_FORMAT_MOD_LINEAR || modifier === DRM_FORMAT_MOD_INVALID;
}

function sizeOf(fd: Fd, index: number): number {
  if (fdKind(fd) !== 'dma-buf') throw new ProtocolError(Code.badFd, `descriptor ${index} is no dma-buf`);
  return dmaBufSize(fd);
}

function checkLayout(layout: BufferLayout, format: PixelFormat, sizes: readonly number[]): void {
  const { width, height } = layout;
  const planeCount = layout.strides.length;
  const linear = isLinear(layout.modifier);
  // Modifiers may add planes of their own, such as compression data; their layout is the driver's to check.
  if (linear ? planeCount !== format.planeCount : planeCount < format.planeCount) {
    const text = `${format.name} has ${format.planeCount} memory planes, got ${planeCount}`;
    throw new ProtocolError(Code.badFormat, text);
  }
  for (let plane = 0; plane < planeCount; plane++) {
    const size = sizes[sizes.length === 1 ? 0 : plane] ?? 0;
    const stride = layout.strides[plane] ?? 0;
    const offset = layout.offsets[plane] ?? 0;
    const needs = linear
      ? planeNeeds(format.fourcc, plane, width, height, stride, offset)
      : { stride: 1, bytes: offset + 1 };
    if (stride < needs.stride) {
      throw new ProtocolError(
        Code.badLayout,
        `plane ${plane}: stride ${stride} is too small for ${width} pixels`,
      );
    }
    if (needs.bytes > size) {
      const text = `plane ${plane}: offset ${offset} and stride ${stride} need ${needs.bytes} bytes, the dma-buf has ${size}`;
      throw new ProtocolError(Code.badLayout, text);
    }
  }
}
