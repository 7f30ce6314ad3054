/** The [[seat]] table: outputs, devices and guests that one person sits at. */
import * as z from 'zod';
import { FLAG, flag, key, text } from './fields.js';
import { inputSettings, SEAT_NAME, SEAT_NAME_TEXT } from './input-schema.js';
import { parseKeys } from './keys.js';

/** Outputs, guests and hotkeys of a seat, at most. */
const MOST = 64;
const MOST_COMMAND = 64;
const A_DAY = 86_400;
const GUEST = /^[A-Za-z0-9._-]{1,63}$/;

const outputName = key(
  text,
  'the name of a connector, such as "HDMI-A-1", or of an [[output]]',
  'An output.',
);
const guestName = key(z.string().regex(GUEST), 'the name of a guest', 'A guest.');

const hotkey = key(
  z
    .strictObject({
      keys: key(
        z.string().refine((keys) => parseKeys(keys) !== null),
        'one to four modifiers and a key, such as "leftctrl+rightctrl+f1" or "ctrl+alt+n"',
        'Keys, the last of which is pressed while the others are held.',
      ),
      guest: key(z.string().regex(GUEST), 'the name of a guest', 'Guest that is switched to.').optional(),
      number: key(
        z.int().min(1).max(MOST),
        `a whole number from 1 to ${MOST}`,
        'Guest that is switched to, by its number in the order.',
      ).optional(),
      action: key(
        z.enum(['next', 'previous', 'lock']),
        '"next", "previous" or "lock"',
        'Switch to the next or the previous guest of the order, or lock the seat.',
      ).optional(),
    })
    .refine(
      ({ guest, number, action }) => [guest, number, action].filter((one) => one !== undefined).length === 1,
    ),
  'a table with keys and one of guest, number and action, such as { keys = "ctrl+alt+n", action = "next" }',
  'A hotkey.',
);

function command(description: string) {
  return key(
    z
      .array(key(z.string().regex(/^[^\0]*$/), 'a text without NUL', 'One argument.'))
      .min(1)
      .max(MOST_COMMAND),
    `a list of 1 to ${MOST_COMMAND} texts: a program and its arguments`,
    description,
  ).optional();
}

export const seat = key(
  z.strictObject({
    name: key(z.string().regex(SEAT_NAME), SEAT_NAME_TEXT, 'Its name.'),
    outputs: key(
      z.array(outputName).min(1).max(MOST),
      `a list of 1 to ${MOST} names of connectors, such as "HDMI-A-1", or of [[output]] entries`,
      'Outputs of the seat. Absent: those of the cards that udev has at udev_seat, as far as no other seat has them.',
    ).optional(),
    guests: key(
      z.array(guestName).min(1).max(MOST),
      `a list of 1 to ${MOST} names of guests`,
      'Guests of the seat, in the order of switching. Absent: those that its outputs show.',
    ).optional(),
    udev_seat: key(
      z.string().regex(SEAT_NAME),
      SEAT_NAME_TEXT,
      'The seat of udev (ID_SEAT) whose devices are its own; "seat0": all that udev has at no other. Absent: its name.',
    ).optional(),
    pointer: key(
      z.enum(['seat', 'under']),
      '"seat" or "under"',
      'Where pointers, touch and tablets go: to the guest that has the keyboard, or to the guest that is shown under them.',
    ).default('seat'),
    carry_locks: key(
      flag,
      FLAG,
      'A guest that is switched to gets the lock state (Caps, Num, Scroll) of the former one.',
    ).default(true),
    hotkeys: key(
      z.array(hotkey).max(MOST),
      `a list of at most ${MOST} tables, such as { keys = "leftctrl+rightctrl+f1", number = 1 }`,
      'Hotkeys, which no guest gets. Absent: both Ctrl keys and F1 to F12 for the guests 1 to 12.',
    ).optional(),
    idle_seconds: key(
      z.int().min(0).max(A_DAY),
      `a whole number from 0 to ${A_DAY}`,
      'Seconds without an event of a device after which the seat is idle; 0: it never is.',
    ).default(0),
    lock_on_idle: key(flag, FLAG, 'Lock the seat when it is idle.').default(false),
    idle_command: command('Program that is run when the seat becomes idle.'),
    active_command: command('Program that is run when it is used again.'),
    lock_command: command('Program that is run when the seat is locked.'),
    unlock_command: command('Program that is run when it is unlocked.'),
    input: key(
      z.strictObject(inputSettings),
      'a table such as { read = "libinput", natural_scroll = true }',
      'How devices of the seat are read, where no [[input]] says otherwise.',
    ).prefault({}),
  }),
  'a table, written [[seat]]',
  'Seats: outputs, devices and guests that belong together.',
);

export type SeatEntry = z.output<typeof seat>;
