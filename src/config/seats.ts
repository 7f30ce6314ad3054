/** Makes what the daemon works with of the tables [[seat]] and [[input]], and of what a guest says of input. */
import type { LibinputOptions } from '../native/input.js';
import type {
  Config,
  GuestInputConfig,
  GuestInputName,
  GuestKindName,
  HotkeyConfig,
  InputConfig,
  InputSettings,
  SeatConfig,
} from './config.js';
import type { GuestEntry } from './guest-schema.js';
import type { InputEntry, InputSettingsEntry } from './input-schema.js';
import { buttonOf, parseKeys } from './keys.js';
import type { SeatEntry } from './seat-schema.js';

/** The seat that has everything that is no other's. */
export const FIRST_SEAT = 'seat0';

const BY_KIND: Readonly<Record<GuestKindName, GuestInputName>> = {
  socket: 'ring',
  virtio: 'virtio',
  qemu: 'qemu',
  vfio: 'uinput',
  lease: 'none',
};

/** How guests of a kind take input where nothing is said. */
export function inputOfKind(kind: GuestKindName): GuestInputName {
  return BY_KIND[kind];
}

/** Whether devices are to be opened at all: the configuration has a seat, a device, or a guest that is to have input. */
export function wantsInput({ seats, inputs, guests }: Config): boolean {
  const asked = guests.some(({ input }) => input.asked && input.how !== 'none');
  return seats.length > 0 || inputs.length > 0 || asked;
}

export function guestInput(guest: GuestEntry): GuestInputConfig {
  const { kind, input, input_devices: classes } = guest;
  return {
    how: input === 'auto' ? BY_KIND[kind] : input,
    asked: input !== 'auto',
    socket: inputSocket(guest),
    classes: classes ?? null,
  };
}

/** With "{class}" in it. */
export function inputSocket(guest: { name: string; input_socket?: string | undefined }): string {
  return guest.input_socket ?? `/run/scanoutd/${guest.name}-input-{class}.sock`;
}

export function resolveSeat(seat: SeatEntry): SeatConfig {
  return {
    name: seat.name,
    outputs: seat.outputs ?? null,
    guests: seat.guests ?? null,
    udevSeat: seat.udev_seat ?? seat.name,
    pointer: seat.pointer,
    carryLocks: seat.carry_locks,
    hotkeys: seat.hotkeys === undefined ? defaultHotkeys() : seat.hotkeys.map(resolveHotkey),
    idleSeconds: seat.idle_seconds,
    lockOnIdle: seat.lock_on_idle,
    idleCommand: seat.idle_command ?? null,
    activeCommand: seat.active_command ?? null,
    lockCommand: seat.lock_command ?? null,
    unlockCommand: seat.unlock_command ?? null,
    input: resolveSettings(seat.input),
  };
}

/** A seat that no entry has: it has what udev says. */
export function seatOfUdev(udevSeat: string): SeatConfig {
  return {
    name: udevSeat,
    outputs: null,
    guests: null,
    udevSeat,
    pointer: 'seat',
    carryLocks: true,
    hotkeys: defaultHotkeys(),
    idleSeconds: 0,
    lockOnIdle: false,
    idleCommand: null,
    activeCommand: null,
    lockCommand: null,
    unlockCommand: null,
    input: resolveSettings({}),
  };
}

export function resolveInput(input: InputEntry): InputConfig {
  return {
    match: {
      id: input.id?.toLowerCase() ?? null,
      name: input.name ?? null,
      device: input.device ?? null,
      phys: input.phys ?? null,
      class: input.class ?? null,
    },
    seat: input.seat ?? null,
    output: input.output ?? null,
    ignore: input.ignore,
    ...resolveSettings(input),
  };
}

function defaultHotkeys(): HotkeyConfig[] {
  return Array.from({ length: 12 }, (_, i) =>
    resolveHotkey({ keys: `leftctrl+rightctrl+f${i + 1}`, number: i + 1 }),
  );
}

function resolveHotkey(entry: NonNullable<SeatEntry['hotkeys']>[number]): HotkeyConfig {
  const { keys: text, guest, number, action } = entry;
  const keys = parseKeys(text);
  if (keys === null) throw new TypeError(`no hotkey: ${text}`);
  const target =
    guest !== undefined ? { guest } : number !== undefined ? { number } : { action: action ?? 'next' };
  return { ...keys, text, target };
}

function resolveSettings(entry: InputSettingsEntry): InputSettings {
  const { scroll_button: button } = entry;
  const options: { [K in keyof LibinputOptions]: LibinputOptions[K] | null } = {
    tap: entry.tap ?? null,
    tapButtonMap: entry.tap_buttons ?? null,
    tapDrag: entry.tap_drag ?? null,
    tapDragLock: entry.tap_drag_lock ?? null,
    naturalScroll: entry.natural_scroll ?? null,
    leftHanded: entry.left_handed ?? null,
    middleEmulation: entry.middle_emulation ?? null,
    disableWhileTyping: entry.disable_while_typing ?? null,
    scrollMethod: entry.scroll_method ?? null,
    scrollButton: button === undefined ? null : buttonOf(button),
    clickMethod: entry.click_method ?? null,
    accelProfile: entry.accel_profile ?? null,
    accelSpeed: entry.accel_speed ?? null,
    calibration: entry.calibration ?? null,
    rotation: entry.rotation ?? null,
  };
  const libinput = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null));
  return { read: entry.read ?? null, grab: entry.grab ?? null, libinput: libinput as LibinputOptions };
}
