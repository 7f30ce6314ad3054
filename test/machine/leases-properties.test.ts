/**
 * What holds of a lease of the kernel holds of one that is had through the daemon: the properties of IGT's kms_lease, of which
 * this has those of a broker, on a card whose connectors, and an overlay plane, can be used with any of four CRTCs. Lessees
 * have their lease by D-Bus or by drm-lease-manager's socket; the kernel's word on it is had through the card,
 * which the daemon is given by descriptor and the test has too.
 *
 *     simple-lease, lease-get, lessee-list, implicit-plane-lease, possible-crtcs-filtering,
 *     lease-unleased-connector, lease-unleased-crtc, atomic-implicit-crtc, page-flip-implicit-plane,
 *     setcrtc-implicit-plane, cursor-implicit-plane, lease-again, lease-invalid-connector, lease-invalid-crtc,
 *     lease-invalid-plane, lease-revoke, lease-uevent     here, by these names
 *     invalid-create-leases    what a client can ask for: here, with lease-invalid-*, and nothing can be leased of a lease;
 *                              a list of objects is the daemon's own affair, and the kernel's answers to wrong ones are
 *                              in kms-lease.test.ts
 *     empty-lease              kms-lease.test.ts; a [[lease]] has an output, or is refused (unit/config-leases.test.ts)
 *     master-vs-lease, multimaster-lease     kms-lease.test.ts; of the daemon, that loses DRM master to another program and
 *                              gets it back, session.test.ts
 *
 * The negative half of the three *-implicit-plane is a lease without the primary plane, which the daemon never makes; one
 * without the cursor plane it does.
 */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { DBusError } from '../../src/native/bus.js';
import { KmsDevice } from '../../src/native/kms.js';
import { CrcStream } from './inside/crc.js';
import { ctl } from './inside/ctl.js';
import { TestDaemon } from './inside/daemon.js';
import { TestGuest } from './inside/guest.js';
import { light, present, property, refused, WRITEBACK } from './inside/kms-rig.js';
import { DlmClient, Holder } from './inside/lease-holders.js';
import { all, assertHidden, Commits, counted, others, sorted, type Value } from './inside/lease-objects.js';
import {
  CURSOR,
  modeOf,
  outputOf,
  pictureOf,
  pointerOf,
  show,
  withPointer,
} from './inside/lease-pictures.js';
import { type LegacyCall, pageFlip, perform, setCrtc, setCursor, setPlane } from './inside/legacy-calls.js';
import { plainPicture, SIZE } from './inside/lessee.js';
import { assertSeen } from './inside/seen.js';
import { Uevents } from './inside/uevents.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const [RED, GREEN, BLUE, WHITE] = [0xff0000, 0x00ff00, 0x0000ff, 0xffffff];
const dlm = mkdtempSync(join(tmpdir(), 'dlm-'));
let card: VkmsDevice;
let daemon: TestDaemon;
let lessor: KmsDevice;
let commits: Commits;
let [shown, desk, wall, spare]: [string, string, string, string] = ['', '', '', ''];

before(async () => {
  card = createVkms(
    vkmsShape({ outputs: 4, overlays: 1, sharedOverlays: 1, cursor: true, writeback: true, anyCrtc: true }),
  );
  [shown, desk, wall, spare] = card.connectors as typeof card.connectors & [string, string, string, string];
  lessor = KmsDevice.open(card.card);
  const fd = lessor.dupFd();
  daemon = await TestDaemon.start({
    args: ['--drm-fd', '3'],
    descriptors: [fd.number],
    env: { DLM_RUNTIME_PATH: dlm },
    config: [
      `[[output]]\nname = "the desk"\nconnector = "${desk}"\nmode = "640x480"`,
      '[[output]]\nmode = "640x480"',
      `[[lease]]\nname = "desk"\noutputs = ["${desk}"]\noverlays = 2\nnotice_ms = 0`,
      `[[lease]]\nname = "wall"\noutputs = ["${wall}"]\ncursor = false`,
      `[[lease]]\nname = "both"\noutputs = ["${desk}", "${wall}"]`,
      `[[lease]]\nname = "twice"\noutputs = ["${desk}", "the desk"]\ncursor = false`,
      '[[lease]]\nname = "writeback"\noutputs = ["Writeback-1"]',
      `[[guest]]\nname = "tv"\noutput = "${shown}"`,
    ].join('\n'),
  });
  fd.close();
  commits = new Commits(lessor);
});
after(async () => {
  const { exitCode, signalCode } = daemon.child;
  if (exitCode !== null || signalCode !== null) console.error(daemon.log.slice(-8000));
  lessor.close();
  await daemon.dispose();
  card.destroy();
});

