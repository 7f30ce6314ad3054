/** Wayland clients, by libwayland-client, at the socket that offers leases; the broker and the cards are played. */
import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { LeaseDocument } from '../../src/api/documents.js';
import type { Config, LeaseConfig } from '../../src/config/config.js';
import { LeaseError } from '../../src/leases/errors.js';
import type { Lessee, LesseeEvents } from '../../src/leases/held.js';
import type { Grant } from '../../src/leases/holdings.js';
import { type LeasableCard, type LeasableOutput, WaylandFrontend } from '../../src/leases/wayland.js';
import { createMemfd } from '../../src/native/base.js';
import type { Log } from '../../src/service/log.js';
import { GuestProcess } from '../machine/inside/guest-process.js';
import { countFds, socketPath, until, untilFds } from './sockets.js';

const CLIENT = ['build/Release/wayland_client', 'build-machine/wayland_client'].find(existsSync) ?? '';
/** What a request that is against the rules is told (drm-lease-v1.xml). */
const REQUEST = 'wp_drm_lease_request_v1';
const [EPROTO, WRONG_DEVICE, DUPLICATE_CONNECTOR, EMPTY_LEASE] = [71, 0, 1, 2];
const IMPLEMENTATION = 3;

interface Holder {
  who: Lessee;
  events: LesseeEvents;
}

let path: string;
let frontend: WaylandFrontend;
let calls: unknown[][];
let audits: Record<string, unknown>[];
let holders: Map<string, Holder>;
let config: Config;
let cards: (LeasableCard & { outputs: Map<string, LeasableOutput> })[];
let isMaster: boolean;
let [asked, opened]: [number, number] = [0, 0];
let clients: Client[];
let fds: number;

const broker = {
  async take(name: string, who: Lessee, events: LesseeEvents): Promise<Grant> {
    calls.push(['take', name]);
    if (holders.has(name)) throw new LeaseError('Busy', 'held');
    if (name === 'greedy') throw new LeaseError('Unavailable', 'not so many planes');
    hold(name, { who, events });
    return { fd: createMemfd('lease'), document: {} as LeaseDocument };
  },
  async release(name: string, who: Lessee, crashed: boolean): Promise<void> {
    calls.push(['release', name, crashed]);
    if (holders.get(name)?.who === who) free(name);
  },
  documents: () => [...holders.keys()].map((name) => ({ name, state: 'leased' }) as LeaseDocument),
};

function lend(name: string, lease: string | null): void {
  for (const wanted of config.leases.find((one) => one.name === name)?.outputs ?? [])
    for (const { outputs } of cards) {
      const output = outputs.get(wanted);
      if (output !== undefined) output.lent = lease === null ? null : ({ lease } as LeasableOutput['lent']);
    }
}

function hold(name: string, holder: Holder): void {
  holders.set(name, holder);
  lend(name, name);
  frontend.refresh();
}

function free(name: string): void {
  holders.delete(name);
  lend(name, null);
  frontend.refresh();
}

function output(card: string, name: string, id: number): [string, LeasableOutput] {
  const identity = { make: 'Acme', model: 'Wide', serial: `S${id}` };
  const connector = { id, name, connected: true, identity } as LeasableOutput['connector'];
  const settings = { name: null } as LeasableOutput['settings'];
  return [name, { name, connector, settings, lent: null, identity: { connector: name, card, ...identity } }];
}

function lease(name: string, outputs: string[], rule: Partial<LeaseConfig> = {}): LeaseConfig {
  return { name, outputs, uids: null, gids: null, units: null, ...rule } as LeaseConfig;
}

beforeEach(() => {
  fds = countFds();
  path = socketPath();
  [calls, audits, holders, clients, isMaster] = [[], [], new Map(), [], true];
  [asked, opened] = [0, 0];
  const device = {
    isMaster: () => {
      asked++;
      return isMaster;
    },
  };
  const [first, second] = ['/dev/dri/card7', '/dev/dri/card8'] as const;
  cards = [
    {
      path: first,
      device,
      outputs: new Map([
        output(first, 'DP-1', 40),
        output(first, 'DP-2', 41),
        output(first, 'DP-3', 42),
        output(first, 'DP-4', 43),
      ]),
    },
    { path: second, device, outputs: new Map([output(second, 'DP-5', 50)]) },
  ];
  config = {
    daemon: { waylandSocket: path, guestSocketMode: 0o666, guestSocketGroup: null },
    outputs: [],
    leases: [
      lease('greedy', ['DP-1']),
      lease('desk', ['DP-1']),
      lease('both', ['DP-1', 'DP-2']),
      lease('other', ['DP-5']),
      lease('nobody', ['DP-3'], { uids: [4_000_000_000] }),
      lease('nowhere', ['DP-2', 'DP-9']),
    ],
  } as unknown as Config;
  const say = () => {};
  const logs = {
    module: () => ({ warn: say, error: say }),
    audit: (_event: string, details: Record<string, unknown>) => audits.push(details),
  };
  frontend = new WaylandFrontend(broker, cards, logs as unknown as Log, () => {
    opened++;
    return createMemfd('card');
  });
  frontend.configure(config);
});
afterEach(async () => {
  for (const client of clients) await client.dispose();
  frontend.stop();
  assert.equal(existsSync(path), false);
  await untilFds(fds);
});

