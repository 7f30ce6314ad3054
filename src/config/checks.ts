/**
 * Checks of a configuration that no single value can fail: references, duplicates, entries that can never apply.
 *
 * They run on whatever the schema accepted, so that one wrong value does not hide another mistake. What it did not
 * accept counts as unknown here, never as absent: a mistake must not be reported a second time as its consequences.
 */
import { type AccountLookup, outputMatchOf } from './config.js';
import { type Entry, entriesOf, entryOf, finding } from './entries.js';
import { CONNECTOR_NAME } from './fields.js';
import { checkGuests, guestSockets } from './guest-checks.js';
import type { GuestEntry } from './guest-schema.js';
import type { InputEntry } from './input-schema.js';
import { checkLeases } from './lease-checks.js';
import type { LeaseEntry } from './lease-schema.js';
import type { Path } from './locate.js';
import { type Finding, formatPath } from './problems.js';
import {
  type CardEntry,
  type ConfigDocument,
  documentSchema,
  entrySchemas,
  type OutputEntry,
} from './schema.js';
import { checkGuestInput, checkSeats, inputSockets } from './seat-checks.js';
import type { SeatEntry } from './seat-schema.js';

type Table = Record<string, unknown>;
type DaemonTable = ConfigDocument['daemon'];

/** Findings about a parsed document, which may be wrong in any way. */
export function crossCheck(document: Table, accounts: AccountLookup): Finding[] {
  const daemon = entryOf(document.daemon ?? {}, 0, documentSchema.shape.daemon);
  const policy = entryOf(document.policy ?? {}, 0, documentSchema.shape.policy);
  const cards = entriesOf<CardEntry>(document.card, entrySchemas.card);
  const outputs = entriesOf<OutputEntry>(document.output, entrySchemas.output);
  const guests = entriesOf<GuestEntry>(document.guest, entrySchemas.guest);
  const leases = entriesOf<LeaseEntry>(document.lease, entrySchemas.lease);
  const seats = entriesOf<SeatEntry>(document.seat, entrySchemas.seat);
  const inputs = entriesOf<InputEntry>(document.input, entrySchemas.input);
  return [
    ...checkSockets(daemon, document.daemon),
    ...checkUnreachable('card', cards.known, (card) => ({ device: card.device, driver: card.driver })),
    ...checkUnreachable('output', outputs.known, outputMatchOf),
    ...checkOutputNames(outputs.known),
    ...checkGuests(guests, document.guest, outputs, leases, policy),
    ...guests.known.flatMap(checkGuestInput),
    ...checkGuestSockets(daemon, guests.known),
    ...checkLeases(leases.known, outputs),
    ...checkUnreachable('input', inputs.known, inputMatchOf),
    ...checkSeats(seats, inputs.known, outputs),
    ...checkAccounts(daemon, guests.known, accounts),
    ...leases.known.flatMap(({ index, value }) => checkPeers(['lease', index], value, accounts)),
  ];
}

const SOCKETS = ['guest_socket', 'bus_socket', 'wayland_socket'] as const;

function checkSockets(daemon: Entry<DaemonTable> | null, written: unknown): Finding[] {
  if (daemon === null) return [];
  const taken = new Map<string, (typeof SOCKETS)[number]>();
  return SOCKETS.flatMap((name) => {
    const path = daemon.value[name];
    if (path === undefined || daemon.unsure.has(name)) return [];
    const owner = taken.get(path);
    taken.set(path, name);
    if (owner === undefined) return [];
    // One that is there by default is not what is to be changed.
    const [key, other] = Object.hasOwn(Object(written), name) ? [name, owner] : [owner, name];
    return [finding(['daemon', key], path, 'another path', `${other} has this one`)];
  });
}

/** What the daemon listens on must be apart; sockets that a guest's name makes count too. */
function checkGuestSockets(
  daemon: Entry<DaemonTable> | null,
  guests: readonly Entry<GuestEntry>[],
): Finding[] {
  const taken = new Map<string, string>();
  for (const name of SOCKETS) {
    const path = daemon?.value[name];
    if (path !== undefined && daemon?.unsure.has(name) === false) taken.set(path, `daemon.${name}`);
  }
  return [...guestSockets(guests), ...inputSockets(guests)].flatMap(({ path, socket }) => {
    const owner = taken.get(socket);
    taken.set(socket, owner ?? formatPath(path));
    return owner === undefined ? [] : [finding(path, socket, 'a socket of its own', `${owner} has this one`)];
  });
}

function inputMatchOf({ id, name, device, phys, class: what }: InputEntry) {
  return { id: id?.toLowerCase(), name, device, phys, class: what };
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

function checkAccounts(
  daemon: Entry<DaemonTable> | null,
  guests: readonly Entry<GuestEntry>[],
  accounts: AccountLookup,
): Finding[] {
  const group = daemon?.value.guest_socket_group;
  return [
    ...unknownAccounts(['daemon', 'guest_socket_group'], group, 'group', accounts),
    ...guests.flatMap(({ index, value }) => checkPeers(['guest', index], value, accounts)),
  ];
}

function checkPeers(
  path: Path,
  { uid, gid }: { uid?: unknown; gid?: unknown },
  accounts: AccountLookup,
): Finding[] {
  return [
    ...unknownAccounts([...path, 'uid'], uid, 'user', accounts),
    ...unknownAccounts([...path, 'gid'], gid, 'group', accounts),
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