/** Of the test that runs. */
const ends: (() => void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) end();
  await daemon.until('all as at first', ({ leases, outputs }) => {
    const areFree = leases.every(({ state }) => state === 'free');
    return areFree && outputs.every(({ lit, idle }) => lit && idle);
  });
});

async function take(name: string): Promise<Holder> {
  const holder = await Holder.take(daemon, name);
  ends.push(() => holder.vanish());
  return holder;
}

function connect(name: string): DlmClient {
  const client = new DlmClient(join(dlm, name));
  ends.push(() => client.vanish());
  return client;
}

async function stateOf(name: string): Promise<string> {
  return present((await daemon.status()).leases.find((one) => one.name === name)).state;
}

/** The lease is over, and its output has the daemon's picture. */
async function untilOver(name: string, connector: string): Promise<void> {
  await daemon.until(`${name} is over`, ({ leases, outputs }) => {
    const isFree = leases.some((one) => one.name === name && one.state === 'free');
    return isFree && outputs.some((one) => one.name === connector && one.lit && one.idle);
  });
}

test('simple-lease, lease-get, lessee-list, implicit-plane-lease: two lessees have what is theirs, and draw', async () => {
  assert.deepEqual(lessor.lessees(), []);
  const holder = await take('desk');
  const client = connect('wall');
  const other = await client.granted;
  const { leases } = await daemon.status();
  const documents = ['desk', 'wall'].map((lease) => present(leases.find(({ name }) => name === lease)));
  assert.deepEqual(documents[0]?.planes, holder.document.planes);
  const types = [
    ['cursor', 'overlay', 'overlay', 'primary'],
    ['primary'], // cursor = false
  ];
  for (const [i, { device }] of [holder.lessee, other].entries()) {
    const { crtcs, connectors, planes } = present(documents[i]);
    assert.deepEqual(sorted(device.lease()), all({ crtcs, connectors, planes }));
    const seen = device.resources();
    assert.deepEqual([seen.crtcs, seen.connectors, sorted(seen.planes)], [crtcs, connectors, sorted(planes)]);
    assert.deepEqual(planes.map((id) => device.plane(id).type).sort(), types[i]);
    assert.deepEqual([device.isMaster(), device.lessees()], [true, []]);
  }
  assert.equal(lessor.lessees().length, 2);
  show(holder.lessee, RED);
  show(other, GREEN);
  await assertSeen(daemon, desk, plainPicture(RED), 'the one of the bus');
  await assertSeen(daemon, wall, plainPicture(GREEN), 'the client of drm-lease-manager');
  client.release();
  await untilOver('wall', wall);
  assert.equal(lessor.lessees().length, 1);
  show(holder.lessee, BLUE);
  await assertSeen(daemon, desk, plainPicture(BLUE), 'the one that is left');
  await holder.release('desk');
  await untilOver('desk', desk);
  assert.deepEqual(lessor.lessees(), []);
});

