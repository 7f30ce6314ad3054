/** Keeps a fault that repeats a thousand times a second from filling the log, without hiding how often it was. */

interface Window {
  suppressed: number;
  write: (suppressed: number) => void;
}

const windows = new Map<string, Window>();

/**
 * Logs at most once in `ms` milliseconds for each `key`.
 *
 * The first call writes at once. Of later calls within `ms` only the newest is written, when the time is over:
 * `write` gets the number of calls that were left out since the last one written, so the counts add up.
 * What waits when the process ends is lost; the timer does not keep the process alive.
 */
export function logOncePer(key: string, ms: number, write: (suppressed: number) => void): void {
  const open = windows.get(key);
  if (open !== undefined) {
    open.suppressed++;
    open.write = write;
    return;
  }
  openWindow(key, ms);
  write(0);
}

function openWindow(key: string, ms: number): void {
  windows.set(key, { suppressed: 0, write: () => {} });
  setTimeout(() => closeWindow(key, ms), ms).unref();
}

function closeWindow(key: string, ms: number): void {
  const window = windows.get(key);
  windows.delete(key);
  if (window !== undefined && window.suppressed > 0) {
    openWindow(key, ms);
    window.write(window.suppressed - 1);
  }
}
