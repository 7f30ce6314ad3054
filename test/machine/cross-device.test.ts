/**
 * Whose buffers which planes show: of each source on each kind of plane, directly or copied, with the stage and errno of
 * what was refused. mbochs is in vfio.test.ts. VKMS reaches all memory; a display that reaches nobody's is virtio-gpu:
 * `test/machine/run --qemu "-device virtio-gpu-pci" -- node dist/test/machine/cross-device.test.js`.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { after, before, type TestContext, test } from 'node:test';
import type { GuestPlaneDocument, StatusDocument } from '../../src/api/documents.js';
import { Flip } from '../../src/guests/protocol.js';
import type { Fd } from '../../src/native/base.js';
import { mapDmabuf } from '../../src/native/buffers.js';
import { KmsDevice } from '../../src/native/kms.js';
import { TestDaemon } from './inside/daemon.js';
import { words } from './inside/flip-rig.js';
import { FOURCC, makeBuffer, TestGuest } from './inside/guest.js';
import { present } from './inside/kms-rig.js';
import { assertSeen } from './inside/seen.js';
import { Vgem } from './inside/vgem.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const WIDTH = 640;
const HEIGHT = 480;
const SINKS = ['primary', 'overlay', 'cursor'] as const;
/** Where each sink shows its picture: in 16.16 nothing is scaled. */
const PLACES = [
  { x: 0, y: 0, width: WIDTH, height: HEIGHT },
  { x: 320, y: 100, width: 128, height: 96 },
  { x: 40, y: 300, width: 64, height: 64 },
] as const;
/** Which VKMS has on no plane. */
const XRGB2101010 = 0x30335258;
const HALF = { width: WIDTH / 2, height: HEIGHT / 2 };

interface Shape {
  width: number;
  height: number;
}
interface Made {
  dmabuf: Fd;
  strides: number[];
  memory: Uint8Array;
}

let card: VkmsDevice;
/** Whose buffers are shown on the first. Nothing is connected to it. */
let other: VkmsDevice;
let otherDevice: KmsDevice;
let vgem: Vgem;
let daemon: TestDaemon;
let guest: TestGuest;
/** Connector of the virtio-gpu card, where there is one. */
let virtio: string | undefined;
const cleanup: (() => void)[] = [];

before(async () => {
  execFileSync('modprobe', ['virtio-gpu']);
  execFileSync('udevadm', ['settle']);
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
  virtio = connectorOf('virtio_gpu');
  other = createVkms(vkmsShape({ outputs: 1, status: 'disconnected' }));
  otherDevice = KmsDevice.open(other.card);
  vgem = await Vgem.start();
  const places = [['it', connector()], ...(virtio === undefined ? [] : [['two', virtio]])];
  const guests = places.map(([name, at]) => `[[guest]]\nname = "${name}"\nkind = "socket"\noutput = "${at}"`);
  daemon = await TestDaemon.start({ config: ['[[output]]\nmode = "640x480"', ...guests].join('\n') });
  guest = new TestGuest({ name: 'it', path: daemon.guestSocket, planes: [...SINKS] });
  await guest.client.connect({ timeoutMs: 5000 });
  await daemon.until('a place', () => guest.area?.lit === true);
});
after(async () => {
  guest.close();
  await daemon.dispose();
  for (const one of cleanup) one();
  await vgem.close();
  otherDevice.close();
  other.destroy();
  card.destroy();
});

function connectorOf(driver: string): string | undefined {
  const nodes = readdirSync('/dev/dri').filter((entry) => entry.startsWith('card'));
  const node = nodes.find((entry) => {
    const device = KmsDevice.open(`/dev/dri/${entry}`);
    const found = device.driver.name === driver;
    device.close();
    return found;
  });
  const entries = readdirSync('/sys/class/drm');
  return entries.find((entry) => entry.startsWith(`${node}-`))?.slice(`${node}-`.length);
}

function connector(): string {
  return present(card.connectors[0]);
}

const SOURCES: Record<string, (shape: Shape) => Made | Promise<Made>> = {
  vgem: ({ width, height }) => vgem.make(0, width, height),
  'the dma-heap': ({ width, height }) => vgem.make(0, width, height, 'heap'),
  udmabuf: ({ width, height }) => {
    const { buffer, dmabuf } = makeBuffer(0, width, height, 'XRGB8888');
    cleanup.push(() => buffer.close());
    return { ...buffer, dmabuf };
  },
  'another VKMS': ({ width, height }) => {
    const buffer = otherDevice.createDumb(width, height);
    const dmabuf = buffer.exportFd();
    const mapping = mapDmabuf(dmabuf);
    cleanup.push(
      () => mapping.close(),
      () => buffer.destroy(),
    );
    return { dmabuf, strides: [buffer.pitch], memory: mapping.data };
  },
};

/** A new colour each time, so that no picture is taken for another. */
let shade = 0;
async function register(
  to: TestGuest,
  id: number,
  source: string,
  shape: Shape,
): Promise<readonly [number, number, number]> {
  const colour = [0x20 + shade * 37, 0xe0 - shade * 11, 0x40 + shade * 23].map((part) => part & 0xff);
  shade++;
  const [red = 0, green = 0, blue = 0] = colour;
  await registerAs(to, id, source, shape, FOURCC.XRGB8888, (red << 16) | (green << 8) | blue);
  return [red, green, blue];
}