test('possible-crtcs-filtering: encoders and planes name the CRTCs of the lease, counted anew, and no other', async () => {
  for (const [name, several] of [
    ['desk', 0b1],
    ['both', 0b11],
  ] as const) {
    const holder = await take(name);
    const { document } = holder;
    const { device } = holder.lessee;
    assert.deepEqual(device.resources().crtcs, sorted(document.crtcs));
    const objects = { ...document, crtcs: device.resources().crtcs };
    for (const id of lessor.resources().encoders) {
      const mask = lessor.encoder(id).possibleCrtcs;
      assert.equal(device.encoder(id).possibleCrtcs, counted(lessor, mask, objects), `encoder ${id}`);
    }
    for (const id of document.connectors) {
      const [encoder] = device.connector(id).encoders;
      assert.equal(lessor.encoder(present(encoder)).possibleCrtcs, 0b1111);
      assert.equal(device.encoder(present(encoder)).possibleCrtcs, several);
    }
    const masks = document.planes.map((id) => lessor.plane(id).possibleCrtcs);
    assert.equal(masks.includes(0b1111), name === 'desk', 'the overlay plane of all CRTCs is leased');
    for (const [i, id] of document.planes.entries())
      assert.equal(
        device.plane(id).possibleCrtcs,
        counted(lessor, present(masks[i]), objects),
        `plane ${id}`,
      );
    await holder.release(name);
    await untilOver(name, desk);
  }
});

/** A guest that shows one frame. */
async function guestWith(rgb: number): Promise<void> {
  const guest = new TestGuest({ name: 'tv', path: daemon.guestSocket, planes: ['primary'] });
  ends.push(() => guest.close());
  await guest.client.connect({ timeoutMs: 20_000 });
  await daemon.until('a place', () => guest.area?.lit === true);
  const { memory } = await guest.addBuffer(0, SIZE.width, SIZE.height, 'XRGB8888');
  new Uint32Array(memory.buffer, memory.byteOffset, memory.byteLength / 4).fill(rgb);
  await guest.client.presented(0, guest.client.submit(0, { buffer: 0 }).sequence);
}

test('lease-unleased-connector, lease-unleased-crtc, atomic-implicit-crtc: nothing reaches what is not leased', async () => {
  await guestWith(WHITE);
  const client = connect('wall');
  show(await client.granted, GREEN);
  const holder = await take('desk');
  show(holder.lessee, RED);
  const idle = await daemon.screenshot(spare);
  const { device } = holder.lessee;
  const [crtc, connector] = [present(holder.document.crtcs[0]), present(holder.document.connectors[0])];
  const foreign = others(lessor, holder.document);
  assert.deepEqual([foreign.crtcs.length, foreign.connectors.length, foreign.planes.length], [3, 7, 9]);
  assertHidden(device, foreign);
  refused(() => device.crtc(connector), 'ENOENT', 'DRM_IOCTL_MODE_GETCRTC', /^crtc/); // not of this type

  for (const id of foreign.crtcs) {
    commits.refused(device, 'ENOENT', [id, 'ACTIVE', 0]);
    for (const plane of holder.document.planes) commits.refused(device, 'EACCES', [plane, 'CRTC_ID', id]);
    commits.refused(device, 'EACCES', [connector, 'CRTC_ID', id]);
  }
  for (const id of foreign.connectors) {
    commits.refused(device, 'ENOENT', [id, 'CRTC_ID', 0]);
    commits.refused(device, 'ENOENT', [id, 'CRTC_ID', crtc]);
  }
  for (const id of foreign.planes) {
    commits.refused(device, 'ENOENT', [id, 'FB_ID', 0], [id, 'CRTC_ID', 0]);
    commits.refused(device, 'ENOENT', [id, 'CRTC_ID', crtc]);
  }
  // One that is not leased among those that are spoils the whole.
  commits.refused(device, 'ENOENT', [crtc, 'ACTIVE', 0], [present(foreign.crtcs[0]), 'ACTIVE', 0]);
  commits.make(device, [connector, 'CRTC_ID', crtc]); // what is leased may be named

  const framebuffer = pictureOf(device, BLUE);
  const mode = modeOf(outputOf(device));
  const calls = foreign.crtcs.flatMap((id): LegacyCall[] => [
    setCrtc(id, 0, [], null),
    setCrtc(id, framebuffer, [connector], mode),
    pageFlip(id, framebuffer),
    setCursor(id, 0, 0),
  ]);
  calls.push(...foreign.connectors.map((id) => setCrtc(crtc, framebuffer, [id], mode)));
  calls.push(...foreign.planes.map((id) => setPlane(id, crtc, framebuffer, CURSOR)));
  calls.push(...foreign.planes.map((id) => setPlane(id, 0, 0, 0)));
  assert.deepEqual(
    perform(device, calls),
    calls.map(() => 'ENOENT'),
  );
  const [lessee] = lessor.lessees();
  refused(() => device.revokeLease(present(lessee)), 'EACCES', 'DRM_IOCTL_MODE_REVOKE_LEASE', /^lessee/);
  refused(() => device.createLease(all(holder.document)), 'EINVAL', 'DRM_IOCTL_MODE_CREATE_LEASE', /./);
  refused(() => device.dropMaster(), 'EINVAL', 'DRM_IOCTL_DROP_MASTER', /./);

  assert.deepEqual((await daemon.screenshot(spare)).data, idle.data, 'the idle picture');
  await assertSeen(daemon, shown, plainPicture(WHITE), 'the guest still');
  await assertSeen(daemon, wall, plainPicture(GREEN), 'the other lessee still');
  await assertSeen(daemon, desk, plainPicture(RED), 'the lessee still');
  assert.equal((await daemon.guest('tv')).planes[0]?.state, 'direct');
});

