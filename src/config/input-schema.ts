/** The [[input]] table: which device belongs to which seat, and how it is read. */
import * as z from 'zod';
import { absolutePath, FLAG, flag, key, TEXT, text } from './fields.js';
import { BUTTON_NAMES } from './keys.js';

export const SEAT_NAME = /^[A-Za-z0-9._-]{1,63}$/;
export const SEAT_NAME_TEXT = 'a text of 1 to 63 letters, digits, ".", "_" and "-"';

/** In the order of native/input.ts, and of the same names. */
export const CLASSES = [
  'keyboard',
  'pointer',
  'absolute',
  'touchscreen',
  'touchpad',
  'tablet',
  'pad',
  'switch',
  'joystick',
] as const;
const CLASS_TEXT = CLASSES.map((name) => `"${name}"`).join(', ');

export const inputClass = key(z.enum(CLASSES), `one of ${CLASS_TEXT}`, 'What a device is.');

const factor = z.number().min(-1000).max(1000);

/** How a device is read; of an [[input]], or of all devices of a [[seat]]. */
export const inputSettings = {
  read: key(
    z.enum(['auto', 'raw', 'libinput']),
    '"auto", "raw" or "libinput"',
    'How events are read: as the kernel has them, or through libinput, which makes a plain mouse of a touchpad. "auto": ' +
      'through libinput where an option of libinput is set and for touchpads, else raw.',
  ).optional(),
  grab: key(
    z.enum(['auto', 'yes', 'no']),
    '"auto", "yes" or "no"',
    'Whether nobody else on this machine gets the events. "auto": where the daemon opens devices itself, so that the console does ' +
      'not read them too; a seat manager takes care of that.',
  ).optional(),
  tap: key(flag, FLAG, 'Touchpad: a tap is a click.').optional(),
  tap_buttons: key(
    z.enum(['lrm', 'lmr']),
    '"lrm" or "lmr"',
    'Buttons of taps with one, two and three fingers: left, right, middle, or left, middle, right.',
  ).optional(),
  tap_drag: key(flag, FLAG, 'Touchpad: a tap and a movement drag.').optional(),
  tap_drag_lock: key(
    flag,
    FLAG,
    'Touchpad: dragging goes on when the finger is lifted for a moment.',
  ).optional(),
  natural_scroll: key(flag, FLAG, 'What is scrolled follows the fingers.').optional(),
  left_handed: key(flag, FLAG, 'Left and right button exchanged, or a tablet turned around.').optional(),
  middle_emulation: key(flag, FLAG, 'Left and right button together are the middle one.').optional(),
  disable_while_typing: key(
    flag,
    FLAG,
    'Touchpad: off while keys of a keyboard are pressed that is read through libinput as well. Set for a seat, it is for both.',
  ).optional(),
  scroll_method: key(
    z.enum(['none', 'two-finger', 'edge', 'button']),
    '"none", "two-finger", "edge" or "button"',
    'How is scrolled: by two fingers, at the edge of a touchpad, by moving while a button is held.',
  ).optional(),
  scroll_button: key(
    z.string().refine((name) => BUTTON_NAMES.includes(name)),
    `one of ${BUTTON_NAMES.map((name) => `"${name}"`).join(', ')}`,
    'The button of scroll_method "button".',
  ).optional(),
  click_method: key(
    z.enum(['none', 'button-areas', 'clickfinger']),
    '"none", "button-areas" or "clickfinger"',
    'What a click of a touchpad without buttons is: by the place, or by the number of fingers.',
  ).optional(),
  accel_profile: key(
    z.enum(['flat', 'adaptive']),
    '"flat" or "adaptive"',
    'Acceleration: none, or by the speed of the hand.',
  ).optional(),
  accel_speed: key(z.number().min(-1).max(1), 'a number from -1 to 1', 'Speed of the pointer.').optional(),
  calibration: key(
    z.array(factor).length(6),
    'a list of six numbers from -1000 to 1000',
    'Touchscreen or tablet: first two rows of the matrix by which positions, 0 to 1 each, are multiplied.',
  ).optional(),
  rotation: key(
    z.int().min(0).max(359),
    'a whole number from 0 to 359',
    'Clockwise degrees by which the device is turned.',
  ).optional(),
} as const;

/** The keys of it that are options of libinput. */
export const LIBINPUT_KEYS = Object.keys(inputSettings).filter((name) => name !== 'read' && name !== 'grab');

export const input = key(
  z.strictObject({
    id: key(
      z.string().regex(/^[0-9a-f]{4}:[0-9a-f]{4}$/i),
      'vendor and product as four hexadecimal digits each, such as "046d:c52b"',
      'Matches devices of this vendor and product.',
    ).optional(),
    name: key(text, `${TEXT}; "*" stands for anything`, 'Matches devices of this name.').optional(),
    device: key(
      absolutePath,
      'an absolute path, such as "/dev/input/by-path/pci-0000:00:14.0-usb-0:2:1.0-event-kbd"',
      'Matches the device with this node (links are followed), or those below this directory of sysfs.',
    ).optional(),
    phys: key(
      text,
      `${TEXT}; "*" stands for anything`,
      'Matches devices at this place, as the kernel says it.',
    ).optional(),
    class: inputClass.optional(),
    seat: key(
      z.string().regex(SEAT_NAME),
      'the name of a [[seat]]',
      'Seat of the matching devices. Absent: as udev says.',
    ).optional(),
    output: key(
      text,
      'the name of a connector, such as "HDMI-A-1", or of an [[output]]',
      'Output that a touchscreen, a tablet or another device with positions lies on. Absent: the first of its seat.',
    ).optional(),
    ignore: key(flag, FLAG, 'Leave the matching devices alone: they are not opened.').default(false),
    ...inputSettings,
  }),
  'a table, written [[input]]',
  'Input devices. The first entry whose every match (id, name, device, phys, class) fits counts.',
);

export type InputEntry = z.output<typeof input>;
const settingsTable = z.strictObject(inputSettings);
export type InputSettingsEntry = z.output<typeof settingsTable>;
