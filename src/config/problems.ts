/** What is wrong with a configuration, told so that its reader can put it right without looking anything up. */
import { TomlDate } from 'smol-toml';
import type { z } from 'zod';
import { allowedText } from './fields.js';
import type { Locations, Path } from './locate.js';

export interface Problem {
  /** As it was named on the command line, or the default path. */
  file: string;
  /** From 1; null where no place in the file is to blame. */
  line: number | null;
  /** From 1, in UTF-16 units; null where only the line is known. */
  column: number | null;
  /** In the document, e.g. `guest[1].area.width`; empty when the file as a whole is meant. */
  path: string;
  /** As a TOML value or a short description; null when it is what is missing. */
  found: string | null;
  /** Null where that cannot be said, as for a syntax error. */
  allowed: string | null;
  /** All of that as a sentence, without file and line. */
  message: string;
}

/** A configuration that cannot be used. `problems` has all that is wrong, one at least, in the order of the file. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(formatProblem).join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** A problem before it has a place. */
export interface Finding {
  path: Path;
  found: string | null;
  allowed: string | null;
  message: string;
}

/** `FILE:LINE:COLUMN: PATH: MESSAGE`, the form that editors can jump to. */
export function formatProblem(problem: Problem): string {
  const { file, line, column, path, message } = problem;
  const place = [file, line, column].filter((part) => part !== null).join(':');
  return [place, path, message].filter((part) => part !== '').join(': ');
}

/** `guest[1].area.width`; keys that are no bare keys are quoted. */
export function formatPath(path: Path): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') {
      text += `[${part}]`;
    } else {
      const name = /^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part);
      text += text === '' ? name : `.${name}`;
    }
  }
  return text;
}

/** Gives findings their place, and the order of the file. */
export function placeFindings(findings: readonly Finding[], file: string, locations: Locations): Problem[] {
  const problems = findings.map(({ path, ...rest }) => {
    const position = locations.nearest(path);
    const { line, column } = position ?? { line: null, column: null };
    return { file, line, column, path: formatPath(path), ...rest };
  });
  return problems.sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
}

/** Findings for what the schema says about a document; one a value and one an unknown key. */
export function findingsOf(
  issues: readonly z.core.$ZodIssue[],
  root: z.core.$ZodType,
  document: unknown,
): Finding[] {
  const findings: Finding[] = [];
  const seen = new Set<string>();
  for (const issue of issues) {
    const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
    if (issue.code === 'unrecognized_keys') {
      findings.push(...issue.keys.map((key) => unknownKey([...path, key], root)));
    } else if (!seen.has(JSON.stringify(path))) {
      seen.add(JSON.stringify(path));
      findings.push(wrongValue(path, issue, root, document));
    }
  }
  return findings;
}

/** How a value is quoted in an error. */
export function showValue(value: unknown): string {
  if (typeof value === 'string') {
    const bytes = Buffer.byteLength(value);
    const quoted = JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
    return bytes > 60 ? `${quoted} (${bytes} bytes)` : quoted;
  }
  if (value instanceof TomlDate) {
    return `the date ${value.toISOString()}`;
  }
  if (Array.isArray(value)) {
    return value.length === 0 ? 'an empty list' : `a list of ${value.length}`;
  }
  return typeof value === 'object' ? 'a table' : String(value);
}

function wrongValue(path: Path, issue: z.core.$ZodIssue, root: z.core.$ZodType, document: unknown): Finding {
  const value = path.reduce<unknown>(
    (node, part) => (node as Record<string | number, unknown>)?.[part],
    document,
  );
  const allowed = nearestAllowed(root, path);
  if (value === undefined) {
    return { path, found: null, allowed, message: `is missing; it must be ${allowed}` };
  }
  const found = showValue(value);
  const values = issue.code === 'invalid_value' ? issue.values.map(String) : [];
  const hint = typeof value === 'string' ? suggestion(value, values) : '';
  return { path, found, allowed, message: `found ${found}, allowed is ${allowed}${hint}` };
}

function unknownKey(path: Path, root: z.core.$ZodType): Finding {
  const key = String(path.at(-1));
  const shape = shapeAt(root, path.slice(0, -1));
  const known = Object.keys(shape);
  const home = path.length === 1 ? tablesWith(root, key) : [];
  const hint = home.length > 0 ? `; it belongs in ${home.join(' or ')}` : suggestion(key, known);
  const allowed = known.join(', ');
  return { path, found: key, allowed, message: `unknown key${hint}; known here are ${allowed}` };
}

/** The tables, as they are written, that have a key of this name: for keys that stand above the first header. */
function tablesWith(root: z.core.$ZodType, key: string): string[] {
  return Object.entries(shapeAt(root, [])).flatMap(([name, schema]) => {
    const isList = unwrap(schema)._zod.def.type === 'array';
    const keys = shapeAt(schema, isList ? [0] : []);
    return Object.hasOwn(keys, key) ? [isList ? `[[${name}]]` : `[${name}]`] : [];
  });
}

function nearestAllowed(root: z.core.$ZodType, path: Path): string {
  for (let length = path.length; length > 0; length--) {
    const schema = schemaAt(root, path.slice(0, length));
    const text = schema === null ? undefined : allowedText(schema);
    if (text !== undefined) {
      return text;
    }
  }
  return allowedText(root) ?? 'something else';
}

function shapeAt(root: z.core.$ZodType, path: Path): Record<string, z.core.$ZodType> {
  const schema = schemaAt(root, path);
  const def = schema?._zod.def as z.core.$ZodObjectDef | undefined;
  return def?.type === 'object' ? (def.shape as Record<string, z.core.$ZodType>) : {};
}

/** The schema at a path, without the wrappers that make it optional; null where there is none. */
function schemaAt(root: z.core.$ZodType, path: Path): z.core.$ZodType | null {
  let schema = unwrap(root);
  for (const part of path) {
    const def = schema._zod.def as z.core.$ZodTypes['_zod']['def'];
    let next: z.core.$ZodType | undefined;
    if (def.type === 'object') {
      next = (def.shape as Record<string, z.core.$ZodType>)[part];
    } else if (def.type === 'array') {
      next = def.element;
    } else if (def.type === 'union') {
      const list = def.options.find((option) => option._zod.def.type === 'array');
      next = (list?._zod.def as z.core.$ZodArrayDef | undefined)?.element;
    }
    if (next === undefined) {
      return null;
    }
    schema = unwrap(next);
  }
  return schema;
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  let inner = schema;
  while (['optional', 'default', 'prefault'].includes(inner._zod.def.type)) {
    inner = (inner._zod.def as z.core.$ZodOptionalDef).innerType;
  }
  return inner;
}

/** `; did you mean "x"?` for the candidate that a slip or two away from `word`, or nothing. */
function suggestion(word: string, candidates: readonly string[]): string {
  const limit = word.length <= 3 ? 1 : 2;
  let closest: string | null = null;
  let least = limit + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < least) {
      least = distance;
      closest = candidate;
    }
  }
  return closest === null ? '' : `; did you mean "${closest}"?`;
}

/** Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let value = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        value = Math.min(value, (before[j - 2] ?? 0) + 1);
      }
      next.push(value);
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}
