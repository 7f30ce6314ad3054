/** Checks of [[seat]] and [[input]] entries, and of guests' input, that no single value can fail. */
import { type Entries, type Entry, finding } from './entries.js';
import { CONNECTOR_NAME } from './fields.js';
import type { GuestEntry } from './guest-schema.js';
import { CLASSES, type InputEntry } from './input-schema.js';
import { parseKeys } from './keys.js';
import type { Path } from './locate.js';
import type { Finding } from './problems.js';
import type { OutputEntry } from './schema.js';
import type { SeatEntry } from './seat-schema.js';
import { FIRST_SEAT, guestInput, inputSocket } from './seats.js';

export function checkSeats(
  seats: Entries<SeatEntry>,
  inputs: readonly Entry<InputEntry>[],
  outputs: Entries<OutputEntry>,
): Finding[] {
  return [
    ...seats.known.flatMap((seat, order) => [
      ...checkNames(seat, seats.known.slice(0, order)),
      ...checkOutputs(seat, seats.known.slice(0, order), outputs),
      ...checkGuests(seat, seats.known.slice(0, order)),
      ...checkHotkeys(seat),
      ...checkIdle(seat),
    ]),
    ...inputs.flatMap((input) => [
      ...checkSeatOf(input, seats),
      ...checkIgnored(input),
      ...checkRead(['input', input.index], input.value, input.unsure),
      ...checkOutput(['input', input.index, 'output'], input.value.output, outputs),
    ]),
    ...seats.known.flatMap(({ index, value }) => checkRead(['seat', index, 'input'], value.input, new Set())),
  ];
}

function checkNames(
  { index, value, unsure }: Entry<SeatEntry>,
  before: readonly Entry<SeatEntry>[],
): Finding[] {
  const twin = before.find((other) => other.value.name === value.name);
  if (twin !== undefined) {
    const why = `seat[${twin.index}] has this one`;
    return [finding(['seat', index, 'name'], value.name, 'a name of its own', why)];
  }
  const udev = value.udev_seat ?? value.name;
  const rival = before.find((other) => (other.value.udev_seat ?? other.value.name) === udev);
  if (rival === undefined || unsure.has('udev_seat') || rival.unsure.has('udev_seat')) return [];
  const key = value.udev_seat === undefined ? 'name' : 'udev_seat';
  const why = `seat[${rival.index}] has its devices`;
  return [finding(['seat', index, key], udev, 'a seat of udev of its own', why)];
}

function checkOutputs(
  { index, value }: Entry<SeatEntry>,
  before: readonly Entry<SeatEntry>[],
  outputs: Entries<OutputEntry>,
): Finding[] {
  return (value.outputs ?? []).flatMap((name, i) => {
    const path = ['seat', index, 'outputs', i];
    if ((value.outputs ?? []).indexOf(name) < i) {
      return [finding(path, name, 'an output of its own', 'it is in the list already')];
    }
    const rival = before.find((other) => other.value.outputs?.includes(name));
    if (rival !== undefined) {
      return [finding(path, name, 'an output of its own', `seat[${rival.index}] has this one`)];
    }
    return checkOutput(path, name, outputs);
  });
}

function checkOutput(path: Path, name: string | undefined, outputs: Entries<OutputEntry>): Finding[] {
  if (name === undefined || CONNECTOR_NAME.test(name)) return [];
  const known = outputs.known.some(({ value }) => value.name === name || value.connector === name);
  const isOpen = !outputs.complete || outputs.known.some(({ unsure }) => unsure.has('name'));
  if (known || isOpen) return [];
  return [finding(path, name, 'a connector name such as "HDMI-A-1"', 'no [[output]] has this name')];
}

/** Socket guests need no entry of their own, so any name may be meant; but a guest is at one seat. */
function checkGuests({ index, value }: Entry<SeatEntry>, before: readonly Entry<SeatEntry>[]): Finding[] {
  return (value.guests ?? []).flatMap((name, i) => {
    const path = ['seat', index, 'guests', i];
    if ((value.guests ?? []).indexOf(name) < i) {
      return [finding(path, name, 'a guest of its own', 'it is in the list already')];
    }
    const rival = before.find((other) => other.value.guests?.includes(name));
    return rival === undefined
      ? []
      : [finding(path, name, 'a guest of its own', `seat[${rival.index}] has this one`)];
  });
}

