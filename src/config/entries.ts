/** Entries of a document that may be wrong in any way, as far as they can be read; for checks across entries. */
import type { z } from 'zod';
import type { Path } from './locate.js';
import { type Finding, showValue } from './problems.js';

/** A table, or one entry of a list. `unsure` are the keys whose values the schema refused; `value` has their defaults. */
export interface Entry<T> {
  index: number;
  value: T;
  unsure: Set<string>;
}

export interface Entries<T> {
  known: Entry<T>[];
  /** False when an entry is missing from `known`, since not even its required keys are right. */
  complete: boolean;
}

export function entriesOf<T>(list: unknown, schema: z.ZodType<T>): Entries<T> {
  const known: Entry<T>[] = [];
  if (!Array.isArray(list)) {
    return { known, complete: list === undefined };
  }
  for (const [index, raw] of list.entries()) {
    const entry = entryOf(raw, index, schema);
    if (entry !== null) {
      known.push(entry);
    }
  }
  return { known, complete: known.length === list.length };
}

export function entryOf<T>(raw: unknown, index: number, schema: z.ZodType<T>): Entry<T> | null {
  const result = schema.safeParse(raw);
  if (result.success) {
    return { index, value: result.data, unsure: new Set() };
  }
  const unsure = new Set<string>();
  for (const issue of result.error.issues) {
    const names =
      issue.path.length > 0 ? [issue.path[0]] : issue.code === 'unrecognized_keys' ? issue.keys : [];
    for (const name of names) {
      unsure.add(String(name));
    }
  }
  const sure = Object.entries(Object(raw)).filter(([name]) => !unsure.has(name));
  const retry = schema.safeParse(Object.fromEntries(sure));
  return retry.success ? { index, value: retry.data, unsure } : null;
}

export function finding(path: Path, value: unknown, allowed: string, why: string): Finding {
  const found = showValue(value);
  return { path, found, allowed, message: `found ${found}, allowed is ${allowed}: ${why}` };
}
