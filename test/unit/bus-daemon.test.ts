/** A real bus daemon in between, and the tools that people use. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Fd } from '../../src/native/base.js';
import { Bus, type CallInfo, DBusError, socketAddress } from '../../src/native/bus.js';
import { noBusDaemon as skip, startBusDaemon } from './bus-daemon.js';
import { connectPair, OBJECT } from './bus-pair.js';
import { socketPath, until } from './sockets.js';

const NAME = 'org.scanoutd.Test';
let address = '';
let daemon: ChildProcess | undefined;
let bus: Bus;
const callers: CallInfo[] = [];
let level = 1;

before(async () => {
  if (skip !== false) return;
  ({ address, child: daemon } = await startBusDaemon());
  bus = await Bus.open(address, { daemon: true });
  bus.addObjectManager('/org/scanoutd');
  bus.addInterface(OBJECT.path, OBJECT.interface, {
    methods: {
      Greet: {
        in: 'su',
        inNames: ['name', 'times'],
        out: 's',
        outNames: ['greeting'],
        handler: ([name, times], caller) => {
          callers.push(caller);
          return [`hello ${name}`.repeat(times as number)];
        },
      },
      Open: { out: 'h', handler: () => [new Fd(openSync('/etc/hostname', 'r'))] },
      Fail: {
        handler: () => {
          throw new DBusError('org.scanoutd1.Error.Denied', 'not for you');
        },
      },
    },
    properties: {
      Level: {
        signature: 'u',
        emits: 'change',
        get: () => level,
        set: (value) => {
          level = value as number;
        },
      },
    },
    signals: { Told: { signature: 's', names: ['what'] } },
  });
  await bus.requestName(NAME);
});
after(() => {
  bus?.close();
  daemon?.kill();
});

/** Runs a tool while this process serves; gives what it printed. */
async function run(...command: string[]): Promise<{ pid: number; status: number; output: string }> {
  const [file = '', ...args] = command;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      output += text;
    });
  }
  const [status] = await once(child, 'close');
  return { pid: child.pid ?? 0, status: status as number, output };
}

const busctl = (...args: string[]) => run('busctl', `--address=${address}`, ...args);

test('busctl finds the objects and what they are', { skip }, async () => {
  const tree = await busctl('tree', '--list', NAME);
  assert.deepEqual(tree.output.trim().split('\n'), ['/', '/org', '/org/scanoutd', '/org/scanoutd/test']);
  const { output } = await busctl('introspect', NAME, OBJECT.path, OBJECT.interface);
  const lines = output.trim().split('\n').slice(1);
  assert.deepEqual(
    lines.map((line) => line.trim().split(/\s+/).join(' ')),
    [
      '.Fail method - - -',
      '.Greet method su s -',
      '.Open method - h -',
      '.Level property u 1 emits-change writable',
      '.Told signal s - -',
    ],
  );
});

test('busctl calls, reads and writes; the caller is its process', { skip }, async () => {
  callers.length = 0;
  const call = await busctl('call', NAME, OBJECT.path, OBJECT.interface, 'Greet', 'su', 'you', '2');
  assert.equal(call.output, 's "hello youhello you"\n');
  const { sender, groups, ...who } = callers[0] as CallInfo;
  const uid = process.getuid?.();
  assert.deepEqual(who, { pid: call.pid, uid, gid: null, path: OBJECT.path, interactive: true });
  assert.match(sender ?? '', /^:1\.\d+$/);
  assert.ok(groups.includes(process.getgid?.() ?? -1), `${groups}`);

  const property = [NAME, OBJECT.path, OBJECT.interface, 'Level'];
  assert.equal((await busctl('set-property', ...property, 'u', '7')).output, '');
  assert.equal(level, 7);
  assert.equal((await busctl('get-property', ...property)).output, 'u 7\n');
  const failed = await busctl('call', NAME, OBJECT.path, OBJECT.interface, 'Fail');
  assert.equal(failed.status, 1);
  assert.match(failed.output, /not for you/);
});

test('callers of other users are told apart', { skip }, async (t) => {
  if (process.getuid?.() !== 0) return t.skip('needs root to be somebody else');
  callers.length = 0;
  const user = ['setpriv', '--reuid=daemon', '--regid=daemon', '--groups=4242,4243'];
  const send = ['dbus-send', `--bus=${address}`, `--dest=${NAME}`, '--print-reply=literal', OBJECT.path];
  const call = await run(...user, ...send, `${OBJECT.interface}.Greet`, 'string:you', 'uint32:1');
  assert.match(call.output, /hello you/);
  const caller = callers[0] as CallInfo;
  assert.deepEqual([caller.pid, caller.uid, caller.gid], [call.pid, 1, null]);
  assert.deepEqual([...caller.groups].sort(), [1, 4242, 4243]);
});

