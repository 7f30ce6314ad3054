/** Checks of [[guest]] entries that no single value can fail. */

import { CommandError, checkProgram, expandArgument } from './command.js';
import { commandValues, guestSocketPath } from './config.js';
import { type Entries, type Entry, finding } from './entries.js';
import { CONNECTOR_NAME, MAX_SIZE } from './fields.js';
import { type GuestEntry, KEYS_OF_KINDS } from './guest-schema.js';
import type { LeaseEntry } from './lease-schema.js';
import type { Path } from './locate.js';
import type { Finding } from './problems.js';
import type { ConfigDocument, OutputEntry } from './schema.js';

type PolicyTable = ConfigDocument['policy'];

/** `written`: the entries as they stand in the document. */
export function checkGuests(
  guests: Entries<GuestEntry>,
  written: unknown,
  outputs: Entries<OutputEntry>,
  leases: Entries<LeaseEntry>,
  policy: Entry<PolicyTable> | null,
): Finding[] {
  return [
    ...checkGuestNames(guests.known),
    ...checkGuestCount(policy, guests.known),
    ...guests.known.flatMap((guest) => checkKind(guest, Object(written)[guest.index])),
    ...guests.known.flatMap(checkCommand),
    ...guests.known.flatMap(checkArea),
    ...guests.known.flatMap((guest) => checkOutputsOf(guest, outputs)),
    ...checkPlanes(guests.known, outputs.known),
    ...guests.known.flatMap((guest) => checkLeaseOf(guest, leases)),
  ];
}

/** Keys that say where a guest is shown. */
const LEASED = new Set(['output', 'outputs', 'plane', 'area', 'z']);

/** Keys that another kind has, and what a kind cannot do without. */
function checkKind({ index, value, unsure }: Entry<GuestEntry>, written: object): Finding[] {
  if (unsure.has('kind')) return [];
  const { kind } = value;
  const strange = Object.keys(written).flatMap((name) => {
    const kinds = Object.hasOwn(KEYS_OF_KINDS, name) ? KEYS_OF_KINDS[name] : undefined;
    if (kinds === undefined || kinds.includes(kind)) return [];
    if (kind === 'lease' && LEASED.has(name)) {
      const message = 'says where a guest is shown; this one has a lease, whose outputs are in its [[lease]]';
      return [{ path: ['guest', index, name], found: name, allowed: 'a guest of another kind', message }];
    }
    const allowed = `a guest of kind ${kinds.map((one) => `"${one}"`).join(' or ')}`;
    const message = `is a key of ${allowed}; this one is of kind "${kind}"`;
    return [{ path: ['guest', index, name], found: name, allowed, message }];
  });
  return [...strange, ...checkMissing(index, value, unsure)];
}

function checkMissing(index: number, value: GuestEntry, unsure: ReadonlySet<string>): Finding[] {
  const missing = (key: string, allowed: string): Finding => ({
    path: ['guest', index, key],
    found: null,
    allowed,
    message: `is missing; a guest of kind "${value.kind}" needs ${allowed}`,
  });
  if (value.kind === 'vfio' && !unsure.has('owner')) {
    const strange = checkOwner(index, value);
    const found = value.owner === 'socket' || value.device !== undefined || unsure.has('device');
    return found ? strange : [...strange, missing('device', 'a device')];
  }
  if (value.kind === 'lease' && value.lease === undefined && !unsure.has('lease')) {
    return [missing('lease', 'the name of a [[lease]]')];
  }
  if (value.kind === 'qemu' && !unsure.has('socket') && !unsure.has('address')) {
    if (value.socket === undefined && value.address === undefined) {
      return [missing('socket', 'a socket or an address')];
    }
    if (value.socket !== undefined && value.address !== undefined) {
      const why = 'socket says already how the virtual machine is reached';
      return [finding(['guest', index, 'address'], value.address, 'one of socket and address', why)];
    }
  }
  if (value.kind === 'virtio' && value.output !== undefined && value.outputs !== undefined) {
    const why = 'outputs says already where the device is shown';
    return [finding(['guest', index, 'output'], value.output, 'one of output and outputs', why)];
  }
  return [];
}

/** Words in braces that there are not, or that mean nothing for this guest. */
function checkCommand({ index, value, unsure }: Entry<GuestEntry>): Finding[] {
  if (value.command === undefined || unsure.has('kind')) return [];
  const known = commandValues(value, '/');
  // What is there but wrong is told where it is.
  const values = Object.fromEntries(
    Object.entries(known).map(([word, text]) => [word, unsure.has(word) ? '/' : text]),
  );
  return value.command.flatMap((text, order) => {
    try {
      const argument = expandArgument(text, { ...known, ...values });
      if (order === 0) checkProgram(argument);
      return [];
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      return [finding(['guest', index, 'command', order], text, error.allowed, error.message)];
    }
  });
}

/** Keys that say where a device comes from, when its owner says something else. */
function checkOwner(index: number, { owner, device, uid, gid }: GuestEntry): Finding[] {
  const strange = (key: string, value: unknown, allowed: string, why: string): Finding[] =>
    value === undefined ? [] : [finding(['guest', index, key], value, allowed, why)];
  if (owner === 'socket') {
    return strange('device', device, 'no device', 'owner = "socket": the device is what is offered');
  }
  const why = `owner = "${owner}": nobody offers the device`;
  return [
    ...strange('uid', uid, 'no uid, or owner = "socket"', why),
    ...strange('gid', gid, 'no gid, or owner = "socket"', why),
  ];
}

/** Sockets that the daemon listens on, with the keys that say where. */
export function guestSockets(guests: readonly Entry<GuestEntry>[]): { path: Path; socket: string }[] {
  return guests
    .filter(({ value, unsure }) => value.kind === 'virtio' && !unsure.has('kind') && !unsure.has('socket'))
    .map(({ index, value }) => ({
      path: ['guest', index, value.socket === undefined ? 'name' : 'socket'],
      socket: guestSocketPath(value),
    }));
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

function checkOutputsOf({ index, value }: Entry<GuestEntry>, outputs: Entries<OutputEntry>): Finding[] {
  const one =
    value.output === undefined ? [] : [checkOutput(['guest', index, 'output'], value.output, outputs)];
  const several = (value.outputs ?? []).map((output, i) =>
    checkOutput(['guest', index, 'outputs', i], output, outputs),
  );
  return [...one, ...several].flat();
}

function checkOutput(path: Path, output: string, outputs: Entries<OutputEntry>): Finding[] {
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

function checkLeaseOf({ index, value, unsure }: Entry<GuestEntry>, leases: Entries<LeaseEntry>): Finding[] {
  const { kind, lease } = value;
  if (kind !== 'lease' || lease === undefined || unsure.has('kind') || unsure.has('lease')) return [];
  const isOpen = !leases.complete || leases.known.some(({ unsure: open }) => open.has('name'));
  if (isOpen || leases.known.some((entry) => entry.value.name === lease)) return [];
  const names = leases.known.map((entry) => `"${entry.value.name}"`).join(', ');
  const allowed = names === '' ? 'the name of a [[lease]], of which there is none' : names;
  return [finding(['guest', index, 'lease'], lease, allowed, 'no [[lease]] has this name')];
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
