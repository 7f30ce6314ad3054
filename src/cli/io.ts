/** What a command may touch of the world; tests give it another one. */
import { accessSync, constants, statSync, writeFileSync, writeSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { isatty } from 'node:tty';
import type { Fd } from '../native/base.js';
import { type BusTarget, type Connection, connect } from './connection.js';
import type { ProgramIo } from './guest-run.js';
import { connectReceiver, type LeaseReceiver } from './lease-grant.js';
import { type CardsRead, readCards } from './lease-import.js';
import { type LeaseStart, type OnNotice, runWithLease } from './lease-run.js';
import { ended, type TopTerminal } from './top.js';

export interface Io {
  env: NodeJS.ProcessEnv;
  /** True when tables go to a terminal that shows colours. */
  color: boolean;
  out(data: string | Buffer): void;
  error(text: string): void;
  connect(target: BusTarget): Promise<Connection>;
  /** Has the QEMU whose QMP monitor listens at `monitor` serve its display on a new connection; gives our end. */
  openQemuDisplay(monitor: string): Promise<Fd>;
  /** Throws the system's error. */
  writeFile(path: string, data: Buffer): void;
  terminal: TopTerminal;
  /** See lease-run.ts. Throws CliError. */
  runWithLease(
    start: LeaseStart,
    lease: Fd,
    onNotice: OnNotice,
    signal: NodeJS.Signals | null,
  ): Promise<number>;
  /** Connects to a program that takes a lease. Throws the system's error when nobody listens. */
  connectReceiver(path: string): Promise<LeaseReceiver>;
  /** The cards of this machine. */
  readCards(): Promise<CardsRead>;
  programs: ProgramIo;
}

/** The real world. */
export function processIo(): Io {
  const isTerminal = isatty(1);
  const out = (data: string | Buffer) => writeAll(1, Buffer.from(data));
  const error = (text: string) => writeAll(2, Buffer.from(text));
  return {
    env: process.env,
    color: isTerminal && !process.env.NO_COLOR && process.env.TERM !== 'dumb',
    out,
    error,
    connect,
    openQemuDisplay: async (monitor) => {
      // Loaded only now: help and `check` work without the native part.
      const { openQemuDisplay } = await import('../guests/qmp.js');
      return (await openQemuDisplay(monitor)).socket;
    },
    writeFile: (path, data) => writeFileSync(path, data),
    terminal: {
      live: isTerminal && process.env.TERM !== 'dumb',
      // A terminal without a size, such as a serial line, says 0.
      size: () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 }),
      write: out,
      sleep: (ms) => setTimeout(ms),
      untilEnded,
      now: () => Date.now(),
    },
    runWithLease,
    connectReceiver,
    readCards,
    programs: programsOf(error),
  };
}

function programsOf(error: (text: string) => void): ProgramIo {
  // Loaded only when needed, as above.
  const native = () => import('../native/base.js');
  return {
    env: process.env,
    pid: process.pid,
    error,
    isExecutable,
    probeSocket: async (path) => (await native()).probeSocket(path),
    takeLease: async (path, name) => {
      const { takeLease } = await import('../../clients/node/lease.js');
      const lease = await takeLease({ path, name });
      return { lease: lease.fd, connection: lease.detach() };
    },
    replaceProgram: async (...call) => (await native()).replaceProgram(...call),
    sleep: (ms) => setTimeout(ms),
    now: () => performance.now(),
  };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Writes synchronously, so that nothing is lost when the process ends; a pipe that is full is waited for. */
function writeAll(fd: number, data: Buffer): void {
  for (let offset = 0; offset < data.length; ) {
    try {
      offset += writeSync(fd, data, offset);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') {
        // Whoever read, such as `head`, has enough.
        process.exit(0);
      }
      if (code !== 'EAGAIN') {
        throw error;
      }
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

let end: Promise<typeof ended> | null = null;

/** From the first call on, signals that end a program only say so here; the program puts the terminal back. */
function untilEnded<T>(work: Promise<T>): Promise<T | typeof ended> {
  end ??= new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
      process.on(signal, () => resolve(ended));
    }
  });
  return Promise.race([end, work]);
}
