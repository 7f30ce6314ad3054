/** Which seat a device belongs to, and how it is read. */
import { realpathSync } from 'node:fs';
import type { Config, InputConfig, InputMatch, InputSettings, SeatConfig } from '../config/config.js';
import { FIRST_SEAT, seatOfUdev } from '../config/seats.js';
import type { InputClass, LibinputOptions } from '../native/input.js';
import type { InputNode } from './nodes.js';

/** - `attached`: by a call; `configuration`: by an [[input]]; `udev`: by ID_SEAT; `rest`: nobody says otherwise */
export type AssignedBy = 'attached' | 'configuration' | 'udev' | 'rest';

export interface Assignment {
  /** Name of the seat; null: of none. */
  seat: string | null;
  by: AssignedBy;
  /** Why it is of none; else empty. */
  reason: string;
}

export interface ReadOptions {
  read: 'raw' | 'libinput';
  grab: boolean;
  libinput: LibinputOptions;
  /** The seat, for what goes through libinput: devices of another one have nothing to do with it. */
  group?: string;
}

/** Follows links; what is not there is what it is. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/**
 * The first entry that matches. `of` undefined: the class is not known yet, so that entries that ask for one neither match nor are
 * passed over: the answer is undefined when it would depend on one.
 */
export function settingsFor(
  { inputs }: Pick<Config, 'inputs'>,
  node: InputNode,
  of: InputClass | null | undefined,
): InputConfig | null | undefined {
  for (const entry of inputs) {
    if (!fits(entry.match, node)) continue;
    if (entry.match.class === null || entry.match.class === of) return entry;
    if (of === undefined) return undefined;
  }
  return null;
}

function fits({ id, name, device, phys }: InputMatch, node: InputNode): boolean {
  return (
    (id === null || id === node.id) &&
    (name === null || matchesPattern(name, node.name)) &&
    (phys === null || matchesPattern(phys, node.phys)) &&
    (device === null || isAt(device, node))
  );
}

function isAt(device: string, { path, links, sysPath }: InputNode): boolean {
  if (device === path || links.includes(device)) return true;
  const real = realPath(device);
  return real === path || sysPath === real || sysPath.startsWith(`${real}/`);
}

/** "*" stands for any text, everything else for itself. */
export function matchesPattern(pattern: string, text: string): boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's').test(text);
}

/** `seats` are those that there are, by configuration or by udev; `attached`: the seat that a call has given it. */
export function assignDevice(
  seats: readonly SeatConfig[],
  node: InputNode,
  entry: InputConfig | null,
  attached: string | null,
): Assignment {
  const found = (name: string) => seats.some((seat) => seat.name === name);
  if (attached !== null && found(attached)) return { seat: attached, by: 'attached', reason: '' };
  if (entry?.seat != null) {
    const seat = found(entry.seat) ? entry.seat : null;
    return { seat, by: 'configuration', reason: seat === null ? `there is no seat ${entry.seat}` : '' };
  }
  const seat = seats.find(({ udevSeat }) => udevSeat === node.udevSeat);
  const by = node.udevSeat === FIRST_SEAT ? 'rest' : 'udev';
  if (seat !== undefined) return { seat: seat.name, by, reason: '' };
  const reason =
    by === 'udev'
      ? `udev has it at ${node.udevSeat}, which is no seat here`
      : 'no [[input]] gives it a seat, and no [[seat]] has udev_seat = "seat0"';
  return { seat: null, by, reason };
}

/** `direct`: the daemon opens devices itself, and nobody keeps the console from reading them. */
export function readOptions(
  of: InputClass,
  entry: InputSettings | null,
  seat: InputSettings,
  direct: boolean,
): ReadOptions {
  const libinput = { ...seat.libinput, ...entry?.libinput };
  const read = entry?.read ?? seat.read ?? 'auto';
  const grab = entry?.grab ?? seat.grab ?? 'auto';
  const useful = Object.keys(libinput).some((name) => READERS[of].includes(name as keyof LibinputOptions));
  return {
    read: read === 'auto' ? (of === 'touchpad' || useful ? 'libinput' : 'raw') : read,
    grab: grab === 'auto' ? direct : grab === 'yes',
    libinput,
  };
}

const POINTING = [
  'naturalScroll',
  'leftHanded',
  'middleEmulation',
  'scrollMethod',
  'scrollButton',
  'accelProfile',
  'accelSpeed',
  'rotation',
] as const;

/** Options that make a difference to devices of a class: a keyboard of a seat with accel_speed stays raw. */
const READERS: Readonly<Record<InputClass, readonly (keyof LibinputOptions)[]>> = {
  keyboard: ['disableWhileTyping'], // libinput has to see them typed on
  pointer: POINTING,
  absolute: [],
  touchscreen: ['calibration', 'rotation'],
  touchpad: [],
  tablet: ['calibration', 'leftHanded', 'rotation'],
  pad: [],
  switch: [],
  joystick: [],
};

/** Seats of the configuration; without any, those of udev that have a card, and the first one. */
export function seatsOf(config: Pick<Config, 'seats'>, udevSeatsOfCards: Iterable<string>): SeatConfig[] {
  if (config.seats.length > 0) return config.seats;
  return [...new Set([FIRST_SEAT, ...udevSeatsOfCards])].map(seatOfUdev);
}
