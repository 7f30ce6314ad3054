/** Leases of a real card, granted by a daemon that shows a guest beside them. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { LeaseDocument } from '../../src/api/documents.js';
import { Code } from '../../src/guests/protocol.js';
import { isSystemError } from '../../src/native/base.js';
import { type SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';
import { ctl } from './inside/ctl.js';
import { TestDaemon } from './inside/daemon.js';
import { Example } from './inside/example.js';
import { GuestProcess } from './inside/guest-process.js';
import { DlmClient, Holder } from './inside/lease-holders.js';
import { Lessee, plainPicture } from './inside/lessee.js';
import { assertSeen } from './inside/seen.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const HERE = new URL('.', import.meta.url).pathname;
/** Dies with who started it, whatever ends that. */
const LESSEE = ['setpriv', '--pdeathsig', 'KILL', process.execPath, `${HERE}inside/lessee.js`];
const [RED, GREEN, BLUE] = [0xff0000, 0x00ff00, 0x0000ff];
const dlm = mkdtempSync(join(tmpdir(), 'dlm-'));
let card: VkmsDevice;
let daemon: TestDaemon;
let [shown, desk, wall]: [string, string, string] = ['', '', ''];

before(async () => {
  card = createVkms(vkmsShape({ outputs: 3, overlays: 2, cursor: true, writeback: true }));
  [shown, desk, wall] = card.connectors as [string, string, string];
  daemon = await TestDaemon.start({
    env: { DLM_RUNTIME_PATH: dlm },
    config: [
      `[[output]]\nname = "the wall"\nconnector = "${wall}"\nenabled = false\nmode = "640x480"`,
      '[[output]]\nmode = "640x480"',
      `[[lease]]\nname = "desk"\noutputs = ["${desk}"]\noverlays = 1`,
      `[[lease]]\nname = "wall"\noutputs = ["the wall"]\non_crash = "keep"`,
      `[[lease]]\nname = "both"\noutputs = ["${desk}", "the wall"]`,
      `[[lease]]\nname = "greedy"\noutputs = ["${desk}"]\noverlays = 3`,
      '[[lease]]\nname = "nowhere"\noutputs = ["HDMI-A-7"]',
      `[[guest]]\nname = "tv"\noutput = "${shown}"`,
      '[[guest]]\nname = "server"\nkind = "lease"\nlease = "wall"',
      '[[guest]]\nname = "rival"\nkind = "lease"\nlease = "desk"',
      `[[guest]]\nname = "player"\nkind = "lease"\nlease = "desk"\ncommand = ${JSON.stringify([...LESSEE, '{fd}', 'ff0000'])}`,
    ].join('\n'),
  });
});
after(async () => {
  if (daemon.child.exitCode !== null || daemon.child.signalCode !== null)
    console.error(daemon.log.slice(-8000));
  await daemon.dispose();
  card.destroy();
});

async function lease(name: string): Promise<LeaseDocument> {
  const found = (await daemon.status()).leases.find((one) => one.name === name);
  return found ?? assert.fail(`no lease ${name}`);
}

async function untilState(name: string, state: LeaseDocument['state']): Promise<void> {
  await daemon.until(`${name} is ${state}`, ({ leases }) =>
    leases.some((one) => one.name === name && one.state === state),
  );
}

async function untilIdle(name: string): Promise<void> {
  await daemon.until(`${name} has the idle picture`, ({ outputs }) =>
    outputs.some((one) => one.name === name && one.lit && one.idle),
  );
}

async function refused(name: string, how: RegExp): Promise<void> {
  await assert.rejects(Holder.take(daemon, name), (error: Error) => {
    assert.match(error.message, how);
    return true;
  });
}

