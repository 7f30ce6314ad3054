/** The template unit as it is shipped, under a real systemd: starts a guest's command, and keeps it. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode } from 'fast-png';
import type { StatusDocument } from '../../../src/api/documents.js';
import { type Connection, connect } from '../../../src/cli/connection.js';
import { pattern } from '../inside/pattern.js';
import { worst } from '../inside/pixels.js';
import { createVkms, type VkmsDevice, vkmsShape } from '../inside/vkms.js';

const UNITS = '/etc/systemd/system';
const SIZE = { width: 640, height: 480 };
const PATIENCE_MS = 150_000;
const HERE = process.cwd();
const CLI = `${HERE}/dist/bin`;
/** Draws one frame and stays (it listens to its serial line, which has to be there); the daemon's picture of it is compared. */
const COMMAND = [
  ...[
    'qemu-system-x86_64',
    '-nodefaults',
    '-accel',
    'tcg',
    '-m',
    '128M',
    '-display',
    'none',
    '-serial',
    'null',
  ],
  ...['-object', 'memory-backend-memfd,id=memory,size=128M,share=on', '-machine', 'pc,memory-backend=memory'],
  ...['-chardev', 'socket,id=gpu,path={socket}', '-device', 'vhost-user-gpu-pci,chardev=gpu'],
  ...['-kernel', `${HERE}/build-machine/guest.elf`, '-append', 'frames=1 size=640x480'],
];
/** A shell, to look at what a guest finds; it is no guest that the daemon would see. */
const LOOK =
  'id; pwd; umask; ls -ld . /run/scanoutd-guest/{name}; cat /proc/self/cgroup; touch disk; touch /etc/x; ' +
  'for f in /dev/kvm /dev/udmabuf /dev/input/event0 /dev/dri/card0; do head -c0 $f && echo may open $f; done; true';
let card: VkmsDevice;

function systemctl(...args: string[]): string {
  return execFileSync('systemctl', args, { encoding: 'utf8' }).trim();
}

function property(unit: string, name: string): string {
  return systemctl('show', unit, '--value', '--property', name);
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; !(await holds()); await sleep(500))
    assert.ok(performance.now() < end, `${what}\n${journal()}`);
}

function journal(): string {
  return execFileSync('journalctl', ['--no-pager', '-n', '40', '-u', 'scanoutd*'], { encoding: 'utf8' });
}

/** Of the daemon as it is now; in this process, since starting another costs seconds here. */
async function withDaemon<T>(use: (daemon: Connection) => Promise<T>): Promise<T> {
  const daemon = await connect({ kind: 'socket', path: '/run/scanoutd/bus' });
  try {
    return await use(daemon);
  } finally {
    daemon.close();
  }
}

function status(): Promise<StatusDocument> {
  return withDaemon((daemon) => daemon.describe());
}

/** The output shows the guest's first frame, in every pixel. */
async function isSeen(): Promise<boolean> {
  const { png, document } = await withDaemon((daemon) => daemon.screenshot(card.connectors[0] ?? ''));
  assert.equal(document.how, 'writeback');
  const { width, height, data } = decode(png);
  return worst({ width, height, data: data as Uint8Array }, pattern(SIZE.width, SIZE.height, 0)).by === 0;
}

/** Installs a unit as it is shipped, with what an emulated machine and a clone need otherwise. */
function install(unit: string, start: string, more: string): void {
  copyFileSync(`systemd/${unit}`, `${UNITS}/${unit}`);
  mkdirSync(`${UNITS}/${unit}.d`, { recursive: true });
  const command = `ExecStart=\nExecStart=${process.execPath} ${CLI}/${start}`;
  writeFileSync(`${UNITS}/${unit}.d/here.conf`, `[Service]\n${command}\n${more}\n`);
}

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, writeback: true }));
  execFileSync('systemd-sysusers', ['systemd/scanoutd.sysusers']);
  mkdirSync('/etc/scanoutd', { recursive: true });
  const guest = (name: string, command: readonly string[]) =>
    `[[guest]]\nname = "${name}"\nkind = "virtio"\ncommand = ${JSON.stringify(command)}\n`;
  writeFileSync(
    '/etc/scanoutd/scanoutd.toml',
    `[daemon]\nsystem_bus = "off"\nguest_socket_group = "scanoutd-guest"\n[[output]]\nmode = "640x480"\n` +
      guest('my-desk', COMMAND) +
      guest('look', ['sh', '-c', LOOK]) +
      guest('absent', ['no-such-program']),
  );
  install('scanoutd.service', 'scanoutd.js', 'TimeoutStartSec=180\nWatchdogSec=60');
  install('scanoutd-guest@.service', 'scanoutctl.js guest run --wait 100 -- %i', '');
  systemctl('daemon-reload');
});

