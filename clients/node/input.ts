/** Input of the seat that shows a guest: evdev frames of devices that are described. */
import { InputClass } from '../../src/guests/wire.js';
import type { GuestClientNative, InputDevice, InputEvent } from '../../src/native/guest-client.js';

export type { InputDevice, InputEvent } from '../../src/native/guest-client.js';

/** "keyboard", "pointer" and so on: the guest has one device of each at most. */
export type InputClassName = keyof typeof InputClass;

/** What one device sent at one time. */
export interface InputFrame {
  /** A number for a class that this client does not know yet. */
  device: InputClassName | number;
  /** CLOCK_MONOTONIC, of the kernel, in nanoseconds. */
  timeNs: bigint;
  /** Without the SYN_REPORT that ends them. */
  events: InputEvent[];
}

export type InputDevices = Partial<Record<InputClassName, InputDevice>>;

const NAMES = Object.keys(InputClass) as InputClassName[];
/** A daemon that never stops sending leaves the rest of the program its turn. */
const FRAMES_PER_TURN = 512;

/** Reads what is there; false when more may be. `native` is not used after a listener has closed it. */
export function readInput(
  native: GuestClientNative,
  on: { frame(frame: InputFrame): void; devices(devices: InputDevices): void; closed(): boolean },
): boolean {
  for (let i = 0; i < FRAMES_PER_TURN && !on.closed(); i++) {
    const next = native.readInput();
    if (next === null) return true;
    if (next === true) on.devices(devicesOf(native));
    else on.frame({ ...next, device: NAMES[next.device] ?? next.device });
  }
  return on.closed();
}

export function devicesOf(native: GuestClientNative): InputDevices {
  const devices: InputDevices = {};
  for (const name of NAMES) {
    const device = native.inputDevice(InputClass[name]);
    if (device !== null) devices[name] = device;
  }
  return devices;
}