test('a program draws through a lease that it inherits, while a guest beside it flips on', async () => {
  const guest = new Example(daemon.guestSocket, 'tv', ['--seconds', '900']);
  await daemon.until('flips', ({ guests }) => (guests[0]?.planes[0]?.flips ?? 0) > 5);
  const program = [...LESSEE, '{fd}', RED.toString(16)];
  const run = [process.execPath, `${HERE}../../bin/scanoutctl.js`, 'lease', 'run', 'desk', '--', ...program];
  const started = new GuestProcess('lease run', run, { SCANOUTD_BUS: join(daemon.directory, 'bus') });
  await started.during(async () => {
    await started.event('drawn', { rgb: 'ff0000', lease: 'desk', fd: 3 });
    await assertSeen(daemon, desk, plainPicture(RED), 'the lessee');
    const document = await lease('desk');
    assert.deepEqual(
      [document.state, document.outputs, document.pid, document.planes.length],
      ['leased', [desk], started.pid, 3],
    );
    const output = await daemon.output(desk);
    assert.deepEqual([output.lit, output.reason], [false, 'leased as desk']);
    const flips = (await daemon.guest('tv')).planes[0]?.flips ?? 0;
    await daemon.until('it flips on', ({ guests }) => (guests[0]?.planes[0]?.flips ?? 0) > flips + 30);
    // The program ends as it is told through scanoutctl, and so does the lease.
    started.child.kill('SIGTERM');
    await untilState('desk', 'free');
  });
  await untilIdle(desk);
  await guest.kill('SIGTERM');
  const { violations, planes } = await guest.stats();
  assert.deepEqual([violations, planes[0]?.state], [0, 'direct']);
});

test('an output that is not enabled is lit for its lessee, and dark again', async () => {
  assert.equal((await daemon.output(wall)).lit, false);
  const holder = await Holder.take(daemon, 'wall');
  holder.lessee.show(GREEN);
  await assertSeen(daemon, wall, plainPicture(GREEN), 'the lessee');
  await holder.release('wall');
  await untilState('wall', 'free');
  await daemon.until('dark', ({ outputs }) => outputs.some((one) => one.name === wall && !one.lit));
  assert.equal((await daemon.output(wall)).reason, 'configuration: not enabled');
});

test("the last frame of a lessee that crashed stays until its successor's first", async () => {
  const first = await Holder.take(daemon, 'wall');
  first.lessee.show(BLUE);
  first.vanish();
  await untilState('wall', 'kept');
  await assertSeen(daemon, wall, plainPicture(BLUE), 'what was kept');
  const second = await Holder.take(daemon, 'wall');
  await assertSeen(daemon, wall, plainPicture(BLUE), 'still');
  second.lessee.show(RED);
  await assertSeen(daemon, wall, plainPicture(RED), 'the successor');
  second.vanish();
  await untilState('wall', 'kept');
  const revoked = await ctl(daemon, 'lease', 'revoke', 'wall');
  assert.equal(revoked.code, 0, revoked.err);
  await untilState('wall', 'free');
});

test('one that is revoked is told why, and can draw no more', async () => {
  const holder = await Holder.take(daemon, 'desk');
  holder.lessee.show(GREEN);
  const answer = await ctl(daemon, 'lease', 'revoke', 'desk', '--reason', 'the room is closed');
  assert.equal(answer.code, 0, answer.err);
  assert.match(answer.out, /^desk +free/m);
  await untilIdle(desk);
  await holder.told('LeaseEnded');
  assert.deepEqual(holder.signals, [
    ['LeaseNotice', 'desk', 'the room is closed', 2000],
    ['LeaseEnded', 'desk', 'the room is closed'],
  ]);
  assert.throws(
    () => holder.lessee.show(RED),
    (error) => isSystemError(error, 'ENOENT'),
  );
  holder.vanish();
  await untilIdle(desk);
  assert.match((await ctl(daemon, 'lease', 'revoke', 'desk')).err, /nobody has lease desk/);
});

