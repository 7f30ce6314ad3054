/**
 * The configuration file as it is written: which keys there are, what each may hold, and what it is when absent.
 *
 * Every key carries a description (exported to docs/scanoutd.schema.json) and the sentence that an error says is
 * allowed. An empty file is a whole configuration: every card, every connected output at its preferred mode, socket
 * guests placed automatically. What the daemon works with is `Config` (config.ts), made from this document.
 */
import * as z from 'zod';
import {
  absolutePath,
  account,
  CONNECTOR_NAME,
  FLAG,
  flag,
  key,
  MAX_SIZE,
  SOCKET_PATH,
  socketPath,
  TEXT,
  text,
} from './fields.js';
import { guest } from './guest-schema.js';
import { input } from './input-schema.js';
import { lease } from './lease-schema.js';
import { seat } from './seat-schema.js';

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;

export const SESSIONS = ['auto', 'logind', 'seatd', 'direct'] as const;

const SIZE = '([1-9][0-9]{0,4})x([1-9][0-9]{0,4})';
export const MODE = new RegExp(`^${SIZE}(?:@([1-9][0-9]{0,3}(?:\\.[0-9]{1,3})?))?$`);
export const COLOR = /^#[0-9A-Fa-f]{6}$/;

const daemon = key(
  z.strictObject({
    guest_socket: key(socketPath, SOCKET_PATH, 'Socket on which guests connect.').default(
      '/run/scanoutd/guest.sock',
    ),
    guest_socket_mode: key(
      z.string().regex(/^0?[0-7]{3}$/),
      'a text of three octal digits, such as "0660"',
      'Permissions of the guest socket, in octal.',
    ).default('0660'),
    guest_socket_group: key(
      account,
      'the name or the number of a group',
      'Group of the guest socket. Absent: the group that the daemon runs as.',
    ).optional(),
    bus_socket: key(
      socketPath,
      SOCKET_PATH,
      'Socket of the control API where there is no bus daemon in between.',
    ).default('/run/scanoutd/bus'),
    system_bus: key(
      z.enum(['auto', 'on', 'off']),
      '"auto", "on" or "off"',
      'Offer the control API on the system bus too. "auto": where there is one; "on": it must be there.',
    ).default('auto'),
    session: key(
      z.enum(SESSIONS),
      '"auto", "logind", "seatd" or "direct"',
      'Who opens cards and gives DRM master: a seat manager, or the daemon itself. "auto": a seat manager where this process ' +
        'has a seat, else the daemon itself.',
    ).default('auto'),
    dlm_directory: key(
      absolutePath,
      'an absolute path, such as "/run/drm-lease-manager"',
      'Directory of sockets for clients of drm-lease-manager, one for each [[lease]]. Absent: what DLM_RUNTIME_PATH says, ' +
        'else none.',
    ).optional(),
    wayland_socket: key(
      socketPath,
      SOCKET_PATH,
      'Socket on which Wayland clients are offered the outputs of each [[lease]] (wp_drm_lease_device_v1). Absent: none.',
    ).optional(),
    log_level: key(
      z.enum(LOG_LEVELS),
      '"fatal", "error", "warn", "info", "debug" or "trace"',
      'Least severe level that is logged. SCANOUTD_LOG and --log-level take precedence.',
    ).default('info'),
    realtime_priority: key(
      z.int().min(0).max(99),
      'a whole number from 0 to 99',
      'Real-time priority of the flip threads and the input thread; 0: no real-time scheduling.',
    ).default(10),
  }),
  'a table, written [daemon]',
  'The daemon itself: sockets, log, scheduling.',
).prefault({});

const card = key(
  z.strictObject({
    device: key(
      absolutePath,
      'an absolute path, such as "/dev/dri/card0"',
      'Matches the card with this device node. Links, such as those in /dev/dri/by-path, are followed.',
    ).optional(),
    driver: key(
      text,
      'the name of a kernel driver, such as "vkms"',
      'Matches cards of this kernel driver.',
    ).optional(),
    ignore: key(flag, FLAG, 'Leave the matching cards alone.').default(false),
  }),
  'a table, written [[card]]',
  'Which cards to take. The first entry that matches a card counts; a card that none matches is taken.',
);

