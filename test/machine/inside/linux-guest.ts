/** A Linux guest: the test machine's own kernel with an initramfs of busybox and ../linux, under QEMU. */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { kvmOrNot } from './kvm.js';
import { Qemu, type QemuOptions } from './qemu.js';

const KERNEL = '/boot/vmlinux';
const PROGRAMS = ['cards', 'evdev', 'linux-input'];
const INIT = 'build-machine/linux-init';
const APPLETS = ['sh', 'mount', 'insmod', 'sleep', 'cut', 'tr', 'echo', 'wc', 'md5sum'];
/** Nested emulation. */
export const BOOT_MS = 300_000;
/** Quick: no search for what is not there, no self-tests, no noise. The console is the display and the serial line. */
const APPEND = [
  ...['console=ttyS0', 'console=tty0', 'quiet', 'loglevel=3', 'panic=-1', 'mitigations=off', 'nokaslr'],
  ...['tsc=reliable', 'no_timer_check', 'random.trust_cpu=on', 'cryptomgr.notests', 'audit=0', 'selinux=0'],
  ...['apparmor=0', 'net.ifnames=0', 'i8042.noaux', 'i8042.nokbd', 'rcupdate.rcu_expedited=1'],
  'vt.global_cursor_default=0', // or the console blinks
].join(' ');

/** The initramfs with the drivers named; made once for each set of them. Returns its path. */
function initramfs(drivers: readonly string[]): string {
  const path = join(tmpdir(), `linux-guest-${drivers.join('-')}.img`);
  if (existsSync(path)) return path;
  const root = mkdtempSync(join(tmpdir(), 'linux-guest-'));
  for (const dir of ['bin', 'dev', 'proc', 'sys', 'modules']) mkdirSync(join(root, dir));
  copyFileSync('/usr/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of APPLETS) symlinkSync('busybox', join(root, 'bin', applet));
  for (const program of PROGRAMS) copyFileSync(join('build-machine', program), join(root, 'bin', program));
  copyFileSync(INIT, join(root, 'init'));
  const needs = execFileSync('modprobe', ['--show-depends', '--all', ...drivers], { encoding: 'utf8' });
  const modules = [...needs.matchAll(/^insmod (\S+)/gm)].map(([, file]) => file ?? '');
  const names = [...new Set(modules)].map((file) => {
    copyFileSync(file, join(root, 'modules', basename(file)));
    return basename(file);
  });
  writeFileSync(join(root, 'modules/order'), `${names.join('\n')}\n`);
  execFileSync('sh', ['-c', `cd '${root}' && find . | busybox cpio -o -H newc >'${path}.new' 2>/dev/null`]);
  rmSync(root, { recursive: true });
  execFileSync('mv', [`${path}.new`, path]);
  if (readFileSync(path).length === 0) throw new Error('empty initramfs');
  return path;
}

export interface LinuxOptions extends Omit<QemuOptions, 'kernel' | 'initrd'> {
  /** Of the display and of its bus (virtio-gpu over PCI). */
  drivers?: readonly string[];
}

/** Starts it; its program says `@buffers` when it has found the display, `BOOT_MS` at most after the start. */
export async function startLinux(options: LinuxOptions): Promise<Qemu> {
  const { drivers = ['virtio_pci', 'virtio-gpu'], append = '', ...rest } = options;
  return await Qemu.start({
    memoryMb: 256,
    accelerators: await kvmOrNot(),
    ...rest,
    kernel: KERNEL,
    initrd: initramfs(drivers),
    append: `${APPEND} ${append}`,
  });
}
