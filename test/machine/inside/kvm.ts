/**
 * KVM in the test machine, on a processor whose virtualization is emulated: a guest runs ten times as fast as under an
 * emulator in the emulator.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const HOLDER = '/run/kvm-holder.pid';
const START_MS = 60_000;

/** Arguments for QEMU that use it where it is; elsewhere QEMU emulates, and its guest takes minutes longer to boot. */
export async function kvmOrNot(): Promise<string[]> {
  if (!existsSync(HOLDER)) await hold();
  return ['-accel', 'kvm', '-accel', 'tcg,thread=multi'];
}

/**
 * Loads it and starts a virtual machine that never runs and never ends. The kernel patches its scheduler when the first one
 * comes and when the last one goes, and an emulated processor may yet run the breakpoint that was there meanwhile:
 * so it is patched once, with no other processor on.
 */
async function hold(): Promise<void> {
  for (const module of ['kvm_amd', 'kvm_intel']) {
    if (!existsSync('/dev/kvm')) spawnSync('modprobe', ['--quiet', module]);
  }
  writeFileSync(HOLDER, '');
  if (!existsSync('/dev/kvm')) return;
  const others = readdirSync('/sys/devices/system/cpu').filter((name) => /^cpu[1-9]\d*$/.test(name));
  const turn = (value: string) => {
    for (const name of others) writeFileSync(`/sys/devices/system/cpu/${name}/online`, value);
  };
  turn('0');
  try {
    const args = ['-accel', 'kvm', '-S', '-m', '16', '-nodefaults', '-display', 'none', '-pidfile', HOLDER];
    const holder = spawn('qemu-system-x86_64', args, { detached: true, stdio: 'ignore' });
    holder.unref();
    const deadline = performance.now() + START_MS;
    while (!hasVcpu(holder.pid) && holder.exitCode === null) {
      if (performance.now() > deadline) throw new Error('no virtual machine under KVM');
      await sleep(50);
    }
  } finally {
    turn('1');
  }
}

function hasVcpu(pid: number | undefined): boolean {
  const out = spawnSync('ls', ['-l', `/proc/${pid}/fd`], { encoding: 'utf8' }).stdout;
  return out.includes('anon_inode:kvm-vcpu');
}
