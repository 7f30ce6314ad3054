/** Guests with a lease, with a broker of this file: who may ask, what comes of it, and what is left when one has gone. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { test } from 'node:test';
import type { LeaseDocument } from '../../src/api/documents.js';
import type { Config } from '../../src/config/config.js';
import { parseConfig } from '../../src/config/load.js';
import type { GuestHost, GuestKind } from '../../src/guests/kind.js';
import type { Leases } from '../../src/guests/lease.js';
import { leaseKind } from '../../src/guests/lease-kind.js';
import { GuestManager } from '../../src/guests/manager.js';
import { Code, ProtocolError } from '../../src/guests/protocol.js';
import { LeaseError } from '../../src/leases/errors.js';
import type { Lessee } from '../../src/leases/held.js';
import { Fd } from '../../src/native/base.js';
import type { Log } from '../../src/service/log.js';
import type { FlipStatistics } from '../../src/service/statistics.js';
import type { FdStore } from '../../src/service/store.js';

const LEASES = '[[lease]]\nname = "wall"\noutputs = ["DP-1"]\n[[lease]]\nname = "desk"\noutputs = ["DP-2"]\n';
const guestText = (name: string, lease: string, more = '') =>
  `[[guest]]\nname = "${name}"\nkind = "lease"\nlease = "${lease}"\n${more}`;
const CONFIG = [
  LEASES,
  guestText('player', 'wall'),
  guestText('other', 'wall'),
  guestText('own', 'desk', 'uid = 7\n'),
  '[[guest]]\nname = "tv"\n',
].join('');
const parse = (text: string) => parseConfig(text, 'f', { user: () => 0, group: () => 0 });
const PEER = { pid: 41, uid: 1000, gid: 1000 };

/** Grants when it is told to. */
class FakeBroker implements Leases {
  readonly did: string[] = [];
  readonly fds: Fd[] = [];
  taken: {
    who: Lessee;
    ended(reason: string): void;
    notice?(reason: string, ms: number): void;
    grant(): void;
    refuse(error: Error): void;
  } | null = null;

  take: Leases['take'] = (name, who, { wait, ended, notice }) => {
    assert.ok(wait, 'as far as the lease lets it');
    this.did.push(`take ${name} for ${who.pid}`);
    return new Promise((resolve, reject) => {
      const fd = new Fd(openSync('/dev/null', 'r'));
      this.fds.push(fd);
      const document = { name, outputs: ['DP-1'] } as LeaseDocument;
      this.taken = {
        who,
        ended,
        ...(notice && { notice }),
        grant: () => resolve({ fd, document }),
        refuse: reject,
      };
    });
  };

  release: Leases['release'] = async (name, who, crashed) => {
    assert.equal(who, this.taken?.who, 'the same lessee');
    this.did.push(`release ${name}${crashed ? ' after a crash' : ''}`);
  };
}

interface Rig {
  broker: FakeBroker;
  manager: GuestManager;
  kind: GuestKind;
  told: string[];
  /** Asks as a guest of this name would. */
  ask(name: string, peer?: typeof PEER): ReturnType<GuestHost['takeLease']>;
  /** What `scanoutctl guests` would show of it. */
  shown(name: string): unknown;
  settle(): Promise<void>;
}

async function rig(text = CONFIG): Promise<Rig> {
  const broker = new FakeBroker();
  const log = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, () => {}]));
  const logs = { module: () => log, audit: () => {} } as unknown as Log;
  const config: Config = parse(text);
  const none = <T>() => ({}) as T;
  const manager = new GuestManager(
    [],
    config,
    none<FlipStatistics>(),
    logs,
    none<FdStore>(),
    broker,
    () => {},
  );
  const kind = leaseKind.make(manager);
  await kind.start(config);
  const told: string[] = [];
  const ask = (name: string, peer = PEER) =>
    manager.takeLease({
      name,
      peer,
      granted: (lease, fd) => told.push(`granted ${lease}${fd.closed ? ', but closed' : ''}`),
      noticed: (milliseconds, reason) => told.push(`noticed ${milliseconds} ${reason}`),
      ended: (code, reason) => told.push(`ended ${code} ${reason}`),
    });
  const shown = (name: string) => {
    const document = manager.documents().find((one) => one.name === name);
    return document === undefined
      ? undefined
      : { connected: document.connected, pid: document.pid, planes: document.planes, ...document.lease };
  };
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve));
  return { broker, manager, kind, told, ask, shown, settle };
}

function refusal(body: () => unknown): [Code, string] {
  try {
    body();
  } catch (error) {
    assert.ok(error instanceof ProtocolError, String(error));
    return [error.code, error.text];
  }
  return [Code.ok, ''];
}

const base = { connected: true, pid: 41, planes: [], name: 'wall', outputs: [], reason: '' };

test('a guest waits for its lease, has it, and gives it back', async () => {
  const { broker, told, ask, shown, settle } = await rig();
  assert.equal(shown('player'), undefined);
  const taken = ask('player');
  assert.deepEqual(shown('player'), { ...base, state: 'waiting' });
  broker.taken?.grant();
  await settle();
  assert.deepEqual(told, ['granted wall']);
  assert.ok(broker.fds[0]?.closed, 'what was sent is closed');
  assert.deepEqual(shown('player'), { ...base, state: 'leased', outputs: ['DP-1'] });
  await taken.withdraw(true);
  assert.deepEqual(broker.did, ['take wall for 41', 'release wall']);
  const gone = { ...base, connected: false, pid: null, state: 'ended' };
  assert.deepEqual(shown('player'), { ...gone, reason: 'it has left' });
  await taken.withdraw(true);
  assert.equal(broker.did.length, 2, 'only once');
  assert.deepEqual(told, ['granted wall']);
});

