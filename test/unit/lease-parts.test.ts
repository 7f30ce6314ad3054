/** Parts of the lease broker that need no card: who may, who waits, notice, and what outlives the daemon. */
import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { mock, test } from 'node:test';
import { readState } from '../../src/leases/adopt.js';
import { LeaseError } from '../../src/leases/errors.js';
import type { Held } from '../../src/leases/held.js';
import { LeaseKeeper } from '../../src/leases/keeper.js';
import { giveNotice } from '../../src/leases/notice.js';
import { mayHave, unitOfGroup } from '../../src/leases/policy.js';
import { WaitingList } from '../../src/leases/queue.js';
import { createMemfd, type Fd } from '../../src/native/base.js';
import type { Logger } from '../../src/service/log.js';
import type { FdStore } from '../../src/service/store.js';
import { leaseConfig } from '../fixtures/lease.js';
import { countFds } from './sockets.js';

const SETTINGS = leaseConfig({ noticeMs: 500 });

test('the unit of a process is that of its control group', () => {
  assert.equal(unitOfGroup('/system.slice/player.service'), 'player.service');
  assert.equal(unitOfGroup('/system.slice/player.service/payload'), 'player.service');
  assert.equal(
    unitOfGroup('/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope'),
    'app-x.scope',
  );
  assert.equal(unitOfGroup('/system.slice/_cgroup.service'), 'cgroup.service');
  assert.equal(unitOfGroup('/user.slice'), null);
  assert.equal(unitOfGroup('/'), null);
});

test('users, groups and units each may have it', () => {
  const kim = { uid: 1000, gid: 1000, pid: process.pid };
  assert.equal(mayHave(SETTINGS, kim), true);
  assert.equal(mayHave({ ...SETTINGS, uids: [1000] }, kim), true);
  assert.equal(mayHave({ ...SETTINGS, uids: [1001] }, kim), false);
  assert.equal(mayHave({ ...SETTINGS, gids: [1000] }, kim), true);
  // Of no such unit, but of that user.
  assert.equal(mayHave({ ...SETTINGS, units: ['player.service'] }, kim), false);
  assert.equal(mayHave({ ...SETTINGS, units: ['player.service'], uids: [1000] }, kim), true);
  assert.equal(mayHave({ ...SETTINGS, units: ['player.service'] }, { ...kim, uid: 0 }), true);
});

test('who waits is served in order, and hears when its time is over', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  try {
    const list = new WaitingList<{ timeoutMs?: number }, string>(() => {});
    const why = new LeaseError('Busy', 'it is held', true);
    const who = (pid: number) => ({ pid, uid: 0, gid: 0 });
    const first = list.add('desk', who(1), {}, why, false);
    const second = list.add('desk', who(2), { timeoutMs: 100 }, why, false);
    const urgent = list.add('desk', who(3), {}, why, true);
    const other = list.add('wall', who(4), {}, why, false);
    const pids = (name?: string) => list.list(name).map((one) => one.who.pid);
    assert.deepEqual(
      [pids('desk'), pids()],
      [
        [3, 1, 2],
        [3, 1, 2, 4],
      ],
    );
    mock.timers.tick(100);
    await assert.rejects(second, /it is held, for 100 ms now/);
    const [one, two, three] = list.list();
    assert.ok(one !== undefined && two !== undefined && three !== undefined);
    list.moveToFront(three);
    assert.deepEqual(pids(), [4, 3, 1]);
    assert.equal(list.grant(one, 'the lease'), true);
    assert.equal(list.grant(one, 'twice'), false);
    assert.equal(await urgent, 'the lease');
    list.refuse(two, why);
    await assert.rejects(first, /it is held/);
    list.refuse(three, why);
    await assert.rejects(other);
    assert.equal(list.empty, true);
  } finally {
    mock.timers.reset();
  }
});

function held(notice: ((reason: string, ms: number) => void) | undefined): Held {
  const events = { ended: () => {}, ...(notice === undefined ? {} : { notice }) };
  return { settings: SETTINGS, who: { pid: 1, uid: 0, gid: 0 }, events, ending: null } as unknown as Held;
}

