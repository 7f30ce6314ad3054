/**
 * The configuration file as it is written: which keys there are, what each may hold, and what it is when absent.
 *
 * Every key carries a description (exported to docs/scanoutd.schema.json) and the sentence that an error says is
 * allowed. An empty file is a whole configuration: every card, every connected output at its preferred mode, socket
 * guests placed automatically. What the daemon works with is `Config` (config.ts), made from this document.
 */
import { z } from 'zod';

/** Bytes of a socket path: sun_path has 108, the last is NUL. */
export const MAX_SOCKET_PATH = 107;
/** Pixels, as in the guest protocol (SCANOUTD_MAX_SIZE). */
export const MAX_SIZE = 16384;
/** Buffers of one guest (SCANOUTD_MAX_BUFFERS). */
export const MAX_BUFFERS = 64;

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export const PRESENT_MODES = ['mailbox', 'fifo', 'async'] as const;

/** Connector names as the kernel makes them: type, dash, number. */
export const CONNECTOR_NAME = /^[A-Za-z][A-Za-z0-9-]*-[0-9]+$/;
const GUEST_NAME = /^[A-Za-z0-9._-]{1,63}$/;
const SIZE = '([1-9][0-9]{0,4})x([1-9][0-9]{0,4})';
export const MODE = new RegExp(`^${SIZE}(?:@([1-9][0-9]{0,3}(?:\\.[0-9]{1,3})?))?$`);
export const COLOR = /^#[0-9A-Fa-f]{6}$/;

const allowedTexts = z.registry<{ allowed: string }>();

/** What an error says is allowed at a schema; undefined where the schema itself says nothing. */
export function allowedText(schema: z.core.$ZodType): string | undefined {
  return allowedTexts.get(schema)?.allowed;
}

function key<S extends z.ZodType>(schema: S, allowed: string, description: string): S {
  const described = schema.meta({ description });
  allowedTexts.add(described, { allowed });
  return described;
}

const absolutePath = z.string().regex(/^\/[^\0]*$/);
const socketPath = absolutePath.refine((path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH);
const SOCKET_PATH = `an absolute path of at most ${MAX_SOCKET_PATH} bytes`;
const text = z.string().regex(/^[^\p{Cc}]{1,128}$/u);
const TEXT = 'a text of 1 to 128 characters';
const flag = z.boolean();
const FLAG = 'true or false';
const account = key(
  z.union([z.string().regex(/^[A-Za-z_][A-Za-z0-9_.-]*\$?$/), z.int().min(0).max(0xfffffffe)]),
  'the name or the number of an account',
  'A user or a group.',
);
const accounts = z.union([account, z.array(account).min(1)]);
const presentMode = key(z.enum(PRESENT_MODES), '"mailbox", "fifo" or "async"', 'A present mode.');

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
    log_level: key(
      z.enum(LOG_LEVELS),
      '"fatal", "error", "warn", "info", "debug" or "trace"',
      'Least severe level that is logged. SCANOUTD_LOG and --log-level take precedence.',
    ).default('info'),
    realtime_priority: key(
      z.int().min(0).max(99),
      'a whole number from 0 to 99',
      'Real-time priority of the flip threads; 0: no real-time scheduling.',
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

const area = key(
  z.strictObject({
    x: key(
      z
        .int()
        .min(0)
        .max(MAX_SIZE - 1),
      `a whole number from 0 to ${MAX_SIZE - 1}`,
      'Left edge.',
    ),
    y: key(
      z
        .int()
        .min(0)
        .max(MAX_SIZE - 1),
      `a whole number from 0 to ${MAX_SIZE - 1}`,
      'Upper edge.',
    ),
    width: key(z.int().min(1).max(MAX_SIZE), `a whole number from 1 to ${MAX_SIZE}`, 'Width.'),
    height: key(z.int().min(1).max(MAX_SIZE), `a whole number from 1 to ${MAX_SIZE}`, 'Height.'),
  }),
  'a table with x, y, width and height, such as { x = 0, y = 0, width = 640, height = 480 }',
  'Part of the output that the guest fills, in pixels. Absent: the whole output.',
);

const guest = key(
  z.strictObject({
    name: key(
      z.string().regex(GUEST_NAME),
      'a text of 1 to 63 letters, digits, ".", "_" and "-"',
      'The name that the guest says in its hello.',
    ),
    kind: key(z.literal('socket'), '"socket"', 'How the guest reaches the daemon.').default('socket'),
    output: key(
      text,
      'the name of a connector, such as "HDMI-A-1", or of an [[output]]',
      'Output that shows the guest. Absent: the planner chooses.',
    ).optional(),
    plane: key(
      z.union([z.enum(['auto', 'primary', 'overlay', 'cursor']), z.int().min(1).max(0xffffffff)]),
      '"auto", "primary", "overlay", "cursor", or the id of a hardware plane (a whole number from 1)',
      "Hardware plane that carries the guest's lowest plane.",
    ).default('auto'),
    area: area.optional(),
    z: key(
      z.int().min(-100).max(100),
      'a whole number from -100 to 100',
      'Stacking order of the guests of one output, higher above; equal ones in the order of the file.',
    ).default(0),
    present: key(
      z
        .array(presentMode)
        .min(1)
        .refine((modes) => new Set(modes).size === modes.length),
      'a list of "mailbox", "fifo" and "async", each at most once and one at least',
      'Present modes that the guest may choose.',
    ).default([...PRESENT_MODES]),
    uid: key(
      accounts,
      'the name or the number of a user, or a list of them',
      'Users whose processes may be this guest. Absent, with gid absent: all that can open the socket.',
    ).optional(),
    gid: key(
      accounts,
      'the name or the number of a group, or a list of them',
      'Groups whose processes (by their first group) may be this guest.',
    ).optional(),
    max_buffers: key(
      z.int().min(1).max(MAX_BUFFERS),
      `a whole number from 1 to ${MAX_BUFFERS}`,
      'Buffers that the guest may have registered at one time.',
    ).default(MAX_BUFFERS),
  }),
  'a table, written [[guest]]',
  'Guests that are known by name.',
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
    policy,
  }),
  'the tables [daemon], [[card]], [[output]], [[guest]] and [policy]',
  'Configuration of scanoutd, /etc/scanoutd/scanoutd.toml.',
);

/** Schemas of one entry of each list, for what looks at entries one by one. */
export const entrySchemas = { card, output, guest } as const;

/** The document with every default filled in. */
export type ConfigDocument = z.output<typeof documentSchema>;
export type CardEntry = z.output<typeof card>;
export type OutputEntry = z.output<typeof output>;
export type GuestEntry = z.output<typeof guest>;

function sizeInRange(mode: string): boolean {
  const match = MODE.exec(mode);
  return match !== null && Number(match[1]) <= MAX_SIZE && Number(match[2]) <= MAX_SIZE;
}
