import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { Fd } from '../../src/native/base.js';
import { SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';
import { bytes, connectTo, End, plain } from './seqpacket-pair.js';
import { contents, countFds, fileFd, socketPath, until, untilFds } from './sockets.js';

const MODULE = new URL('../../src/native/seqpacket.js', import.meta.url).href;

test('messages keep their bounds, their order and their descriptors, both ways', async () => {
  const before = countFds();
  const { server, client, accepted } = await connectTo();
  const [a, b] = [new End(client), new End(accepted)];
  const file = fileFd('shared');
  assert.equal(client.send(bytes(1, 2, 3), [file, file]), 'sent');
  assert.equal(client.send(bytes(4)), 'sent');
  const first = await b.next();
  assert.deepEqual([first.data, first.flags], [bytes(1, 2, 3), plain]);
  assert.deepEqual(first.fds.map(contents), ['shared', 'shared']);
  assert.equal(new Set([file, ...first.fds].map(({ number }) => number)).size, 3, 'each end has its own');
  assert.ok(!file.closed);
  assert.deepEqual((await b.next()).data, bytes(4));
  accepted.send(bytes(5), first.fds);
  const back = await a.next();
  assert.deepEqual([back.data, back.fds.map(contents)], [bytes(5), ['shared', 'shared']]);
  for (const fd of [file, ...first.fds, ...back.fds]) fd.close();
  client.close();
  accepted.close();
  server.close();
  await untilFds(before);
});

test('descriptors are closed on exec', async () => {
  const { server, client, accepted } = await connectTo();
  const b = new End(accepted);
  const file = fileFd('x');
  client.send(bytes(0), [file]);
  const [received] = (await b.next()).fds;
  const flags = readFileSync(`/proc/self/fdinfo/${received?.number}`, 'utf8').match(/flags:\s+(\d+)/)?.[1];
  assert.equal(Number.parseInt(flags ?? '0', 8) & 0o2000000, 0o2000000);
  file.close();
  received?.close();
  client.close();
  accepted.close();
  server.close();
});

test('an empty message is no end', async () => {
  const { server, client, accepted } = await connectTo();
  const b = new End(accepted);
  client.send(bytes());
  client.send(bytes(1));
  assert.equal((await b.next()).data.length, 0);
  assert.deepEqual((await b.next()).data, bytes(1));
  assert.equal(b.closed, null);
  client.close();
  await until('the end', () => b.closed !== null);
  server.close();
});

test('what is too long or too much is cut off, told, and closed', async () => {
  const before = countFds();
  const { server, client, accepted } = await connectTo({ maxMessageSize: 8, maxFds: 1 });
  const b = new End(accepted);
  const file = fileFd('x');
  client.send(new Uint8Array(9).fill(7));
  client.send(bytes(1), [file, file]);
  client.send(bytes(2), [file]);
  const long = await b.next();
  assert.deepEqual([long.data, long.flags], [new Uint8Array(8).fill(7), { ...plain, truncated: true }]);
  const many = await b.next();
  assert.deepEqual([many.fds.length, many.flags], [1, { ...plain, controlTruncated: true }]);
  const fine = await b.next();
  assert.deepEqual([fine.fds.length, fine.flags], [1, plain]);
  for (const fd of [file, ...many.fds, ...fine.fds]) fd.close();
  client.close();
  accepted.close();
  server.close();
  await untilFds(before);
});

test('no descriptors are taken where none are wanted', async () => {
  const { server, client, accepted } = await connectTo({ maxFds: 0 });
  const b = new End(accepted);
  const file = fileFd('x');
  const before = countFds();
  client.send(bytes(1), [file]);
  const { fds, flags } = await b.next();
  assert.deepEqual([fds, flags], [[], { ...plain, controlTruncated: true }]);
  assert.equal(countFds(), before);
  file.close();
  client.close();
  accepted.close();
  server.close();
});

test('a peer that does not read makes it full, never blocks, and is told of when there is room', async () => {
  const { server, client, accepted } = await connectTo();
  const a = new End(client);
  let sent = 0;
  while (client.send(new Uint8Array(1000)) === 'sent') sent += 1;
  assert.ok(sent > 10, `${sent}`);
  await setTimeout(30);
  assert.equal(a.drained, 0);
  const b = new End(accepted);
  await until('room', () => a.drained === 1);
  assert.equal(client.send(bytes(1)), 'sent');
  await until('all messages', () => b.messages.length === sent + 1);
  client.close();
  accepted.close();
  server.close();
});

test('a peer that never stops does not keep others waiting', async () => {
  const { server, client, accepted, path } = await connectTo({ messagesPerTurn: 4 });
  const order: string[] = [];
  let flood = 0;
  while (client.send(bytes(1)) === 'sent') flood += 1;
  const others: SeqPacket[] = [];
  server.close();
  const second = SeqPacketServer.listen(path, { onConnection: (made) => others.push(made) });
  const quiet = SeqPacket.connect(path);
  await until('the other connection', () => others.length === 1);
  const other = others[0] as SeqPacket;
  quiet.send(bytes(2));
  accepted.onMessage = () => order.push('flood');
  other.onMessage = () => order.push('quiet');
  await until('all', () => order.length === flood + 1);
  assert.ok(flood > 100, `${flood}`);
  assert.ok(order.indexOf('quiet') <= 8, `after ${order.indexOf('quiet')} of ${flood}`);
  for (const socket of [client, accepted, quiet, other]) socket.close();
  second.close();
});

test('pause holds messages back, resume brings them', async () => {
  const { server, client, accepted } = await connectTo({ messagesPerTurn: 16 });
  const b = new End(accepted);
  accepted.onMessage = (data, fds, flags) => {
    b.messages.push({ data, fds, flags });
    accepted.pause(); // in the middle of a turn
  };
  client.send(bytes(1));
  client.send(bytes(2));
  await until('the first', () => b.messages.length === 1);
  await setTimeout(30);
  assert.equal(b.messages.length, 1);
  accepted.resume();
  await until('the second', () => b.messages.length === 2);
  client.close();
  accepted.close();
  server.close();
});

test('the end comes after the last message, also when ours were not read', async () => {
  const { server, client, accepted } = await connectTo();
  accepted.send(bytes(9)); // never read, which makes the end a reset
  client.send(bytes(1));
  client.close();
  const b = new End(accepted);
  await until('the end', () => b.closed !== null);
  assert.deepEqual(
    b.messages.map(({ data }) => data),
    [bytes(1)],
  );
  assert.equal(b.closed, 'ECONNRESET');
  assert.ok(accepted.closed);

  const { server: other, client: leaving, accepted: left } = await connectTo();
  const c = new End(left);
  leaving.close();
  await until('the end', () => c.closed !== null);
  assert.equal(c.closed, 'closed by the peer');
  server.close();
  other.close();
});

test('sending to one that has gone is an error with a name', async () => {
  const { server, client, accepted } = await connectTo();
  accepted.close();
  assert.throws(() => client.send(bytes(1)), { code: 'EPIPE', op: 'sendmsg' });
  client.close();
  server.close();
});

test('close within a handler ends it there', async () => {
  const { server, client, accepted } = await connectTo();
  let count = 0;
  accepted.onMessage = () => {
    count += 1;
    accepted.close();
  };
  accepted.onClose = () => assert.fail('not for our own close');
  client.send(bytes(1));
  client.send(bytes(2));
  await until('a message', () => count > 0);
  await setTimeout(30);
  assert.equal(count, 1);
  client.close();
  server.close();
});

test('credentials are those of the process that connected', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('needs root to be somebody else');
  const path = socketPath();
  const connections: SeqPacket[] = [];
  const server = SeqPacketServer.listen(path, {
    mode: 0o666,
    onConnection: (made) => connections.push(made),
  });
  const script = `import os, socket, sys
os.setgroups([4242, 4243]); os.setgid(4244); os.setuid(4245)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1]); sys.stdin.read()`;
  // Who is not root cannot pass mkdtemp's directory, except to what is opened before.
  const child = spawn('python3', ['-c', script, path], { stdio: ['pipe', 'inherit', 'inherit'] });
  chmodSync(dirname(path), 0o711);
  await until('the child', () => connections.length === 1);
  const { groups, ...who } = (connections[0] as SeqPacket).peerCredentials();
  assert.deepEqual(who, { pid: child.pid, uid: 4245, gid: 4244 });
  assert.deepEqual([...groups].sort(), [4242, 4243]);
  child.stdin.end();
  await once(child, 'exit');
  connections[0]?.close();
  server.close();
});