test('a client of drm-lease-manager draws beside one of the bus', async () => {
  const holder = await Holder.take(daemon, 'wall');
  holder.lessee.show(RED);
  const client = new DlmClient(join(dlm, 'desk'));
  const lessee = await client.granted;
  lessee.show(GREEN);
  await assertSeen(daemon, desk, plainPicture(GREEN), 'the client');
  await assertSeen(daemon, wall, plainPicture(RED), 'the other');
  assert.equal((await lease('desk')).pid, process.pid);
  client.vanish();
  await untilIdle(desk);
  await assertSeen(daemon, wall, plainPicture(RED), 'the other still');
  await holder.release('wall');
});

/** A guest that asks for its lease itself. */
function leaseGuest(name: string, rgb: string): GuestProcess {
  const script = `${HERE}inside/lease-guest.js`;
  return new GuestProcess(name, [process.execPath, script, daemon.guestSocket, name, rgb]);
}

async function untilEnded(name: string, reason: string): Promise<void> {
  await daemon.until(`${name} has ended`, ({ guests }) =>
    guests.some((one) => one.name === name && one.lease?.state === 'ended' && one.lease.reason === reason),
  );
}

test('guests with a lease draw beside one that flips: by the guest socket, and started with a command', async () => {
  const tv = new Example(daemon.guestSocket, 'tv', ['--seconds', '900']);
  await daemon.until('flips', ({ guests }) => (guests[0]?.planes[0]?.flips ?? 0) > 5);
  const server = leaseGuest('server', '00ff00');
  const command = [process.execPath, `${HERE}../../bin/scanoutctl.js`, 'guest', 'run', 'player'];
  const player = new GuestProcess('player', [...command, '-c', join(daemon.directory, 'scanoutd.toml')]);
  await server.during(() =>
    player.during(async () => {
      await server.event('drawn', { lease: 'wall' });
      await player.event('drawn', { rgb: 'ff0000', lease: 'desk' });
      await assertSeen(daemon, wall, plainPicture(GREEN), 'the server');
      await assertSeen(daemon, desk, plainPicture(RED), 'the player');
      for (const [name, process, output] of [
        ['server', server, wall],
        ['player', player, desk],
      ] as const) {
        const { kind, connected, pid, planes, lease: has } = await daemon.guest(name);
        assert.deepEqual([kind, connected, pid, planes], ['lease', true, process.pid, []]);
        assert.deepEqual([has?.state, has?.outputs], ['leased', [output]]);
        assert.equal((await lease(has?.name ?? '')).pid, process.pid);
      }
      const { out } = await ctl(daemon, 'guests');
      assert.match(out, new RegExp(`^player +lease +${player.pid} \\(user 0\\) +${desk} .* leased`, 'm'));
      assert.match(out, /player: has lease desk: its flips are its own, and not counted here/);
      assert.match(
        (await ctl(daemon, 'assign', 'player', shown)).err,
        /player has lease desk, and shows itself/,
      );
      // Another guest may name the lease, and gets it as the lease says.
      const rival = leaseGuest('rival', '0000ff');
      const { values } = await rival.event('refused');
      assert.match(String(values.reason), new RegExp(`^lease_desk_is_held_by_process_${player.pid},`));
      await rival.end();
      const flips = (await daemon.guest('tv')).planes[0]?.flips ?? 0;
      await daemon.until('it flips on', ({ guests }) => (guests[0]?.planes[0]?.flips ?? 0) > flips + 30);
      await ctl(daemon, 'lease', 'revoke', 'desk', '--reason', 'the show is over');
      await untilEnded('player', 'the show is over');
      await untilIdle(desk);
      assert.ok(player.alive, 'it is its own affair what it does then');
      await player.kill();
      // A crash: its frame stays for the next one.
      await server.kill();
      await untilState('wall', 'kept');
      await untilEnded('server', 'it is gone without a word');
      await assertSeen(daemon, wall, plainPicture(GREEN), 'what was kept');
    }),
  );
  const next = leaseGuest('server', 'ff0000');
  await next.during(async () => {
    await next.event('drawn');
    await assertSeen(daemon, wall, plainPicture(RED), 'the next one');
    await next.kill('SIGTERM');
    assert.deepEqual(next.all('ended')[0]?.values.code, 0);
    await untilState('wall', 'free');
    await untilEnded('server', 'it has left');
  });
  const last = leaseGuest('server', '0000ff');
  await last.during(async () => {
    await last.event('drawn');
    await ctl(daemon, 'lease', 'revoke', 'wall', '--reason', 'the show is over');
    await last.event('notice', { reason: 'the_show_is_over' });
    await last.event('ended', { code: Code.leaseEnded, reason: 'the_show_is_over' });
  });
  const hello = new Example(daemon.guestSocket, 'player', ['--seconds', '1']);
  await daemon.until('refused', () => /guest player is of kind .*lease/.test(daemon.log));
  await hello.kill('SIGKILL');
  await tv.kill('SIGTERM');
  const { violations, planes } = await tv.stats();
  assert.deepEqual([violations, planes[0]?.state], [0, 'direct']);
});