test('page-flip-, setcrtc-, cursor-implicit-plane: calls that name no plane have those of the lease', async () => {
  const before = await daemon.screenshot(desk);
  const holder = await take('desk');
  const { device } = holder.lessee;
  const { crtcs, connectors, planes } = holder.document;
  const crtc = present(crtcs[0]);
  const out = outputOf(device);
  const [red, blue, pointer] = [pictureOf(device, RED), pictureOf(device, BLUE), pointerOf(device)];
  const cursor = present(planes.find((id) => device.plane(id).type === 'cursor'));
  const source = ['SRC_W', 'SRC_H'].map((name): Value => [cursor, name, CURSOR << 16]);
  const place = ['CRTC_W', 'CRTC_H'].map((name): Value => [cursor, name, CURSOR]);
  light(device, out, blue);
  const placed: Value[] = [
    [cursor, 'FB_ID', pointer.framebuffer],
    [cursor, 'CRTC_ID', crtc],
  ];
  commits.make(device, ...placed, ...source, ...place);
  await assertSeen(daemon, desk, withPointer(plainPicture(BLUE)), 'by atomic commits');
  const blueCrc = await crcOf(crtc);
  light(device, out, red);
  const hidden = (name: string): Value => [cursor, name, 0];
  commits.make(device, hidden('FB_ID'), hidden('CRTC_ID'));
  await assertSeen(daemon, desk, plainPicture(RED), 'by atomic commits');
  const redCrc = await crcOf(crtc);
  assert.notEqual(redCrc, blueCrc);
  const off = setCrtc(crtc, 0, [], null);
  assert.deepEqual(perform(device, [off, setCrtc(crtc, red, connectors, modeOf(out))]), ['done', 'done']);
  assert.equal(await crcOf(crtc), redCrc);
  const calls = [pageFlip(crtc, blue), setCursor(crtc, CURSOR, pointer.buffer.handle)];
  assert.deepEqual(perform(device, calls), ['done', 'done']);
  assert.equal(await crcOf(crtc), blueCrc);
  // SETCRTC takes all connectors off that it does not name, the one that writes back too, until the lease is over.
  await assert.rejects(daemon.screenshot(desk), /leased as desk, and cannot be read back: .*EINVAL/);
  await holder.release('desk');
  await untilOver('desk', desk);
  assert.deepEqual((await daemon.screenshot(desk)).data, before.data, 'the idle picture, written back');

  // Without the cursor plane there is no cursor; everything else is there.
  const other = await take('wall');
  const own = present(other.document.crtcs[0]);
  const green = pictureOf(other.lessee.device, GREEN);
  const answers = perform(other.lessee.device, [
    setCrtc(own, green, other.document.connectors, modeOf(outputOf(other.lessee.device))),
    setCursor(own, 0, 0),
    pageFlip(own, green),
  ]);
  assert.deepEqual(answers, ['done', 'EACCES', 'done']);
  assert.equal(property(lessor, present(other.document.planes[0]), 'FB_ID').value, BigInt(green));
});

