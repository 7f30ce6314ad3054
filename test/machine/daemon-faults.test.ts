/** What goes wrong costs its own picture and nobody else's: guests, monitors, and the daemon itself. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encode, type GuestMessage } from '../../src/guests/protocol.js';
import { Fd } from '../../src/native/base.js';
import { SeqPacket } from '../../src/native/seqpacket.js';
import { createFaults, type Faults, faultsEnvironment } from '../faults/faults.js';
import { TestDaemon } from './inside/daemon.js';
import { Example } from './inside/example.js';
import { makeBuffer, TestGuest } from './inside/guest.js';
import { FAULTS_LIBRARY } from './inside/preload.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const CONTROL = join(mkdtempSync(join(tmpdir(), 'faults-')), 'control');
const CONFIG = '[[output]]\nmode = "640x480"';
const COMMON = ['--format', 'RG16', '--check', '--seconds', '120'];

// One daemon for all that does not end it: where the processor is emulated each takes ten seconds to start.
let card: VkmsDevice;
let faults: Faults;
let daemon: TestDaemon;

before(async () => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true }));
  faults = createFaults(CONTROL);
  daemon = await startDaemon();
});
after(async () => {
  await daemon.dispose();
  faults.close();
  card.destroy();
});
function startDaemon(directory?: string): Promise<TestDaemon> {
  const env = faultsEnvironment(CONTROL, FAULTS_LIBRARY);
  return TestDaemon.start({ config: CONFIG, env, ...(directory === undefined ? {} : { directory }) });
}

async function twoGuests(): Promise<[Example, Example]> {
  await daemon.until('nobody', ({ guests }) => guests.length === 0);
  const a = new Example(daemon.guestSocket, 'a', COMMON);
  await daemon.until('a flips', ({ guests }) =>
    guests.some((g) => g.name === 'a' && (g.planes[0]?.flips ?? 0) > 5),
  );
  const b = new Example(daemon.guestSocket, 'b', COMMON);
  await daemon.until('b flips', ({ guests }) =>
    guests.some((g) => g.name === 'b' && (g.planes[0]?.flips ?? 0) > 5),
  );
  return [a, b];
}

/** Twenty flips more of a guest's first plane. */
async function flipsOn(name: string): Promise<void> {
  const now = (await daemon.status()).guests.find((guest) => guest.name === name)?.planes[0]?.flips ?? 0;
  await daemon.until(`${name} flips on`, ({ guests }) =>
    guests.some((guest) => guest.name === name && (guest.planes[0]?.flips ?? 0) > now + 20),
  );
}

test('a guest killed in mid-flip leaves the idle picture, the other flips on', async () => {
  const [a, b] = await twoGuests();
  const output = (await daemon.guest('a')).output;
  await a.kill('SIGKILL');
  await daemon.until('a is gone', ({ guests }) => guests.length === 1);
  await daemon.until('idle', ({ outputs }) => outputs.find(({ name }) => name === output)?.idle === true);
  await flipsOn('b');
  await b.kill('SIGTERM');
  assert.equal((await b.stats()).violations, 0);
});

test('a monitor unplugged in mid-flip and plugged again: its guest goes on, unseen meanwhile', async () => {
  const [a, b] = await twoGuests();
  const output = (await daemon.guest('a')).output ?? '';
  const index = card.connectors.indexOf(output);
  card.setConnector(index, 'disconnected');
  await daemon.until('dark', ({ outputs }) => outputs.find(({ name }) => name === output)?.lit === false);
  await flipsOn('a');
  assert.equal((await daemon.guest('a')).planes[0]?.state, 'unseen');
  await flipsOn('b');
  card.setConnector(index, 'connected');
  await daemon.until('direct again', ({ guests }) =>
    guests.some((guest) => guest.name === 'a' && guest.planes[0]?.state === 'direct'),
  );
  await flipsOn('a');
  for (const guest of [a, b]) await guest.kill('SIGTERM');
  assert.equal((await a.stats()).violations + (await b.stats()).violations, 0);
});

test('all outputs gone and back', async () => {
  const [a, b] = await twoGuests();
  for (const i of card.connectors.keys()) card.setConnector(i, 'disconnected');
  await daemon.until('all dark', ({ outputs }) => outputs.every(({ lit }) => !lit));
  await flipsOn('a');
  await flipsOn('b');
  for (const i of card.connectors.keys()) card.setConnector(i, 'connected');
  await daemon.until('both direct', ({ guests }) =>
    guests.every(({ planes }) => planes[0]?.state === 'direct'),
  );
  await flipsOn('a');
  for (const guest of [a, b]) await guest.kill('SIGTERM');
});

test('hostile guests: each gets its error, nobody else loses a thing', async () => {
  const good = new Example(daemon.guestSocket, 'good', COMMON);
  await daemon.until('good flips', ({ guests }) => (guests[0]?.planes[0]?.flips ?? 0) > 5);
  await refusals();
  await manyBuffers();
  await storm();
  await sleeps();
  await garbage();
  await flipsOn('good');
  await good.kill('SIGTERM');
  const stats = await good.stats();
  assert.equal(stats.violations, 0);
  assert.equal(stats.planes[0]?.refused, 0);
});

