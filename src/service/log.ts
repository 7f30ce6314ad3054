/**
 * The log: JSON lines on stdout, one child logger for each module.
 *
 * Under the journal each line begins with its sd-daemon level (`<6>`), so that journalctl can filter; on a terminal
 * the lines are made readable where pino-pretty is installed. Everything is written by the thread that logs, at once:
 * what a process said before it died is what is needed most.
 */
import { fstatSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isatty } from 'node:tty';
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';
import type { LogLevel } from '../config/config.js';
import { LOG_LEVELS } from '../config/schema.js';

export type { Logger } from 'pino';
export { logOncePer } from './once-per.js';

/** Levels as SCANOUTD_LOG and --log-level say them: one for all, and others for single modules. */
export interface LogLevels {
  /** Null: what the configuration says. */
  all: LogLevel | null;
  modules: ReadonlyMap<string, LogLevel>;
}

export interface Log {
  /** The logger of a part of the daemon, such as `kms`; the same object for the same name. */
  module(name: string): Logger;
  /**
   * Records what somebody made the daemon do, or was refused: written at every level.
   *
   * `event` is a short constant such as `assign`; `details` say who (uid, pid), what and with which result.
   */
  audit(event: string, details: Record<string, unknown>): void;
  /** A new level from the configuration; levels that were asked for by environment or option stay. */
  setLevel(level: LogLevel): void;
}

export interface LogOptions {
  /** From the configuration. */
  level: LogLevel;
  /** From --log-level or SCANOUTD_LOG (`parseLogLevels`). */
  levels?: LogLevels;
  /** Where to write; by default the standard stream that fits (`chooseOutput`). */
  stream?: DestinationStream;
}

export type OutputForm = { fd: number; form: 'journal' | 'terminal' | 'json' };

/** sd-daemon levels (syslog) of pino's, by the highest of pino's that is not above. */
const SYSLOG: readonly (readonly [pinoLevel: number, syslog: number])[] = [
  [60, 2],
  [50, 3],
  [40, 4],
  [30, 6],
  [0, 7],
];

export function createLog(options: LogOptions): Log {
  const levels = options.levels ?? { all: null, modules: new Map() };
  const output = chooseOutput(process.env.JOURNAL_STREAM);
  const isJournal = options.stream === undefined && output.form === 'journal';
  const root = pino(
    // The journal has its own clock, and host and pid are known to whoever reads.
    { base: null, level: 'trace', timestamp: isJournal ? false : stdTimeFunctions.isoTime },
    options.stream ?? openOutput(output),
  );
  const audit = root.child({ module: 'audit' });
  const modules = new Map<string, Logger>();
  let level = options.level;
  const levelOf = (name: string) => levels.modules.get(name) ?? levels.all ?? level;
  return {
    module(name) {
      const known = modules.get(name);
      if (known !== undefined) {
        return known;
      }
      const logger = root.child({ module: name }, { level: levelOf(name) });
      modules.set(name, logger);
      return logger;
    },
    audit(event, details) {
      audit.info({ event, ...details }, `audit: ${event}`);
    },
    setLevel(next) {
      level = next;
      for (const [name, logger] of modules) {
        logger.level = levelOf(name);
      }
    },
  };
}

/**
 * Reads levels such as `debug` or `info,kms=trace,guests=debug`; an empty text says nothing.
 *
 * Throws a TypeError that says what is wrong with `text` and what is allowed.
 */
export function parseLogLevels(text: string): LogLevels {
  let all: LogLevel | null = null;
  const modules = new Map<string, LogLevel>();
  for (const item of text.split(',').filter((part) => part.trim() !== '')) {
    const [, name, value = ''] = /^(?:([^=]*)=)?(.*)$/s.exec(item.trim()) ?? [];
    const level = LOG_LEVELS.find((known) => known === value);
    if (level === undefined || !/^[a-z][a-z0-9_-]*$/.test(name ?? 'all')) {
      const levels = LOG_LEVELS.join(', ');
      throw new TypeError(
        `found "${item.trim()}", allowed is LEVEL or MODULE=LEVEL, with LEVEL one of ${levels}`,
      );
    }
    if (name === undefined) {
      all = level;
    } else {
      modules.set(name, level);
    }
  }
  return { all, modules };
}

/**
 * Which standard stream to log to, and in which form.
 *
 * JOURNAL_STREAM (`device:inode`) is inherited by children whose streams go elsewhere, so it has to be compared.
 */
export function chooseOutput(journalStream: string | undefined): OutputForm {
  for (const fd of [1, 2]) {
    if (journalStream !== undefined && identityOf(fd) === journalStream) {
      return { fd, form: 'journal' };
    }
  }
  return { fd: 1, form: isatty(1) ? 'terminal' : 'json' };
}

/** `line` with the sd-daemon prefix of a pino level in front. */
export function withSyslogLevel(line: string, pinoLevel: number): string {
  const syslog = SYSLOG.find(([level]) => pinoLevel >= level)?.[1] ?? 7;
  return `<${syslog}>${line}`;
}

function identityOf(fd: number): string | null {
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}

function openOutput({ fd, form }: OutputForm): DestinationStream {
  if (form === 'terminal') {
    return prettyStream(fd) ?? destination({ fd, sync: true });
  }
  const plain = destination({ fd, sync: true });
  if (form === 'json') {
    return plain;
  }
  // With this mark, pino says the level of each line before it writes the line.
  const journal = {
    [Symbol.for('pino.metadata')]: true,
    lastLevel: 30,
    write(line: string) {
      plain.write(withSyslogLevel(line, this.lastLevel));
    },
  };
  return journal;
}

/** pino-pretty is there in development only. */
function prettyStream(fd: number): DestinationStream | null {
  try {
    const pretty = createRequire(import.meta.url)('pino-pretty');
    return pretty({ destination: fd, sync: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' });
  } catch {
    return null;
  }
}
