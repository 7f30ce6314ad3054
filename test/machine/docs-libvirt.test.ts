/** The examples of docs/guests.md for libvirt, by its driver for QEMU without its daemon. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { block, EXAMPLES, SLOW_MS, shows, startDaemon } from './inside/examples-rig.js';
import { GuestProcess } from './inside/guest-process.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const directory = mkdtempSync(join(tmpdir(), 'docs-libvirt-'));
// libvirt's machines run as a user of its own.
chmodSync(directory, 0o711);
let card: VkmsDevice;

before(() => {
  execFileSync('modprobe', ['vgem']);
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
  execFileSync('systemd-sysusers', ['systemd/scanoutd.sysusers']);
  mkdirSync('/etc/scanoutd', { recursive: true });
});
after(() => {
  rmSync(directory, { recursive: true });
  card.destroy();
});

/** Runs a domain of libvirt's as root of the machine does, without its daemon. */
async function provesDomain(example: string, name: string, more = () => {}): Promise<number> {
  const file = join(directory, `${example}.xml`);
  writeFileSync(file, EXAMPLES.get(example)?.find(({ language }) => language === 'xml')?.text ?? '');
  execFileSync('virt-xml-validate', [file, 'domain']);
  writeFileSync(file, block(example, 'xml', card.connectors));
  // No virtlogd runs here.
  const root = join(directory, example);
  mkdirSync(join(root, 'etc'), { recursive: true });
  writeFileSync(join(root, 'etc', 'qemu.conf'), 'stdio_handler = "file"\n');
  const daemon = await startDaemon(block(example, 'toml', card.connectors));
  let uid = -1;
  await daemon.during(async () => {
    const libvirt = new GuestProcess('libvirt', ['virt-qemu-run', '--verbose', '--root', root, file]);
    let pid = 0;
    await libvirt.during(async () => {
      await shows(daemon, libvirt, card.connectors[0] ?? '').catch((error: unknown) => {
        console.error(readFileSync(join(root, 'log', 'qemu', `${name}.log`), 'utf8'));
        throw error;
      });
      const guest = await daemon.guest(name);
      pid = guest.pid ?? 0;
      uid = guest.uid ?? -1;
      more();
    });
    if (pid !== 0) process.kill(pid);
    await daemon.until('no guest', ({ guests }) => guests.length === 0, SLOW_MS);
  });
  return uid;
}

function idOf(user: string): number {
  return Number(execFileSync('id', ['-u', user], { encoding: 'utf8' }));
}

test("libvirt's machine by vhost-user-gpu, as libvirt's user", async () => {
  assert.equal(await provesDomain('virtio-libvirt', 'desk'), idOf('libvirt-qemu'));
});

test("libvirt's machine by its display, with a monitor in a directory of its own", async () => {
  writeFileSync(join(directory, 'tv.conf'), block('qemu-libvirt', 'tmpfiles', card.connectors));
  execFileSync('systemd-tmpfiles', ['--create', join(directory, 'tv.conf')]);
  await provesDomain('qemu-libvirt', 'tv', () => {
    // The daemon here is root; that of the unit may open the monitor as well, whatever QEMU's umask.
    const base = `${process.cwd()}/dist/src/native/base.js`;
    const probe = `const { probeSocket } = await import('${base}'); probeSocket('/run/tv/qmp');`;
    const user = (name: string) => ['setpriv', `--reuid=${name}`, `--regid=${name}`, '--clear-groups'];
    const as = (name: string) =>
      spawnSync('env', [...user(name), process.execPath, '--input-type=module', '-e', probe]);
    assert.equal(as('scanoutd').status, 0);
    assert.match(as('scanoutd-guest').stderr.toString(), /EACCES/);
  });
});
