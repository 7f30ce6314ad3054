/**
 * Checks of a configuration that no single value can fail: references, duplicates, entries that can never apply.
 *
 * They run on whatever the schema accepted, so that one wrong value does not hide another mistake. What it did not
 * accept counts as unknown here, never as absent: a mistake must not be reported a second time as its consequences.
 */
import type { z } from 'zod';
import { type AccountLookup, outputMatchOf } from './config.js';
import type { Path } from './locate.js';
import { type Finding, showValue } from './problems.js';
import {
  type CardEntry,
  CONNECTOR_NAME,
  type ConfigDocument,
  documentSchema,
  entrySchemas,
  type GuestEntry,
  MAX_SIZE,
  type OutputEntry,
} from './schema.js';

/** A table, or one entry of a list. `unsure` are the keys whose values the schema refused; `value` has their defaults. */
interface Entry<T> {
  index: number;
  value: T;
  unsure: Set<string>;
}

interface Entries<T> {
  known: Entry<T>[];
  /** False when an entry is missing from `known`, since not even its required keys are right. */
  complete: boolean;
}

type Table = Record<string, unknown>;
type DaemonTable = ConfigDocument['daemon'];
type PolicyTable = ConfigDocument['policy'];

/** Findings about a parsed document, which may be wrong in any way. */
export function crossCheck(document: Table, accounts: AccountLookup): Finding[] {
  const daemon = entryOf(document.daemon ?? {}, 0, documentSchema.shape.daemon);
  const policy = entryOf(document.policy ?? {}, 0, documentSchema.shape.policy);
  const cards = entriesOf<CardEntry>(document.card, entrySchemas.card);
  const outputs = entriesOf<OutputEntry>(document.output, entrySchemas.output);
  const guests = entriesOf<GuestEntry>(document.guest, entrySchemas.guest);
  return [
    ...checkSockets(daemon, document.daemon),
    ...checkUnreachable('card', cards.known, (card) => ({ device: card.device, driver: card.driver })),
    ...checkUnreachable('output', outputs.known, outputMatchOf),
    ...checkOutputNames(outputs.known),
    ...checkGuestNames(guests.known),
    ...checkGuestCount(policy, guests.known),
    ...guests.known.flatMap(checkArea),
    ...guests.known.flatMap((guest) => checkOutputOf(guest, outputs)),
    ...checkPlanes(guests.known, outputs.known),
    ...checkAccounts(daemon, guests.known, accounts),
  ];
}