function checkHotkeys({ index, value }: Entry<SeatEntry>): Finding[] {
  const { hotkeys = [], guests } = value;
  const meant = hotkeys.map(({ keys }) => JSON.stringify(parseKeys(keys)));
  return hotkeys.flatMap(({ keys, guest, number }, i) => {
    const path = ['seat', index, 'hotkeys', i];
    const twin = meant.indexOf(meant[i] ?? '');
    if (twin < i) {
      return [finding([...path, 'keys'], keys, 'keys of its own', `hotkeys[${twin}] has these`)];
    }
    if (guests === undefined) return [];
    const names = guests.map((name) => `"${name}"`).join(', ');
    if (guest !== undefined && !guests.includes(guest)) {
      return [finding([...path, 'guest'], guest, names, 'the seat does not have this guest')];
    }
    if (number !== undefined && number > guests.length) {
      const why = `the seat has ${guests.length} guests`;
      return [finding([...path, 'number'], number, `a whole number from 1 to ${guests.length}`, why)];
    }
    return [];
  });
}

function checkIdle({ index, value, unsure }: Entry<SeatEntry>): Finding[] {
  if (value.idle_seconds > 0 || unsure.has('idle_seconds')) return [];
  const needing = (['idle_command', 'active_command', 'lock_on_idle'] as const).filter(
    (name) => value[name] !== undefined && value[name] !== false,
  );
  return needing.map((name) => ({
    path: ['seat', index, name],
    found: name,
    allowed: 'idle_seconds above 0',
    message: 'has no effect: without idle_seconds the seat is never idle',
  }));
}

/** The first seat is there without an entry too, as are those of udev: but where seats are listed, a typing error is likelier. */
function checkSeatOf({ index, value }: Entry<InputEntry>, seats: Entries<SeatEntry>): Finding[] {
  const { seat } = value;
  if (seat === undefined || !seats.complete) return [];
  const names = seats.known.map((entry) => entry.value.name);
  if (names.includes(seat) || (names.length === 0 && seat === FIRST_SEAT)) return [];
  const allowed =
    names.map((name) => `"${name}"`).join(', ') || 'the name of a [[seat]], of which there is none';
  return [finding(['input', index, 'seat'], seat, allowed, 'no [[seat]] has this name')];
}

function checkIgnored({ index, value }: Entry<InputEntry>): Finding[] {
  if (!value.ignore || value.seat === undefined) return [];
  return [finding(['input', index, 'seat'], value.seat, 'no seat', 'the devices are ignored')];
}

/** Options that nothing reads. */
function checkRead(path: Path, value: Partial<InputEntry>, unsure: ReadonlySet<string>): Finding[] {
  if (value.read !== 'raw' || unsure.has('read')) return [];
  const matches = new Set([
    'id',
    'name',
    'device',
    'phys',
    'class',
    'seat',
    'output',
    'ignore',
    'read',
    'grab',
  ]);
  return Object.entries(value)
    .filter(([name, one]) => one !== undefined && !matches.has(name))
    .map(([name]) => ({
      path: [...path, name],
      found: name,
      allowed: 'read = "libinput" or "auto"',
      message: 'has no effect: it is an option of libinput, and read = "raw" goes without',
    }));
}

/** Ways of input that a guest's kind does not have, and keys of another way. */
export function checkGuestInput({ index, value, unsure }: Entry<GuestEntry>): Finding[] {
  const { kind, input } = value;
  if (unsure.has('kind') || unsure.has('input')) return [];
  const own = { ring: 'socket', qemu: 'qemu' } as const;
  if ((input === 'ring' || input === 'qemu') && own[input] !== kind) {
    const why = `only guests of kind "${own[input]}" have it, and this one is of kind "${kind}"`;
    return [finding(['guest', index, 'input'], input, 'a way that the guest has', why)];
  }
  const { how } = guestInput(value);
  const strange = (name: 'input_socket' | 'input_devices', ways: readonly string[]): Finding[] => {
    if (value[name] === undefined || ways.includes(how)) return [];
    const allowed = `a guest with input by ${ways.join(' or ')}`;
    const message = `is a key of ${allowed}; this one has "${how}"`;
    return [{ path: ['guest', index, name], found: name, allowed, message }];
  };
  return [...strange('input_socket', ['virtio']), ...strange('input_devices', ['virtio', 'uinput'])];
}

/** Sockets for devices of guests, with the keys that say where. */
export function inputSockets(guests: readonly Entry<GuestEntry>[]): { path: Path; socket: string }[] {
  return guests
    .filter(
      ({ value, unsure }) =>
        !unsure.has('input') && !unsure.has('kind') && guestInput(value).how === 'virtio',
    )
    .flatMap(({ index, value }) =>
      (value.input_devices ?? CLASSES).map((name) => ({
        path: ['guest', index, value.input_socket === undefined ? 'name' : 'input_socket'],
        socket: inputSocket(value).replaceAll('{class}', name),
      })),
    );
}