after(() => {
  spawnSync('systemctl', ['stop', 'scanoutd-guest@*.service', 'scanoutd.service']);
  for (const unit of ['scanoutd.service', 'scanoutd-guest@.service']) {
    rmSync(`${UNITS}/${unit}.d`, { recursive: true });
    rmSync(`${UNITS}/${unit}`);
  }
  rmSync('/etc/scanoutd', { recursive: true });
  systemctl('daemon-reload');
  card.destroy();
});

const UNIT = 'scanoutd-guest@my-desk.service';

test('the guest brings the daemon, and its picture is shown', async () => {
  systemctl('start', UNIT);
  assert.equal(property('scanoutd.service', 'ActiveState'), 'active');
  await until('the picture', isSeen);
  const [guest] = (await status()).guests;
  const pid = property(UNIT, 'MainPID');
  assert.equal(String(guest?.pid), pid);
  assert.equal(guest?.planes[0]?.state, 'direct', guest?.planes[0]?.reason);
  // The unit's process is QEMU itself, as its own user.
  assert.match(readFileSync(`/proc/${pid}/cmdline`, 'latin1'), /^qemu-system-x86_64\0/);
  const user = execFileSync('stat', ['-c', '%U:%G', `/proc/${pid}`], { encoding: 'utf8' }).trim();
  assert.equal(user, 'scanoutd-guest:scanoutd-guest');
});

test('one that is killed is started again, and its picture comes back', async () => {
  const pid = property(UNIT, 'MainPID');
  process.kill(Number(pid), 'SIGKILL');
  await until('the next one', async () =>
    (await status()).guests.some((guest) => guest.pid !== null && String(guest.pid) !== pid),
  );
  await until('its picture', isSeen);
  assert.equal(property(UNIT, 'NRestarts'), '1');
});

test('the daemon is restarted and killed: it runs on, and its picture comes back by itself', async () => {
  const pid = property(UNIT, 'MainPID');
  systemctl('restart', 'scanoutd.service');
  await until('its picture', isSeen);
  const daemon = property('scanoutd.service', 'MainPID');
  systemctl('kill', '--signal=KILL', 'scanoutd.service');
  await until('the next daemon', () => {
    const now = property('scanoutd.service', 'MainPID');
    return now !== daemon && now !== '0' && property('scanoutd.service', 'ActiveState') === 'active';
  });
  await until('its picture', isSeen);
  assert.equal(property(UNIT, 'ActiveState'), 'active');
  assert.equal(property(UNIT, 'MainPID'), pid);
  assert.equal(property(UNIT, 'NRestarts'), '1');
});

test('it ends when it is told to, and the output is idle', async () => {
  systemctl('stop', UNIT);
  assert.equal(property(UNIT, 'ActiveState'), 'inactive', journal());
  assert.equal(property(UNIT, 'Result'), 'success');
  await until('no guest', async () => {
    const { guests, outputs } = await status();
    return guests.length === 0 && outputs[0]?.idle === true;
  });
});

test('a guest has its own directories, and opens what a virtual machine needs and no more', async () => {
  systemctl('start', 'scanoutd-guest@look.service');
  await until('its end', () => property('scanoutd-guest@look.service', 'ActiveState') === 'inactive');
  const said = execFileSync('journalctl', ['-o', 'cat', '--no-pager', '-u', 'scanoutd-guest@look.service'], {
    encoding: 'utf8',
  });
  assert.match(said, /gid=\d+\(scanoutd-guest\) groups=.*\(kvm\)/);
  assert.doesNotMatch(said, /groups=[^\n]*\(scanoutd\)/);
  assert.match(said, /^\/var\/lib\/scanoutd-guest\/look\n0007\n/m);
  assert.match(said, /^drwxr-x--- .* scanoutd-guest scanoutd-guest .* \/run\/scanoutd-guest\/look$/m);
  assert.match(said, /touch: cannot touch '\/etc\/x': Read-only file system/);
  assert.match(said, /may open \/dev\/udmabuf/);
  assert.doesNotMatch(said, /may open \/dev\/(input|dri)/);
  assert.match(
    execFileSync('stat', ['-c', '%U %a', '/var/lib/scanoutd-guest/look/disk'], { encoding: 'utf8' }),
    /^scanoutd-guest 660/,
  );
});

test('a command that cannot be is not tried again', async () => {
  spawnSync('systemctl', ['start', 'scanoutd-guest@absent.service']);
  await until('failed', () => property('scanoutd-guest@absent.service', 'ActiveState') === 'failed');
  assert.equal(property('scanoutd-guest@absent.service', 'ExecMainStatus'), '78');
  assert.equal(property('scanoutd-guest@absent.service', 'NRestarts'), '0');
});