test('wrong use is an error and loses nothing', async () => {
  const onConnection = () => {};
  const path = socketPath();
  assert.throws(() => SeqPacketServer.listen('', { onConnection }), TypeError);
  assert.throws(() => SeqPacketServer.listen(`/tmp/${'x'.repeat(120)}`, { onConnection }), {
    code: 'ENAMETOOLONG',
  });
  assert.throws(() => SeqPacketServer.listen(path, { mode: 0o1777, onConnection }), TypeError);
  assert.throws(() => SeqPacketServer.listen(path, { backlog: 0, onConnection }), TypeError);
  assert.ok(!existsSync(path));
  const file = fileFd('x');
  assert.throws(() => new SeqPacket(file), /unix seqpacket socket expected/);
  assert.throws(
    () => SeqPacketServer.listen(file, { onConnection }),
    /listening unix socket of the right type/,
  );
  const { server, client, accepted } = await connectTo();
  const spare = fileFd('y');
  assert.throws(() => client.send('text' as unknown as Uint8Array), /data: Uint8Array expected/);
  assert.throws(() => client.send(bytes(1), [3 as unknown as Fd]), /fds\[0\]: Fd expected/);
  assert.throws(
    () =>
      client.send(
        bytes(1),
        Array.from({ length: 254 }, () => spare),
      ),
    /more descriptors/,
  );
  spare.close();
  assert.throws(() => client.send(bytes(1), [spare]), /fds\[0\]: Fd is closed/);
  assert.throws(() => client.send(new Uint8Array(8 << 20)), { code: 'EMSGSIZE' });
  client.close();
  client.close();
  assert.throws(() => client.send(bytes(1)), /SeqPacket is closed/);
  assert.throws(() => client.pause(), /SeqPacket is closed/);
  assert.throws(() => new SeqPacket(accepted as unknown as Fd), /Fd expected/);
  for (const limits of [{ maxMessageSize: 0 }, { maxFds: 254 }, { messagesPerTurn: 0 }]) {
    assert.throws(() => SeqPacket.connect(socketPath(), limits), /ENOENT/);
  }
  accepted.close();
  server.close();
});