test('another library speaks to the objects without a daemon', { skip }, async () => {
  let caller: CallInfo | undefined;
  const pair = await connectPair((served) =>
    served.addInterface(OBJECT.path, OBJECT.interface, {
      methods: {
        Mix: {
          in: 'sa{ss}v',
          out: 'as',
          handler: ([text, options, variant], who) => {
            caller = who;
            return [[`${text}`, JSON.stringify(options), JSON.stringify(variant)]];
          },
        },
      },
    }),
  );
  const send = [
    'dbus-send',
    `--peer=${socketAddress(pair.path)}`,
    '--type=method_call',
    '--print-reply=literal',
  ];
  const args = ['string:x', 'dict:string:string:a,1,b,2', 'variant:uint32:9'];
  const { pid, output } = await run(
    ...send,
    '--dest=any.name',
    OBJECT.path,
    `${OBJECT.interface}.Mix`,
    ...args,
  );
  assert.match(output, /array \[\s+x\s+\{"a":"1","b":"2"\}\s+\{"signature":"u","value":9\}\s+\]/);
  assert.equal(caller?.pid, pid);
  pair.close();
});

test('signals and descriptors come over the bus', { skip }, async () => {
  const other = await Bus.open(address, { daemon: true });
  assert.match(other.uniqueName ?? '', /^:1\.\d+$/);
  const told: unknown[] = [];
  const subscription = other.subscribe({ sender: NAME, member: 'Told' }, ({ body, sender }) =>
    told.push(...body, sender),
  );
  await subscription.installed;
  bus.emitSignal({ ...OBJECT, member: 'Told', body: ['all'] });
  bus.emitSignal({ ...OBJECT, member: 'Told', body: ['one'], destination: other.uniqueName ?? '' });
  bus.emitSignal({ ...OBJECT, member: 'Told', body: ['nobody'], destination: ':1.99999' });
  await until('the signals', () => told.length === 4);
  assert.deepEqual(told, ['all', bus.uniqueName, 'one', bus.uniqueName]);
  bus.emitPropertiesChanged(OBJECT.path, OBJECT.interface, 'Level');

  const [fd] = (await other.call({ ...OBJECT, destination: NAME, member: 'Open' })) as [Fd];
  const buffer = Buffer.alloc(200);
  assert.ok(readSync(fd.number, buffer, 0, 200, 0) > 0);
  fd.close();
  await assert.rejects(other.call({ ...OBJECT, member: 'Open' }), /destination: needed/);
  const nobody = other.call({ ...OBJECT, destination: 'org.scanoutd.Nobody', member: 'Open' });
  await assert.rejects(nobody, { dbusName: 'org.freedesktop.DBus.Error.ServiceUnknown' });
  other.close();
});

test('a name has one owner, who is watched', { skip }, async () => {
  const [first, second] = [
    await Bus.open(address, { daemon: true }),
    await Bus.open(address, { daemon: true }),
  ];
  const owners: (string | null)[] = [];
  const name = 'org.scanoutd.Contested';
  const watch = bus.watchName(name, (owner) => owners.push(owner));
  await until('nobody', () => owners.length === 1);
  await first.requestName(name, { allowReplacement: true });
  await first.requestName(name, { allowReplacement: true }); // again
  await assert.rejects(second.requestName(name), /the bus name org\.scanoutd\.Contested is taken/);
  await second.requestName(name, { replace: true });
  await second.releaseName(name);
  await until('all changes', () => owners.length === 4);
  assert.deepEqual(owners, [null, first.uniqueName, second.uniqueName, null]);
  const known: (string | null)[] = [];
  bus.watchName(NAME, (owner) => known.push(owner)).remove();
  watch.remove();
  await first.requestName(name);
  await setTimeout(20);
  assert.equal(owners.length, 4);
  assert.deepEqual(known, [bus.uniqueName]);
  await assert.rejects(first.requestName('no name'), DBusError);
  first.close();
  second.close();
});

test('the system bus is where the environment says', { skip }, async () => {
  const before = process.env.DBUS_SYSTEM_BUS_ADDRESS;
  try {
    process.env.DBUS_SYSTEM_BUS_ADDRESS = `${socketAddress(socketPath())};${address}`;
    for (const system of [await Bus.system(), await Bus.open('system')]) {
      assert.match(system.uniqueName ?? '', /^:1\./);
      system.close();
    }
    process.env.DBUS_SYSTEM_BUS_ADDRESS = socketAddress(socketPath());
    await assert.rejects(Bus.system(), { code: 'ENOENT' });
  } finally {
    if (before === undefined) delete process.env.DBUS_SYSTEM_BUS_ADDRESS;
    else process.env.DBUS_SYSTEM_BUS_ADDRESS = before;
  }
});

test('a daemon that ends takes its connections with it, and nothing else', { skip }, async () => {
  const own = await startBusDaemon();
  const client = await Bus.open(own.address, { daemon: true });
  client.addInterface(OBJECT.path, OBJECT.interface, {
    methods: { Never: { handler: () => new Promise<void>(() => {}) } },
  });
  const waiting = client.call({ ...OBJECT, destination: client.uniqueName ?? '', member: 'Never' });
  const lost = assert.rejects(waiting, { dbusName: 'org.freedesktop.DBus.Error.NoReply' });
  await setTimeout(20);
  own.child.kill('SIGKILL');
  await once(own.child, 'exit');
  await lost;
  assert.match(`${await client.closed}`, /ECONNRESET/);
  await assert.rejects(Bus.open(own.address, { daemon: true }), { code: 'ECONNREFUSED' });
});
