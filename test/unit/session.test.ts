/** Who opens cards, when DRM master is looked for and never taken, and leases that other lease managers give. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { createMemfd, type Fd } from '../../src/native/base.js';
import { type SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';
import type { Logger } from '../../src/service/log.js';
import { adoptDescriptor, takeDlmLease } from '../../src/session/given.js';
import { type Mastered, Mastery } from '../../src/session/mastery.js';
import { candidates, openSession } from '../../src/session/session.js';
import { SessionError } from '../../src/session/source.js';
import { countFds, untilFds } from './sockets.js';

const log = { info: () => {}, warn: () => {}, error: () => {} } as unknown as Logger;

// ---- which seat manager

const seatd = { backend: 'seatd', reason: '/run/seatd.sock' };
const logind = { backend: 'logind', reason: 'session 2' };
for (const { name, environment, sockets, found } of [
  { name: 'nothing: none', environment: {}, sockets: [], found: [] },
  { name: 'a socket of seatd', environment: {}, sockets: ['/run/seatd.sock'], found: [seatd] },
  { name: 'a session', environment: { XDG_SESSION_ID: '2' }, sockets: [], found: [logind] },
  {
    name: 'both',
    environment: { XDG_SESSION_ID: '2' },
    sockets: ['/run/seatd.sock'],
    found: [seatd, logind],
  },
  {
    name: 'a socket elsewhere',
    environment: { SEATD_SOCK: '/s' },
    sockets: ['/s'],
    found: [{ backend: 'seatd', reason: '/s' }],
  },
  {
    name: 'the one that libseat is told to use, whatever there is',
    environment: { LIBSEAT_BACKEND: 'logind', XDG_SESSION_ID: '2' },
    sockets: ['/run/seatd.sock'],
    found: [{ backend: 'logind', reason: 'LIBSEAT_BACKEND' }],
  },
]) {
  test(`seat managers worth trying: ${name}`, () => {
    assert.deepEqual(
      candidates(environment, (path) => sockets.includes(path)),
      found,
    );
  });
}

test('a seat manager that does not answer: direct where that was left open, else an error with the reason', () => {
  const events = { disabled: () => {}, enabled: () => {}, lost: () => {} };
  const former = process.env.SEATD_SOCK;
  process.env.SEATD_SOCK = join(mkdtempSync(join(tmpdir(), 'seat-')), 'nothing');
  try {
    assert.throws(() => openSession('seatd', events, log), /session = "seatd": libseat_open_seat: /);
    const session = openSession('direct', events, log);
    assert.deepEqual([session.kind, session.seat, session.reason], ['direct', null, 'configuration']);
  } finally {
    if (former === undefined) delete process.env.SEATD_SOCK;
    else process.env.SEATD_SOCK = former;
  }
});

// ---- master

class PlayedCard implements Mastered {
  readonly path = 'card';
  paused: string | null = null;
  master = true;
  /** What SET_MASTER does. */
  grants = false;
  tries = 0;
  remembered = 0;
  resumes = 0;
  refuses = 0;

  isMaster(): boolean {
    return this.master;
  }
  setMaster(): void {
    this.tries++;
    if (!this.grants)
      throw Object.assign(new Error('EBUSY'), { code: 'EBUSY', errno: 16, op: 'x', subject: '' });
    this.master = true;
  }
  pause(reason: string): void {
    this.paused = reason;
  }
  remember(): void {
    this.remembered++;
  }
  async resume(): Promise<boolean> {
    this.resumes++;
    if (this.refuses-- > 0) return false;
    this.paused = null;
    return true;
  }
}

let now = 0;
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 10) {
    now += 10;
    mock.timers.tick(10);
    for (let i = 0; i < 5; i++) await Promise.resolve();
  }
}
function watched(own: boolean): { card: PlayedCard; mastery: Mastery } {
  now = 100_000;
  mock.timers.enable({ apis: ['setTimeout'] });
  const card = new PlayedCard();
  return { card, mastery: new Mastery(card, { own }, log, () => now) };
}
afterEach(() => mock.timers.reset());

test('a loss that nobody tells of is found, and so is the return', async () => {
  const { card, mastery } = watched(false);
  mastery.start();
  await pass(3000);
  assert.ok(card.remembered >= 2, 'what lessees show is noted while it can be');
  card.master = false;
  await pass(1100);
  assert.equal(card.paused, 'another program is DRM master');
  await pass(10_000);
  assert.deepEqual([card.resumes, card.tries], [0, 0], 'nothing is tried on a descriptor of somebody else');
  card.master = true;
  await pass(2100);
  assert.deepEqual([card.paused, card.resumes], [null, 1]);
  card.master = false;
  await pass(1100);
  assert.notEqual(card.paused, null, 'it goes on being watched');
  mastery.stop();
  card.master = true;
  await pass(5000);
  assert.notEqual(card.paused, null, 'until it is stopped');
});

