/** dma-bufs, udmabufs and fences, without a device. Refused calls throw a SystemError. */
import { addon } from './addon.js';
import type { Fd } from './base.js';

/** What the processor or a fence is about to do with a buffer. */
export type Access = 'read' | 'write' | 'read-write';

/** One fence of a sync_file. */
export interface FenceInfo {
  object: string;
  driver: string;
  /** 0 pending, 1 signalled, negative: failed with -errno. */
  status: number;
  /** When it signalled, CLOCK_MONOTONIC. */
  timeNs: bigint;
}

/** A mapped dma-buf. */
export interface DmabufMapping {
  /** The same array every time; empty after `close`. Writing where the exporter forbids it is the caller's fault. */
  readonly data: Uint8Array;
  close(): void;
}

interface BufferExports {
  /** Blocks until the fence has signalled, up to `timeoutMs` (negative: for ever; 0: only looks). False: too late. */
  waitFence(fence: Fd, timeoutMs: number): boolean;
  /** The same without blocking. Keeps the process alive meanwhile. */
  waitFenceAsync(fence: Fd, timeoutMs: number): Promise<boolean>;
  /** A fence that signals when both have. */
  mergeFences(a: Fd, b: Fd, name?: string): Fd;
  fenceInfo(fence: Fd): { name: string; status: number; fences: FenceInfo[] };

  /** `inode` tells dma-bufs apart for as long as they exist; `size` in bytes. EINVAL: not a dma-buf. */
  dmabufInfo(fd: Fd): { inode: bigint; size: number };
  /** Maps it whole, for reading and writing; `beginCpuAccess` and `endCpuAccess` go around accesses. */
  mapDmabuf(fd: Fd): DmabufMapping;
  /** DMA_BUF_IOCTL_SYNC: waits for fences, keeps caches coherent. Can block. */
  beginCpuAccess(fd: Fd, access: Access): void;
  endCpuAccess(fd: Fd, access: Access): void;
  /** A sync_file of the implicit fences that such an access waits for. */
  exportSyncFile(fd: Fd, access: Access): Fd;
  /** Adds a sync_file to the implicit fences, as such an access. */
  importSyncFile(fd: Fd, fence: Fd, access: Access): void;
  /** How debugfs shows it; 31 bytes at most. */
  setDmabufName(fd: Fd, name: string): void;

  /**
   * Memory that can be mapped through `memfd` and shown through `dmabuf`; `size` is rounded up to whole pages. ENOENT,
   * EACCES: /dev/udmabuf. EINVAL: more than the module allows (64 MiB).
   */
  createUdmabuf(size: number, name?: string): { memfd: Fd; dmabuf: Fd; size: number };
  /** A dma-buf of parts of memfds that cannot shrink and can be written; offsets and sizes are whole pages. */
  udmabufOf(ranges: readonly { memfd: Fd; offset: number; size: number }[]): Fd;
}

export const {
  waitFence,
  waitFenceAsync,
  mergeFences,
  fenceInfo,
  dmabufInfo,
  mapDmabuf,
  beginCpuAccess,
  endCpuAccess,
  exportSyncFile,
  importSyncFile,
  setDmabufName,
  createUdmabuf,
  udmabufOf,
} = addon as unknown as BufferExports;
