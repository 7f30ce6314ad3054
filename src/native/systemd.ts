/** The service manager: readiness, watchdog, the fd store, passed sockets. Without one, nothing here has an effect. */
import { addon } from './addon.js';
import type { Fd } from './base.js';

const native = addon as unknown as {
  systemdNotify(state: string, fds: readonly Fd[]): boolean;
  watchdogUsec(): number;
  takePassedFds(): PassedFd[];
  systemdBooted(): boolean;
};

export interface PassedFd {
  /** Of the socket unit or the fd store; "unknown" when none was given. */
  name: string;
  fd: Fd;
}

/**
 * Sends assignments to the service manager: "READY=1\nSTATUS=2 outputs lit". False where there is none. Throws a
 * SystemError when it cannot be reached.
 */
export function notify(state: string): boolean {
  return native.systemdNotify(state, []);
}

/** READY=1, with one line that `systemctl status` shows. */
export function notifyReady(status = ''): boolean {
  return notify(status === '' ? 'READY=1' : `READY=1\n${statusLine(status)}`);
}

/** One line that `systemctl status` shows. */
export function notifyStatus(status: string): boolean {
  return notify(statusLine(status));
}

/** A reload begins; `notifyReady` ends it. */
export function notifyReloading(): boolean {
  return notify(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
}

/** The daemon ends; `errno` (positive) says why where it is a failure. */
export function notifyStopping(errno = 0): boolean {
  return notify(errno === 0 ? 'STOPPING=1' : `STOPPING=1\nERRNO=${errno}`);
}

/** The daemon lives. */
export function notifyWatchdog(): boolean {
  return notify('WATCHDOG=1');
}

/**
 * Leaves copies of `fds` with the service manager under `name`: they come back by `takePassedFds` after a restart. The
 * unit wants FileDescriptorStoreMax=. What has hung up is dropped from the store; `poll` false keeps it (systemd 246).
 */
export function storeFds(name: string, fds: readonly Fd[], options: { poll?: boolean } = {}): boolean {
  if (fds.length === 0) throw new TypeError('fds: at least one expected');
  const poll = options.poll === false ? '\nFDPOLL=0' : '';
  return native.systemdNotify(`FDSTORE=1\nFDNAME=${checkName(name)}${poll}`, fds);
}

/** Drops everything of that name from the store. */
export function removeStoredFds(name: string): boolean {
  return notify(`FDSTOREREMOVE=1\nFDNAME=${checkName(name)}`);
}

/** Microseconds within which `notifyWatchdog` is expected; 0: this process is not watched. */
export function watchdogUsec(): number {
  return native.watchdogUsec();
}

/** What was passed on start, by sockets' activation and from the fd store. It is the caller's; asked once. */
export function takePassedFds(): PassedFd[] {
  return native.takePassedFds();
}

/** Whether systemd runs this system. */
export function isBooted(): boolean {
  return native.systemdBooted();
}

function statusLine(status: string): string {
  // A line break would begin the next assignment.
  return `STATUS=${status.replace(/\s*[\r\n]+\s*/g, ' ')}`;
}

function checkName(name: string): string {
  if (!/^[!-9;-~]([ -9;-~]{0,253}[!-9;-~])?$/.test(name)) {
    throw new TypeError(`'${name}': name of 1 to 255 printable ASCII characters without ':' expected`);
  }
  return name;
}
