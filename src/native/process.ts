/** Other processes, by descriptors that never mean another one. */
import { addon } from './addon.js';
import type { Fd } from './base.js';

export interface ProcessWatch {
  /** Waits no longer. */
  close(): void;
}

export const { openProcess, ProcessWatch } = addon as {
  /** A pidfd, the caller's. Throws a SystemError: ESRCH when there is no such process. */
  openProcess(pid: number): Fd;
  /** Takes over a pidfd and calls `onEnd` once, when its process has ended. Keeps this process alive until then or `close`. */
  ProcessWatch: new (
    pidfd: Fd,
    onEnd: () => void,
  ) => ProcessWatch;
};
