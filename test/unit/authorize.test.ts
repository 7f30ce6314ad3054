/** Who may change what over the system bus: a real bus daemon, and an authority that answers as it is told. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { ACTIONS, Authorizer } from '../../src/api/authorize.js';
import { DbusFrontend } from '../../src/api/dbus.js';
import type { Manager } from '../../src/api/manager.js';
import type { Config } from '../../src/config/config.js';
import { Bus, type CallInfo, DBusError, type MethodDescription } from '../../src/native/bus.js';
import { status } from '../fixtures/documents.js';
import { type BusDaemon, noBusDaemon as skip, startBusDaemon } from './bus-daemon.js';
import { socketPath } from './sockets.js';

const GROUP = 790;
const DENIED = 'org.freedesktop.DBus.Error.AccessDenied';
let daemon: BusDaemon;
let bus: Bus;

before(async () => {
  if (skip !== false) return;
  daemon = await startBusDaemon();
  bus = await Bus.open(daemon.address, { daemon: true });
});
after(() => {
  bus?.close();
  daemon?.child.kill();
});

/** Stands for polkitd. `answer` is authorized and challenge; what it was asked is kept. */
async function authority(answer: () => [boolean, boolean]): Promise<{ asked: unknown[][]; bus: Bus }> {
  const asked: unknown[][] = [];
  const own = await Bus.open(daemon.address, { daemon: true });
  own.addInterface('/org/freedesktop/PolicyKit1/Authority', 'org.freedesktop.PolicyKit1.Authority', {
    methods: {
      CheckAuthorization: {
        in: '(sa{sv})sa{ss}us',
        out: '(bba{ss})',
        handler: (args) => {
          asked.push(args);
          return [[...answer(), {}]];
        },
      },
    },
  });
  await own.requestName('org.freedesktop.PolicyKit1');
  return { asked, bus: own };
}

const caller = (change: Partial<CallInfo> = {}): CallInfo => ({
  ...{
    sender: ':1.7',
    path: '/org/scanoutd1',
    pid: 41,
    uid: 1000,
    gid: null,
    groups: [1000],
    interactive: false,
  },
  ...change,
});

interface Guarded {
  calls: unknown[][];
  log: string[];
  call(method: string, who: CallInfo, ...args: unknown[]): Promise<unknown>;
}

function guarded(): Guarded {
  const calls: unknown[][] = [];
  const log: string[] = [];
  const made = (name: string, inNames: string[]): MethodDescription => ({
    inNames,
    handler: (args) => {
      calls.push([name, ...args]);
      return ['done'];
    },
  });
  const logger = { info: (details: object, text: string) => log.push(`${text} ${JSON.stringify(details)}`) };
  const authorizer = new Authorizer(bus, logger as never, { group: () => GROUP });
  const methods = authorizer.guard({
    ...{ Describe: made('Describe', []), TakeLease: made('TakeLease', ['lease', 'request_json']) },
    ...{ Assign: made('Assign', ['guest', 'request_json']), Reboot: made('Reboot', []) },
  });
  return { calls, log, call: async (name, who, ...args) => methods[name]?.handler(args, who) };
}

const refusedWith = (name: string, says: RegExp) => (error: unknown) => {
  assert.ok(error instanceof DBusError);
  assert.equal(error.dbusName, name);
  assert.match(error.message, says);
  return true;
};

test('root and the group may without polkit; others are refused, and it is logged', { skip }, async () => {
  const api = guarded();
  for (const who of [
    caller({ uid: 0 }),
    caller({ groups: [5, GROUP] }),
    caller({ gid: GROUP, groups: [] }),
  ]) {
    assert.deepEqual(await api.call('TakeLease', who, 'desk', '{}'), ['done']);
    assert.deepEqual(await api.call('Reboot', who), ['done']);
  }
  assert.equal(api.calls.length, 6);
  await assert.rejects(
    api.call('TakeLease', caller(), 'desk', '{}'),
    refusedWith(DENIED, /^access denied: polkit cannot be asked: .*root and the group scanoutd need none$/),
  );
  assert.equal(api.calls.length, 6);
  assert.match(
    api.log[0] ?? '',
    /^refused .*"uid":1000,"action":"org\.scanoutd1\.take-lease","lease":"desk"/,
  );
  assert.deepEqual(await api.call('Describe', caller()), ['done']);
});

