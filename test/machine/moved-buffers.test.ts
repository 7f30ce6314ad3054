/** Buffers whose memory moves, as their exporter says by RENEW_BUFFER: imported anew, and nothing is black meanwhile. */
import assert from 'node:assert/strict';
import { mkdtempSync, openSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { RefusedError } from '../../clients/node/index.js';
import { GuestBuffers, ImportError } from '../../src/guests/buffers.js';
import { Code } from '../../src/guests/protocol.js';
import type { CardDevice } from '../../src/kms/device.js';
import { Fd } from '../../src/native/base.js';
import { createUdmabuf } from '../../src/native/buffers.js';
import type { SocketGuest } from '../../src/native/guests.js';
import { createFaults, type Faults, faultsEnvironment } from '../faults/faults.js';
import { TestDaemon } from './inside/daemon.js';
import { words } from './inside/flip-rig.js';
import { FOURCC, TestGuest } from './inside/guest.js';
import { present } from './inside/kms-rig.js';
import { FAULTS_LIBRARY } from './inside/preload.js';
import { assertSeen } from './inside/seen.js';
import { type ForeignBuffer, Vgem } from './inside/vgem.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const CONTROL = join(mkdtempSync(join(tmpdir(), 'faults-')), 'control');
const WIDTH = 640;
const HEIGHT = 480;
const [RED, GREEN, BLUE] = [0xffcc2211, 0xff11cc22, 0xff1122cc];

let card: VkmsDevice;
let vgem: Vgem;
let faults: Faults;
let daemon: TestDaemon;
let current: TestGuest | null = null;
/** Which the guest is on. */
let output = '';

before(async () => {
  card = createVkms(vkmsShape({ outputs: 1, writeback: true }));
  vgem = await Vgem.start();
  faults = createFaults(CONTROL);
  const env = faultsEnvironment(CONTROL, FAULTS_LIBRARY);
  daemon = await TestDaemon.start({ config: '[[output]]\nmode = "640x480"', env });
});
after(async () => {
  await daemon.dispose();
  faults.close();
  await vgem.close();
  card.destroy();
});

function leave(): void {
  current?.close();
  current = null;
}
afterEach(leave);

async function make(id: number, colour: number, width = WIDTH, height = HEIGHT): Promise<ForeignBuffer> {
  const buffer = await vgem.make(id, width, height);
  words(buffer.memory).fill(colour);
  return buffer;
}

async function register(guest: TestGuest, buffer: ForeignBuffer): Promise<ForeignBuffer> {
  const { id, width, height, strides, offsets, dmabuf } = buffer;
  const layout = { width, height, fourcc: FOURCC.XRGB8888, modifier: 0n, strides, offsets };
  await guest.client.addBuffer(id, layout, [dmabuf]);
  return buffer;
}

async function arrive(name: string): Promise<TestGuest> {
  await daemon.until('nobody', ({ guests }) => guests.length === 0);
  const guest = new TestGuest({ name, path: daemon.guestSocket });
  current = guest;
  await guest.client.connect({ timeoutMs: 5000 });
  await daemon.until('a place', () => guest.area?.lit === true);
  output = guest.area?.output ?? '';
  return guest;
}

async function show(
  guest: TestGuest,
  buffer: number,
  frame: { dstW?: number; dstH?: number } = {},
): Promise<void> {
  const { sequence } = guest.client.submit(0, { buffer, ...frame });
  await guest.client.presented(0, sequence);
}

async function framebuffers(): Promise<{ live: number; imports: number; hits: number }> {
  return present((await daemon.status()).cards[0]).framebuffers;
}

async function plane(name: string): Promise<{ state: string; reason: string }> {
  return present((await daemon.guest(name)).planes[0]);
}

async function seen(colour: number, what: string): Promise<void> {
  const pixel = [colour >>> 16, colour >>> 8, colour].map((part) => part & 0xff);
  const data = Uint8Array.from({ length: WIDTH * HEIGHT * 3 }, (_, i) => pixel[i % 3] ?? 0);
  await assertSeen(daemon, output, { width: WIDTH, height: HEIGHT, data }, what);
}

async function refused(request: Promise<void>, code: number, text: RegExp, errnum = 0): Promise<void> {
  await assert.rejects(request, (error) => {
    assert.ok(error instanceof RefusedError);
    assert.deepEqual({ code: error.code, errnum: error.errnum }, { code, errnum }, error.message);
    assert.match(error.message, text);
    return true;
  });
}

test('memory that moved is imported anew, and shown so without a frame of the guest', async () => {
  const guest = await arrive('moved');
  await register(guest, await make(0, RED));
  await show(guest, 0);
  const before = await framebuffers();
  await guest.client.renewBuffer(0);
  const renewed = await framebuffers();
  assert.equal(renewed.imports, before.imports + 1, 'it was not found in the cache');
  assert.equal(renewed.live, before.live, 'what was made of it before is dropped');
  await seen(RED, 'the picture stays');
  await guest.client.renewBuffer(0);
  assert.equal((await framebuffers()).imports, before.imports + 2);
  assert.deepEqual(await plane('moved').then(({ state, reason }) => [state, reason]), ['direct', '']);
  leave();
  await daemon.until('all are dropped', ({ cards }) => cards[0]?.framebuffers.live === 0);
});

test('the former import stays on the screen until the new one is there', async () => {
  const guest = await arrive('held');
  const first = await register(guest, await make(0, RED));
  await show(guest, 0);
  const { live } = await framebuffers();
  const next = await make(0, GREEN);
  const fence = await vgem.fence(next); // somebody draws into it still
  let done = false;
  const renewed = guest.client.renewBuffer(0, [next.dmabuf]).then(() => {
    done = true;
  });
  await daemon.until('both', ({ cards }) => cards[0]?.framebuffers.live === live + 1);
  words(first.memory).fill(BLUE);
  await seen(BLUE, 'the screen shows what it did, not black and not what is not drawn');
  assert.throws(() => guest.client.renewBuffer(0), { code: 'EBUSY' });
  assert.ok(!done);
  await vgem.signal(fence);
  await renewed;
  await seen(GREEN, 'the other memory');
  assert.equal((await framebuffers()).live, live);
  assert.equal((await plane('held')).state, 'direct');
});

test('frames that wait for their turn show the new memory, and none is lost', async () => {
  const guest = await arrive('waiting');
  await register(guest, await make(0, RED));
  const drawn = await register(guest, await make(1, RED));
  await show(guest, 0);
  const fence = await vgem.fence(drawn);
  const { sequence } = guest.client.submit(0, { buffer: 1 });
  await daemon.until('it was taken', () => guest.client.feedback(0).taken === sequence);
  await guest.client.renewBuffer(1, [(await make(1, BLUE)).dmabuf]);
  await seen(RED, 'it is not shown yet');
  await vgem.signal(fence);
  await guest.client.presented(0, sequence);
  await seen(BLUE, 'its new memory');
  await guest.client.renewBuffer(0, [(await make(0, GREEN)).dmabuf]); // which is not shown
  await seen(BLUE, 'what is shown stays');
  await show(guest, 0);
  await seen(GREEN, 'the next frame has the other memory');
});

test('what cannot be is refused with its reason, and the buffer is what it was', async () => {
  const guest = await arrive('wrong');
  await register(guest, await make(0, RED));
  await show(guest, 0);
  const small = await make(1, BLUE, 64, 64);
  const other = await make(1, BLUE);
  const { live } = await framebuffers();
  await refused(guest.client.renewBuffer(0, [small.dmabuf]), Code.badLayout, /need 1228800 bytes/);
  const file = new Fd(openSync('/dev/zero', 'r'));
  await refused(guest.client.renewBuffer(0, [file]), Code.badFd, /no dma-buf/);
  file.close();
  assert.throws(() => guest.client.renewBuffer(7), { code: 'ENOENT' }, 'the client knows its buffers');
  await seen(RED, 'the picture stays');
  await show(guest, 0);
  await seen(RED, 'and is shown again');
  assert.equal((await framebuffers()).live, live);
  await guest.client.renewBuffer(0, [other.dmabuf]);
  await seen(BLUE, 'it can be renewed still');
});

test('memory out of reach is copied, with stage and errno, and shown directly when it is back', async () => {
  const guest = await arrive('away');
  await register(guest, await make(0, RED));
  await show(guest, 0);
  const away = faults.addRule({ ioctl: 'PRIME_FD_TO_HANDLE', action: { refuse: 'ENODEV' }, count: 1 });
  await guest.client.renewBuffer(0, [(await make(0, GREEN)).dmabuf]);
  assert.equal(away.hits, 1);
  await seen(GREEN, 'copied');
  const copied = await plane('away');
  assert.equal(copied.state, 'copied');
  assert.match(copied.reason, /import: .*DRM_IOCTL_PRIME_FD_TO_HANDLE.*ENODEV/);
  assert.match(guest.states.get(0)?.text ?? '', /DRM_IOCTL_PRIME_FD_TO_HANDLE.*ENODEV/);
  away.remove();
  await guest.client.renewBuffer(0, [(await make(0, BLUE)).dmabuf]);
  await daemon.until('direct', ({ guests }) => guests[0]?.planes[0]?.state === 'direct');
  await seen(BLUE, 'direct again');
  await show(guest, 0);
  assert.equal((await plane('away')).state, 'direct');
});

test('a copy reads the memory that a buffer has now', async () => {
  const guest = await arrive('copied');
  await register(guest, await make(0, RED, 320, 240));
  await show(guest, 0, { dstW: WIDTH, dstH: HEIGHT });
  assert.equal((await plane('copied')).state, 'copied');
  await seen(RED, 'copied');
  await guest.client.renewBuffer(0, [(await make(0, GREEN, 320, 240)).dmabuf]);
  await seen(GREEN, 'from where it is now');
});

const HALF_FLOATS = 0x48345258; // XRGB16161616F, which no processor reads here

test('what can neither be shown nor copied is refused with stage and errno, and nothing leaks', async () => {
  let dropFormer = () => {};
  const former = new Promise<void>((resolve) => {
    dropFormer = resolve;
  });
  let held = 0;
  let refuses = false;
  const importBuffer = () => {
    const op = 'DRM_IOCTL_PRIME_FD_TO_HANDLE';
    if (refuses) throw Object.assign(new Error(`${op}: EOPNOTSUPP`), { op, code: 'EOPNOTSUPP', errno: 95 });
    held++;
    return { id: 5, release: () => held-- };
  };
  const native = {
    addBuffer: async () => {},
    renewBuffer: async () => {},
    awaitFormer: () => former,
  } as unknown as SocketGuest;
  const buffers = new GuestBuffers({ importBuffer } as unknown as CardDevice, 4, { warn: () => {} });
  const [first, second] = [make16(), make16()];
  const layout = { width: 64, height: 64, fourcc: HALF_FLOATS, modifier: 0n, planeCount: 1 };
  const rows = { strides: [512], offsets: [0] };
  await buffers.add(native, { type: 'addBuffer', serial: 1, buffer: 0, ...layout, ...rows }, [first]);
  const renew = (fds: Fd[]) => buffers.renew(native, 0, fds, async () => {});
  refuses = true;
  await assert.rejects(renew([second]), (error) => {
    assert.ok(error instanceof ImportError);
    assert.deepEqual([error.code, error.errno], [Code.importFailed, 95]);
    assert.match(error.text, /DRM_IOCTL_PRIME_FD_TO_HANDLE: EOPNOTSUPP/);
    return true;
  });
  assert.deepEqual([held, first.closed, second.closed], [1, false, false], 'nothing was taken over');
  assert.deepEqual(buffers.get(0)?.fds, [first]);
  refuses = false;
  await assert.rejects(renew([first, second]), { code: Code.badFd });
  await renew([second]);
  assert.deepEqual([held, first.closed], [2, false], 'the display may show the former one');
  await assert.rejects(renew([]), { code: Code.busy });
  const dropped = buffers.dropped(native, 0);
  dropFormer();
  await dropped;
  assert.deepEqual([held, first.closed, second.closed], [1, true, false]);
  await renew([]);
  buffers.freeAll(); // with a renewal that was not done
  assert.deepEqual([held, second.closed], [0, true]);
});

function make16(): Fd {
  const { memfd, dmabuf } = createUdmabuf(512 * 64);
  memfd.close();
  return dmabuf;
}
