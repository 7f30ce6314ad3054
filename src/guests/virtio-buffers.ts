/**
 * What the resources of a virtio-gpu device are on the card: dma-bufs of the guest's own pages and their framebuffers, or,
 * where that cannot be, buffers of the card that the guest's transfers are copied into.
 */
import type { BufferLayout, CardDevice, DumbPicture, ImportedBuffer } from '../kms/device.js';
import { DRM_FORMAT_MOD_LINEAR } from '../kms/topology.js';
import { type Fd, isSystemError } from '../native/base.js';
import type {
  VirtioBacking,
  VirtioBufferNotice,
  VirtioGpu,
  VirtioNotice,
  VirtioRestored,
} from '../native/virtio.js';
import type { GuestBuffer } from './guest.js';

export interface VirtioBuffer extends GuestBuffer {
  readonly imported: ImportedBuffer | null;
  /** The card's buffer that transfers fill; null where the display reads the guest's memory. */
  readonly copy: DumbPicture | null;
}

/**
 * Width and height of a cursor, which is blended whatever its format says: Linux makes all its buffers without alpha,
 * and QEMU does not look. Everything else is opaque.
 */
const CURSOR_SIZE = 64;

const fourcc = (name: string) => Buffer.from(name, 'latin1').readUInt32LE();
const BGRA = [fourcc('AR24'), fourcc('XR24')] as const;
const ARGB = [fourcc('BA24'), fourcc('BX24')] as const;
const RGBA = [fourcc('AB24'), fourcc('XB24')] as const;
const ABGR = [fourcc('RA24'), fourcc('RX24')] as const;
/** By virtio-gpu format number, named as virtio-gpu does: blended, and opaque. */
const FORMATS = new Map([
  [1, BGRA],
  [2, BGRA],
  [3, ARGB],
  [4, ARGB],
  [67, RGBA],
  [68, ABGR],
  [121, ABGR],
  [134, RGBA],
]);

export class VirtioBuffers {
  private readonly backings = new Map<number, VirtioBacking>();
  private readonly buffers = new Map<number, VirtioBuffer>();

  constructor(
    private readonly gpu: VirtioGpu,
    private readonly device: CardDevice,
  ) {}

  get(id: number): VirtioBuffer | null {
    return this.buffers.get(id) ?? null;
  }

  values(): Iterable<VirtioBuffer> {
    return this.buffers.values();
  }

  get size(): number {
    return this.buffers.size;
  }

  /** Gives a resource its memory, and its framebuffer if it is one of 2D. Throws a SystemError; nothing is left then. */
  async back(notice: VirtioNotice): Promise<VirtioBuffer | null> {
    const needed = notice.buffer === null ? notice.size : notice.stride * notice.height;
    const backing = await this.gpu.readBacking(notice.resource, needed);
    this.backings.set(notice.resource, backing);
    if (notice.buffer === null) return null;
    try {
      return this.import(notice);
    } catch (error) {
      this.releaseBacking(notice.resource);
      throw error;
    }
  }

  /** A framebuffer of memory that a resource has already. Throws a SystemError. */
  import(notice: VirtioBufferNotice): VirtioBuffer {
    const { buffer: id, width, height } = notice;
    const backing = this.backings.get(notice.resource);
    const format = FORMATS.get(notice.format);
    if (id === null || backing === undefined || format === undefined) {
      throw new TypeError(`resource ${notice.resource} cannot be imported`);
    }
    const layout: BufferLayout = {
      width,
      height,
      fourcc: format[width === CURSOR_SIZE && height === CURSOR_SIZE ? 0 : 1],
      modifier: DRM_FORMAT_MOD_LINEAR,
      strides: [notice.stride],
      offsets: [notice.offset + backing.offset],
    };
    const { dmaBuf } = backing;
    const buffer = dmaBuf === null ? this.copyOf(id, layout, backing) : this.direct(id, layout, dmaBuf);
    this.buffers.set(id, buffer);
    return buffer;
  }

  /** What the display refuses is copied by the shadow copy, which reads the dma-buf. */
  private direct(id: number, layout: BufferLayout, dmaBuf: Fd): VirtioBuffer {
    const common = { id, layout, fds: [dmaBuf], copy: null };
    try {
      const imported = this.device.importBuffer([dmaBuf], layout);
      return { ...common, imported, framebuffer: imported.id, reason: '', errno: 0 };
    } catch (error) {
      if (!isSystemError(error)) throw error;
      const reason = `import: ${error.message}`;
      return { ...common, imported: null, framebuffer: 0, reason, errno: error.errno };
    }
  }

  private copyOf(id: number, wanted: BufferLayout, backing: VirtioBacking): VirtioBuffer {
    const copy = this.device.createDumb(wanted.width, wanted.height, wanted.fourcc);
    const layout = { ...wanted, strides: [copy.stride], offsets: [0] };
    return {
      id,
      layout,
      fds: [copy.exportFd()],
      copy,
      imported: null,
      framebuffer: copy.framebuffer,
      reason: `copied: ${backing.reason}`,
      errno: backing.errno,
    };
  }

  /** A resource of a former daemon: its memory and its buffers again. Throws a SystemError. */
  async restore({ resource, buffers }: VirtioRestored): Promise<VirtioBuffer[]> {
    this.backings.set(resource, await this.gpu.remakeBacking(resource));
    const made: VirtioBuffer[] = [];
    for (const notice of buffers) {
      const buffer = this.import(notice);
      const { width, height, offset } = notice;
      if (buffer.copy !== null) {
        const rect = { x: 0, y: 0, width, height, start: BigInt(offset) };
        await this.gpu.transfer({ ...notice, rect }, buffer.copy.pixels, buffer.copy.stride);
      }
      made.push(buffer);
    }
    return made;
  }

  /** Copies what the guest has transferred. */
  async transfer(notice: VirtioNotice): Promise<void> {
    const copy = this.buffers.get(notice.buffer ?? -1)?.copy;
    if (copy === undefined || copy === null) throw new TypeError(`buffer ${notice.buffer} is no copy`);
    await this.gpu.transfer(notice, copy.pixels, copy.stride);
  }

  /** Nothing shows or reads it any more. */
  release(id: number): void {
    const buffer = this.buffers.get(id);
    if (buffer === undefined) return;
    this.buffers.delete(id);
    buffer.imported?.release();
    if (buffer.copy === null) return; // the dma-buf is its resource's
    for (const fd of buffer.fds) fd.close();
    buffer.copy.destroy();
  }

  releaseBacking(resource: number): void {
    this.backings.get(resource)?.dmaBuf?.close();
    this.backings.delete(resource);
  }

  releaseAll(): void {
    for (const id of [...this.buffers.keys()]) this.release(id);
    for (const resource of [...this.backings.keys()]) this.releaseBacking(resource);
  }
}
