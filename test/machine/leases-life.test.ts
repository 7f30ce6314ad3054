/** Leases that are waited for, handed on and given notice, beside each other and beside a guest, on a card with four CRTCs. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { LeaseDocument } from '../../src/api/documents.js';
import { isSystemError } from '../../src/native/base.js';
import { RECORD_FLAGS } from '../../src/native/flip.js';
import { CrcStream, changes } from './inside/crc.js';
import { ctl } from './inside/ctl.js';
import { TestDaemon } from './inside/daemon.js';
import { Example } from './inside/example.js';
import { GuestProcess } from './inside/guest-process.js';
import { DlmClient, Holder } from './inside/lease-holders.js';
import { plainPicture } from './inside/lessee.js';
import { assertSeen } from './inside/seen.js';
import { SwitchOffs } from './inside/switch-offs.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const HERE = new URL('.', import.meta.url).pathname;
/** Dies with who started it, whatever ends that. */
const LESSEE = ['setpriv', '--pdeathsig', 'KILL', process.execPath, `${HERE}inside/lessee.js`];
const [RED, GREEN, BLUE] = [0xff0000, 0x00ff00, 0x0000ff];
/** Of the output of the lease `desk`, by its place on the card. */
const DESK_CRTC = 1;
const DESK_CONNECTOR = 1;
const LATE_CONNECTOR = 3;
const dlm = mkdtempSync(join(tmpdir(), 'dlm-'));
let card: VkmsDevice;
let daemon: TestDaemon;
let [shown, desk, wall, late]: [string, string, string, string] = ['', '', '', ''];

before(async () => {
  const status = ['connected', 'connected', 'connected', 'disconnected'] as const;
  card = createVkms(
    vkmsShape({ outputs: 4, overlays: 1, cursor: true, writeback: true, status: [...status] }),
  );
  [shown, desk, wall, late] = card.connectors as typeof card.connectors & [string, string, string, string];
  daemon = await TestDaemon.start({
    env: { DLM_RUNTIME_PATH: dlm },
    config: [
      '[[output]]\nmode = "640x480"',
      `[[lease]]\nname = "desk"\noutputs = ["${desk}"]\nqueue = 2\ntransfer = true\nnotice_ms = 1000`,
      `[[lease]]\nname = "wall"\noutputs = ["${wall}"]`,
      `[[lease]]\nname = "late"\noutputs = ["${late}"]\nqueue = 1\non_crash = "keep"`,
      `[[guest]]\nname = "tv"\noutput = "${shown}"`,
    ].join('\n'),
  });
});
after(async () => {
  const { exitCode, signalCode } = daemon.child;
  if (exitCode !== null || signalCode !== null) console.error(daemon.log.slice(-8000));
  await daemon.dispose();
  card.destroy();
});

async function lease(name: string): Promise<LeaseDocument> {
  const found = (await daemon.status()).leases.find((one) => one.name === name);
  return found ?? assert.fail(`no lease ${name}`);
}

async function untilLease(
  name: string,
  what: string,
  holds: (lease: LeaseDocument) => boolean,
): Promise<void> {
  await daemon.until(`${name} ${what}`, ({ leases }) =>
    leases.some((one) => one.name === name && holds(one)),
  );
}

const untilWaiting = (name: string, count: number) =>
  untilLease(name, `is waited for by ${count}`, ({ waiting }) => waiting.length === count);
const untilFree = (name: string) => untilLease(name, 'is free', ({ state }) => state === 'free');