test('notice is given once for each earlier end, and what ends before that ends it', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  try {
    const told: unknown[][] = [];
    const ends: string[] = [];
    const one = held((...notice) => told.push(notice));
    const end = async (reason: string) => {
      ends.push(reason);
      one.ending?.done();
    };
    const over = giveNotice(one, { reason: 'closing' }, end);
    assert.equal(giveNotice(one, { reason: 'later', noticeMs: 900 }, end), over);
    mock.timers.tick(100);
    assert.equal(giveNotice(one, { reason: 'now', noticeMs: 10 }, end), over);
    mock.timers.tick(10);
    await over;
    mock.timers.tick(1000);
    assert.deepEqual(told, [
      ['closing', 500],
      ['now', 10],
    ]);
    assert.deepEqual([ends, one.ending], [['now'], null]);
    // It is released before its time is over.
    const again = giveNotice(one, { reason: 'again' }, end);
    one.ending?.done();
    await again;
    mock.timers.tick(1000);
    assert.deepEqual(ends, ['now']);
    // Who cannot be told gets no time.
    const mute = held(undefined);
    void giveNotice(mute, { reason: 'at once' }, end);
    assert.equal(mute.ending?.at, Date.now());
    mock.timers.tick(0);
    assert.deepEqual(ends, ['now', 'at once']);
  } finally {
    mock.timers.reset();
  }
});

const STATE = {
  version: 1,
  leases: [
    {
      name: 'desk',
      card: '/dev/dri/card1',
      lessee: 1,
      who: { pid: 1, uid: 0, gid: null },
      since: 5,
      outputs: ['DP-1'],
      objects: { crtcs: [1], connectors: [2], planes: [3], primaries: [3] },
      settings: SETTINGS,
    },
  ],
};

test('a state gets its descriptors back by their names, and others are closed', () => {
  const before = countFds();
  const names = ['lease-desk', 'process-desk', 'card-card1', 'lease-stranger'];
  const fds = new Map(names.map((name) => [name, createMemfd(name)]));
  const { leases, cards } = readState(JSON.stringify(STATE), fds);
  assert.equal(leases[0]?.fd, fds.get('lease-desk'));
  assert.equal(leases[0]?.process, fds.get('process-desk'));
  assert.deepEqual([...cards], [['/dev/dri/card1', fds.get('card-card1')]]);
  assert.equal(fds.get('lease-stranger')?.closed, true);
  for (const fd of fds.values()) fd.close();
  const only = new Map([['process-desk', createMemfd('process')]]);
  assert.deepEqual(readState(JSON.stringify(STATE), only).leases, []);
  for (const wrong of [
    '',
    '{}',
    JSON.stringify({ ...STATE, version: 2 }),
    '{"version": 1, "leases": [{}]}',
  ]) {
    assert.throws(() => readState(wrong, new Map([['lease-desk', createMemfd('lease')]])));
  }
  assert.equal(countFds(), before);
});

/** What a service manager would keep. */
class FakeStore implements FdStore {
  readonly kept = true;
  readonly fds = new Map<string, Fd>();
  readonly calls: string[] = [];
  put(owner: string, name: string, fd: Fd): void {
    this.calls.push(`put ${owner}/${name}`);
    this.fds.get(name)?.close();
    this.fds.set(name, fd.dup());
  }
  remove(owner: string, name: string): void {
    this.calls.push(`remove ${owner}/${name}`);
    this.fds.get(name)?.close();
    this.fds.delete(name);
  }
  removeAll(): void {}
  claim(): Map<string, Fd> | null {
    return new Map([...this.fds].map(([name, fd]) => [name, fd.dup()]));
  }
}

test('what the keeper has put, the next one claims; a state that is none loses the leases and nothing else', () => {
  const before = countFds();
  const store = new FakeStore();
  const errors: string[] = [];
  const log = { error: (_details: object, text: string) => errors.push(text) } as unknown as Logger;
  const keeper = new LeaseKeeper(store, log);
  const lease = createMemfd('lease');
  const state = {
    document: STATE as Parameters<LeaseKeeper['update']>[0]['document'],
    fds: new Map([['lease-desk', lease]]),
  };
  keeper.update(state);
  keeper.update(state);
  assert.deepEqual(store.calls, ['put leases/lease-desk', 'put leases/state']);
  const { leases } = new LeaseKeeper(store, log).claim();
  assert.deepEqual(leases[0]?.state, STATE.leases[0]);
  leases[0]?.fd.close();
  // A lease of the former daemon that does not go on is not kept for ever.
  const next = new LeaseKeeper(store, log);
  for (const one of next.claim().leases) one.fd.close();
  next.update({ document: { version: 1, leases: [] }, fds: new Map() });
  assert.deepEqual(store.calls.splice(2), ['remove leases/lease-desk', 'put leases/state']);
  const broken = createMemfd('state');
  writeSync(broken.number, '{"version": 1, "leases": [');
  store.put('leases', 'state', broken);
  assert.deepEqual(new LeaseKeeper(store, log).claim().leases, []);
  assert.deepEqual(errors, ['the leases of the former daemon are lost']);
  keeper.update({ document: { version: 1, leases: [] }, fds: new Map() });
  assert.deepEqual(store.calls.slice(-2), ['remove leases/lease-desk', 'put leases/state']);
  for (const fd of [lease, broken, ...store.fds.values()]) fd.close();
  assert.equal(countFds(), before);
});
