/** Clients of drm-lease-manager, byte for byte, by what is known of the protocol; the broker is played. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { DaemonConfig } from '../../src/config/config.js';
import type { LeaseRequest } from '../../src/leases/broker.js';
import { DlmFrontend } from '../../src/leases/dlm.js';
import { LeaseError } from '../../src/leases/errors.js';
import type { Lessee } from '../../src/leases/held.js';
import type { Grant } from '../../src/leases/holdings.js';
import { createMemfd, type Fd, lockFile } from '../../src/native/base.js';
import { SeqPacket } from '../../src/native/seqpacket.js';
import type { Logger } from '../../src/service/log.js';
import { leaseConfig } from '../fixtures/lease.js';
import { countFds, until, untilFds } from './sockets.js';

const GET = Uint8Array.of(0, 0, 0, 0);
const RELEASE = Uint8Array.of(1, 0, 0, 0);
let directory: string;
let frontend: DlmFrontend;
let calls: unknown[][];
let holder: { who: Lessee; ended: (reason: string) => void } | null;
let told: string[];

const broker = {
  async take(name: string, who: Lessee, { ended }: LeaseRequest): Promise<Grant> {
    calls.push(['take', name]);
    if (holder !== null) throw new LeaseError('Busy', 'held');
    holder = { who, ended };
    return { fd: createMemfd('lease'), document: {} as Grant['document'] };
  },
  async release(name: string, who: Lessee, crashed: boolean): Promise<void> {
    calls.push(['release', name, crashed]);
    if (holder?.who === who) holder = null;
  },
};

const daemon = (): DaemonConfig =>
  ({ dlmDirectory: directory, guestSocketMode: 0o660, guestSocketGroup: null }) as DaemonConfig;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dlm-'));
  [calls, holder, told] = [[], null, []];
  const say = (_details: object, text: string) => told.push(text);
  frontend = new DlmFrontend(broker, { warn: say, error: say } as unknown as Logger);
  frontend.configure([leaseConfig()], daemon());
});
afterEach(() => frontend.stop());

/** What libdlmclient is: one connection for one lease. */
class Client {
  readonly fds: Fd[] = [];
  answer: Uint8Array | null = null;
  reason = '';
  private readonly socket = SeqPacket.connect(join(directory, 'desk'));

  constructor() {
    this.socket.onMessage = (data, fds) => {
      this.answer = data;
      this.fds.push(...fds);
    };
    this.socket.onClose = (reason) => {
      this.reason = reason;
    };
  }

  send(data: Uint8Array, fds: readonly Fd[] = []): this {
    this.socket.send(data, fds);
    return this;
  }

  async granted(): Promise<this> {
    await until('a grant', () => this.answer !== null);
    assert.deepEqual([this.answer?.length, this.fds.length, this.reason], [1, 1, '']);
    return this;
  }

  async denied(): Promise<void> {
    await until('the end', () => this.reason !== '');
    assert.equal(this.answer, null);
    this.close();
  }

  close(): void {
    for (const fd of this.fds) fd.close();
    this.socket.close();
  }
}

test('a lease is granted with one byte and one descriptor, and released by a word', async () => {
  const fds = countFds();
  const client = await new Client().send(GET).granted();
  client.send(RELEASE);
  await until('released', () => calls.length === 2);
  client.close();
  assert.deepEqual(calls, [
    ['take', 'desk'],
    ['release', 'desk', false],
  ]);
  await untilFds(fds);
  assert.deepEqual(calls.length, 2);
});

test('one that hangs up without a word has crashed', async () => {
  (await new Client().send(GET).granted()).close();
  await until('gone', () => calls.length === 2);
  assert.deepEqual(calls[1], ['release', 'desk', true]);
});

test('a second is denied, a third is sent away, and the first keeps its lease', async () => {
  const first = await new Client().send(GET).granted();
  const second = new Client();
  await new Promise((resolve) => setTimeout(resolve, 50));
  await new Client().denied();
  await second.send(GET).denied();
  assert.deepEqual(calls, [
    ['take', 'desk'],
    ['take', 'desk'],
  ]);
  assert.notEqual(holder, null);
  // And others may come when they are gone.
  await new Client().send(GET).denied();
  first.close();
  await until('gone', () => holder === null);
  (await new Client().send(GET).granted()).close();
  await until('gone', () => holder === null);
});

test('what is no request is ignored, with what came along', async () => {
  const fds = countFds();
  const client = new Client();
  const memory = createMemfd('stray');
  for (const size of [0, 1, 3, 5, 64]) if (size > 0) client.send(new Uint8Array(size));
  client
    .send(Uint8Array.of(2, 0, 0, 0))
    .send(Uint8Array.of(0xff, 0xff, 0xff, 0xff))
    .send(GET, [memory]);
  await until('told', () => told.length === 7);
  assert.deepEqual(calls, []);
  memory.close();
  client.send(GET);
  await client.granted();
  client.send(GET);
  await until('told again', () => told.length === 8);
  client.close();
  await untilFds(fds);
});

test('a lease that is revoked ends the connection', async () => {
  const client = await new Client().send(GET).granted();
  holder?.ended('closed');
  await until('the end', () => client.reason !== '');
  client.close();
  assert.deepEqual(calls, [['take', 'desk']]);
});

test('one that gives up while it is asked for has nothing', async () => {
  const client = new Client().send(GET).send(RELEASE);
  await until('both', () => calls.length === 2);
  client.close();
  assert.deepEqual(calls[1], ['release', 'desk', false]);
  assert.equal(holder, null);
});

test('a name that another manager serves is left to it', () => {
  const lock = lockFile(join(directory, 'wall.lock'));
  frontend.configure([leaseConfig(), leaseConfig({ name: 'wall' })], daemon());
  assert.match(told[0] ?? '', /another lease manager serves it/);
  assert.equal(existsSync(join(directory, 'wall')), false);
  lock.close();
  frontend.configure([leaseConfig({ name: 'wall' })], daemon());
  assert.deepEqual([existsSync(join(directory, 'desk')), existsSync(join(directory, 'wall'))], [false, true]);
});

test('a socket that a dead manager left is replaced, another file is not', () => {
  writeFileSync(join(directory, 'wall'), 'x');
  frontend.configure([leaseConfig(), leaseConfig({ name: 'wall' })], daemon());
  assert.match(told[0] ?? '', /^no socket for clients/);
  assert.equal(existsSync(join(directory, 'desk')), true);
});
