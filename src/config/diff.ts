/** What a reload changes. */
import { isDeepStrictEqual } from 'node:util';
import type { Config, DaemonConfig } from './config.js';

export interface ConfigChange {
  section: 'daemon' | 'card' | 'output' | 'guest' | 'lease' | 'seat' | 'input' | 'policy';
  what: 'added' | 'removed' | 'changed';
  /** A guest's name; otherwise the entry's match, or empty where the section is one table. */
  name: string;
  /** The member that changed, e.g. `area`; empty when the entry as a whole came, went or moved. */
  member: string;
  from: unknown;
  to: unknown;
  /** True when the change needs a restart of the daemon to have an effect. */
  restart: boolean;
}

/** Sockets are bound, and the real-time limit is used up, once at the start. */
const FIXED: readonly (keyof DaemonConfig)[] = [
  'guestSocket',
  'guestSocketMode',
  'guestSocketGroup',
  'busSocket',
  'systemBus',
  'session',
  'dlmDirectory',
  'waylandSocket',
  'realtimePriority',
];

/** Changes that make `to` of `from`, in the order of the sections; empty when both mean the same. */
export function diffConfig(from: Config, to: Config): ConfigChange[] {
  return [
    ...diffMembers('daemon', '', from.daemon, to.daemon),
    ...diffLists('card', from.cards, to.cards, (card) => matchText(card.match)),
    ...diffLists('output', from.outputs, to.outputs, (output) => matchText(output.match)),
    ...diffLists('guest', from.guests, to.guests, (guest) => guest.name),
    ...diffLists('lease', from.leases, to.leases, (lease) => lease.name),
    ...diffLists('seat', from.seats, to.seats, (seat) => seat.name),
    ...diffLists('input', from.inputs, to.inputs, (input) => matchText(input.match)),
    ...diffMembers('policy', '', from.policy, to.policy),
  ];
}

/** One line for the log, e.g. `guest tv: area changed from null to {"x":0,...}`. */
export function formatChange(change: ConfigChange): string {
  const { section, name, member, what, from, to, restart } = change;
  const place = [section, name].filter((part) => part !== '').join(' ');
  const detail = what === 'changed' ? ` from ${JSON.stringify(from)} to ${JSON.stringify(to)}` : '';
  const subject = member === '' ? '' : `${member} `;
  return `${place}: ${subject}${what}${detail}${restart ? ' (needs a restart)' : ''}`;
}

function diffLists<T extends object>(
  section: ConfigChange['section'],
  from: readonly T[],
  to: readonly T[],
  nameOf: (entry: T) => string,
): ConfigChange[] {
  const before = new Map(from.map((entry) => [nameOf(entry), entry]));
  const after = new Map(to.map((entry) => [nameOf(entry), entry]));
  const entry = { section, member: '', restart: false };
  const changes: ConfigChange[] = [];
  for (const [name, value] of before) {
    if (!after.has(name)) {
      changes.push({ ...entry, what: 'removed', name, from: value, to: null });
    }
  }
  for (const [name, value] of after) {
    const old = before.get(name);
    if (old === undefined) {
      changes.push({ ...entry, what: 'added', name, from: null, to: value });
    } else {
      changes.push(...diffMembers(section, name, old, value));
    }
  }
  return [...changes, ...diffOrder(entry, [...before.keys()], [...after.keys()])];
}

/** Order has a meaning in every list: the first match counts, and equal guests are stacked in it. */
function diffOrder(
  entry: Pick<ConfigChange, 'section' | 'member' | 'restart'>,
  from: readonly string[],
  to: readonly string[],
): ConfigChange[] {
  const kept = from.filter((name) => to.includes(name));
  const now = to.filter((name) => from.includes(name));
  return isDeepStrictEqual(kept, now)
    ? []
    : [{ ...entry, what: 'changed', name: '', member: 'order', from: kept, to: now }];
}

function diffMembers<T extends object>(
  section: ConfigChange['section'],
  name: string,
  from: T,
  to: T,
): ConfigChange[] {
  return Object.keys(to).flatMap((member) => {
    const [old, value] = [from[member as keyof T], to[member as keyof T]];
    const restart = section === 'daemon' && (FIXED as readonly string[]).includes(member);
    return isDeepStrictEqual(old, value)
      ? []
      : [{ section, what: 'changed' as const, name, member, from: old, to: value, restart }];
  });
}

function matchText(match: object): string {
  const wanted = Object.entries(match).filter(([, value]) => value !== null);
  return wanted.length === 0
    ? 'any'
    : wanted.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(' ');
}
