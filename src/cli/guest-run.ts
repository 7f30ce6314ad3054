/** `scanoutctl guest run`: becomes the program that the configuration names for a guest. */
import { withDescriptor } from '../config/command.js';
import type { GuestConfig } from '../config/config.js';
import { loadConfig } from '../config/load.js';
import { ConfigError, formatProblem } from '../config/problems.js';
import type { Fd } from '../native/base.js';
import { CliError, EXIT } from './errors.js';

/** What is done of the world; `processIo` has the real ones. */
export interface ProgramIo {
  env: NodeJS.ProcessEnv;
  pid: number;
  error(text: string): void;
  /** Whether it is a file that this process may execute. */
  isExecutable(path: string): boolean;
  /** Throws a SystemError unless a process listens there and this one may connect. */
  probeSocket(path: string): Promise<void>;
  /** See src/native/base.ts. */
  replaceProgram(
    path: string,
    args: readonly string[],
    environment: readonly string[],
    descriptors: number,
    passed: readonly Fd[],
  ): Promise<never>;
  /** See clients/node/lease.ts: the lease, and the connection that it lasts as long as. */
  takeLease(path: string, guest: string): Promise<{ lease: Fd; connection: Fd }>;
  sleep(ms: number): Promise<void>;
  now(): number;
}

export interface GuestStart {
  guest: string;
  kind: GuestConfig['kind'];
  argv: string[];
  /** What the program finds in its environment besides the caller's. */
  environment: Record<string, string>;
  /** Socket that the daemon has to serve before; null: the guest may come first. */
  waitFor: string | null;
  /** Name of the lease that the program inherits, or null. */
  lease: string | null;
}

/** Between two looks at the socket: listening is nothing that inotify(7) tells. */
const LOOK_MS = 100;
/** Errors of execve(2) that are there again the next time. */
const LASTING = new Set(['ENOENT', 'EACCES', 'ENOEXEC', 'ENOTDIR', 'ELOOP', 'EISDIR', 'E2BIG', 'EPERM']);

/** Reads what is to be started from `file`, or from the default configuration. Throws CliError. */
export function planGuest(name: string, file?: string): GuestStart {
  const { guests, guestSocket } = readConfig(file);
  const guest = guests.find((one) => one.name === name);
  if (guest === undefined) {
    const names = guests.map((one) => one.name).join(', ');
    const advice = `The configuration has ${names === '' ? 'no [[guest]]' : names}.`;
    throw new CliError(EXIT.config, `no guest "${name}"`, advice);
  }
  if (guest.command === null) {
    const advice = 'Give its [[guest]] one: command = ["PROGRAM", "ARGUMENT", ...].';
    throw new CliError(EXIT.config, `guest "${name}" has no command`, advice);
  }
  const socket = socketOf(guest, guestSocket);
  return {
    guest: name,
    kind: guest.kind,
    argv: guest.command,
    environment: { SCANOUTD_GUEST: name, ...(socket === null ? {} : { SCANOUTD_SOCKET: socket }) },
    // QEMU's monitor is QEMU's to make, and a VFIO device is looked for: the daemon waits for those.
    waitFor: guest.kind === 'qemu' || guest.kind === 'vfio' ? null : socket,
    lease: guest.kind === 'lease' ? guest.lease : null,
  };
}

function readConfig(file: string | undefined): { guests: GuestConfig[]; guestSocket: string } {
  try {
    const { config } = loadConfig(file);
    return { guests: config.guests, guestSocket: config.daemon.guestSocket };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const problems = error.problems.map(formatProblem).join('\n  ');
    throw new CliError(EXIT.config, `the configuration is wrong:\n  ${problems}`, '');
  }
}

function socketOf(guest: GuestConfig, guestSocket: string): string | null {
  if (guest.kind === 'socket' || guest.kind === 'lease') return guestSocket;
  return guest.kind === 'vfio' ? null : guest.socket;
}

/** The variables by which a program knows its lease, and the connection, for one that speaks the guest protocol. */
const [LEASE_FD, CONNECTION_FD] = ['SCANOUTD_LEASE_FD', 'SCANOUTD_LEASE_CONNECTION_FD'];

/** With a lease: what is known when there is one. */
interface Inherited {
  argv: string[];
  environment: Record<string, string>;
  passed: Fd[];
}

