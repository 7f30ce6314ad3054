/**
 * Which buffers carry fences of the device that draws into them. The kernel would wait for these within the commit, and with
 * it every other guest on that CRTC; so the flip thread asks for them before each frame, which costs three system calls.
 */
import { readFileSync } from 'node:fs';
import type { Fd } from '../native/base.js';
import { isSystemError } from '../native/base.js';
import { dmabufInfo, exportSyncFile } from '../native/buffers.js';
import type { Logger } from '../service/log.js';

/**
 * Exporters of plain memory: nobody but processors writes into it, which leaves no fence, and whoever lets a device do so
 * sends the fence with the frame. All others are asked, also those that are not known yet.
 */
const FENCELESS: ReadonlySet<string> = new Set(['udmabuf', 'system']);

/** The part of a logger that is needed. */
export type Warner = Pick<Logger, 'warn'>;

let told = false;

/** The kernel's name of who made a dma-buf: "drm", "i915", "udmabuf". Empty where it says none. */
export function exporterOf(dmabuf: Fd): string {
  return /^exp_name:\s*(.*)$/m.exec(readFileSync(`/proc/self/fdinfo/${dmabuf.number}`, 'utf8'))?.[1] ?? '';
}

/** Those of a buffer's dma-bufs (borrowed) whose fences are to be asked, each once. */
export function fencedBy(dmabufs: readonly Fd[], log: Warner): Fd[] {
  const asked = new Map<bigint, Fd>();
  for (const fd of dmabufs) {
    if (!FENCELESS.has(exporterOf(fd))) asked.set(dmabufInfo(fd).inode, fd);
  }
  const fds = [...asked.values()];
  return fds.every((fd) => tells(fd, log)) ? fds : [];
}

function tells(fd: Fd, log: Warner): boolean {
  try {
    exportSyncFile(fd, 'read').close();
    return true;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (error.code !== 'ENOTTY') return true; // for want of memory or descriptors, which passes
    if (!told)
      log.warn({ err: error }, 'the kernel does not tell fences of buffers: a late one holds up its CRTC');
    told = true;
    return false;
  }
}
