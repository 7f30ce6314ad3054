/** The unit as it is shipped, under a real systemd: ready when outputs are lit, watched, ended in order. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StatusDocument } from '../../../src/api/documents.js';
import { createVkms, type VkmsDevice, vkmsShape } from '../inside/vkms.js';

const UNIT = 'scanoutd.service';
const DROP_IN = `/etc/systemd/system/${UNIT}.d`;
const POLICY = '/etc/dbus-1/system.d/org.scanoutd1.conf';
const BUS_DAEMON = ['org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus'];
const PATIENCE_MS = 150_000;
let card: VkmsDevice;

function systemctl(...args: string[]): string {
  return execFileSync('systemctl', args, { encoding: 'utf8' }).trim();
}

function property(name: string): string {
  return systemctl('show', UNIT, '--value', '--property', name);
}

async function until(what: () => string, holds: () => boolean): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; !holds(); await sleep(500))
    assert.ok(performance.now() < end, what());
}

function status(): StatusDocument {
  const text = execFileSync(process.execPath, ['dist/bin/scanoutctl.js', 'status', '--json'], {
    encoding: 'utf8',
  });
  return JSON.parse(text) as StatusDocument;
}

before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1 }));
  execFileSync('systemd-sysusers', ['systemd/scanoutd.sysusers']);
  copyFileSync(`systemd/${UNIT}`, `/etc/systemd/system/${UNIT}`);
  mkdirSync(DROP_IN, { recursive: true });
  const start = `ExecStart=\nExecStart=${process.execPath} ${process.cwd()}/dist/bin/scanoutd.js`;
  copyFileSync('systemd/org.scanoutd1.conf', POLICY);
  execFileSync('busctl', ['call', ...BUS_DAEMON, 'ReloadConfig']);
  // An emulated machine is slow to start a program; the unit's limits are for real ones.
  writeFileSync(
    `${DROP_IN}/here.conf`,
    `[Service]\n${start}\nTimeoutStartSec=180\nWatchdogSec=15\nRestartSec=1\n`,
  );
  systemctl('daemon-reload');
});

after(() => {
  try {
    systemctl('stop', UNIT);
  } finally {
    rmSync(DROP_IN, { recursive: true });
    rmSync(`/etc/systemd/system/${UNIT}`);
    rmSync(POLICY);
    card.destroy();
  }
});

test('it starts as its own user, and is active only when the outputs are lit', () => {
  systemctl('start', UNIT);
  assert.equal(property('ActiveState'), 'active');
  assert.match(property('StatusText'), /2 outputs lit/);
  const { outputs, cards } = status();
  assert.ok(outputs.every(({ lit, idle }) => lit && idle));
  assert.equal(cards[0]?.realtime, true, cards[0]?.realtimeReason);
  const uid = execFileSync('stat', ['-c', '%U', `/proc/${property('MainPID')}`], { encoding: 'utf8' }).trim();
  assert.equal(uid, 'scanoutd');
});

test('it is on the system bus, where everybody may ask and not everybody may change', () => {
  const call = (member: string, ...args: string[]) => {
    const object = ['org.scanoutd1', '/org/scanoutd1', 'org.scanoutd1.Manager', member];
    // As a user who is neither root nor of the group.
    return spawnSync('setpriv', [
      ...['--reuid=65534', '--regid=65534', '--clear-groups', 'busctl', 'call'],
      ...[...object, ...args],
    ]);
  };
  assert.match(call('Describe').stdout.toString(), /Virtual/);
  const refused = call('Assign', 'ss', 'nobody', '{}');
  assert.notEqual(refused.status, 0);
  assert.match(refused.stderr.toString(), /[Aa]ccess denied/);
});

test('it feeds the watchdog', async () => {
  const pid = property('MainPID');
  for (let fed = 0; fed < 2; fed++) {
    const last = property('WatchdogTimestampMonotonic');
    await until(
      () => `fed at ${last} and not since`,
      () => property('WatchdogTimestampMonotonic') !== last,
    );
  }
  assert.equal(property('MainPID'), pid);
  assert.equal(property('NRestarts'), '0');
});

test('a daemon that hangs is ended by the watchdog and started again', async () => {
  const pid = property('MainPID');
  process.kill(Number(pid), 'SIGSTOP');
  await until(
    () => `it is still ${pid}, ${property('ActiveState')}`,
    () => property('MainPID') !== pid && property('ActiveState') === 'active',
  );
  assert.equal(property('NRestarts'), '1');
  assert.ok(status().outputs.every(({ lit }) => lit));
});

test('it ends in order', () => {
  systemctl('stop', UNIT);
  assert.equal(property('Result'), 'success');
  assert.equal(property('ExecMainStatus'), '0');
});