/** Of what is shown now. VKMS makes none any more when something was written back meanwhile. */
async function crcOf(crtc: number): Promise<string> {
  const crcs = await CrcStream.start(card.index, lessor.resources().crtcs.indexOf(crtc));
  await crcs.more(3);
  return present((await crcs.stop()).at(-1)).crc;
}

async function takeRefused(name: string, kind: string, how: RegExp, request: object = {}): Promise<void> {
  await assert.rejects(Holder.take(daemon, name, request), (error) => {
    assert.ok(error instanceof DBusError, String(error));
    assert.match(error.message, how);
    assert.equal(error.dbusName, `org.scanoutd1.Error.${kind}`);
    return true;
  });
}

test('lease-again: what is leased is Busy by every name and front end, and can be had when it is over', async () => {
  const holder = await take(desk); // by its connector
  assert.equal(holder.document.name, 'desk');
  show(holder.lessee, RED);
  const held = new RegExp(`^lease desk is held by process ${process.pid}, uid 0`);
  await takeRefused('desk', 'Busy', held);
  await takeRefused(desk, 'Busy', held);
  await takeRefused(
    'both',
    'Busy',
    new RegExp(`^${desk} is in lease desk, which process ${process.pid} has`),
  );
  const client = connect('desk');
  await assert.rejects(client.granted);
  await client.ended;
  assert.equal(lessor.lessees().length, 1);
  await assertSeen(daemon, desk, plainPicture(RED), 'who has it');
  await holder.release('desk');
  await untilOver('desk', desk);
  const next = connect('desk');
  show(await next.granted, BLUE);
  await assertSeen(daemon, desk, plainPicture(BLUE), 'the next');
});

test('lease-invalid-connector, -crtc, -plane: what is not configured, and objects by id, cannot be had', async () => {
  const unknown = /^there is no lease .*; configured are: desk, wall, both, twice, writeback$/;
  const { crtcs, connectors, planes } = lessor.resources();
  const ids = [0xbaadf00d, ...[crtcs, connectors, planes].map(([id]) => present(id))].map(String);
  for (const name of [spare, 'HDMI-A-7', 'the desk', '', ...ids])
    await takeRefused(name, 'NotFound', unknown);
  for (const objects of [{ connectors }, { crtcs }, { planes }, { overlays: 3 }]) {
    const [key] = Object.keys(objects);
    await takeRefused('wall', 'InvalidArgument', new RegExp(key ?? '$.'), objects);
  }
  // It is a connector of the card, but no output.
  const writeback = connectors.map((id) => lessor.connector(id)).find(({ type }) => type === WRITEBACK);
  assert.equal(writeback?.name, 'Writeback-1');
  await takeRefused('writeback', 'Unavailable', /^there is no output Writeback-1; known are: /);
  await takeRefused('twice', 'Unavailable', /^lease twice names output Virtual-\d twice$/);
  assert.deepEqual(lessor.lessees(), []);
  // Nothing has become of what it would have been made of.
  await take('both');
});

