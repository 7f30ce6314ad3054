/** Peers that do not prove who they are, or leave before. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { RawPeer } from './bus-raw.js';
import { call, calls, ended, ends, forgetEnds, othersAreFine, path } from './bus-victim.js';
import { countFds, until, untilFds } from './sockets.js';

test('garbage instead of a handshake', async () => {
  for (const garbage of ['GET / HTTP/1.1\r\n\r\n', '\x01\x02\x03', `\0${'x'.repeat(600)}`, '\0AUTH\nX\n']) {
    forgetEnds();
    const peer = await RawPeer.connect(path);
    peer.write(garbage);
    await ended(peer, 'EPROTO');
  }
});

test('a handshake without end', async () => {
  const peer = await RawPeer.connect(path);
  peer.write('\0');
  for (let i = 0; i < 600 && !peer.closed; i++) peer.write('AUTH X\r\n');
  await ended(peer, 'EPROTO');
});

test('a connection that says nothing, or leaves in the middle', async () => {
  const silent = await RawPeer.connect(path);
  const leaving = await RawPeer.connect(path);
  leaving.write('\0AUTH EXT');
  await setTimeout(20);
  leaving.close();
  await until('its end', () => ends.length === 1);
  assert.deepEqual(ends, ['ECONNRESET']);
  await othersAreFine();
  silent.close();
  await until('its end', () => ends.length === 2);
});

test('identities that are not the peer’s are refused, its own is taken', async () => {
  const hex = (text: string) => Buffer.from(text).toString('hex');
  const uid = process.getuid?.() ?? 0;
  const peer = await RawPeer.connect(path);
  peer.write('\0');
  for (const line of [
    'AUTH ANONYMOUS',
    `AUTH ANONYMOUS ${hex('me')}`,
    `AUTH EXTERNAL ${hex(`${uid + 1}`)}`,
    `AUTH EXTERNAL ${hex('-1')}`,
    `AUTH EXTERNAL ${hex(`${uid}`)}0`,
    'AUTH EXTERNAL zz',
    `AUTH EXTERNAL ${hex('4294967296')}`,
  ]) {
    peer.write(`${line}\r\n`);
    await peer.expect('REJECTED EXTERNAL ANONYMOUS\r\n');
    peer.write('BEGIN\r\n');
    await peer.expect('ERROR\r\n');
  }
  peer.write('AUTH EXTERNAL\r\n');
  await peer.expect('DATA\r\n');
  peer.write(`DATA ${hex(`${uid + 1}`)}\r\n`);
  await peer.expect('REJECTED EXTERNAL ANONYMOUS\r\n');
  peer.write(`AUTH EXTERNAL ${hex(`${uid}`)}\r\n`);
  await until('OK', () => /^OK [0-9a-f]{32}\r\n$/.test(peer.received.toString()));
  assert.equal(calls, 0);
  peer.write(Buffer.concat([Buffer.from('BEGIN\r\n'), call('Ping')]));
  await until('the call', () => calls === 1);
  peer.close();
  await until('the end', () => ends.length === 1);
});

test('a message before the handshake is over', async () => {
  const peer = await RawPeer.connect(path);
  peer.write(Buffer.concat([Buffer.from('\0'), call('Ping')]));
  await setTimeout(20);
  peer.write('\r\nBEGIN\r\n');
  peer.write(call('Ping'));
  await peer.expect('ERROR\r\nERROR\r\n');
  await othersAreFine();
  assert.equal(calls, 0);
  peer.close();
});

async function pythonStatus(script: string): Promise<number> {
  const child = spawn('python3', ['-c', script, path], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [status] = await once(child, 'exit');
  return status as number;
}

test('descriptors in the handshake are closed', async () => {
  const before = countFds();
  const script = `import array, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
for data in (b'\\0', b'AUTH EXTERNAL\\r\\n', b'DATA\\r\\n'):
  s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * 20))])
print(s.recv(99)[:4])`;
  assert.equal(await pythonStatus(script), 0);
  await untilFds(before);
});
