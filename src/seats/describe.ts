/** What the devices of a guest say that they can do: all that the seat's devices of a class can, in one device. */
import type { AxisRange, DeviceDescription, InputClass } from '../native/input.js';
import { OWN_PHYS } from './nodes.js';

// linux/input-event-codes.h
const EV = { syn: 0, key: 1, rel: 2, abs: 3, msc: 4, sw: 5, led: 17, rep: 20 } as const;
const PROP = { pointer: 0, direct: 1, buttonpad: 2 } as const;
const BTN = {
  zero: 0x100,
  left: 0x110,
  gamepad: 0x130,
  toolPen: 0x140,
  toolRubber: 0x141,
  toolFinger: 0x145,
} as const;
const BTN_TOUCH = 0x14a;
const BTN_STYLUS = 0x14b;
const BUS_VIRTUAL = 6;

function range(maximum: number, more: Partial<AxisRange> = {}): AxisRange {
  return { minimum: 0, maximum, fuzz: 0, flat: 0, resolution: 0, ...more };
}

function numbers(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

const POSITION = { 0: range(32767), 1: range(32767) };
const CONTACTS = {
  ...POSITION,
  47: range(9),
  53: range(32767),
  54: range(32767),
  57: range(65535),
};
const WHEELS = [0x06, 0x08, 0x0b, 0x0c];

type Abilities = Partial<
  Pick<DeviceDescription, 'properties' | 'keys' | 'relative' | 'absolute' | 'misc' | 'switches' | 'leds'>
>;

/** What a device of a class can usually do: for guests whose seat has none. */
const USUAL: Readonly<Record<InputClass, Abilities>> = {
  // KEY_ESC to KEY_MICMUTE; MSC_SCAN; Num, Caps, Scroll.
  keyboard: { keys: numbers(1, 248), misc: [4], leds: [0, 1, 2] },
  // REL_X, REL_Y and both wheels, fine and coarse.
  pointer: {
    properties: [PROP.pointer],
    keys: numbers(BTN.left, BTN.left + 7),
    relative: [0, 1, ...WHEELS],
    misc: [4],
  },
  absolute: { keys: numbers(BTN.left, BTN.left + 4), absolute: POSITION, relative: WHEELS },
  touchscreen: { properties: [PROP.direct], keys: [BTN_TOUCH], absolute: CONTACTS },
  touchpad: {
    properties: [PROP.pointer, PROP.buttonpad],
    keys: [BTN.left, BTN.toolFinger, BTN_TOUCH, 0x14d, 0x14e, 0x14f],
    absolute: CONTACTS,
  },
  // Pressure, distance, both tilts.
  tablet: {
    properties: [PROP.direct],
    keys: [BTN.toolPen, BTN.toolRubber, BTN_TOUCH, BTN_STYLUS, BTN_STYLUS + 1],
    absolute: {
      ...POSITION,
      24: range(8191),
      25: range(63),
      26: range(64, { minimum: -64 }),
      27: range(64, { minimum: -64 }),
    },
    misc: [0],
  },
  // Ten buttons and a ring.
  pad: {
    keys: [...numbers(BTN.zero, BTN.zero + 9), BTN_STYLUS],
    absolute: { 0: range(1), 1: range(1), 8: range(71) },
  },
  // Lid and tablet mode.
  switch: { switches: [0, 1] },
  joystick: {
    keys: numbers(BTN.gamepad, BTN.gamepad + 14),
    absolute: Object.fromEntries(
      [0, 1, 3, 4].map((axis) => [axis, range(32767, { minimum: -32768, flat: 128 })]),
    ),
  },
};

/** A device of that class as most are, for a guest that is to have one. */
export function usualDescription(of: InputClass): DeviceDescription {
  const abilities: Abilities = USUAL[of];
  const description: DeviceDescription = {
    name: `scanoutd ${of}`,
    phys: '',
    uniq: '',
    bus: BUS_VIRTUAL,
    vendor: 0,
    product: 0,
    version: 1,
    properties: [],
    types: [],
    keys: [],
    relative: [],
    absolute: {},
    misc: [],
    switches: [],
    leds: [],
    ...abilities,
  };
  return { ...description, types: typesOf(description, of === 'keyboard') };
}

/**
 * One device that can do what each of `devices` can, with the name and the numbers of the first: axes have the range of the first that
 * has them, to which those of others are mapped. The usual one where there is none.
 */
export function guestDescription(
  guest: string,
  of: InputClass,
  devices: readonly DeviceDescription[],
): DeviceDescription {
  const [first] = devices;
  const phys = `${OWN_PHYS}${guest}/${of}`;
  if (first === undefined) return { ...usualDescription(of), phys };
  const all = (member: 'properties' | 'types' | 'keys' | 'relative' | 'misc' | 'switches' | 'leds') =>
    [...new Set(devices.flatMap((device) => device[member]))].sort((a, b) => a - b);
  const absolute: Record<number, AxisRange> = {};
  for (const device of [...devices].reverse()) Object.assign(absolute, device.absolute);
  return {
    ...first,
    phys,
    uniq: devices.length === 1 ? first.uniq : '',
    properties: all('properties'),
    types: all('types'),
    keys: all('keys'),
    relative: all('relative'),
    absolute,
    misc: all('misc'),
    switches: all('switches'),
    leds: all('leds'),
  };
}

/** What a guest's device lacks that a device of its seat can do; empty: nothing. */
export function lacking(has: DeviceDescription, wanted: DeviceDescription): string {
  const missing = (['keys', 'relative', 'switches', 'misc'] as const).flatMap((member) => {
    const count = wanted[member].filter((code) => !has[member].includes(code)).length;
    return count === 0 ? [] : [`${count} of ${member}`];
  });
  const axes = Object.keys(wanted.absolute).filter((axis) => !Object.hasOwn(has.absolute, axis)).length;
  return [...missing, ...(axes === 0 ? [] : [`${axes} of axes`])].join(', ');
}

function typesOf(description: DeviceDescription, repeats: boolean): number[] {
  const { keys, relative, absolute, misc, switches, leds } = description;
  return [
    EV.syn,
    ...(keys.length > 0 ? [EV.key] : []),
    ...(relative.length > 0 ? [EV.rel] : []),
    ...(Object.keys(absolute).length > 0 ? [EV.abs] : []),
    ...(misc.length > 0 ? [EV.msc] : []),
    ...(switches.length > 0 ? [EV.sw] : []),
    ...(leds.length > 0 ? [EV.led] : []),
    ...(repeats ? [EV.rep] : []),
  ];
}