const idle = key(
  z.strictObject({
    background: key(
      z.string().regex(COLOR),
      'a colour as "#rrggbb"',
      'Colour of the picture that is shown while no guest is.',
    ).default('#101418'),
    text: key(flag, FLAG, 'Whether that picture has the name of the output on it.').default(true),
  }),
  'a table with background and text',
  'The picture of an output without a guest.',
).prefault({});

const output = key(
  z.strictObject({
    name: key(
      text,
      TEXT,
      'A name of your own for the output, by which a [[guest]] may refer to it.',
    ).optional(),
    connector: key(
      z.string().regex(CONNECTOR_NAME),
      'a connector name, such as "HDMI-A-1"',
      'Matches the output at this connector.',
    ).optional(),
    card: key(
      absolutePath,
      'an absolute path, such as "/dev/dri/card0"',
      'Matches outputs of the card with this device node.',
    ).optional(),
    make: key(text, TEXT, 'Matches the maker that the EDID names.').optional(),
    model: key(text, TEXT, 'Matches the model that the EDID names.').optional(),
    serial: key(text, TEXT, 'Matches the serial number that the EDID names.').optional(),
    enabled: key(flag, FLAG, 'Light the output when something is connected.').default(true),
    mode: key(
      z.union([z.literal('preferred'), z.string().regex(MODE).refine(sizeInRange)]),
      `"preferred", or a size such as "1920x1080", or one with a refresh rate in Hz such as "1920x1080@59.94"; ` +
        `each side at most ${MAX_SIZE}`,
      'The mode. A size alone takes the highest refresh rate, a rate the nearest within half a hertz.',
    ).default('preferred'),
    policy: key(
      z.enum(['auto', 'eager', 'deadline']),
      '"auto", "eager" or "deadline"',
      'When to commit: at once, or just before the vblank. "auto": eager with one guest, else deadline.',
    ).default('auto'),
    writeback: key(
      flag,
      FLAG,
      'Take screenshots through a writeback connector where the card has one for this output.',
    ).default(true),
    idle,
  }),
  'a table, written [[output]]',
  'Settings of outputs. The first entry whose every match (connector, card, make, model, serial) fits counts.',
);

const policy = key(
  z.strictObject({
    unknown_guests: key(
      z.enum(['auto', 'refuse']),
      '"auto" or "refuse"',
      'Guests that no [[guest]] names: place them automatically, or refuse them.',
    ).default('auto'),
    max_guests: key(
      z.int().min(1).max(1024),
      'a whole number from 1 to 1024',
      'Guests that may be connected at one time.',
    ).default(64),
  }),
  'a table, written [policy]',
  'Who may connect.',
).prefault({});

export const documentSchema = key(
  z.strictObject({
    daemon,
    card: key(z.array(card), 'a list of tables, written [[card]]', 'Cards.').default([]),
    output: key(z.array(output), 'a list of tables, written [[output]]', 'Outputs.').default([]),
    guest: key(z.array(guest), 'a list of tables, written [[guest]]', 'Guests.').default([]),
    lease: key(z.array(lease), 'a list of tables, written [[lease]]', 'Leases.').default([]),
    seat: key(z.array(seat), 'a list of tables, written [[seat]]', 'Seats.').default([]),
    input: key(z.array(input), 'a list of tables, written [[input]]', 'Input devices.').default([]),
    policy,
  }),
  'the tables [daemon], [[card]], [[output]], [[guest]], [[lease]], [[seat]], [[input]] and [policy]',
  'Configuration of scanoutd, /etc/scanoutd/scanoutd.toml.',
);

/** Schemas of one entry of each list, for what looks at entries one by one. */
export const entrySchemas = { card, output, guest, lease, seat, input } as const;

/** The document with every default filled in. */
export type ConfigDocument = z.output<typeof documentSchema>;
export type CardEntry = z.output<typeof card>;
export type OutputEntry = z.output<typeof output>;

function sizeInRange(mode: string): boolean {
  const match = MODE.exec(mode);
  return match !== null && Number(match[1]) <= MAX_SIZE && Number(match[2]) <= MAX_SIZE;
}
