/** How long connections live, and how processes with them end. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { socketPath } from './sockets.js';

const MODULE = new URL('../../src/native/bus.js', import.meta.url).href;

/** Runs `code` in a process of its own, in which a `client` is connected to a server with one object. */
function runAlone(code: string, object = '{}'): { status: number | null; output: string } {
  const text = `import { Bus, BusServer, socketAddress } from '${MODULE}';
    import { readdirSync } from 'node:fs';
    import { setTimeout } from 'node:timers/promises';
    const path = '${socketPath()}';
    const fds = () => readdirSync('/proc/self/fd').length;
    const collect = async () => { for (let i = 0; i < 8; i++) { globalThis.gc(); await setTimeout(5); } };
    process.stdout; // opens what it needs
    const served = [];
    const server = BusServer.listen(path, { onConnection(bus) {
      served.push(new WeakRef(bus));
      bus.addInterface('/x', 'org.x.X', ${object});
    } });
    const before = fds();
    const open = () => Bus.open(socketAddress(path));
    const X = { path: '/x', interface: 'org.x.X' };
    const client = await open();
    ${code}`;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '-e', text],
    { encoding: 'utf8', timeout: 120_000 },
  );
  return { status, output: stdout + stderr };
}

test('what is open lives without being held, what is closed is collected', () => {
  const object = `{ methods: { Ping: { out: 's', handler: () => ['pong'] } }, signals: { S: {} } }`;
  const { status, output } = runAlone(
    `let told = 0;
    const clients = new Set();
    for (let i = 0; i < 20; i++) {
      const one = await open();
      one.subscribe({ member: 'S' }, () => { told += 1; });
      if (i % 2 === 0) clients.add(one);
    }
    await collect();
    console.log(served.filter((ref) => ref.deref()).length);
    for (const ref of served) ref.deref().emitSignal({ ...X, member: 'S' });
    for (const one of clients) console.assert((await one.call({ ...X, member: 'Ping' }))[0] === 'pong');
    await setTimeout(20);
    console.log(told);
    client.close();
    for (const one of clients) one.close();
    clients.clear();
    for (const ref of served) ref.deref()?.close();
    await setTimeout(20);
    await collect();
    console.log(served.filter((ref) => ref.deref()).length, fds() - before);
    server.close();`,
    object,
  );
  assert.deepEqual({ status, output }, { status: 0, output: '21\n20\n0 0\n' });
});

test('connections that come and go leave nothing', () => {
  const object = `{
    methods: { Echo: { in: 'a{sv}', out: 'a{sv}', handler: (args) => args } },
    properties: { P: { signature: 's', get: () => 'p' } }, signals: { S: { signature: 's' } } }`;
  const { status, output } = runAlone(
    `const round = async () => {
      const one = await open();
      one.subscribe({}, () => {});
      const big = { a: { signature: 's', value: 'x'.repeat(10000) } };
      await one.call({ ...X, member: 'Echo', signature: 'a{sv}', body: [big] });
      one.call({ ...X, member: 'Echo', signature: 'a{sv}', body: [big] }).catch(() => {});
      one.close();
    };
    for (let i = 0; i < 300; i++) await round();
    await collect();
    const half = process.memoryUsage().rss;
    for (let i = 0; i < 600; i++) await round();
    await collect();
    console.log(process.memoryUsage().rss - half < 12e6 || process.memoryUsage().rss - half);
    client.close();
    await setTimeout(20);
    await collect();
    console.log(fds() - before);
    server.close();`,
    object,
  );
  assert.deepEqual({ status, output }, { status: 0, output: 'true\n0\n' });
});

test('a process ends wherever it is told to', () => {
  const object = `{
    methods: { Exit: { handler: () => process.exit(7) }, Later: { handler: async () => process.exit(7) } },
    properties: { Exit: { signature: 's', get: () => process.exit(7), set: () => process.exit(7) } },
    signals: { S: {} } }`;
  const properties = "path: '/x', interface: 'org.freedesktop.DBus.Properties'";
  for (const code of [
    "client.call({ ...X, member: 'Exit' });",
    "client.call({ ...X, member: 'Later' });",
    `client.call({ ${properties}, member: 'GetAll', signature: 's', body: ['org.x.X'] });`,
    `client.call({ ${properties}, member: 'Set', signature: 'ssv', body: ['org.x.X', 'Exit', { signature: 's', value: '' }] });`,
    "client.subscribe({ member: 'S' }, () => process.exit(7)); served[0].deref().emitSignal({ ...X, member: 'S' });",
    'client.closed.then(() => process.exit(7)); served[0].deref().close();',
    'process.exit(7);',
  ]) {
    assert.deepEqual(runAlone(code, object), { status: 7, output: '' }, code);
  }
});

test('a process waits for what is open, and for nothing else', () => {
  const closed = runAlone("client.close(); server.close(); console.log('closed');");
  assert.deepEqual(closed, { status: 0, output: 'closed\n' });
  const open = runAlone("setTimeout(100).then(() => { console.log('still there'); server.close(); });");
  assert.deepEqual(open, { status: 0, output: 'still there\n' });
});

test('what a signal’s handler throws is an uncaught exception', () => {
  const throws =
    "client.subscribe({}, () => { throw new Error('boom'); }); served[0].deref().emitSignal({ ...X, member: 'S' });";
  const fatal = runAlone(throws);
  assert.equal(fatal.status, 1);
  assert.match(fatal.output, /Error: boom/);
  const handled = runAlone(
    `process.on('uncaughtException', (error) => { console.log(error.message); server.close(); }); ${throws}`,
  );
  assert.deepEqual(handled, { status: 0, output: 'boom\n' });
});

test('a caller that hangs up before its answer harms nobody', () => {
  // At every moment between its hanging up and our hearing of it.
  const object = `{ methods: {
    Hang: { in: 'u', out: 's', handler: async ([turns]) => {
      leave();
      for (let i = 0; i < turns; i++) await (turns % 2 ? setImmediate() : null);
      if (turns % 3 === 0) throw new Error('too late');
      return ['too late'];
    } },
    Ping: { out: 's', handler: () => ['pong'] },
  } }`;
  const { status, output } = runAlone(
    `let leave;
    const { setImmediate } = await import('node:timers/promises');
    for (let turns = 0; turns < 24; turns++) {
      const one = await open();
      leave = () => one.close();
      await one.call({ ...X, member: 'Hang', signature: 'u', body: [turns] }).catch(() => {});
      await setTimeout(5);
    }
    console.log(await client.call({ ...X, member: 'Ping' }));
    client.close();
    server.close();`,
    object,
  );
  assert.equal(output, "[ 'pong' ]\n");
  assert.equal(status, 0);
});
