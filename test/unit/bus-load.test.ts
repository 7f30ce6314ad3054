/** Peers that ask for more than they take, and ends in the middle of things. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Bus, BusServer, DBusError, socketAddress } from '../../src/native/bus.js';
import { OBJECT } from './bus-pair.js';
import { encodeCall, RawPeer } from './bus-raw.js';
import { call, ends, othersAreFine, path } from './bus-victim.js';
import { socketPath, until } from './sockets.js';

test('a peer that does not read is not listened to until it reads', async () => {
  const peer = await RawPeer.connectAuthenticated(path);
  peer.socket.pause();
  const fill = encodeCall(OBJECT.path, OBJECT.interface, 'Fill');
  const requests = 2000;
  for (let i = 0; i < requests; i++) peer.write(fill);
  await setTimeout(200);
  const rss = process.memoryUsage().rss;
  await setTimeout(200);
  assert.ok(process.memoryUsage().rss - rss < 50e6, 'nothing piles up');
  await othersAreFine();
  assert.deepEqual(ends, []);
  let got = 0;
  peer.socket.removeAllListeners('data');
  peer.socket.on('data', (data) => {
    got += data.length;
  });
  peer.socket.resume();
  await until('all replies', () => got >= requests * 50_000);
  peer.close();
});

test('a peer that lets signals pile up is given up', async () => {
  const target = socketPath();
  let served: Bus | undefined;
  const own = BusServer.listen(target, {
    onConnection: (bus) => {
      served = bus;
    },
  });
  const peer = await RawPeer.connectAuthenticated(target);
  peer.socket.pause();
  await until('the connection', () => served !== undefined);
  const other = served as unknown as Bus;
  let emitted = 0;
  while (other.isOpen && emitted < 20_000) {
    other.emitSignal({ ...OBJECT, member: 'Big', signature: 'ay', body: [new Uint8Array(100_000)] });
    emitted += 1;
  }
  assert.ok(emitted > 1000 && emitted < 2000, `${emitted}`);
  assert.match(`${await other.closed}`, /ENOBUFS/);
  peer.close();
  own.close();
});

test('calls that wait for an answer are bounded', async () => {
  const client = await Bus.open(socketAddress(path));
  const results = Array.from({ length: 70 }, () =>
    client.call({ ...OBJECT, member: 'Never', timeoutMs: 500 }),
  );
  const settled = await Promise.allSettled(results);
  const names = settled.map((result) => (result as PromiseRejectedResult).reason.dbusName as string);
  assert.equal(names.filter((name) => name.endsWith('.LimitsExceeded')).length, 6);
  assert.equal(names.filter((name) => name.endsWith('.NoReply')).length, 64);
  client.close();
});

test('a server that dies in the middle of a call', async () => {
  const target = socketPath();
  const module = new URL('../../src/native/bus.js', import.meta.url).href;
  const code = `import { BusServer } from '${module}';
    BusServer.listen('${target}', { onConnection(bus) {
      bus.addInterface('/x', 'org.x.X', { methods: { Die: { handler: () => process.kill(process.pid, 'SIGKILL') } } });
    } });
    console.log('ready');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const client = await Bus.open(socketAddress(target));
  const lost = client.call({ path: '/x', interface: 'org.x.X', member: 'Die' });
  await assert.rejects(lost, (error) => error instanceof DBusError && error.dbusName.endsWith('.NoReply'));
  assert.ok((await client.closed) instanceof Error);
});

test('a client that vanishes while its call is under way', async () => {
  const peer = await RawPeer.connectAuthenticated(path);
  peer.write(call('Never'));
  await setTimeout(20);
  peer.write(call('Ping').subarray(0, 30)); // and in the middle of a message
  await setTimeout(20);
  peer.close();
  await until('its end', () => ends.length === 1);
  await othersAreFine();
});
