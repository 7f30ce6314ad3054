/** Sockets at paths: who may listen there, and what is cleaned up. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';
import { bytes, End } from './seqpacket-pair.js';
import { socketPath, until } from './sockets.js';

const MODULE = new URL('../../src/native/seqpacket.js', import.meta.url).href;

test('one listens at a path, with the mode that was asked for, and cleans up', () => {
  const path = socketPath();
  const onConnection = () => {};
  const server = SeqPacketServer.listen(path, { mode: 0o620, group: 12345, onConnection });
  assert.equal(statSync(path).mode & 0o777, 0o620);
  assert.equal(statSync(path).gid, 12345);
  assert.throws(() => SeqPacketServer.listen(path, { onConnection }), {
    code: 'EADDRINUSE',
    message: /another process listens there/,
  });
  assert.ok(existsSync(path));
  SeqPacket.connect(path).close();
  server.close();
  server.close();
  assert.ok(!existsSync(path));
  assert.throws(() => SeqPacket.connect(path), { code: 'ENOENT', subject: path });
});

test('a socket of the other kind is in use, too', async () => {
  const path = socketPath();
  const other = createServer().listen(path);
  await once(other, 'listening');
  assert.throws(() => SeqPacketServer.listen(path, { onConnection: () => {} }), { code: 'EADDRINUSE' });
  other.close();
});

test('a file that a dead process left is replaced, one that is no socket is not', () => {
  const stale = socketPath();
  const script = 'import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(sys.argv[1])';
  assert.equal(spawnSync('python3', ['-c', script, stale]).status, 0);
  assert.throws(() => SeqPacket.connect(stale), { code: 'ECONNREFUSED' });
  const server = SeqPacketServer.listen(stale, { onConnection: () => {} });
  SeqPacket.connect(stale).close();
  server.close();

  const file = socketPath();
  writeFileSync(file, 'precious');
  assert.throws(() => SeqPacketServer.listen(file, { onConnection: () => {} }), { code: 'EEXIST' });
  assert.equal(readFileSync(file, 'utf8'), 'precious');
});

test('of several that start at once over a stale file, one wins', async () => {
  const path = socketPath();
  const script = 'import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(sys.argv[1])';
  spawnSync('python3', ['-c', script, path]);
  const code = `import { SeqPacketServer } from '${MODULE}';
    process.stdin.on('end', () => process.exit(0)).resume();
    try { SeqPacketServer.listen('${path}', { onConnection(c) { c.onMessage = () => c.send(Buffer.from('hi')); } }); console.log('won'); }
    catch (error) { console.log(error.code); process.exit(0); }`;
  const children = Array.from({ length: 4 }, () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (text) => {
      said += text;
    });
    return { child, verdict: () => said.trim() };
  });
  await until('verdicts', () => children.every(({ verdict }) => verdict() !== ''));
  assert.deepEqual(children.map(({ verdict }) => verdict()).sort(), [
    'EADDRINUSE',
    'EADDRINUSE',
    'EADDRINUSE',
    'won',
  ]);
  const client = SeqPacket.connect(path);
  const end = new End(client);
  client.send(bytes(1));
  assert.equal(Buffer.from((await end.next()).data).toString(), 'hi');
  client.close();
  for (const { child } of children) child.stdin.end();
});

test('closing leaves a file alone that is another one by now', () => {
  const path = socketPath();
  const first = SeqPacketServer.listen(path, { onConnection: () => {} });
  spawnSync('rm', [path]);
  const second = SeqPacketServer.listen(path, { onConnection: () => {} });
  first.close();
  SeqPacket.connect(path).close();
  second.close();
});

/** By the kernel's list: state 01 with the flag of listening. */
function isListening(path: string): boolean {
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n');
  return lines.some((line) => line.endsWith(` ${path}`) && line.split(' ')[3] === '00010000');
}

test('a passed socket is taken over, and its file left', async (t) => {
  const path = socketPath();
  const script = `import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(sys.argv[1]); s.listen()
os.set_inheritable(s.fileno(), True); os.dup2(s.fileno(), 3); os.execvp(sys.argv[2], sys.argv[2:])`;
  const code = `import { Fd } from '${new URL('../../src/native/base.js', import.meta.url).href}';
    import { SeqPacketServer } from '${MODULE}';
    const server = SeqPacketServer.listen(new Fd(3), { onConnection(c) { c.onMessage = (data) => { c.send(data); server.close(); c.close(); }; } });`;
  const child = spawn('python3', ['-c', script, path, process.execPath, '--input-type=module', '-e', code], {
    stdio: 'inherit',
  });
  t.after(() => child.kill());
  await until('the socket', () => isListening(path));
  const client = SeqPacket.connect(path);
  const end = new End(client);
  client.send(bytes(1, 2));
  assert.deepEqual((await end.next()).data, bytes(1, 2));
  const [status] = await once(child, 'exit');
  assert.equal(status, 0);
  assert.ok(existsSync(path));
  client.close();
});

test('when descriptors run out, accepting waits without spinning and goes on later', async () => {
  const path = socketPath();
  const code = `import { openSync, closeSync } from 'node:fs';
    import { SeqPacketServer } from '${MODULE}';
    const hoard = [];
    let errors = 0;
    const server = SeqPacketServer.listen('${path}', {
      onConnection(c) { c.onMessage = () => {}; c.send(Buffer.from([errors])); server.close(); setTimeout(() => c.close(), 50); },
      onError(error) {
        errors += 1;
        if (error.code !== 'EMFILE') process.exit(3);
        if (errors === 3) { if (process.cpuUsage(before).user > 150000) process.exit(4); for (const fd of hoard) closeSync(fd); }
      },
    });
    try { for (;;) hoard.push(openSync('/dev/null')); } catch (error) { if (error.code !== 'EMFILE') throw error; }
    const before = process.cpuUsage();
    process.stdout.write('ready');`;
  const run = 'ulimit -n 128; exec "$0" --input-type=module -e "$1"';
  const child = spawn('bash', ['-c', run, process.execPath, code], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const client = SeqPacket.connect(path);
  const end = new End(client);
  assert.deepEqual((await end.next()).data, bytes(3));
  const [status] = await once(child, 'exit');
  assert.equal(status, 0);
  client.close();
});