/** Wrong buffers: every one is refused with its reason, and the guest lives on. */
async function refusals(): Promise<void> {
  const guest = new TestGuest({ name: 'wrong', path: daemon.guestSocket });
  await guest.client.connect({ timeoutMs: 5000 });
  const { buffer, dmabuf } = makeBuffer(0, 64, 64, 'XRGB8888');
  const good = { width: 64, height: 64, fourcc: 0x34325258, modifier: 0n, strides: [256], offsets: [0] };
  const wrong: [string, Partial<typeof good>, RegExp][] = [
    ['fourcc', { fourcc: 0x41414141 }, /fourcc/],
    ['stride', { strides: [252] }, /stride 252/],
    ['offset', { offsets: [1 << 20] }, /offset 1048576/],
    ['height', { height: 4096 }, /need/],
    ['modifier', { modifier: 0x0100000000000002n }, /./],
  ];
  for (const [what, change, message] of wrong) {
    await assert.rejects(guest.client.addBuffer(0, { ...good, ...change }, [dmabuf]), message, what);
  }
  const notADmabuf = new Fd((await import('node:fs')).openSync('/dev/zero', 'r'));
  await assert.rejects(guest.client.addBuffer(0, good, [notADmabuf]), /no dma-buf/);
  notADmabuf.close();
  await guest.client.addBuffer(0, good, [dmabuf]);
  dmabuf.close();
  buffer.close();
  guest.close();
}

/** A thousand buffers: 64 are taken, the rest is refused by the client or the daemon. */
async function manyBuffers(): Promise<void> {
  const guest = new TestGuest({ name: 'many', path: daemon.guestSocket });
  await guest.client.connect({ timeoutMs: 5000 });
  const { buffer, dmabuf } = makeBuffer(0, 64, 64, 'XRGB8888');
  const layout = { width: 64, height: 64, fourcc: 0x34325258, modifier: 0n, strides: [256], offsets: [0] };
  let taken = 0;
  for (let id = 0; id < 1000; id++) {
    try {
      await guest.client.addBuffer(id, layout, [dmabuf]);
      taken++;
    } catch {
      // refused, as it should be from 64 on
    }
  }
  assert.equal(taken, 64);
  dmabuf.close();
  buffer.close();
  guest.close();
}

/** Kicks without end and without frames. */
async function storm(): Promise<void> {
  const guest = new TestGuest({ name: 'storm', path: daemon.guestSocket });
  await guest.client.connect({ timeoutMs: 5000 });
  const buffer = await guest.addBuffer(0, 64, 64, 'XRGB8888');
  const until = performance.now() + 1000;
  while (performance.now() < until) guest.client.submit(0, { buffer: buffer.id });
  guest.close();
}

/** A guest that sleeps reads nothing and releases nothing; when it wakes it goes on. */
async function sleeps(): Promise<void> {
  const guest = new Example(daemon.guestSocket, 'sleeper', COMMON);
  await daemon.until('sleeper flips', ({ guests }) =>
    guests.some(({ name, planes }) => name === 'sleeper' && (planes[0]?.flips ?? 0) > 5),
  );
  guest.child.kill('SIGSTOP');
  await flipsOn('good');
  guest.child.kill('SIGCONT');
  await flipsOn('sleeper');
  await guest.kill('SIGTERM');
  assert.equal((await guest.stats()).violations, 0);
}

/** Messages that are none: garbage, half ones, too long ones, before any hello. The connection ends. */
async function garbage(): Promise<void> {
  const hello: GuestMessage = {
    type: 'hello',
    serial: 1,
    versionMajor: 1,
    versionMinor: 0,
    capabilities: 0n,
    name: 'x',
    planeCount: 1,
    planeKinds: [1, 0, 0, 0],
  };
  const whole = encode(hello);
  for (const bytes of [new Uint8Array(3), whole.subarray(0, 60), new Uint8Array(9000).fill(0xff), whole]) {
    const socket = SeqPacket.connect(daemon.guestSocket);
    const ended = new Promise<void>((resolve) => {
      socket.onClose = () => resolve();
    });
    socket.onMessage = () => {};
    socket.send(bytes);
    await Promise.race([
      ended,
      sleep(10_000).then(() => assert.fail(`a message of ${bytes.length} bytes was taken`)),
    ]);
    socket.close();
  }
}

test('the daemon killed with guests attached: they come back to the next one', async () => {
  await daemon.until('nobody', ({ guests }) => guests.length === 0);
  const guest = new Example(daemon.guestSocket, 'a', [...COMMON, '--reconnect']);
  await flipsOn('a');
  await daemon.stop('SIGKILL');
  daemon = await startDaemon(daemon.directory);
  await flipsOn('a');
  await guest.kill('SIGTERM');
  const stats = await guest.stats();
  assert.equal(stats.connections, 2);
  assert.equal(stats.violations, 0);
});

test('a daemon whose display refuses everything ends when it is told to', async () => {
  const guest = new Example(daemon.guestSocket, 'b', COMMON);
  await flipsOn('b');
  const refused = faults.addRule({ ioctl: 'MODE_ATOMIC', action: { refuse: 'ENOMEM' } });
  await daemon.until('refused', () => refused.hits > 0);
  assert.equal(await Promise.race([daemon.stop(), sleep(60_000, 'not ended', { ref: false })]), 0);
  await guest.kill('SIGKILL');
});