test('SET_MASTER is tried on an open file of our own, more and more slowly', async () => {
  const { card, mastery } = watched(true);
  mastery.start();
  card.master = false;
  mastery.lost('a commit was refused (EACCES)');
  assert.equal(card.paused, 'a commit was refused (EACCES)');
  await pass(2000);
  const early = card.tries;
  assert.ok(early >= 4 && early <= 7, `${early} tries in two seconds`);
  await pass(20_000);
  assert.ok(card.tries - early <= 11, `${card.tries - early} tries in twenty seconds more`);
  card.grants = true;
  await pass(2100);
  assert.equal(card.paused, null);
});

test('a seat manager that is about to take master away: what is left of it is not used', async () => {
  const { card, mastery } = watched(false);
  mastery.start();
  mastery.disabled();
  assert.deepEqual([card.paused, card.remembered], ['the session is not active', 1]);
  await pass(1000);
  assert.equal(card.resumes, 0, 'it is master still, but not for long');
  card.master = false;
  await pass(60_000);
  assert.equal(card.resumes, 0);
  // It says so, but its SET_MASTER was refused: it stays silent when that changes.
  mastery.enabled();
  await pass(100);
  assert.equal(card.paused, 'the session is active, but another program is DRM master');
  card.master = true;
  await pass(2100);
  assert.equal(card.paused, null);
  mastery.disabled();
  card.master = false;
  card.master = true;
  mastery.enabled();
  await pass(10);
  assert.equal(card.paused, null, 'at once when it is told');
});

test('a screen that cannot be taken back at once is tried again', async () => {
  const { card, mastery } = watched(false);
  mastery.start();
  card.refuses = 2;
  mastery.lost('x');
  await pass(1000);
  assert.deepEqual([card.paused, card.resumes], [null, 3]);
});

test('a card that was passed without DRM master waits for it', async () => {
  const { card, mastery } = watched(false);
  card.master = false;
  mastery.start();
  assert.equal(card.paused, 'DRM master has not been given yet');
  card.master = true;
  await pass(2100);
  assert.equal(card.paused, null);
});

// ---- leases of others

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'given-'));
  process.env.DLM_RUNTIME_PATH = directory;
});
afterEach(() => {
  delete process.env.DLM_RUNTIME_PATH;
});

/** A lease manager that answers as it is told. */
async function asked(answer: (client: SeqPacket) => void): Promise<{ error: Error; requests: number[][] }> {
  const requests: number[][] = [];
  const server = SeqPacketServer.listen(join(directory, 'desk'), {
    onConnection: (client) => {
      client.onMessage = (data) => {
        requests.push([...data]);
        answer(client);
      };
    },
  });
  try {
    const error = await takeDlmLease('desk', () => {}, log).then(
      () => assert.fail('it was refused'),
      (reason: unknown) => reason as Error,
    );
    assert.ok(error instanceof SessionError, String(error));
    return { error, requests };
  } finally {
    server.close();
  }
}

for (const { name, fds, reason } of [
  { name: 'denied', fds: null, reason: /denied; its lease manager may say why/ },
  { name: 'no descriptor', fds: 0, reason: /an answer with 0 descriptors/ },
  { name: 'two descriptors', fds: 2, reason: /an answer with 2 descriptors/ },
  { name: 'a descriptor of something else', fds: 1, reason: /the lease has no outputs/ },
]) {
  test(`a lease that is asked for by the name of another lease manager: ${name}`, async () => {
    const before = countFds();
    const { error, requests } = await asked((client) => {
      const sent: Fd[] = Array.from({ length: fds ?? 0 }, () => createMemfd('no lease'));
      if (fds !== null) client.send(Uint8Array.of(0), sent);
      for (const fd of sent) fd.close();
      if (fds === null) client.close();
    });
    assert.match(error.message, reason);
    assert.match(error.message, /^--dlm-lease desk: .*\/desk: /);
    assert.deepEqual(requests[0], [0, 0, 0, 0]);
    await untilFds(before);
  });
}

test('nobody serves that lease', async () => {
  await assert.rejects(
    takeDlmLease('desk', () => {}, log),
    /--dlm-lease desk: .*ENOENT/,
  );
});

test('a descriptor that is none, or none of a card', () => {
  assert.throws(() => adoptDescriptor(987), /--drm-fd 987: .*EBADF/);
  const fd = createMemfd('no card').release();
  assert.throws(() => adoptDescriptor(fd), /it is no card with outputs/);
});
