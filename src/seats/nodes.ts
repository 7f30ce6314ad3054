/** Event devices of this machine, as udev and sysfs know them before they are opened. */
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { FIRST_SEAT } from '../config/seats.js';
import { enumerateDevices, type UdevDevice } from '../native/session.js';

export interface InputNode {
  /** "/dev/input/event3" */
  path: string;
  /** "/sys/devices/.../input/input5/event3": another one for a device that was plugged in anew. */
  sysPath: string;
  name: string;
  phys: string;
  /** Vendor and product: "046d:c52b". */
  id: string;
  /** ID_SEAT; "seat0" where udev says nothing. */
  udevSeat: string;
  /** Further paths of the node, such as those in /dev/input/by-path. */
  links: string[];
}

/** Sinks of guests have this before their guest's name, in `phys`. */
export const OWN_PHYS = 'scanoutd/';

/** All event devices that are no guest's. Throws a SystemError. */
export function inputNodes(): InputNode[] {
  return enumerateDevices({ subsystem: 'input' }).flatMap((device) => {
    const node = nodeOf(device, attribute);
    return node === null || isGuests(node) ? [] : [node];
  });
}

/** Null for what is no event device, such as the input device that it belongs to. */
export function nodeOf(device: UdevDevice, read: (path: string) => string): InputNode | null {
  const { sysname, syspath, devnode, properties } = device;
  if (devnode === null || !/^event\d+$/.test(sysname)) return null;
  const parent = dirname(syspath);
  return {
    path: devnode,
    sysPath: syspath,
    name: read(`${parent}/name`),
    phys: read(`${parent}/phys`),
    id: `${read(`${parent}/id/vendor`)}:${read(`${parent}/id/product`)}`,
    udevSeat: properties.ID_SEAT || FIRST_SEAT,
    links: (properties.DEVLINKS ?? '').split(' ').filter((link) => link !== ''),
  };
}

/** Made by this daemon or by another one, for a guest: what a seat read of it would come back to it. */
export function isGuests({ phys }: InputNode): boolean {
  return phys.startsWith(OWN_PHYS);
}

function attribute(path: string): string {
  try {
    return readFileSync(path, 'utf8').replace(/\n$/, '');
  } catch {
    // The device is gone, or has no such attribute.
    return '';
  }
}