test('a program that listens is granted a lease, and its crash is one', async () => {
  const path = join(dlm, 'player');
  let granted: (client: { socket: SeqPacket; lessee: Lessee }) => void = () => {};
  const server = SeqPacketServer.listen(path, {
    onConnection: (socket) => {
      socket.onMessage = (_byte, [fd]) =>
        granted({ socket, lessee: new Lessee(fd ?? assert.fail('no lease')) });
    },
  });
  const grant = async () => {
    const client = new Promise<{ socket: SeqPacket; lessee: Lessee }>((resolve) => {
      granted = resolve;
    });
    const answer = ctl(daemon, 'lease', 'grant', 'wall', '--to', path);
    return { answer, ...(await client) };
  };
  const first = await grant();
  first.lessee.show(GREEN);
  await assertSeen(daemon, wall, plainPicture(GREEN), 'the program');
  first.socket.close();
  first.lessee.device.close();
  assert.equal((await first.answer).code, 1);
  await untilState('wall', 'kept');
  await assertSeen(daemon, wall, plainPicture(GREEN), 'what was kept');

  const second = await grant();
  second.socket.send(new Uint8Array(new Int32Array([1]).buffer));
  const { code, out } = await second.answer;
  assert.deepEqual([code, out.split('\n')[1]], [0, 'wall: given back']);
  second.lessee.device.close();
  await untilState('wall', 'free');

  const third = await grant();
  const hungUp = new Promise<void>((resolve) => {
    third.socket.onClose = () => resolve();
  });
  await ctl(daemon, 'lease', 'revoke', 'wall', '--reason', 'closed', '--notice', '0');
  await hungUp;
  assert.match((await third.answer).err, /lease wall was taken: closed/);
  third.lessee.device.close();
  server.close();
});

test('leases that cannot be are refused with their reason, and cost nobody anything', async () => {
  await refused('nobody', /there is no lease nobody; configured are: desk, wall, both, greedy, nowhere/);
  await refused('nowhere', /there is no output HDMI-A-7; known are: /);
  await refused('greedy', /3 overlay planes cannot be had: its CRTC has 2/);
  await untilIdle(desk);
  const holder = await Holder.take(daemon, 'desk');
  await refused('desk', /lease desk is held by process \d+, uid 0/);
  await refused('both', /is in lease desk, which process \d+ has/);
  holder.lessee.show(BLUE);
  await assertSeen(daemon, desk, plainPicture(BLUE), 'the holder is not disturbed');
  await holder.release('desk');
  await untilIdle(desk);
  const both = await Holder.take(daemon, 'both');
  assert.deepEqual(both.document.outputs, [desk, wall]);
  assert.equal(both.document.planes.length, 4);
  await both.release('both');
  await untilIdle(desk);
});