test('polkit is asked about the caller and what it wants', { skip }, async () => {
  const polkit = await authority(() => [true, false]);
  const api = guarded();
  await api.call('TakeLease', caller(), 'desk', '{}');
  await api.call('Assign', caller({ interactive: true }), 'tv', '{}');
  assert.deepEqual(api.calls, [
    ['TakeLease', 'desk', '{}'],
    ['Assign', 'tv', '{}'],
  ]);
  const subject = ['system-bus-name', { name: { signature: 's', value: ':1.7' } }];
  assert.deepEqual(polkit.asked, [
    [subject, 'org.scanoutd1.take-lease', { lease: 'desk' }, 0, ''],
    [subject, 'org.scanoutd1.manage', { guest: 'tv' }, 1, ''],
  ]);
  polkit.bus.close();
});

test('what polkit does not allow is not done', { skip }, async () => {
  let answer: [boolean, boolean] = [false, false];
  const polkit = await authority(() => answer);
  const api = guarded();
  await assert.rejects(
    api.call('TakeLease', caller(), 'desk', '{}'),
    refusedWith(DENIED, /^access denied: polkit does not allow org\.scanoutd1\.take-lease$/),
  );
  answer = [false, true];
  await assert.rejects(
    api.call('TakeLease', caller(), 'desk', '{}'),
    refusedWith('org.freedesktop.DBus.Error.InteractiveAuthorizationRequired', /needs authentication$/),
  );
  assert.deepEqual(api.calls, []);
  polkit.bus.close();
});

test('a method that has no action is not even asked about', { skip }, async () => {
  const polkit = await authority(() => [true, false]);
  const api = guarded();
  await assert.rejects(api.call('Reboot', caller()), refusedWith(DENIED, /for root and the group scanoutd$/));
  assert.deepEqual([api.calls, polkit.asked], [[], []]);
  polkit.bus.close();
});

test('the bus policy opens what the daemon decides on, and polkit knows the actions', { skip }, async () => {
  process.env.DBUS_SYSTEM_BUS_ADDRESS = daemon.address;
  const manager = Object.assign(new EventEmitter(), { describe: status, version: '0', ready: true });
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  const config = { daemon: { busSocket: socketPath(), systemBus: 'on' } };
  const frontend = new DbusFrontend(manager as unknown as Manager, config as Config, log as never);
  await frontend.start();
  const target = { destination: 'org.scanoutd1', path: '/org/scanoutd1' };
  const asked = { ...target, interface: 'org.freedesktop.DBus.Introspectable', member: 'Introspect' };
  const [xml] = (await bus.call(asked)) as [string];
  await frontend.stop();
  const ours = xml.split('<interface name="org.scanoutd1.Manager">')[1]?.split('</interface>')[0] ?? '';
  const methods = [...ours.matchAll(/<method name="(\w+)"/g)].map(([, name]) => name).sort();
  assert.deepEqual(Object.keys(ACTIONS).sort(), methods);
  const policy = readFileSync('systemd/org.scanoutd1.conf', 'utf8');
  const open = [...policy.matchAll(/send_interface="org\.scanoutd1\.Manager" send_member="(\w+)"/g)];
  assert.deepEqual(open.map(([, name]) => name).sort(), methods);
  const actions = readFileSync('systemd/org.scanoutd1.policy', 'utf8');
  const ids = [...actions.matchAll(/<action id="([\w.-]+)"/g)].map(([, id]) => id).sort();
  assert.deepEqual(ids, [...new Set(Object.values(ACTIONS).filter((action) => action !== null))].sort());
});
