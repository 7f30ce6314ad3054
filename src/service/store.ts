/**
 * Descriptors that outlive the daemon: the service manager keeps them (systemd's fd store) and passes them to the next one.
 * Without a service manager nothing here has an effect. A name is `OWNER/NAME`.
 */
import { type Fd, isSystemError } from '../native/base.js';
import { type PassedFd, removeStoredFds, storeFds, takePassedFds } from '../native/systemd.js';
import type { Logger } from './log.js';

export interface FdStore {
  /** Whether somebody keeps what is put. */
  readonly kept: boolean;
  /** Keeps a copy of `fd` under the name, instead of what was kept under it. `poll`: it is dropped when it hangs up. */
  put(owner: string, name: string, fd: Fd, poll?: boolean): void;
  remove(owner: string, name: string): void;
  /** Removes everything of that owner. */
  removeAll(owner: string): void;
  /** What the former daemon had put, by name; the caller's from here on. Null: nothing. */
  claim(owner: string): Map<string, Fd> | null;
}

export class SystemdStore implements FdStore {
  private readonly passed = new Map<string, Map<string, Fd>>();
  private readonly names = new Map<string, Set<string>>();

  constructor(
    private readonly log: Logger,
    passed: readonly PassedFd[] = takePassedFds(),
    readonly kept = process.env.NOTIFY_SOCKET !== undefined && process.env.FDSTORE !== '0',
  ) {
    for (const { name, fd } of passed) {
      const at = name.lastIndexOf('/');
      const owner = name.slice(0, Math.max(at, 0));
      const fds = this.passed.get(owner) ?? new Map<string, Fd>();
      this.passed.set(owner, fds);
      fds.get(name.slice(at + 1))?.close();
      fds.set(name.slice(at + 1), fd);
      this.known(owner).add(name.slice(at + 1));
    }
  }

  private known(owner: string): Set<string> {
    const names = this.names.get(owner) ?? new Set<string>();
    this.names.set(owner, names);
    return names;
  }

  put(owner: string, name: string, fd: Fd, poll = false): void {
    // The manager keeps an open file once: under its former name, if that were removed afterwards.
    this.remove(owner, name);
    this.known(owner).add(name);
    this.tell(owner, name, () => storeFds(`${owner}/${name}`, [fd], { poll }));
  }

  remove(owner: string, name: string): void {
    if (!this.known(owner).delete(name)) return;
    this.tell(owner, name, () => removeStoredFds(owner === '' ? name : `${owner}/${name}`));
  }

  removeAll(owner: string): void {
    for (const name of [...this.known(owner)]) this.remove(owner, name);
    this.names.delete(owner);
  }

  claim(owner: string): Map<string, Fd> | null {
    const fds = this.passed.get(owner) ?? null;
    this.passed.delete(owner);
    return fds;
  }

  /** Everybody has claimed what is his: the rest is let go. */
  close(): void {
    for (const [owner, fds] of [...this.passed]) {
      this.log.warn({ owner, names: [...fds.keys()] }, 'kept for somebody who is not there any more: closed');
      for (const fd of fds.values()) fd.close();
      this.removeAll(owner);
    }
    this.passed.clear();
  }

  /** What cannot be kept is lost at a restart, and at no other time. */
  private tell(owner: string, name: string, say: () => boolean): void {
    try {
      say();
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.log.warn({ owner, name, err: error }, 'the service manager does not keep a descriptor');
    }
  }
}
