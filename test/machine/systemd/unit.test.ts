/** The unit as it is shipped, under a real systemd: ready when outputs are lit, watched, ended in order. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StatusDocument } from '../../../src/api/documents.js';
import { createVkms, type VkmsDevice, vkmsShape } from '../inside/vkms.js';

const UNIT = 'scanoutd.service';
const DROP_IN = `/etc/systemd/system/${UNIT}.d`;
const POLICY = '/etc/dbus-1/system.d/org.scanoutd1.conf';
const BUS_DAEMON = ['org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus'];
const ACTIONS = '/etc/polkit-1/actions';
const RULES = '/etc/polkit-1/rules.d/10-scanoutd.rules';
/** Neither root nor of the group, and let have a lease by the rule. */
const GUEST_USER = 'scanoutd-guest';
const RULE = `polkit.addRule(function (action, subject) {
  if (action.id == "org.scanoutd1.take-lease" && action.lookup("lease") == "desk" && subject.user == "${GUEST_USER}")
    return polkit.Result.YES;
});
`;
const DEVICE_RULES = '/run/udev/rules.d/72-scanoutd.rules';
const CONFIG = '/etc/scanoutd';
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
  mkdirSync(ACTIONS, { recursive: true });
  copyFileSync('systemd/org.scanoutd1.policy', `${ACTIONS}/org.scanoutd1.policy`);
  writeFileSync(RULES, RULE);
  mkdirSync(CONFIG, { recursive: true });
  const leases = ['desk', 'wall'].map(
    (name) => `[[lease]]\nname = "${name}"\noutputs = ["${card.connectors[0]}"]\n`,
  );
  const guest = '[[guest]]\nname = "box"\ninput = "uinput"\n';
  writeFileSync(`${CONFIG}/scanoutd.toml`, `${leases.join('')}${guest}`);
  mkdirSync(dirname(DEVICE_RULES), { recursive: true });
  copyFileSync('systemd/72-scanoutd.rules', DEVICE_RULES);
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  execFileSync('udevadm', ['control', '--reload']);
  execFileSync('udevadm', ['trigger', '--settle', '--action=add', '/sys/devices/virtual/misc/uinput']);
  systemctl('daemon-reload');
  // Its start takes longer in an emulated machine than callers wait for an answer.
  systemctl('restart', 'polkit.service');
});

after(() => {
  try {
    systemctl('stop', UNIT);
  } finally {
    rmSync(DROP_IN, { recursive: true });
    rmSync(`/etc/systemd/system/${UNIT}`);
    for (const path of [DEVICE_RULES, POLICY, `${ACTIONS}/org.scanoutd1.policy`, RULES, CONFIG])
      rmSync(path, { recursive: true });
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

test('its user reads the input devices, and makes those of a guest, which guests may open', () => {
  const [seat] = status().seats;
  assert.deepEqual([seat?.name, seat?.automatic, seat?.ready], ['seat0', true, true], seat?.reason);
  assert.ok(seat?.devices.every(({ open, grab }) => open && grab));
  execFileSync('udevadm', ['settle']);
  for (const name of ['keyboard', 'pointer']) {
    const link = `/dev/input/scanoutd/box/${name}`;
    assert.equal(execFileSync('stat', ['-Lc', '%G %a', link], { encoding: 'utf8' }), 'scanoutd-guest 660\n');
  }
});

/** A call over the system bus by a user, who is in no group but `groups`. */
function callAs(user: string, groups: string[], member: string, ...args: string[]) {
  const set = [
    '--reuid',
    user,
    '--regid',
    '65534',
    groups.length > 0 ? `--groups=${groups}` : '--clear-groups',
  ];
  const object = ['org.scanoutd1', '/org/scanoutd1', 'org.scanoutd1.Manager', member];
  const {
    status: code,
    stdout,
    stderr,
  } = spawnSync('setpriv', [...set, 'busctl', 'call', ...object, ...args], {
    encoding: 'utf8',
  });
  return { code, stdout, stderr };
}

const take = (user: string, lease: string, groups: string[] = []) =>
  callAs(user, groups, 'TakeLease', 'ss', lease, '{}');

async function untilFree(lease: string): Promise<void> {
  const isFree = () => status().leases.some(({ name, state }) => name === lease && state === 'free');
  await until(() => `${lease} is not free`, isFree);
}

test('it is on the system bus, where everybody may ask and not everybody may change', () => {
  assert.match(callAs('nobody', [], 'Describe').stdout, /Virtual/);
  for (const [member, ...args] of [
    ['Assign', 'ss', 'nobody', '{}'],
    ['Screenshot', 's', card.connectors[0] ?? ''],
    ['RevokeLease', 'ss', 'desk', '{}'],
  ] as [string, ...string[]][]) {
    const refused = callAs('nobody', [], member, ...args);
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /[Aa]ccess denied/);
  }
});

test('polkit lets one user have one lease, by a rule', async () => {
  const allowed = take(GUEST_USER, 'desk');
  assert.equal(allowed.code, 0, allowed.stderr);
  assert.match(allowed.stdout, /^hs .*\\"name\\":\\"desk\\"/);
  await untilFree('desk');
  assert.match(
    take(GUEST_USER, 'wall').stderr,
    /access denied: org\.scanoutd1\.take-lease needs authentication/,
  );
  assert.match(
    take('nobody', 'desk').stderr,
    /access denied: org\.scanoutd1\.take-lease needs authentication/,
  );
});

test('without polkit it is for root and the group, and nobody else', async () => {
  systemctl('mask', '--runtime', '--now', 'polkit.service');
  try {
    assert.match(take(GUEST_USER, 'desk').stderr, /[Aa]ccess denied/);
    assert.ok(status().leases.every(({ state }) => state === 'free'));
    const group = execFileSync('getent', ['group', 'scanoutd'], { encoding: 'utf8' }).split(':')[2] ?? '';
    const member = take('nobody', 'desk', [group]);
    assert.equal(member.code, 0, member.stderr);
    await untilFree('desk');
  } finally {
    systemctl('unmask', '--runtime', 'polkit.service');
  }
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
