/** Devices of the VFIO samples: made, given away, and the program that plays their virtual machine. */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSystemError } from '../../../src/native/base.js';
import { VfioDevice } from '../../../src/native/vfio.js';
import { GuestProcess } from './guest-process.js';

const TYPES = {
  mbochs: '/sys/devices/virtual/mbochs/mbochs/mdev_supported_types/mbochs-medium',
  mdpy: '/sys/devices/virtual/mdpy/mdpy/mdev_supported_types/mdpy-vga',
} as const;
export type MdevDriver = keyof typeof TYPES;
const PROGRAM = 'build-machine/vgpu';

export interface Mdev {
  /** Its directory in sysfs. */
  readonly path: string;
  /** Resolves when the driver has let it go, which it does not while somebody has it open. */
  remove(): Promise<void>;
}

/** Loads the driver and makes a device. `vmap`: VKMS can show mbochs's buffers. `id`: a UUID, one is made up when absent. */
export function makeMdev(driver: MdevDriver, options: { vmap?: boolean; id?: string } = {}): Mdev {
  execFileSync('modprobe', ['--all', 'vfio_iommu_type1', driver]);
  if (driver === 'mbochs') {
    writeFileSync('/sys/module/mbochs/parameters/vmap', options.vmap === true ? 'Y' : 'N');
  }
  const { id = randomUUID() } = options;
  writeFileSync(`${TYPES[driver]}/create`, id);
  const path = `/sys/bus/mdev/devices/${id}`;
  return {
    path,
    remove: async () => {
      if (existsSync(path)) await writeFile(`${path}/remove`, '1');
    },
  };
}

/** Resolves when nobody has it open any more: only then another machine can. */
export async function released(mdev: Mdev): Promise<void> {
  const deadline = performance.now() + 5000;
  for (;;) {
    try {
      new VfioDevice('open', mdev.path).close();
      return;
    } catch (error) {
      if (!isSystemError(error, 'EBUSY') || performance.now() > deadline) throw error;
      await sleep(20);
    }
  }
}

export interface VgpuOptions {
  size?: string;
  buffers?: number;
  /** Where it can offer the device as a guest, with `o`. */
  offer?: { socket: string; name: string };
}

/** Draws into the device and flips; see ../vgpu/vgpu.c for what it hears. */
export async function startVgpu(mdev: Mdev, options: VgpuOptions = {}): Promise<GuestProcess> {
  const { size = '640x480', buffers = 2, offer } = options;
  const more = offer === undefined ? [] : [offer.socket, offer.name];
  const vgpu = new GuestProcess('vgpu', [PROGRAM, mdev.path, size, String(buffers), ...more]);
  await vgpu.event('buffers');
  return vgpu;
}