test('a lease is handed on with a picture at every vblank', async () => {
  const first = await Holder.take(daemon, 'desk');
  first.lessee.show(RED);
  await assertSeen(daemon, desk, plainPicture(RED), 'the first');
  const offs = SwitchOffs.start();
  const crcs = await CrcStream.start(card.index, DESK_CRTC);
  const second = await Holder.ask(daemon, 'desk', { wait: true });
  await untilWaiting('desk', 1);
  const table = await ctl(daemon, 'leases');
  assert.match(table.out, /^desk: process \d+, uid 0, waits since .*: lease desk is held by process \d+/m);
  // The first does not comply.
  const answer = await ctl(daemon, 'lease', 'transfer', 'desk', '--reason', 'the next shift');
  assert.equal(answer.code, 0, answer.err);
  await second.granted();
  await first.told('LeaseEnded');
  assert.deepEqual(first.signals, [
    ['LeaseNotice', 'desk', 'the next shift', 1000],
    ['LeaseEnded', 'desk', 'the next shift'],
  ]);
  assert.throws(
    () => first.lessee.show(BLUE),
    (error) => isSystemError(error, 'ENOENT'),
  );
  first.vanish();
  await crcs.more(5);
  second.lessee.show(GREEN);
  await crcs.more(5);
  // The third takes it over, and the second complies before its time is over.
  const third = await Holder.ask(daemon, 'desk', { transfer: true, reason: 'urgent' });
  assert.deepEqual(await second.told('LeaseNotice'), ['LeaseNotice', 'desk', 'urgent', 1000]);
  await second.release('desk');
  await third.granted();
  await crcs.more(5);
  third.lessee.show(BLUE);
  await crcs.more(5);
  const seen = await crcs.stop();
  // Each vblank that there was has a CRC: an emulated machine comes too late for some, which are none then.
  assert.equal(offs.count, 0, 'the CRTC was on all the time');
  assert.equal(new Set(changes(seen)).size, 3);
  assert.equal(changes(seen).length, 3, 'each picture came once, and nothing between');
  await assertSeen(daemon, desk, plainPicture(BLUE), 'the third');
  await third.release('desk');
  await untilFree('desk');
  const lit = (is: boolean) =>
    daemon.until(`lit: ${is}`, ({ outputs }) => outputs.some((one) => one.name === desk && one.lit === is));
  await lit(true);
  card.setConnector(DESK_CONNECTOR, 'disconnected');
  await lit(false);
  await daemon.until('a count of what is switched off', () => offs.count === 1);
  offs.stop();
  card.setConnector(DESK_CONNECTOR, 'connected');
  await lit(true);
});

test('as many wait as may, in their order, and who gives up or goes waits no longer', async () => {
  const holder = await Holder.take(daemon, 'desk');
  const second = await Holder.ask(daemon, 'desk', { wait: true });
  await untilWaiting('desk', 1);
  const gone = await Holder.ask(daemon, 'desk', { wait: true });
  await untilWaiting('desk', 2);
  await assert.rejects(
    Holder.take(daemon, 'desk', { wait: true }),
    /held by process \d+.*; 2 wait for it already/,
  );
  await assert.rejects(Holder.take(daemon, 'desk'), /held by process \d+, uid 0$/);
  await assert.rejects(Holder.take(daemon, 'wall', { wait: true, tranfer: true } as object), /tranfer/);
  gone.vanish();
  await untilWaiting('desk', 1);
  await assert.rejects(
    Holder.take(daemon, 'desk', { wait: true, timeoutMs: 200 }),
    /held by process \d+, uid 0, for 200 ms now/,
  );
  const absent = await ctl(daemon, 'lease', 'transfer', 'desk', '--to', '1');
  assert.match(absent.err, /process 1 does not wait for lease desk/);
  await holder.release('desk');
  await second.granted();
  second.vanish();
  await untilFree('desk');
  const nobody = await ctl(daemon, 'lease', 'transfer', 'desk');
  assert.match(nobody.err, /nobody has lease desk/);
});

test('a program is told by a signal that its lease ends, and complies by ending', async () => {
  const program = [...LESSEE, '{fd}', RED.toString(16)];
  const ctlProgram = [process.execPath, `${HERE}../../bin/scanoutctl.js`];
  const run = [...ctlProgram, 'lease', 'run', desk, '--', ...program];
  const started = new GuestProcess('lease run', run, { SCANOUTD_BUS: join(daemon.directory, 'bus') });
  await started.during(async () => {
    await started.event('drawn', { lease: 'desk' });
    const begun = performance.now();
    const answer = await ctl(daemon, 'lease', 'revoke', 'desk', '--notice', '20000');
    assert.equal(answer.code, 0, answer.err);
    assert.ok(performance.now() - begun < 19_000, 'it did not wait for the end of the notice');
    await started.end();
    assert.match(started.log, /lease desk ends in 20000 ms: revoked by an administrator/);
  });
  assert.equal((await lease('desk')).state, 'free');
});