test('one that goes without a word has crashed', async () => {
  const { broker, ask, shown, settle } = await rig();
  const taken = ask('player');
  broker.taken?.grant();
  await settle();
  await taken.withdraw(false);
  assert.deepEqual(broker.did.slice(1), ['release wall after a crash']);
  assert.equal((shown('player') as { reason: string }).reason, 'it is gone without a word');
});

test('one that goes while it waits costs nobody anything', async () => {
  const { broker, told, ask, settle } = await rig();
  const gone = ask('player').withdraw(false);
  broker.taken?.grant(); // on its way already
  await gone;
  await settle();
  assert.deepEqual([told, broker.did], [[], ['take wall for 41', 'release wall']]);
  assert.ok(broker.fds[0]?.closed);
});

test('a lease that is taken back, or refused, is told with its reason, and the guest may come again', async () => {
  const { broker, told, ask, shown, settle } = await rig();
  const taken = ask('player');
  broker.taken?.grant();
  await settle();
  broker.taken?.notice?.('the room closes', 1500);
  broker.taken?.ended('the room is closed');
  assert.equal(told.splice(1, 1)[0], 'noticed 1500 the room closes');
  assert.deepEqual(told, ['granted wall', `ended ${Code.leaseEnded} the room is closed`]);
  assert.deepEqual(shown('player'), {
    ...{ ...base, connected: false, pid: null },
    ...{ state: 'ended', reason: 'the room is closed' },
  });
  await taken.withdraw(false);
  assert.deepEqual(broker.did, ['take wall for 41'], 'there is nothing to give back');
  const refused: [LeaseError['kind'], Code][] = [
    ['Busy', Code.busy],
    ['NotAllowed', Code.notAllowed],
    ['NotFound', Code.badName],
    ['Unavailable', Code.noLease],
  ];
  for (const [kind, code] of refused) {
    ask('player');
    broker.taken?.refuse(new LeaseError(kind, `it is ${kind}`));
    await settle();
    assert.equal(told.at(-1), `ended ${code} it is ${kind}`);
  }
  ask('player');
  broker.taken?.refuse(new RangeError('a defect'));
  await settle();
  assert.equal(told.at(-1), `ended ${Code.internal} a defect`);
});

test('who may not ask, and for what there is no lease', async () => {
  const { broker, ask } = await rig();
  assert.deepEqual(
    refusal(() => ask('nobody')),
    [Code.badName, 'the configuration knows no guest nobody'],
  );
  assert.deepEqual(
    refusal(() => ask('tv')),
    [Code.badName, 'guest tv is of kind "socket" in the configuration, and has no lease'],
  );
  assert.deepEqual(
    refusal(() => ask('own')),
    [Code.notAllowed, 'uid 1000 gid 1000 may not be guest own'],
  );
  assert.deepEqual(broker.did, []);
  ask('player');
  assert.deepEqual(
    refusal(() => ask('player')),
    [Code.busy, 'there is a guest player already'],
  );
  // Two that want one lease both wait for it, as far as the broker lets them.
  ask('other');
  assert.deepEqual(broker.did, ['take wall for 41', 'take wall for 41']);
});

test('guests with leases count among those that are admitted, while they are there', async () => {
  const { broker, manager, ask, settle } = await rig(`${CONFIG}[policy]\nmax_guests = 4\n`);
  for (const name of ['player', 'other', 'own']) ask(name, { ...PEER, uid: 7 });
  assert.doesNotThrow(() => manager.checkRoom('tv'));
  const full = await rig(CONFIG.replace('[[guest]]\nname = "tv"\n', '[policy]\nmax_guests = 3\n'));
  for (const name of ['player', 'other', 'own']) full.ask(name, { ...PEER, uid: 7 });
  assert.throws(() => full.manager.checkRoom('tv'), /at most 3 guests are admitted/);
  full.broker.taken?.refuse(new LeaseError('Busy', 'held'));
  await settle();
  assert.doesNotThrow(() => full.manager.checkRoom('tv'));
  assert.equal(broker.did.length, 3);
});

test('a guest with a lease is shown by nobody, and so cannot be moved', async () => {
  const { manager } = await rig();
  const refused = /guest player has lease wall, and shows itself on its outputs/;
  await assert.rejects(manager.assign('player', { output: 'DP-1' }), refused);
});

test('a new configuration ends what it takes away, and leaves the rest', async () => {
  const { broker, kind, told, ask, shown, settle } = await rig();
  ask('player');
  broker.taken?.grant();
  await settle();
  await kind.reload(parse(CONFIG));
  assert.deepEqual(told, ['granted wall']);
  await kind.reload(
    parse(CONFIG.replace('name = "player"\nkind = "lease"\nlease = "wall"', 'name = "player"')),
  );
  assert.deepEqual(broker.did.slice(1), ['release wall']);
  assert.match(told[1] ?? '', new RegExp(`^ended ${Code.notAllowed} the configuration was changed`));
  assert.equal(shown('player'), undefined);
});
