/** GuestClient against a small daemon, whose flips are the real flip thread's on a CRTC without output. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ClosedError, GuestClient, RefusedError } from '../../clients/node/index.js';
import { Code } from '../../src/guests/protocol.js';
import { Fd } from '../../src/native/base.js';
import { FIRST_VIRTUAL_CRTC } from '../../src/native/flip.js';
import { SeqPacketServer } from '../../src/native/seqpacket.js';
import { engineWithoutCard, LAYOUT, PERIOD_NS, SmallDaemon, temporaryDirectory } from './small-daemon.js';

interface Setup {
  path: string;
  daemon: SmallDaemon;
  client: GuestClient;
  buffer: Fd;
}

async function setUp(t: TestContext): Promise<Setup> {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'guest.sock');
  const engine = engineWithoutCard(directory);
  await engine.addCrtc(FIRST_VIRTUAL_CRTC, PERIOD_NS, 'eager');
  const daemon = new SmallDaemon(path, engine);
  const client = new GuestClient({ name: 'test', path });
  const buffer = new Fd(openSync('/dev/zero', 'r'));
  t.after(async () => {
    client.close();
    await daemon.close();
    buffer.close();
    engine.close();
  });
  return { path, daemon, client, buffer };
}

const event = <T>(client: GuestClient, name: 'configure' | 'formats' | 'state' | 'error' | 'closed') =>
  new Promise<T[]>((resolve) => client.once(name, (...values: unknown[]) => resolve(values as T[])));

test('a client is told its area, formats and state', async (t) => {
  const { client } = await setUp(t);
  const told = Promise.all([event(client, 'configure'), event(client, 'formats'), event(client, 'state')]);
  await client.connect();
  assert.equal(client.connected, true);
  assert.equal(client.fences, false);
  const [configure, formats, state] = await told;
  assert.deepEqual(configure, [
    { width: 64, height: 48, refreshMhz: 250_000, lit: true, output: 'HDMI-A-1' },
  ]);
  assert.deepEqual(formats, [0, [{ fourcc: LAYOUT.fourcc, modifier: 0n }]]);
  assert.deepEqual(state, [0, { state: 2, errnum: 22, text: 'TEST_ONLY refused it' }]);
});

test('frames are presented and their buffers come back', async (t) => {
  const { client, buffer } = await setUp(t);
  await client.connect();
  await Promise.all([0, 1, 2].map((id) => client.addBuffer(id, LAYOUT, [buffer])));
  let last = 0n;
  for (let i = 0; i < 30; i++) {
    const id = await client.acquire([0, 1, 2]);
    last = client.submit(0, { buffer: id, damage: [{ x1: 0, y1: 0, x2: 8, y2: 8 }] }).sequence;
    assert.equal(client.bufferFree(id), false);
    await client.presented(0, last);
  }
  const feedback = client.feedback(0);
  assert.equal(feedback.presented, last);
  assert.equal(feedback.flips, 30n);
  assert.equal(feedback.refused, 0n);
  assert.equal([0, 1, 2].filter((id) => client.bufferFree(id)).length, 2);
  await client.renewBuffer(await client.acquire([0, 1, 2]));
  await client.removeBuffer(await client.acquire([0, 1, 2]));
});

test('a newer frame reclaims one that was not taken', async (t) => {
  const { client, buffer } = await setUp(t);
  await client.connect();
  await client.setPresent(0, 'mailbox');
  await client.addBuffer(5, LAYOUT, [buffer]);
  await client.addBuffer(6, LAYOUT, [buffer]);
  let reclaimed = 0;
  for (let i = 0; i < 3000 && reclaimed === 0; i++) {
    const former = client.submit(0, { buffer: 5 });
    const newer = client.submit(0, { buffer: 6 });
    if (newer.reclaimed === 0n) continue; // the flip thread was faster
    assert.equal(newer.reclaimed, former.sequence);
    assert.equal(newer.reclaimedBuffer, 5);
    reclaimed++;
  }
  assert.equal(reclaimed, 1);
});

test('a request that the daemon refuses is rejected with its reason', async (t) => {
  const { client, daemon, buffer } = await setUp(t);
  await client.connect();
  daemon.refuse = { request: 'addBuffer', code: Code.importFailed, text: 'PRIME import: ENODEV', fatal: 0 };
  await assert.rejects(client.addBuffer(3, LAYOUT, [buffer]), (error: RefusedError) => {
    assert.ok(error instanceof RefusedError);
    assert.equal(error.code, Code.importFailed);
    assert.equal(error.message, 'PRIME import: ENODEV');
    return error.buffer === 3;
  });
  daemon.refuse = null;
  await client.addBuffer(3, LAYOUT, [buffer]);
  const error = event<RefusedError>(client, 'error');
  daemon.send({ type: 'error', serial: 0, code: Code.internal, errnum: 5, fatal: 0, text: 'out of luck' });
  assert.equal((await error)[0]?.message, 'out of luck');
});

test('a guest that the daemon refuses is told why', async (t) => {
  const { client, daemon } = await setUp(t);
  daemon.refuse = { request: 'hello', code: Code.badName, text: 'no guest is called test', fatal: 1 };
  await assert.rejects(client.connect({ timeoutMs: 2000 }), {
    name: 'RefusedError',
    code: Code.badName,
    message: 'no guest is called test',
  });
  assert.equal(client.connected, false);
});

test('a client waits for the daemon, and gives up when told to', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'guest.sock');
  const client = new GuestClient({ name: 'test', path });
  t.after(() => client.close());
  await assert.rejects(client.connect(), { code: 'ENOENT', op: 'scanoutd_client_connect' });
  await assert.rejects(client.connect({ timeoutMs: 50 }), { code: 'ENOENT' });
  const silent = SeqPacketServer.listen(path, {
    onConnection: (connection) => (connection.onMessage = () => {}),
  });
  t.after(() => silent.close());
  await assert.rejects(
    client.connect({ timeoutMs: 50 }),
    (error: ClosedError) => error.reason === 'ETIMEDOUT',
  );
});

test('a client comes back with its buffers when the daemon does', async (t) => {
  const { client, daemon, buffer } = await setUp(t);
  await client.addBuffer(0, LAYOUT, [buffer]); // kept until there is a connection
  await client.connect({ timeoutMs: 2000 });
  await client.addBuffer(1, LAYOUT, [buffer]);
  await client.presented(0, client.submit(0, { buffer: 1 }).sequence);
  const closed = event<string>(client, 'closed');
  const waiting = assert.rejects(client.presented(0, 1000n), ClosedError);
  daemon.hangUp();
  assert.deepEqual(await closed, ['ECONNRESET']);
  await waiting;
  assert.throws(() => client.submit(0, { buffer: 1 }), { code: 'ENOTCONN' });
  daemon.requests.length = 0;
  await client.connect({ timeoutMs: 2000 });
  const id = await client.acquire([0, 1]);
  assert.equal(id, 0); // the display may still show the other
  await client.presented(0, client.submit(0, { buffer: id }).sequence);
  assert.deepEqual(
    daemon.requests.map(({ type }) => type),
    ['hello', 'addBuffer', 'addBuffer'],
  );
});

test('a client says bye', async (t) => {
  const { client, daemon } = await setUp(t);
  await client.connect();
  const closed = event<string>(client, 'closed');
  await client.bye();
  assert.deepEqual(await closed, [null]);
  assert.equal(daemon.requests.at(-1)?.type, 'bye');
});

test('wrong use is told', async (t) => {
  const { client, buffer } = await setUp(t);
  assert.throws(() => new GuestClient({ name: '../x' }), { code: 'EINVAL' });
  assert.throws(() => client.feedback(0), { code: 'ENOTCONN' });
  await assert.rejects(client.acquire([0]), ClosedError);
  await client.connect();
  await assert.rejects(client.connect(), { code: 'EISCONN' });
  assert.throws(() => client.submit(0, { buffer: 9 }), { code: 'ENOENT' });
  assert.throws(() => client.submit(0, { buffer: -1 }), RangeError);
  assert.throws(() => client.addBuffer(0, { ...LAYOUT, strides: [1, 2] }, [buffer]), TypeError);
  assert.throws(() => client.addBuffer(64, LAYOUT, [buffer]), { code: 'EINVAL' });
  await assert.rejects(client.acquire([9]), { code: 'ENOENT' });
  client.close();
  assert.equal(client.connected, false);
  assert.throws(() => client.feedback(0), /closed/);
  client.close();
});
