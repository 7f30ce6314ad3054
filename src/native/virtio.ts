/** Types of the native classes VirtioGpu and VirtioScanout: a vhost-user-gpu device whose rings the flip thread serves. */
import { addon } from './addon.js';
import type { Fd } from './base.js';
import type { FlipEngine, Producer } from './flip.js';
import type { GuestPlaneStats } from './guests.js';

/** What the device asks. `back`, `import` and `transfer` hold up its control queue until `finishJob`. */
export interface VirtioNotice {
  /**
   * - `back`: give the resource its memory (`readBacking`), and, where `buffer` is set, a framebuffer
   * - `import`: make a framebuffer of a blob's memory
   * - `transfer`: copy the rectangle (`transfer`)
   * - `releaseBuffer`, `releaseResource`: nothing shows it any more; say `bufferReleased`, `resourceReleased`
   * - `broken`: the guest's ring `resource` (0 control, 1 cursor) cannot be served; `text` says why
   */
  what: 'back' | 'import' | 'transfer' | 'releaseBuffer' | 'releaseResource' | 'broken';
  /** Slots, not the guest's ids. */
  resource: number;
  buffer: number | null;
  /** How the pixels lie in the resource: virtio-gpu format number, bytes. */
  width: number;
  height: number;
  format: number;
  stride: number;
  offset: number;
  /** Bytes of a blob; 0 for others. */
  size: number;
  rect: { x: number; y: number; width: number; height: number; start: bigint };
  text: string;
}

/** Memory of a resource as a dma-buf, or why there is none. */
export interface VirtioBacking {
  dmaBuf: Fd | null;
  /** Of the resource's first byte in the dma-buf. */
  offset: number;
  /** Runs of the guest's memory that it is made of. */
  pieces: number;
  reason: string;
  errno: number;
}

/** A resource of a former process that has memory, and its buffers: what a notice says of them, without its job. */
export interface VirtioRestored {
  resource: number;
  buffers: VirtioBufferNotice[];
}

export type VirtioBufferNotice = Pick<
  VirtioNotice,
  'resource' | 'buffer' | 'width' | 'height' | 'format' | 'stride' | 'offset'
>;

export interface VirtioGpu {
  /** Takes over a connected stream socket and speaks vhost-user on it. Once. */
  connect(socket: Fd): Promise<void>;
  /**
   * In place of `connect`: goes on with the connection of a former process, whose `state` the device was made with. Takes
   * over the socket and what it had kept. Every resource has then to be given its memory (`remakeBacking`) and every buffer
   * its framebuffer (`restored`) before `resume`. Throws a SystemError; `disconnect` is to be called then.
   */
  restore(socket: Fd, kept: Record<string, Fd>): VirtioRestored[];
  /** The memory that a resource of a former process had. */
  remakeBacking(resource: number): Promise<VirtioBacking>;
  restored(buffer: number, copied: boolean, framebuffer: number): Promise<void>;
  /** Shows what the former process showed, starts the rings where it was, and goes on reading. */
  resume(): Promise<void>;
  /** Leaves everything as it is for a process to come: the rings, the connection, what was kept. */
  suspend(): Promise<void>;
  /** What the guest is told of a scanout; width 0: nothing is connected. At most 1024 bytes of EDID. */
  setDisplay(scanout: number, width: number, height: number, edid: Uint8Array | null): Promise<void>;
  /** Tells the driver that displays changed. False where the VMM has no way for that. */
  configChanged(): boolean;
  /** For a notice `back`: reads the memory's list. Rejects with a SystemError when less than `size` bytes are there. */
  readBacking(resource: number, size: number): Promise<VirtioBacking>;
  /** Copies the rectangle of a notice into `target`, on another thread; `target` must stay mapped until it resolves. */
  transfer(
    notice: VirtioBufferNotice & Pick<VirtioNotice, 'rect'>,
    target: Uint8Array,
    targetStride: number,
  ): Promise<void>;
  /** Answers the job in hand. `framebuffer` 0: the display did not take it. `copied`: transfers fill it. */
  finishJob(done: boolean, copied: boolean, framebuffer: number): Promise<void>;
  bufferReleased(buffer: number): Promise<void>;
  resourceReleased(resource: number): Promise<void>;
  /** Commands taken; flushes that were answered by the clock instead of their flip. */
  stats(): { commands: number; late: number };
  /** Stops the rings and ends the connection. The scanouts leave afterwards. No notice comes any more. */
  disconnect(): Promise<void>;
  /** After that, and when every scanout has left: closes what it still has. Nothing can be called any more. */
  close(): Promise<void>;
}

/** A scanout: stream 0 is the picture, stream 1 the cursor. */
export interface VirtioScanout extends Producer {
  /** Its place on its CRTC, in pixels. */
  setArea(x1: number, y1: number, x2: number, y2: number): Promise<void>;
  stats(plane: number): GuestPlaneStats;
}

interface VirtioExports {
  VirtioGpu: new (
    engine: FlipEngine,
    options: {
      /** 1 to 16. */
      scanouts: number;
      /** What a successor has to agree on; at most 127 bytes. */
      label: string;
      /** Of a former process (taken over), for `restore`. Throws a SystemError when it is another device's. */
      state: Fd | null;
      onNotice(notice: VirtioNotice): void;
      /** A request of the VMM was refused; it goes on. */
      onRefused(why: string): void;
      /** The connection is over; `disconnect` is still to be called. */
      onEnd(why: string): void;
      /** A successor will need the descriptor (taken over), in place of the one of that name; or none of that name. */
      onKeep(name: string, fd: Fd): void;
      onDrop(name: string): void;
    },
  ) => VirtioGpu;
  /** `firstStream` and the one after it are its streams' ids. */
  VirtioScanout: new (
    device: VirtioGpu,
    index: number,
    firstStream: number,
  ) => VirtioScanout;
}

export const { VirtioGpu, VirtioScanout } = addon as unknown as VirtioExports;