class Client extends GuestProcess {
  constructor(command = [CLIENT]) {
    super('wayland_client', command, { WAYLAND_DISPLAY: path });
    clients.push(this);
  }

  static async bound(command?: string[]): Promise<Client> {
    const client = new Client(command);
    await client.event('ready');
    client.send('bind\n');
    await client.event('done', { device: 0 });
    await client.event('done', { device: 1 });
    return client;
  }

  /** What was said of a kind, its first value each. */
  ids(word: string): unknown[] {
    return this.all(word).map(({ values }) => values.id ?? values.lease);
  }

  async granted(request: string, number = 0): Promise<void> {
    this.send(`request ${request}\n`);
    await this.event('leasefd', { lease: number });
  }

  async denied(request: string, number = 0): Promise<void> {
    this.send(`request ${request}\n`);
    await this.event('finished', { lease: number });
    assert.deepEqual(this.all('leasefd'), []);
  }
}

test('there is one global for each card and nothing else, and what can be leased is offered', async () => {
  assert.equal(statSync(path).mode & 0o777, 0o666);
  const client = await Client.bound();
  assert.deepEqual(
    client.all('global').map(({ values }) => [values.interface, values.version]),
    [
      ['wp_drm_lease_device_v1', 1],
      ['wp_drm_lease_device_v1', 1],
    ],
  );
  const isRoot = process.getuid?.() === 0;
  assert.deepEqual(client.ids('connector'), isRoot ? [40, 41, 42, 50] : [40, 41, 50]);
  const description = 'Acme_Wide_S40_(DP-1)';
  assert.deepEqual(client.all('connector')[0]?.values, { device: 0, id: 40, name: 'DP-1', description });
  const words = client.events.map(({ word }) => word).filter((word) => word !== 'global');
  assert.deepEqual(words.slice(0, 3), ['ready', 'drmfd', 'connector']);
  assert.equal(client.all('drmfd').length, 2);
});

test('a request gets the lease of just its connectors, which are withdrawn meanwhile and offered anew', async () => {
  const [first, second] = [await Client.bound(), await Client.bound()];
  const offered = first.all('connector').length;
  await first.granted('0 41 40');
  assert.deepEqual(calls, [['take', 'both']]);
  for (const client of [first, second]) {
    await client.event('withdrawn', { id: 41 });
    await client.event('withdrawn', { id: 40 });
    await client.eventAfter(2, 'done');
    assert.deepEqual(client.all('withdrawn').length, 2);
  }
  first.send('drop 40\ngiveback 0\n');
  await second.eventAfter(offered, 'connector');
  await second.eventAfter(3, 'done');
  await first.eventAfter(3, 'done');
  assert.deepEqual(calls[1], ['release', 'both', false]);
  // They are other objects, by which it can be asked for again.
  assert.deepEqual(second.ids('connector').slice(offered), [40, 41]);
  await second.granted('0 40 41');
  assert.deepEqual(calls[2], ['take', 'both']);
});

test('of several leases of the same connectors it gets the first that can be had', async () => {
  const client = await Client.bound();
  await client.granted('0 40');
  assert.deepEqual(calls, [
    ['take', 'greedy'],
    ['take', 'desk'],
  ]);
});

test('the end of a connection is a crash', async () => {
  const client = await Client.bound();
  await client.granted('1 50');
  await client.kill();
  await until('released', () => calls.length === 2);
  assert.deepEqual(calls[1], ['release', 'other', true]);
});

test('a lease that is revoked is finished, and is not given back any more', async () => {
  const client = await Client.bound();
  await client.granted('1 50');
  holders.get('other')?.events.ended('the room is closed');
  free('other');
  await client.event('finished', { lease: 0 });
  client.send('giveback 0\n');
  await client.eventAfter(client.all('done').length - 1, 'done');
  await client.granted('1 50', 1);
  assert.deepEqual(calls, [
    ['take', 'other'],
    ['take', 'other'],
  ]);
});