/** Waits for the daemon, then becomes the guest's program. Comes back only by throwing CliError. */
export async function runGuest(start: GuestStart, waitSeconds: number, io: ProgramIo): Promise<never> {
  const program = findProgram(start.argv[0] ?? '', io);
  if (start.waitFor !== null) await waitForSocket(start.waitFor, waitSeconds, io);
  const { argv, environment, passed } = await inherited(start, io);
  const all = Object.entries({ ...io.env, ...environment }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  try {
    return await io.replaceProgram(program, argv, all, 3 + passedDescriptors(io), passed);
  } catch (error) {
    const { code, message } = refusal(error);
    const advice = code === 'ENOENT' ? 'Is it installed? A script needs its interpreter, too.' : '';
    const exit = LASTING.has(code) ? EXIT.config : EXIT.refused;
    throw new CliError(exit, `cannot start guest "${start.guest}": ${message}`, advice);
  }
}

/** The process that has the lease becomes the program: the lease ends with it, and it is the guest by its credentials. */
async function inherited(start: GuestStart, io: ProgramIo): Promise<Inherited> {
  const { argv, environment, waitFor } = start;
  if (start.lease === null || waitFor === null) return { argv, environment, passed: [] };
  const { lease, connection } = await takeLease(waitFor, start.guest, io);
  const number = String(lease.number);
  const told = {
    SCANOUTD_LEASE: start.lease,
    [LEASE_FD]: number,
    [CONNECTION_FD]: String(connection.number),
  };
  return {
    argv: withDescriptor(argv, number),
    environment: { ...environment, ...told },
    passed: [lease, connection],
  };
}

async function takeLease(path: string, guest: string, io: ProgramIo) {
  try {
    return await io.takeLease(path, guest);
  } catch (error) {
    const { name, message } = error as Error;
    if (name === 'RefusedError') {
      const advice = '`scanoutctl leases` shows who has it, and `scanoutctl check` what is configured.';
      throw new CliError(EXIT.refused, `guest "${guest}" does not get its lease: ${message}`, advice);
    }
    if (name === 'ClosedError') {
      throw new CliError(EXIT.unreachable, message, 'The daemon has ended. Is it being restarted?');
    }
    throw new CliError(EXIT.unreachable, refusal(error).message, adviceFor(refusal(error).code));
  }
}

/** As a shell finds it; entries of PATH that depend on where the caller stands do not count. */
function findProgram(name: string, io: ProgramIo): string {
  if (name.startsWith('/')) return name;
  const path = io.env.PATH || '/usr/bin:/bin';
  const places = path.split(':').filter((place) => place.startsWith('/'));
  const found = places.map((place) => `${place}/${name}`).find((file) => io.isExecutable(file));
  if (found !== undefined) return found;
  throw new CliError(EXIT.config, `program "${name}" is not in PATH (ENOENT)`, `PATH is ${path}.`);
}

/** How many descriptors after the standard ones the service manager has passed (sd_listen_fds(3)). */
function passedDescriptors({ env, pid }: ProgramIo): number {
  const count = env.LISTEN_FDS ?? '';
  return env.LISTEN_PID === String(pid) && /^[0-9]{1,4}$/.test(count) ? Number(count) : 0;
}

async function waitForSocket(path: string, seconds: number, io: ProgramIo): Promise<void> {
  const deadline = io.now() + seconds * 1000;
  for (let told = ''; ; await io.sleep(LOOK_MS)) {
    try {
      await io.probeSocket(path);
      return;
    } catch (error) {
      const { code, message } = refusal(error);
      if (io.now() >= deadline) {
        const what = `no daemon at ${path} after ${seconds} s: ${message}`;
        throw new CliError(EXIT.unreachable, what, adviceFor(code));
      }
      if (told !== code) io.error(`scanoutctl: waiting for the daemon: ${message}\n`);
      told = code;
    }
  }
}

/** What the system refused; the native part is not loaded for the question (`isSystemError`). */
function refusal(error: unknown): { code: string; message: string } {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ERR_MODULE_NOT_FOUND' || code === 'ERR_DLOPEN_FAILED') {
    const advice = 'Build it with `npm run build`, or install scanoutd anew.';
    throw new CliError(EXIT.refused, `the native part of scanoutd is missing: ${message}`, advice);
  }
  if (code === undefined || !(error instanceof Error && 'op' in error)) throw error;
  return { code, message };
}

function adviceFor(code: string): string {
  return code === 'EACCES'
    ? 'This user has to be in the group of the socket: guest_socket_group in the configuration.'
    : 'Is it running, with this configuration? `systemctl status scanoutd` tells; `systemctl reload scanoutd` reads it again.';
}

/** The command as a shell would take it, for --dry-run. */
export function formatCommand(argv: readonly string[]): string {
  const quoted = withDescriptor(argv, '{fd}').map((text) =>
    /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`,
  );
  return `${quoted.join(' ')}\n`;
}