test('lease-revoke: the lessee is left with its buffers, and with nothing to show them on', async () => {
  const holder = await take('desk');
  const { device } = holder.lessee;
  show(holder.lessee, RED);
  const [lessee] = lessor.lessees();
  assert.equal((await ctl(daemon, 'lease', 'revoke', 'desk')).code, 0);
  assert.deepEqual(lessor.lessees(), []);
  assert.deepEqual(device.lease(), []);
  const { crtcs, connectors, planes } = device.resources();
  assert.deepEqual([crtcs, connectors, planes], [[], [], []]);
  assertHidden(device, holder.document);
  const crtc = present(holder.document.crtcs[0]);
  commits.refused(device, 'ENOENT', [crtc, 'ACTIVE', 0]);
  assert.deepEqual(perform(device, [setCrtc(crtc, 0, [], null), setCursor(crtc, 0, 0)]), [
    'ENOENT',
    'ENOENT',
  ]);
  device.createDumb(CURSOR, CURSOR).destroy();
  assert.match((await ctl(daemon, 'lease', 'revoke', 'desk')).err, /nobody has lease desk/);
  await untilOver('desk', desk);
  const picture = await daemon.screenshot(desk);
  // It is another one's by now, and the former descriptor is no way to it.
  const next = await take('desk');
  show(next.lessee, BLUE);
  assertHidden(device, next.document);
  await assertSeen(daemon, desk, plainPicture(BLUE), 'the next');
  holder.vanish();
  await next.release('desk');
  await untilOver('desk', desk);
  assert.deepEqual((await daemon.screenshot(desk)).data, picture.data);
  refused(() => lessor.revokeLease(present(lessee)), 'ENOENT', 'DRM_IOCTL_MODE_REVOKE_LEASE', /^lessee/);
});

test('lease-uevent: the kernel tells of a lease that is over, and of nothing before', async () => {
  const picture = await daemon.screenshot(desk);
  // Answered when all that was begun is done: nothing of the tests before is to come.
  assert.match((await ctl(daemon, 'lease', 'revoke', 'desk')).err, /nobody has lease desk/);
  const uevents = new Uevents(card.card);
  try {
    const crashed = await take('desk');
    show(crashed.lessee, RED);
    // Its descriptor alone is not the lease: the daemon has another one, which keeps the picture.
    crashed.lessee.device.close();
    assert.equal(await stateOf('desk'), 'leased');
    await assertSeen(daemon, desk, plainPicture(RED), 'what it has left');
    assert.deepEqual([uevents.leases, lessor.lessees().length], [0, 1]);
    crashed.vanish();
    await uevents.untilLeases(1);
    await untilOver('desk', desk);
    assert.deepEqual(lessor.lessees(), []);
    assert.deepEqual((await daemon.screenshot(desk)).data, picture.data);
    // Revoked: there is a lease as long as its lessee has the descriptor.
    const revoked = await take('desk');
    await ctl(daemon, 'lease', 'revoke', 'desk');
    await untilOver('desk', desk);
    assert.equal(uevents.leases, 1);
    revoked.vanish();
    await uevents.untilLeases(2);
    assert.equal(uevents.hotplugs, 0);
  } finally {
    uevents.close();
  }
});

test('lease-uevent: with it the daemon finds what became of its leases, and those that nobody has', async () => {
  const client = connect('wall');
  const other = await client.granted;
  show(other, GREEN);
  const [known] = lessor.lessees();
  const holder = await take('desk');
  show(holder.lessee, RED);
  // By somebody who has the daemon's own descriptor. Neither is told by the kernel.
  lessor.revokeLease(present(lessor.lessees().find((one) => one !== known)));
  const objects = lessor.resources();
  const connector = present(
    objects.connectors.map((id) => lessor.connector(id)).find(({ name }) => name === spare),
  );
  const crtc = lessor.encoder(connector.encoder).crtc;
  const primary = present(
    objects.planes.map((id) => lessor.plane(id)).find((one) => one.crtc === crtc && one.type === 'primary'),
  );
  const stranger = lessor.createLease([connector.id, crtc, primary.id]);
  // This is: an empty lease that is closed.
  lessor.createLease([]).fd.close();
  await untilOver('desk', desk);
  await holder.told('LeaseEnded');
  assert.deepEqual(holder.signals, [['LeaseEnded', 'desk', 'the kernel has it no more']]);
  assert.match(daemon.log, /"result":"revoked: nobody knows whose it is"/);
  assert.deepEqual(lessor.lessees(), [known]);
  stranger.fd.close();
  holder.vanish();
  show(other, BLUE);
  await assertSeen(daemon, wall, plainPicture(BLUE), 'the lease that is as it was');
  assert.equal(await stateOf('wall'), 'leased');
});