test('one that gives up while it is asked for has nothing', async () => {
  const client = await Client.bound();
  client.send('request 1 50\ngiveback 0\n');
  await until('both', () => calls.length === 2);
  assert.deepEqual(calls[1], ['release', 'other', false]);
  assert.equal(holders.size, 0);
});

test('what is no lease, and what was withdrawn, is denied and told in the log', async () => {
  const client = await Client.bound();
  await client.denied('0 41');
  assert.equal(audits[0]?.result, 'no lease is configured of exactly DP-2');
  assert.deepEqual(audits[0]?.pid, client.pid);
  hold('desk', { who: { pid: 1, uid: 0, gid: 0 }, events: { ended: () => {} } });
  await client.event('withdrawn', { id: 40 });
  await client.denied('0 40', 1);
  assert.equal(audits[1]?.result, 'one of them was withdrawn: DP-1');
  assert.deepEqual(calls, []);
});

test('requests against the rules are protocol errors, and harm nobody else', async () => {
  const other = await Client.bound();
  await other.granted('1 50');
  const misuse = async (command: string, code: number, object: string) => {
    const client = await Client.bound();
    client.send(`misuse ${command}\n`);
    await client.event('end', { errno: EPROTO, code, interface: object });
  };
  await misuse('0 empty', EMPTY_LEASE, 'none');
  await misuse('0 twice 40', DUPLICATE_CONNECTOR, REQUEST);
  await misuse('1 foreign 40', WRONG_DEVICE, REQUEST);
  const many = await Client.bound();
  many.send('registries 40\n');
  await many.event('end', { errno: EPROTO, code: IMPLEMENTATION, interface: 'wl_display' });
  assert.deepEqual(calls, [['take', 'other']]);
  other.send('giveback 0\n');
  await until('released', () => calls.length === 2);
});

test('a device is released, and what was offered of it can be destroyed', async () => {
  const client = await Client.bound();
  client.send('release 0\ndrop 40\ndrop 41\n');
  await client.event('released', { device: 0 });
  hold('desk', { who: { pid: 1, uid: 0, gid: 0 }, events: { ended: () => {} } });
  await client.granted('1 50');
  assert.deepEqual(client.ids('withdrawn').includes(40), false);
});

test('connectors come and go', async () => {
  const client = await Client.bound();
  const known = client.all('connector').length;
  const wide = cards[0]?.outputs.get('DP-2') ?? assert.fail();
  wide.connector = { ...wide.connector, connected: false };
  frontend.refresh();
  await client.event('withdrawn', { id: 41 });
  wide.connector = { ...wide.connector, connected: true };
  config.leases.push(lease('fourth', ['DP-4']));
  frontend.configure(config);
  await client.eventAfter(known + 1, 'connector');
  assert.deepEqual(client.ids('connector').slice(known), [41, 43]);
  const gone = cards[0] ?? assert.fail();
  frontend.cardGone(gone);
  await client.event('gone');
  await client.event('withdrawn', { id: 43 });
});

test('while the daemon is not master, nothing is offered and no card is opened', async () => {
  isMaster = false;
  const client = new Client();
  await client.event('ready');
  client.send('bind\n');
  await until('both are known', () => asked === 2);
  assert.equal(opened, 0);
  isMaster = true;
  frontend.refresh();
  await client.event('done', { device: 1 });
  const count = client.all('connector').length;
  isMaster = false;
  frontend.refresh();
  await client.event('withdrawn', { id: 50 });
  assert.equal(client.all('withdrawn').length, count);
  isMaster = true;
  frontend.refresh();
  await client.eventAfter(2 * count - 1, 'connector');
  assert.deepEqual([opened, client.all('drmfd').length], [2, 2]);
});

test('one that may not have a lease is not offered its connectors', async (t) => {
  if (process.getuid?.() !== 0) {
    // Who is not root may not have it; that it is not offered is above.
    t.diagnostic('not root');
    return;
  }
  // The build is where others may have no way to.
  const program = `${path}-client`;
  copyFileSync(CLIENT, program);
  chmodSync(dirname(path), 0o755);
  const user = ['setpriv', '--reuid=daemon', '--regid=daemon', '--clear-groups', '--'];
  const client = await Client.bound([...user, program]);
  assert.deepEqual(client.ids('connector'), [40, 41, 50]);
});

test('a client that wants too much and reads nothing is disconnected', async () => {
  const other = await Client.bound();
  const before = countFds();
  const stalled = await Client.bound();
  await until('connected', () => countFds() > before);
  stalled.send('stall 40\n');
  await stalled.event('stalled');
  // All but the test's own pipes to it.
  await until('disconnected', () => countFds() === before + 3);
  await other.granted('1 50');
});
