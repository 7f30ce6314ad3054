/**
 * Who gives DRM master: seatd, whoever passed a descriptor, another lease manager; and what becomes of everything while
 * another program has it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KmsDevice } from '../../src/native/kms.js';
import { configOf, fourOutputs, OtherMaster, Scene } from './inside/away.js';
import { TestDaemon } from './inside/daemon.js';
import { TestGuest } from './inside/guest.js';
import { present } from './inside/kms-rig.js';
import { Holder } from './inside/lease-holders.js';
import { plainPicture, SIZE } from './inside/lessee.js';
import { assertSeen } from './inside/seen.js';
import type { VkmsDevice } from './inside/vkms.js';

const SEATD = '/run/seatd.sock';
let card: VkmsDevice;
before(() => {
  card = fourOutputs();
});
after(() => card.destroy());

async function startSeatd(): Promise<ChildProcess> {
  const seatd = spawn('seatd', [], { stdio: 'inherit' });
  const deadline = performance.now() + 20_000;
  while (!existsSync(SEATD)) {
    assert.ok(performance.now() < deadline, 'seatd listens');
    await sleep(20);
  }
  return seatd;
}

const chvt = (number: number) => execFileSync('chvt', [String(number)]);

test('under seatd: another VT, another display server there, and back', async () => {
  chvt(1);
  const seatd = await startSeatd();
  try {
    const daemon = await TestDaemon.start({ config: configOf(card) });
    await daemon.during(async () => {
      const { session, cards } = await daemon.status();
      assert.deepEqual(session, { kind: 'seatd', seat: 'seat0', reason: SEATD });
      assert.deepEqual(cards[0]?.master, { source: 'seatd', detail: 'seat0' });
      const scene = new Scene(daemon, card);
      await scene.begin();
      chvt(2);
      await daemon.until('paused', (status) => status.cards[0]?.paused === true);
      const other = await OtherMaster.open(card.card);
      other.showEverywhere();
      await scene.away(/the session is not active/);
      other.close();
      chvt(1);
      await scene.back();
      await scene.end();
    });
  } finally {
    // It is master of the card until it has ended.
    const ended = new Promise((resolve) => seatd.once('exit', resolve));
    seatd.kill();
    await ended;
  }
});

test('on a descriptor whose owner says nothing, with a daemon on a lease of it', async () => {
  const owner = KmsDevice.open(card.card);
  const fd = owner.dupFd();
  const dlm = mkdtempSync(join(tmpdir(), 'dlm-'));
  const env = { DLM_RUNTIME_PATH: dlm };
  const args = ['--drm-fd', '3'];
  const daemon = await TestDaemon.start({ args, descriptors: [fd.number], env, config: configOf(card) });
  await daemon.during(async () => {
    const { session, cards } = await daemon.status();
    assert.deepEqual([session.kind, cards[0]?.master], ['given', { source: 'fd', detail: 'descriptor 3' }]);
    const scene = new Scene(daemon, card);
    await scene.begin();
    owner.dropMaster();
    const other = await OtherMaster.open(card.card);
    other.showEverywhere();
    await scene.away(/another program is DRM master|a commit was refused/);
    other.close();
    owner.setMaster();
    await scene.back();
    await scene.end();
    await onALease(daemon, owner, env);
  });
  fd.close();
  owner.close();
});

/** A daemon that is a lessee: it loses and regains its master with its lessor. */
async function onALease(lessor: TestDaemon, owner: KmsDevice, env: NodeJS.ProcessEnv): Promise<void> {
  const desk = present(card.connectors[1]);
  const config = `[[output]]\nmode = "640x480"\n[[lease]]\nname = "again"\noutputs = ["${desk}"]`;
  const lessee = await TestDaemon.start({ args: ['--dlm-lease', 'desk'], env: { ...env }, config });
  await lessee.during(async () => {
    const { cards, outputs } = await lessee.status();
    assert.deepEqual(cards[0]?.master, { source: 'lease', detail: join(env.DLM_RUNTIME_PATH ?? '', 'desk') });
    assert.deepEqual(
      outputs.map(({ name, lit }) => [name, lit]),
      [[desk, true]],
    );
    await assert.rejects(Holder.take(lessee, 'again'), /is itself a lease, of which nothing can be leased/);
    const guest = new TestGuest({ name: 'tv', path: lessee.guestSocket, planes: ['primary'] });
    await guest.client.connect({ timeoutMs: 20_000 });
    await lessee.until('a place', () => guest.area?.lit === true);
    for (const [id, rgb] of [0x112233, 0x445566].entries()) {
      const { memory } = await guest.addBuffer(id, SIZE.width, SIZE.height, 'XRGB8888');
      new Uint32Array(memory.buffer, memory.byteOffset, memory.byteLength / 4).fill(rgb);
    }
    const flip = async (buffer: number) =>
      guest.client.presented(0, guest.client.submit(0, { buffer }).sequence);
    await flip(0);
    await assertSeen(lessor, desk, plainPicture(0x112233), 'the guest of the lessee');
    owner.dropMaster();
    for (const daemon of [lessor, lessee])
      await daemon.until('paused', (status) => status.cards[0]?.paused === true);
    for (let i = 0; i < 9; i++) await flip(i % 2);
    await flip(1);
    owner.setMaster();
    for (const daemon of [lessor, lessee])
      await daemon.until('master again', (status) => status.cards[0]?.paused === false, 60_000);
    await assertSeen(lessor, desk, plainPicture(0x445566), 'its newest frame');
    await guest.client.bye();
    guest.close();
    assert.equal(await lessee.stop(), 0);
    await lessor.until('the lease is free', ({ leases }) => leases[0]?.state === 'free');
  });
}
