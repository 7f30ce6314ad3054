/** What the commands of scanoutctl have in common. */
import type { Command } from 'commander';
import type { Connection } from './connection.js';
import { CliError, EXIT } from './errors.js';
import type { Io } from './io.js';

export interface JsonOption {
  json?: boolean;
}

/** Has `use` done over a connection to the daemon that the global options name, which is closed after it. */
export type WithDaemon = <T>(use: (connection: Connection) => Promise<T>) => Promise<T>;

/** What ends a command with another status than 0 that is no error of scanoutctl. */
export type ExitWith = (code: number) => void;

/** Adds a command; an example is a command line and what it is for. */
export function command(
  program: Command,
  name: string,
  summary: string,
  examples: [string, string][],
): Command {
  const width = Math.max(...examples.map(([line]) => line.length));
  const lines = examples.map(([line, what]) => `  ${line.padEnd(width)}  ${what}\n`);
  return program
    .command(name)
    .description(summary)
    .helpOption('-h, --help', 'print help')
    .option('--json', 'print the JSON document instead of text')
    .allowExcessArguments(false)
    .addHelpText('after', `\nExamples:\n${lines.join('')}`);
}

/** Writes the document if asked to, else the text. */
export function print(io: Io, options: JsonOption, document: unknown, text: () => string): void {
  io.out(options.json === true ? `${JSON.stringify(document, null, 2)}\n` : text());
}

/** Throws CliError. */
export function find<T extends { name: string }>(list: readonly T[], name: string, what: string): T {
  const found = list.find((item) => item.name === name);
  if (found === undefined) {
    const names = list.map((item) => item.name).join(', ');
    throw new CliError(
      EXIT.refused,
      `no ${what} "${name}"`,
      `There ${names === '' ? 'is none' : `are ${names}`}.`,
    );
  }
  return found;
}
