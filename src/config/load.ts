/** Loading the configuration: the daemon at its start and at SIGHUP, and `scanoutctl check`, by the same code. */
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import { parse, TomlError } from 'smol-toml';
import { systemAccounts } from './accounts.js';
import { crossCheck } from './checks.js';
import { type AccountLookup, type Config, defaultConfig, resolveConfig } from './config.js';
import { locate } from './locate.js';
import { ConfigError, findingsOf, type Problem, placeFindings } from './problems.js';
import { documentSchema } from './schema.js';

export const DEFAULT_CONFIG_PATH = '/etc/scanoutd/scanoutd.toml';

export interface LoadedConfig {
  config: Config;
  /** The file that it came from; null when there is none and the defaults hold. */
  path: string | null;
}

/**
 * Loads `path`, or the default file when it is undefined. Only the default file may be missing.
 *
 * Throws ConfigError with everything that is wrong.
 */
export function loadConfig(path?: string, accounts: AccountLookup = systemAccounts): LoadedConfig {
  const file = path ?? DEFAULT_CONFIG_PATH;
  const text = readText(file, path === undefined);
  if (text === null) return { config: defaultConfig(), path: null };
  return { config: parseConfig(text, file, accounts), path: file };
}

/** The text of a file; null for one that is not there and need not be. Throws ConfigError. */
export function readText(file: string, mayBeMissing: boolean): string | null {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException;
    if (mayBeMissing && code === 'ENOENT') return null;
    throw new ConfigError([fileProblem(file, `cannot be read: ${describeErrno(code, errno)}`)]);
  }
  return decode(bytes, file);
}

/** Makes a configuration of a text; `file` is for the errors. Throws ConfigError with everything that is wrong. */
export function parseConfig(text: string, file: string, accounts: AccountLookup = systemAccounts): Config {
  const document = parseToml(text, file);
  const result = documentSchema.safeParse(document);
  const findings = [
    ...(result.success ? [] : findingsOf(result.error.issues, documentSchema, document)),
    ...crossCheck(document, accounts),
  ];
  if (findings.length > 0 || !result.success) {
    throw new ConfigError(placeFindings(findings, file, locate(text)));
  }
  return resolveConfig(result.data, accounts);
}

/** What a TOML text says; `file` is for the error. Throws ConfigError. */
export function parseToml(text: string, file: string): Record<string, unknown> {
  try {
    return parse(text, { unsafeKeyBehaviour: 'throw', maxDepth: 32 });
  } catch (error) {
    if (!(error instanceof TomlError)) {
      throw error;
    }
    // The first line of its message says what, the others draw the place.
    const [what = ''] = error.message.split('\n');
    const { line, column } = error;
    const found = (text.split('\n')[line - 1] ?? '').trim();
    const message = `no valid TOML: ${what.replace(/^Invalid TOML document: /, '')}, in: ${found.slice(0, 80)}`;
    throw new ConfigError([{ ...fileProblem(file, message), line, column, found }]);
  }
}

function decode(bytes: Buffer, file: string): string {
  const text = bytes.toString('utf8');
  if (isUtf8(bytes)) {
    return text;
  }
  // No byte of a longer UTF-8 sequence is a line end, so lines can be looked at one by one.
  const line = 1 + linesOf(bytes).findIndex((part) => !isUtf8(part));
  throw new ConfigError([{ ...fileProblem(file, 'is not UTF-8, which TOML has to be'), line }]);
}

function linesOf(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
    lines.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return [...lines, bytes.subarray(start)];
}

function fileProblem(file: string, message: string): Problem {
  return { file, line: null, column: null, path: '', found: null, allowed: null, message };
}

function describeErrno(code: string | undefined, errno: number | undefined): string {
  const [name, text] = getSystemErrorMap().get(errno ?? 0) ?? [code ?? 'unknown error', ''];
  return text === '' ? name : `${text} (${name})`;
}
