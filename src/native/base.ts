/** What all native modules share: descriptors and errors. */
import { addon } from './addon.js';

/**
 * One owner of one file descriptor. What native code hands out is an Fd, what it takes over is an Fd that it empties.
 * Closed when it is collected; close it earlier.
 */
export interface Fd {
  /** The descriptor's number, for reading; -1 when closed. */
  readonly number: number;
  readonly closed: boolean;
  /** Closes it; nothing happens when it is closed already. */
  close(): void;
  /** A second descriptor of the same open file, close-on-exec. */
  dup(): Fd;
  /** Gives the number away; whoever calls this closes it. */
  release(): number;
}

export interface FdConstructor {
  /** Takes over an open descriptor. Throws SystemError (EBADF) for one that is not open. */
  new (number: number): Fd;
}

/** A refused system call. */
export interface SystemError extends Error {
  /** Name of the errno: "EBUSY". */
  readonly code: string;
  /** The errno, positive. */
  readonly errno: number;
  /** The ioctl or call by its C name: "DRM_IOCTL_MODE_ADDFB2". */
  readonly op: string;
  /** The object it was made on: "connector 35". May be empty. */
  readonly subject: string;
}

/** Whether native code threw it for a refused system call; with `code`, for that errno. */
export function isSystemError(error: unknown, code?: string): error is SystemError {
  return (
    error instanceof Error &&
    'op' in error &&
    'errno' in error &&
    'code' in error &&
    (code === undefined || error.code === code)
  );
}

export const { Fd, createMemfd, lockFile, probeSocket, replaceProgram } = addon as {
  Fd: FdConstructor;
  /** Anonymous memory with a name for /proc; write to it by its number. Throws SystemError. */
  createMemfd(name: string): Fd;
  /**
   * Makes the file where it is missing, and has its lock (flock(2)) until the Fd is closed. Throws a SystemError: EWOULDBLOCK
   * (named EAGAIN) when another program has it.
   */
  lockFile(path: string): Fd;
  /**
   * Returns when a process has a unix socket bound at `path` and this one may connect to it; nobody is connected. Throws
   * a SystemError: ENOENT, ECONNREFUSED when whoever listened is gone, EACCES.
   */
  probeSocket(path: string): void;
  /**
   * Makes this process another program: same id, no signal ignored or blocked, the first `descriptors` descriptors (0 to
   * 2 are the standard ones; Node.js marks all that it was started with to be closed on exec) and those of `passed`, under
   * the numbers that they have. `args` begins with the program's name, `environment` are NAME=VALUE. Throws a SystemError when the system refuses.
   */
  replaceProgram(
    path: string,
    args: readonly string[],
    environment: readonly string[],
    descriptors: number,
    passed?: readonly Fd[],
  ): never;
};