async function registerAs(
  to: TestGuest,
  id: number,
  source: string,
  shape: Shape,
  fourcc: number,
  value: number,
): Promise<void> {
  const { dmabuf, strides, memory } = await present(SOURCES[source])(shape);
  words(memory).fill(value);
  await to.client.addBuffer(id, { ...shape, fourcc, modifier: 0n, strides, offsets: [0] }, [dmabuf]);
  dmabuf.close();
}

interface Patch {
  x: number;
  y: number;
  width: number;
  height: number;
  colour: readonly number[];
}

function picture(patches: readonly Patch[]): { width: number; height: number; data: Uint8Array } {
  const data = new Uint8Array(WIDTH * HEIGHT * 3);
  for (const { x, y, width, height, colour } of patches) {
    for (let row = y; row < y + height; row++)
      for (let column = x; column < x + width; column++) data.set(colour, (row * WIDTH + column) * 3);
  }
  return { width: WIDTH, height: HEIGHT, data };
}

async function show(plane: number, id: number, place: Patch | (typeof PLACES)[number]): Promise<void> {
  const { x: dstX, y: dstY, width: dstW, height: dstH } = place;
  const { sequence } = guest.client.submit(plane, { buffer: id, dstX, dstY, dstW, dstH });
  await guest.client.presented(plane, sequence);
}

function planesOf({ guests }: StatusDocument, name: string): GuestPlaneDocument[] {
  return guests.find((one) => one.name === name)?.planes ?? [];
}

function typeOf(plane: number): string {
  const device = KmsDevice.open(card.card);
  try {
    return device.plane(plane).type;
  } finally {
    device.close();
  }
}

let next = 0;
for (const source of Object.keys(SOURCES)) {
  test(`buffers of ${source} are scanned out by each kind of plane`, async () => {
    const patches: Patch[] = [];
    for (const [plane, place] of PLACES.entries()) {
      const id = next++;
      patches.push({ ...place, colour: await register(guest, id, source, place) });
      await show(plane, id, place);
    }
    const planes = planesOf(await daemon.status(), 'it');
    assert.deepEqual(
      planes.map(({ state, reason, plane }) => [state, reason, typeOf(present(plane))]),
      SINKS.map((sink) => ['direct', '', sink]),
    );
    await assertSeen(daemon, connector(), picture(patches), source);
  });
}

// Last, as what is copied stays so while only its frames change.
for (const source of Object.keys(SOURCES)) {
  test(`buffers of ${source} that the display refuses are copied, with the stage and the errno`, async () => {
    for (const plane of [1, 2]) {
      const { sequence } = guest.client.submit(plane, { flags: Flip.hide });
      await guest.client.presented(plane, sequence);
    }
    const scaled = next++;
    const colour = await register(guest, scaled, source, HALF);
    await show(0, scaled, PLACES[0]);
    await guest.client.renewBuffer(scaled); // plans anew where the former frame was copied for another reason
    await assertSeen(daemon, connector(), picture([{ ...PLACES[0], colour }]), 'scaled');
    await copiedFor(/^commit: \w+ plane \d+ was refused in TEST_ONLY, errno 34$/);
    const deep = next++;
    await registerAs(guest, deep, source, PLACES[0], XRGB2101010, 0x3ff << 10);
    await show(0, deep, PLACES[0]);
    await guest.client.renewBuffer(deep);
    await assertSeen(daemon, connector(), picture([{ ...PLACES[0], colour: [0, 255, 0] }]), 'deep');
    await copiedFor(/^import: .*DRM_IOCTL_MODE_ADDFB2.*EINVAL/);
  });
}

async function copiedFor(reason: RegExp): Promise<void> {
  const [plane] = planesOf(await daemon.status(), 'it');
  assert.equal(plane?.state, 'copied');
  assert.match(plane.reason, reason);
}

test('memory that a display does not reach is copied, with the stage and the errno', async (t: TestContext) => {
  if (virtio === undefined) return t.skip('the machine has no virtio-gpu card');
  const two = new TestGuest({ name: 'two', path: daemon.guestSocket });
  await two.client.connect({ timeoutMs: 5000 });
  await daemon.until('a place', () => two.area?.lit === true && two.area.output === virtio);
  for (const [id, source] of Object.keys(SOURCES).entries()) {
    await register(two, id, source, { width: WIDTH, height: HEIGHT });
    const { sequence } = two.client.submit(0, { buffer: id });
    await two.client.presented(0, sequence);
    const [plane] = planesOf(await daemon.status(), 'two');
    assert.equal(plane?.state, 'copied', source);
    assert.match(plane.reason, /^import: .*DRM_IOCTL_PRIME_FD_TO_HANDLE.*ENODEV/, source);
    assert.match(two.states.get(0)?.text ?? '', /DRM_IOCTL_PRIME_FD_TO_HANDLE.*ENODEV/, 'the guest is told');
  }
  two.close();
});