test('two programs, a guest and a monitor that is plugged in, on the four CRTCs of a card', async () => {
  const guest = new Example(daemon.guestSocket, 'tv', ['--seconds', '900']);
  const program = [...LESSEE, '{fd}', RED.toString(16)];
  const ctlProgram = [process.execPath, `${HERE}../../bin/scanoutctl.js`];
  const started = new GuestProcess('lease run', [...ctlProgram, 'lease', 'run', 'desk', '--', ...program], {
    SCANOUTD_BUS: join(daemon.directory, 'bus'),
  });
  await started.during(async () => {
    await started.event('drawn', { lease: 'desk' });
    const client = new DlmClient(join(dlm, 'wall'));
    (await client.granted).show(GREEN);
    await daemon.until('flips', ({ guests }) => (guests[0]?.planes[0]?.flips ?? 0) > 30);
    const toll = await leastMissed(async () => {
      card.setConnector(LATE_CONNECTOR, 'connected');
      await daemon.until('lit', ({ outputs }) => outputs.some(({ name, lit }) => name === late && lit));
      card.setConnector(LATE_CONNECTOR, 'disconnected');
      await daemon.until('dark', ({ outputs }) => outputs.some(({ name, lit }) => name === late && !lit));
    });
    assert.ok(toll.flips > 5, `${toll.flips} flips`);
    assert.equal(toll.missed, 0);
    await assertSeen(daemon, desk, plainPicture(RED), 'the one of the bus');
    await assertSeen(daemon, wall, plainPicture(GREEN), 'the client of drm-lease-manager');
    client.release();
    await untilFree('wall');
  });
  await untilFree('desk');
  await guest.kill('SIGTERM');
  const { violations, planes } = await guest.stats();
  assert.deepEqual([violations, planes[0]?.state], [0, 'direct']);
});

/**
 * What `body` costs the guest: an emulated machine is late by itself now and then, and not each time at the same
 * place; what something costs, it costs each time.
 */
async function leastMissed(body: () => Promise<void>): Promise<{ flips: number; missed: number }> {
  const shownDirectly = RECORD_FLAGS.vsync | RECORD_FLAGS.direct;
  let least = { flips: 0, missed: Number.POSITIVE_INFINITY };
  for (let attempt = 0; attempt < 10 && least.missed > 0; attempt++) {
    const begin = Number(process.hrtime.bigint());
    await body();
    const records = (await daemon.records('tv')).filter(({ kickNs }) => kickNs >= begin);
    const missed = records.map(({ flags, missed }) =>
      (flags & shownDirectly) === shownDirectly ? missed : 1,
    );
    const sum = missed.reduce((all, one) => all + one, 0);
    if (sum < least.missed) least = { flips: records.length, missed: sum };
  }
  return least;
}

test('a lease waits for its connector, stays while that is unplugged, and is waited for anew', async () => {
  await assert.rejects(
    Holder.take(daemon, 'late'),
    new RegExp(`${late} cannot be lit: nothing is connected`),
  );
  const client = new DlmClient(join(dlm, 'late'));
  await untilWaiting('late', 1);
  assert.match((await lease('late')).waiting[0]?.why ?? '', /nothing is connected/);
  card.setConnector(LATE_CONNECTOR, 'connected');
  const lessee = await client.granted;
  lessee.show(BLUE);
  await assertSeen(daemon, late, plainPicture(BLUE), 'the client');
  card.setConnector(LATE_CONNECTOR, 'disconnected');
  await daemon.until('seen', ({ outputs }) =>
    outputs.some(({ name, connected }) => name === late && !connected),
  );
  lessee.show(RED);
  assert.equal((await lease('late')).state, 'leased');
  client.release();
  await untilFree('late');
  await daemon.until('dark', ({ outputs }) => outputs.some(({ name, lit }) => name === late && !lit));
});
