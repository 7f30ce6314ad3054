/** `scanoutctl lease run`: a program that inherits a lease. */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Fd } from '../native/base.js';
import { CliError, EXIT } from './errors.js';

/** Where the program finds the lease: the first descriptor after the standard ones. */
export const LEASE_FD = 3;
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

export interface LeaseStart {
  argv: string[];
  environment: Record<string, string>;
}

/** The daemon will take the lease soon: `told` is called with every notice. */
export type OnNotice = (told: () => void) => void;

/** Throws CliError. Null: none is sent. */
export function parseNoticeSignal(name: string): NodeJS.Signals | null {
  if (name === 'none') return null;
  const full = name.startsWith('SIG') ? name : `SIG${name}`;
  if (full in constants.signals) return full as NodeJS.Signals;
  throw new CliError(EXIT.usage, `no signal "${name}"`, 'Such as TERM or USR1; "none" sends nothing.');
}

/** `{fd}` in the arguments is the number of the descriptor, which the variable `variable` has as well. */
export function planLeaseRun(command: readonly string[], lease: string, variable: string): LeaseStart {
  return {
    argv: command.map((word) => word.replaceAll('{fd}', String(LEASE_FD))),
    environment: { [variable]: String(LEASE_FD), SCANOUTD_LEASE: lease },
  };
}

/**
 * Runs it to its end and gives its exit status, 128 and the signal's number for one that was killed. It gets `signal` with
 * every notice. Throws CliError.
 */
export async function runWithLease(
  { argv, environment }: LeaseStart,
  fd: Fd,
  onNotice: OnNotice = () => {},
  signal: NodeJS.Signals | null = null,
): Promise<number> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, {
    env: { ...process.env, ...environment },
    stdio: ['inherit', 'inherit', 'inherit', fd.number],
  });
  if (signal !== null) onNotice(() => void child.kill(signal));
  const forward = (signal: NodeJS.Signals) => void child.kill(signal);
  for (const signal of FORWARDED) process.on(signal, forward);
  try {
    return await endOf(child, program);
  } finally {
    for (const signal of FORWARDED) process.off(signal, forward);
  }
}

function endOf(child: ChildProcess, program: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      const advice = error.code === 'ENOENT' ? 'Is it installed, and in PATH?' : '';
      reject(new CliError(EXIT.config, `cannot start ${program}: ${error.message}`, advice));
    });
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}
