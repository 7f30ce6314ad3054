/** The [[guest]] table: what every guest has, and what only guests of one kind have. */
import * as z from 'zod';
import {
  absolutePath,
  accounts,
  key,
  MAX_SIZE,
  MAX_SOCKET_PATH,
  SOCKET_PATH,
  socketPath,
  text,
} from './fields.js';
import { CLASSES, inputClass } from './input-schema.js';
import { LEASE_NAME } from './lease-schema.js';

/** Buffers of one guest (SCANOUTD_MAX_BUFFERS). */
export const MAX_BUFFERS = 64;
/** Scanouts of one virtual device (VIRTIO_GPU_MAX_SCANOUTS). */
export const MAX_SCANOUTS = 16;
/** Texts of a command; the system bounds their bytes. */
const MAX_COMMAND = 1024;
/** Consoles of one virtual machine. */
const MAX_CONSOLE = 255;

export const PRESENT_MODES = ['mailbox', 'fifo', 'async'] as const;
export const GUEST_KINDS = ['socket', 'virtio', 'qemu', 'vfio', 'lease'] as const;
export type GuestKindName = (typeof GUEST_KINDS)[number];
export const GUEST_INPUTS = ['auto', 'uinput', 'virtio', 'ring', 'qemu', 'watch', 'none'] as const;
/** Those whose pictures the daemon puts on planes. */
const SHOWN_KINDS: readonly GuestKindName[] = ['socket', 'virtio', 'qemu', 'vfio'];

/** The kinds that have a key; a key that is not here is every kind's. */
export const KEYS_OF_KINDS: Readonly<Partial<Record<string, readonly GuestKindName[]>>> = {
  present: ['socket'],
  max_buffers: ['socket'],
  output: SHOWN_KINDS,
  plane: SHOWN_KINDS,
  area: SHOWN_KINDS,
  z: SHOWN_KINDS,
  uid: ['socket', 'virtio', 'vfio', 'lease'],
  gid: ['socket', 'virtio', 'vfio', 'lease'],
  socket: ['virtio', 'qemu'],
  outputs: ['virtio'],
  address: ['qemu'],
  console: ['qemu'],
  scale: ['qemu'],
  device: ['vfio'],
  owner: ['vfio'],
  lease: ['lease'],
};

/** With room for the longest name of a class. */
function isClassPath(path: string): boolean {
  return (
    path.includes('{class}') &&
    Buffer.byteLength(path.replaceAll('{class}', 'touchscreen')) <= MAX_SOCKET_PATH
  );
}