/** Runs `code` in a process of its own and gives its status and output. */
function runAlone(code: string): { status: number | null; output: string } {
  const text = `import { SeqPacket, SeqPacketServer } from '${MODULE}';
    import { readdirSync } from 'node:fs';
    import { setTimeout } from 'node:timers/promises';
    const path = '${socketPath()}';
    const fds = () => readdirSync('/proc/self/fd').length;
    process.stdout; // opens what it needs
    ${code}`;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '-e', text],
    { encoding: 'utf8', timeout: 120_000 },
  );
  return { status, output: stdout + stderr };
}

test('what is collected closes its descriptors; what is in use is not collected', () => {
  const { status, output } = runAlone(`
    const server = SeqPacketServer.listen(path, { onConnection() {} }); // nobody keeps the connections
    let got = 0;
    const echo = SeqPacketServer.listen(path + 'e', { onConnection(c) { c.onMessage = () => { got += 1; }; } });
    const before = fds();
    let users = [];
    for (let i = 0; i < 50; i++) { SeqPacket.connect(path); users.push(SeqPacket.connect(path + 'e')); }
    await setTimeout(50);
    for (let i = 0; i < 10; i++) { globalThis.gc(); await setTimeout(10); }
    for (const user of users) user.send(Buffer.from('x'));
    await setTimeout(50);
    console.log(got, fds() - before);
    for (const user of users) user.close();
    users = [];
    for (let i = 0; i < 300 && fds() !== before; i++) await setTimeout(10);
    console.log(fds() - before);
    server.close(); echo.close();`);
  assert.equal(output, '50 100\n0\n');
  assert.equal(status, 0);
});

test('a process ends with everything open, by itself once all is closed', () => {
  const open = `
    const server = SeqPacketServer.listen(path, { onConnection(c) { c.onMessage = () => ACTION; } });
    const client = SeqPacket.connect(path); client.onMessage = () => {}; client.send(Buffer.from('x'));`;
  const exits = runAlone(open.replace('ACTION', 'process.exit(7)'));
  assert.deepEqual(exits, { status: 7, output: '' });
  const ends = runAlone(open.replace('ACTION', '{ server.close(); client.close(); }'));
  assert.deepEqual(ends, { status: 0, output: '' });
  const throws = runAlone(open.replace('ACTION', "{ throw new Error('boom') }"));
  assert.equal(throws.status, 1);
  assert.match(throws.output, /Error: boom/);
});