function entriesOf<T>(list: unknown, schema: z.ZodType<T>): Entries<T> {
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

function entryOf<T>(raw: unknown, index: number, schema: z.ZodType<T>): Entry<T> | null {
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

function finding(path: Path, value: unknown, allowed: string, why: string): Finding {
  const found = showValue(value);
  return { path, found, allowed, message: `found ${found}, allowed is ${allowed}: ${why}` };
}

function checkSockets(daemon: Entry<DaemonTable> | null, written: unknown): Finding[] {
  if (daemon === null || daemon.unsure.has('guest_socket') || daemon.unsure.has('bus_socket')) {
    return [];
  }
  if (daemon.value.guest_socket !== daemon.value.bus_socket) {
    return [];
  }
  const key = Object.hasOwn(Object(written), 'bus_socket') ? 'bus_socket' : 'guest_socket';
  const other = key === 'bus_socket' ? 'guest_socket' : 'bus_socket';
  return [finding(['daemon', key], daemon.value[key], 'another path', `${other} has this one`)];
}

/** Since the first entry that matches counts, an entry that demands all that an earlier one does never applies. */
function checkUnreachable<T>(
  name: string,
  entries: readonly Entry<T>[],
  matchOf: (value: T) => object,
): Finding[] {
  const demands = (entry: Entry<T>) =>
    Object.entries(matchOf(entry.value)).filter(([, wanted]) => wanted !== null && wanted !== undefined);
  const isSure = (entry: Entry<T>) =>
    Object.keys(matchOf(entry.value)).every((key) => !entry.unsure.has(key));
  const sure = entries.filter(isSure);
  return sure.flatMap((entry, order) => {
    const own = new Map(demands(entry));
    const earlier = sure
      .slice(0, order)
      .find((other) => demands(other).every(([key, wanted]) => own.get(key) === wanted));
    if (earlier === undefined) {
      return [];
    }
    const what =
      own.size === 0 ? 'everything' : [...own].map(([key, value]) => `${key} "${value}"`).join(', ');
    const message =
      `never applies: ${name}[${earlier.index}] matches all that this entry does (${what}) and the first match ` +
      'counts; put the more special entry first';
    return [{ path: [name, entry.index], found: what, allowed: 'entries from special to general', message }];
  });
}

function checkOutputNames(outputs: readonly Entry<OutputEntry>[]): Finding[] {
  const named = outputs.filter(({ value }) => value.name !== undefined);
  return named.flatMap(({ index, value, unsure }, order) => {
    const path = ['output', index, 'name'];
    const twin = named.slice(0, order).find((other) => other.value.name === value.name);
    if (twin !== undefined) {
      return [finding(path, value.name, 'a name of its own', `output[${twin.index}] has this one`)];
    }
    const match = Object.entries(outputMatchOf(value));
    if (match.every(([key, wanted]) => wanted === null && !unsure.has(key))) {
      const why = 'this entry matches every output, so the name would mean none';
      return [finding(path, value.name, 'a name in an entry with a match', why)];
    }
    const isConnector = CONNECTOR_NAME.test(value.name ?? '') && !unsure.has('connector');
    if (isConnector && value.name !== value.connector) {
      const why = 'it reads like a connector, but is not the one that this entry matches';
      return [finding(path, value.name, 'a name that is no connector name', why)];
    }
    return [];
  });
}

function checkGuestNames(guests: readonly Entry<GuestEntry>[]): Finding[] {
  return guests.flatMap(({ index, value }, order) => {
    const twin = guests.slice(0, order).find((other) => other.value.name === value.name);
    return twin === undefined
      ? []
      : [
          finding(
            ['guest', index, 'name'],
            value.name,
            'a name of its own',
            `guest[${twin.index}] has this one`,
          ),
        ];
  });
}

function checkGuestCount(policy: Entry<PolicyTable> | null, guests: readonly Entry<GuestEntry>[]): Finding[] {
  if (policy === null || policy.unsure.has('max_guests') || guests.length <= policy.value.max_guests) {
    return [];
  }
  const count = guests.length;
  const why = `${count} guests are configured`;
  return [finding(['policy', 'max_guests'], policy.value.max_guests, `a whole number from ${count}`, why)];
}

function checkArea({ index, value }: Entry<GuestEntry>): Finding[] {
  const { area } = value;
  if (area === undefined) {
    return [];
  }
  const sides = [
    ['width', area.x, area.width],
    ['height', area.y, area.height],
  ] as const;
  return sides
    .filter(([, start, size]) => start + size > MAX_SIZE)
    .map(([key, start, size]) => {
      const why = `with ${key === 'width' ? 'x' : 'y'} = ${start} the area reaches beyond ${MAX_SIZE} pixels`;
      return finding(['guest', index, 'area', key], size, `a number up to ${MAX_SIZE - start}`, why);
    });
}

function checkOutputOf({ index, value }: Entry<GuestEntry>, outputs: Entries<OutputEntry>): Finding[] {
  const { output } = value;
  if (output === undefined) {
    return [];
  }
  const path = ['guest', index, 'output'];
  const entry = entryFor(output, outputs.known);
  if (entry !== undefined && !entry.value.enabled) {
    const why = `output[${entry.index}] is not enabled, so the guest would never be seen`;
    return [finding(path, output, 'an output that is enabled', why)];
  }
  const isOpen = !outputs.complete || outputs.known.some(({ unsure }) => unsure.has('name'));
  if (entry !== undefined || isOpen || CONNECTOR_NAME.test(output)) {
    return [];
  }
  const names = outputs.known.flatMap(({ value: { name } }) => (name === undefined ? [] : [`"${name}"`]));
  const allowed = ['a connector name such as "HDMI-A-1"', ...names].join(', ');
  return [finding(path, output, allowed, 'no [[output]] has this name')];
}

/** Ids of planes are unique within a card only, so they mean something only together with an output. */
function checkPlanes(
  guests: readonly Entry<GuestEntry>[],
  outputs: readonly Entry<OutputEntry>[],
): Finding[] {
  const byId = guests.filter(({ value, unsure }) => typeof value.plane === 'number' && !unsure.has('output'));
  return byId.flatMap((guest, order) => {
    const { index, value } = guest;
    const path = ['guest', index, 'plane'];
    if (value.output === undefined) {
      const why = 'ids of planes are unique within a card only';
      return [finding(path, value.plane, '"auto" or a type of plane, or an id together with output', why)];
    }
    const place = placeOf(value.output, outputs);
    const twin = byId
      .slice(0, order)
      .find(
        (other) => other.value.plane === value.plane && placeOf(other.value.output ?? '', outputs) === place,
      );
    return twin === undefined
      ? []
      : [
          finding(
            path,
            value.plane,
            'a plane of its own',
            `guest[${twin.index}] has this one on the same output`,
          ),
        ];
  });
}

/** One text for one output, whether it is meant by connector or by name. */
function placeOf(output: string, outputs: readonly Entry<OutputEntry>[]): string {
  return entryFor(output, outputs)?.value.connector ?? output;
}

function entryFor(output: string, outputs: readonly Entry<OutputEntry>[]): Entry<OutputEntry> | undefined {
  return outputs.find(({ value }) => value.name === output || value.connector === output);
}

function checkAccounts(
  daemon: Entry<DaemonTable> | null,
  guests: readonly Entry<GuestEntry>[],
  accounts: AccountLookup,
): Finding[] {
  const group = daemon?.value.guest_socket_group;
  return [
    ...unknownAccounts(['daemon', 'guest_socket_group'], group, 'group', accounts),
    ...guests.flatMap(({ index, value }) => [
      ...unknownAccounts(['guest', index, 'uid'], value.uid, 'user', accounts),
      ...unknownAccounts(['guest', index, 'gid'], value.gid, 'group', accounts),
    ]),
  ];
}

function unknownAccounts(
  path: Path,
  value: unknown,
  kind: 'user' | 'group',
  accounts: AccountLookup,
): Finding[] {
  const list = Array.isArray(value) ? value : [value];
  return list.flatMap((account, index) => {
    if (typeof account !== 'string' || accounts[kind](account) !== null) {
      return [];
    }
    const place = Array.isArray(value) ? [...path, index] : path;
    return [finding(place, account, `a ${kind} of this machine`, `it has no ${kind} of this name`)];
  });
}
