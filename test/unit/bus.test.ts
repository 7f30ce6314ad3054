/** Calls between peers, from their beginning to their end. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import {
  Bus,
  BusServer,
  type CallInfo,
  DBusError,
  FAILED,
  type InterfaceDescription,
  NO_REPLY,
  socketAddress,
} from '../../src/native/bus.js';
import { connectPair, OBJECT } from './bus-pair.js';
import { countFds, socketPath, until, untilFds } from './sockets.js';

const PROPERTIES = { path: OBJECT.path, interface: 'org.freedesktop.DBus.Properties' } as const;

function withObject(description: InterfaceDescription) {
  return connectPair((served) => served.addInterface(OBJECT.path, OBJECT.interface, description));
}

const isError = (dbusName: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof DBusError, `${error}`);
  assert.equal(error.dbusName, dbusName);
  assert.match(error.message, message);
  return true;
};

test('a call brings what its handler gives, at once or later', async () => {
  const pair = await withObject({
    methods: {
      Add: { in: 'ii', out: 'i', handler: ([a, b]) => [(a as number) + (b as number)] },
      Later: {
        in: 's',
        out: 'ss',
        handler: async ([text]) => {
          await setTimeout(20);
          return [text, 'later'];
        },
      },
      Nothing: { handler: () => {} },
    },
  });
  const later = pair.client.call({ ...OBJECT, member: 'Later', signature: 's', body: ['x'] });
  assert.deepEqual(await pair.client.call({ ...OBJECT, member: 'Add', signature: 'ii', body: [2, 3] }), [5]);
  assert.deepEqual(await later, ['x', 'later']);
  assert.deepEqual(await pair.client.call({ ...OBJECT, member: 'Nothing' }), []);
  pair.close();
});

test('both ends can have objects', async () => {
  const pair = await withObject({});
  pair.client.addInterface('/client', OBJECT.interface, {
    methods: { Who: { out: 's', handler: () => ['the client'] } },
  });
  assert.deepEqual(await pair.served.call({ ...OBJECT, path: '/client', member: 'Who' }), ['the client']);
  pair.close();
});

test('a call says whether its user may be asked to authenticate', async () => {
  const said: boolean[] = [];
  const pair = await withObject({
    methods: { May: { handler: (_, { interactive }) => void said.push(interactive) } },
  });
  await pair.client.call({ ...OBJECT, member: 'May' });
  await pair.client.call({ ...OBJECT, member: 'May', interactive: true });
  assert.deepEqual(said, [false, true]);
  pair.close();
});

test('the caller is who the kernel says', async () => {
  let caller: CallInfo | undefined;
  const pair = await withObject({
    methods: {
      Who: {
        handler: (_, who) => {
          caller = who;
        },
      },
    },
  });
  await pair.client.call({ ...OBJECT, member: 'Who' });
  const { groups, ...rest } = caller as CallInfo;
  const self = { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() };
  assert.deepEqual(rest, { ...self, sender: null, path: OBJECT.path, interactive: false });
  assert.deepEqual(pair.credentials, { ...self, groups });
  assert.equal(pair.client.credentials?.pid, process.pid);
  assert.equal(pair.client.uniqueName, null);
  pair.close();
});

test('errors keep their names, others get one, and nothing of them is lost', async () => {
  const pair = await withObject({
    methods: {
      Named: {
        handler: () => {
          throw new DBusError('org.scanoutd1.Error.Denied', 'not for you');
        },
      },
      Plain: {
        handler: async () => {
          throw new TypeError('a bug');
        },
      },
      Wrong: {
        handler: () => {
          throw Object.assign(new Error('x'), { dbusName: 'no name' });
        },
      },
      Text: { handler: () => Promise.reject('just a text') },
      Results: { out: 'u', handler: () => [-1] },
      Few: { out: 'uu', handler: () => [1] },
    },
  });
  const cases: [string, string, RegExp][] = [
    ['Named', 'org.scanoutd1.Error.Denied', /^not for you$/],
    ['Plain', FAILED, /^a bug$/],
    ['Wrong', 'org.freedesktop.DBus.Error.Failed', /^x$/],
    ['Text', FAILED, /^just a text$/],
    ['Results', FAILED, /^results\[0\]: integer/],
    ['Few', FAILED, /^results: 2 values expected/],
    ['Missing', 'org.freedesktop.DBus.Error.UnknownMethod', /Missing/],
  ];
  for (const [member, name, message] of cases) {
    await assert.rejects(pair.client.call({ ...OBJECT, member }), isError(name, message));
  }
  const arguments_ = pair.client.call({ ...OBJECT, member: 'Named', signature: 's', body: ['x'] });
  await assert.rejects(arguments_, isError('org.freedesktop.DBus.Error.InvalidArgs', /expecting ''/));
  const elsewhere = pair.client.call({ ...OBJECT, path: '/elsewhere', member: 'Named' });
  await assert.rejects(elsewhere, isError('org.freedesktop.DBus.Error.UnknownObject', /elsewhere/));
  pair.close();
});

test('a call that nobody answers in time is rejected', async () => {
  const answers: (() => void)[] = [];
  const pair = await withObject({
    methods: { Slow: { handler: () => new Promise<void>((resolve) => answers.push(resolve)) } },
  });
  const start = Date.now();
  const slow = pair.client.call({ ...OBJECT, member: 'Slow', timeoutMs: 60 });
  await assert.rejects(slow, isError(NO_REPLY, /timed out/));
  assert.ok(Date.now() - start >= 50 && Date.now() - start < 2000);
  for (const timeoutMs of [0, -1, Number.NaN]) {
    await assert.rejects(pair.client.call({ ...OBJECT, member: 'Slow', timeoutMs }), /timeoutMs/);
  }
  const patient = pair.client.call({ ...OBJECT, member: 'Slow', timeoutMs: Number.POSITIVE_INFINITY });
  await until('the call', () => answers.length === 2);
  for (const answer of answers) answer();
  assert.deepEqual(await patient, []);
  pair.close();
});

test('names that cannot be are refused before anything is sent', async () => {
  const pair = await withObject({});
  const call = (wrong: object) => pair.client.call({ ...OBJECT, member: 'M', ...wrong });
  await assert.rejects(call({ path: 'x' }), /path: 'x' is no valid path/);
  await assert.rejects(call({ interface: 'x' }), /interface/);
  await assert.rejects(call({ member: 'a.b' }), /member/);
  await assert.rejects(call({ destination: '...' }), /destination/);
  assert.throws(() => pair.served.emitSignal({ ...OBJECT, path: '', member: 'M' }), /path/);
  pair.close();
});

test('one description serves many connections', async () => {
  const description: InterfaceDescription = {
    methods: { Path: { out: 's', handler: (_, { path }) => [path] } },
    signals: { Hello: { signature: 's' } },
  };
  const path = socketPath();
  const peers: Bus[] = [];
  const before = countFds();
  const server = BusServer.listen(path, {
    onConnection(bus) {
      peers.push(bus);
      for (const name of ['/a', '/b']) bus.addInterface(name, OBJECT.interface, description);
    },
    maxConnections: 50,
  });
  const clients = await Promise.all(Array.from({ length: 50 }, () => Bus.open(socketAddress(path))));
  const told: string[] = [];
  for (const client of clients)
    client.subscribe({ member: 'Hello' }, ({ body }) => told.push(body[0] as string));
  const answers = await Promise.all(
    clients.map((client, i) =>
      client.call({ path: i % 2 === 0 ? '/a' : '/b', interface: OBJECT.interface, member: 'Path' }),
    ),
  );
  assert.deepEqual(
    answers.map(([answer]) => answer),
    clients.map((_, i) => (i % 2 === 0 ? '/a' : '/b')),
  );
  assert.equal(server.connections, 50);
  for (const bus of peers)
    bus.emitSignal({ path: '/a', interface: OBJECT.interface, member: 'Hello', body: ['x'] });
  await until('all signals', () => told.length === 50);
  const refused = Bus.open(socketAddress(path));
  await assert.rejects(refused, { code: 'ECONNRESET' });
  for (const client of clients) client.close();
  await until('all to be gone', () => server.connections === 0);
  server.close();
  await untilFds(before);
});

test('a user has so many connections, root apart', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('needs root to be somebody else');
  const refused: string[] = [];
  const pair = await connectPair(() => {}, {
    mode: 0o666,
    maxConnectionsPerUser: 1,
    onRefused: (_, error) => refused.push(error.message),
  });
  const again = await Bus.open(socketAddress(pair.path));
  again.close();
  chmodSync(dirname(pair.path), 0o711);
  const script = `import os, socket, sys
os.setuid(4245); s = []
for i in range(3):
  c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]); s.append(c)
for c in s[1:]: print(c.recv(1))`;
  const child = spawn('python3', ['-c', script, pair.path], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (text) => {
    said += text;
  });
  await until('the refusals', () => said === "b''\nb''\n");
  assert.deepEqual(refused.slice(0, 2), Array(2).fill('more than 1 connections of user 4245'));
  pair.close();
});

test('closing tells both ends and rejects what waits', async () => {
  const pair = await withObject({ methods: { Never: { handler: () => new Promise<void>(() => {}) } } });
  const mine = pair.client.call({ ...OBJECT, member: 'Never' });
  pair.client.close();
  await assert.rejects(mine, { code: 'ECONNABORTED' });
  assert.equal(await pair.client.closed, null);
  assert.equal(pair.client.isOpen, false);
  assert.match(`${await pair.served.closed}`, /ECONNRESET/);
  await assert.rejects(pair.client.call({ ...OBJECT, member: 'Never' }), { code: 'ENOTCONN' });
  assert.throws(() => pair.client.subscribe({}, () => {}), { code: 'ENOTCONN' });
  // What tells many need not know who has just gone.
  pair.served.emitSignal({ ...OBJECT, member: 'X' });
  pair.served.emitPropertiesChanged(OBJECT.path, OBJECT.interface, 'Any');
  pair.served.addInterface('/y', OBJECT.interface, {}).remove();
  await pair.served.flush();
  pair.client.close();
  pair.server.close();
});

test('a server that closes rejects the calls of its clients', async () => {
  const pair = await withObject({ methods: { Never: { handler: () => new Promise<void>(() => {}) } } });
  const call = pair.client.call({ ...OBJECT, member: 'Never' });
  await setTimeout(10);
  pair.server.close();
  await assert.rejects(call, isError(NO_REPLY, /terminated/));
  assert.match(`${await pair.client.closed}`, /ECONNRESET/);
  assert.ok(!existsSync(pair.path));
});

test('close within handlers is fine', async () => {
  const pair = await connectPair((served) => {
    served.addInterface(OBJECT.path, OBJECT.interface, {
      methods: { Close: { handler: () => served.close() } },
      properties: {
        Close: {
          signature: 's',
          get: () => {
            served.close();
            return 'x';
          },
          set: () => served.close(),
        },
      },
    });
  });
  await assert.rejects(pair.client.call({ ...OBJECT, member: 'Close' }));
  for (const [member, signature, ...value] of [
    ['Get', 'ss'],
    ['Set', 'ssv', { signature: 's', value: '' }],
    ['GetAll', 's'],
  ] as [string, string][]) {
    const other = await connectPair((served) => {
      served.addInterface(OBJECT.path, OBJECT.interface, {
        properties: {
          Close: {
            signature: 's',
            get: () => {
              served.close();
              return 'x';
            },
            set: () => served.close(),
          },
        },
      });
    });
    const body = [OBJECT.interface, ...(member === 'GetAll' ? [] : ['Close']), ...value];
    await assert.rejects(other.client.call({ ...PROPERTIES, member, signature, body }));
    other.close();
  }
  let told = 0;
  const last = await connectPair();
  last.client.subscribe({}, () => {
    told += 1;
    last.client.close();
  });
  for (let i = 0; i < 3; i++) last.served.emitSignal({ ...OBJECT, member: 'X' });
  await last.client.closed;
  await setTimeout(10);
  assert.equal(told, 1);
  last.close();
  pair.close();
});

test('flush waits until the kernel has everything', async () => {
  const pair = await connectPair();
  let got = 0;
  pair.client.subscribe({}, () => {
    got += 1;
  });
  await pair.served.flush();
  for (let i = 0; i < 20; i++) {
    pair.served.emitSignal({ ...OBJECT, member: 'Big', signature: 'ay', body: [new Uint8Array(1 << 20)] });
  }
  await pair.served.flush();
  pair.served.close();
  await pair.client.closed;
  assert.equal(got, 20);
  pair.close();
});

test('opening says what is wrong', async () => {
  const path = socketPath();
  await assert.rejects(Bus.open(socketAddress(path)), { code: 'ENOENT' });
  await assert.rejects(Bus.open(`${socketAddress(path)};unix:path=/x`), TypeError);
  await assert.rejects(Bus.open('nonsense'), { code: 'ECONNREFUSED', subject: 'nonsense' });
  await assert.rejects(Bus.open('system:'), Error);
  const server = BusServer.listen(path, { mode: 0o600, onConnection: () => {} });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.throws(() => BusServer.listen(path, { onConnection: () => {} }), {
    code: 'EADDRINUSE',
    message: /another process listens/,
  });
  server.close();
});

test('paths may have any characters', async () => {
  const path = `${socketPath()}-ü %;,=x`;
  const server = BusServer.listen(path, { onConnection: () => {} });
  (await Bus.open(socketAddress(path))).close();
  server.close();
});