export const GUEST_NAME = /^[A-Za-z0-9._-]{1,63}$/;
const presentMode = key(z.enum(PRESENT_MODES), '"mailbox", "fifo" or "async"', 'A present mode.');
const outputName = key(
  text,
  'the name of a connector, such as "HDMI-A-1", or of an [[output]]',
  'An output.',
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

export const guest = key(
  z.strictObject({
    name: key(
      z.string().regex(GUEST_NAME),
      'a text of 1 to 63 letters, digits, ".", "_" and "-"',
      'Its name; a socket guest says it in its hello.',
    ),
    kind: key(
      z.enum(GUEST_KINDS),
      '"socket", "virtio", "qemu", "vfio" or "lease"',
      'How the guest reaches the daemon.',
    ).default('socket'),
    output: key(
      text,
      'the name of a connector, such as "HDMI-A-1", or of an [[output]]',
      'Output that shows the guest. Absent: the planner chooses.',
    ).optional(),
    outputs: key(
      z.array(outputName).min(1).max(MAX_SCANOUTS),
      `a list of 1 to ${MAX_SCANOUTS} names of connectors, such as "HDMI-A-1", or of [[output]] entries`,
      'Kind virtio: outputs that show the scanouts of the device, the first scanout first.',
    ).optional(),
    socket: key(
      socketPath,
      SOCKET_PATH,
      'Kind virtio: socket on which the virtual machine connects; absent: /run/scanoutd/NAME.sock. Kind qemu: socket ' +
        'of a QMP monitor of the virtual machine, which is asked for a connection to its display.',
    ).optional(),
    address: key(
      text,
      'a D-Bus address, such as "unix:path=/run/vm/bus"',
      'Kind qemu: bus on which the virtual machine offers its display.',
    ).optional(),
    console: key(
      z.int().min(0).max(MAX_CONSOLE),
      `a whole number from 0 to ${MAX_CONSOLE}`,
      'Kind qemu: which console of the virtual machine is shown.',
    ).default(0),
    scale: key(
      z.enum(['fit', 'none']),
      '"fit" or "none"',
      'Kind qemu: show a picture of another size than the area as large as it can be, or as it is, in the middle.',
    ).default('fit'),
    device: key(
      absolutePath,
      'an absolute path, such as "/sys/bus/mdev/devices/UUID"',
      'Kind vfio: the device whose display plane is shown, as its directory in sysfs. Absent with owner = "socket".',
    ).optional(),
    owner: key(
      z.enum(['vmm', 'daemon', 'socket']),
      '"vmm", "daemon" or "socket"',
      'Kind vfio: who opens the device: a virtual machine, whose descriptor is then used too; the daemon itself; or ' +
        'whoever offers it on the guest socket, under the name of this guest.',
    ).default('vmm'),
    lease: key(
      z.string().regex(LEASE_NAME),
      'the name of a [[lease]]',
      'Kind lease: what the guest gets, to drive it itself. The outputs are those of the lease.',
    ).optional(),
    command: key(
      z
        .array(key(z.string().regex(/^[^\0]*$/), 'a text without NUL', 'One argument.'))
        .min(1)
        .max(MAX_COMMAND),
      `a list of 1 to ${MAX_COMMAND} texts: a program and its arguments`,
      'What `scanoutctl guest run` starts: a program and its arguments, with no shell in between. {name}, {socket}, ' +
        '{address}, {device}, {output}, {lease} and {fd} stand for what the guest has; {{ and }} are braces.',
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
      'Kind socket: present modes that the guest may choose.',
    ).default([...PRESENT_MODES]),
    uid: key(
      accounts,
      'the name or the number of a user, or a list of them',
      'Kinds socket, virtio and lease: users whose processes may be this guest. Kind vfio, with owner = "socket": users whose ' +
        'processes may offer its device. Absent, with gid absent: all that can open the socket.',
    ).optional(),
    gid: key(
      accounts,
      'the name or the number of a group, or a list of them',
      'Kinds socket, virtio and lease: groups whose processes (by their first group) may be this guest. Kind vfio, with ' +
        'owner = "socket": groups whose processes may offer its device.',
    ).optional(),
    max_buffers: key(
      z.int().min(1).max(MAX_BUFFERS),
      `a whole number from 1 to ${MAX_BUFFERS}`,
      'Kind socket: buffers that the guest may have registered at one time.',
    ).default(MAX_BUFFERS),
    input: key(
      z.enum(GUEST_INPUTS),
      '"auto", "uinput", "virtio", "ring", "qemu", "watch" or "none"',
      'How the guest gets the input of its seat. "auto": ring for kind socket, virtio, qemu for those, uinput for vfio, none for ' +
        'lease. "watch": it is shown and gets none; "none": the seat does not switch to it either.',
    ).default('auto'),
    input_socket: key(
      socketPath.refine(isClassPath),
      `${SOCKET_PATH} with "{class}" in it`,
      'With input by virtio: sockets on which the virtual machine connects its vhost-user-input devices, one for each class. ' +
        'Absent: /run/scanoutd/NAME-input-{class}.sock.',
    ).optional(),
    input_devices: key(
      z
        .array(inputClass)
        .min(1)
        .refine((classes) => new Set(classes).size === classes.length),
      `a list of ${CLASSES.map((name) => `"${name}"`).join(', ')}, each at most once`,
      'Devices that the guest has. Absent: with virtio all of them; with uinput a keyboard, a pointer, and what else its seat has.',
    ).optional(),
  }),
  'a table, written [[guest]]',
  'Guests that are known by name.',
);

export type GuestEntry = z.output<typeof guest>;
