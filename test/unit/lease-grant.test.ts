/** A lease that is granted over a real socket; the daemon is the part that is played. */
import assert from 'node:assert/strict';
import { readSync } from 'node:fs';
import { test } from 'node:test';
import type { Connection } from '../../src/cli/connection.js';
import { connectReceiver, type GrantEnd, grantLease } from '../../src/cli/lease-grant.js';
import { ended } from '../../src/cli/top.js';
import { createMemfd, type Fd } from '../../src/native/base.js';
import { type SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';
import { leased } from '../fixtures/documents.js';
import { countFds, socketPath, untilFds } from './sockets.js';

interface Played {
  path: string;
  /** The program, when scanoutctl has connected to it, and what it got. */
  got: Promise<{ program: SeqPacket; data: Uint8Array; fds: Fd[] }>;
  released: string[];
  take(reason: string): void;
  interrupt(): void;
  end: Promise<GrantEnd>;
  close(): void;
}

/** scanoutctl beside a program that listens. */
function play(): Played {
  const path = socketPath();
  const released: string[] = [];
  let take: Played['take'] = () => {};
  let interrupt = () => {};
  const signal = new Promise<typeof ended>((resolve) => {
    interrupt = () => resolve(ended);
  });
  let server: SeqPacketServer | null = null;
  const got = new Promise<Awaited<Played['got']>>((resolve) => {
    server = SeqPacketServer.listen(path, {
      onConnection: (program) => {
        program.onMessage = (data, fds) => resolve({ program, data, fds });
      },
    });
  });
  const daemon = {
    onLeaseEnded: (over: (lease: string, reason: string) => void) => {
      take = (reason) => over('desk', reason);
    },
    onLeaseNotice: () => {},
    takeLease: async () => ({ fd: createMemfd('lease'), document: leased() }),
    releaseLease: async (name: string) => void released.push(name),
  } as unknown as Connection;
  const world = {
    connectReceiver,
    error: () => {},
    untilEnded: <T>(work: Promise<T>) => Promise.race([signal, work]),
  };
  const end = grantLease(daemon, { lease: 'desk', request: {}, socket: path }, world, () => {});
  return {
    ...{ path, got, released, end },
    take: (reason) => take(reason),
    interrupt: () => interrupt(),
    close: () => server?.close(),
  };
}

test('the program gets one byte and the lease, and gives it back with four', async () => {
  const fds = countFds();
  const played = play();
  const { program, data, fds: passed } = await played.got;
  assert.equal(data.length, 1);
  assert.equal(passed.length, 1);
  assert.equal(readSync(passed[0]?.number ?? -1, Buffer.alloc(1)), 0);
  passed[0]?.close();
  // What is no RELEASE ends nothing.
  program.send(Uint8Array.of(0, 0, 0, 0));
  program.send(Uint8Array.of(1));
  program.send(Uint8Array.of(1, 0, 0, 0, 0));
  assert.deepEqual(played.released, []);
  program.send(new Uint8Array(new Int32Array([1]).buffer));
  assert.deepEqual(await played.end, { how: 'released', reason: null });
  assert.deepEqual(played.released, ['desk']);
  program.close();
  played.close();
  await untilFds(fds);
});

test('a program that hangs up has crashed', async () => {
  const played = play();
  const { program, fds } = await played.got;
  for (const fd of fds) fd.close();
  program.close();
  assert.deepEqual(await played.end, { how: 'crashed', reason: null });
  assert.deepEqual(played.released, []);
  played.close();
});

for (const { what, act, end, released } of [
  {
    what: 'taken by the daemon',
    act: (played: Played) => played.take('closed'),
    end: { how: 'taken', reason: 'closed' },
    released: [],
  },
  {
    what: 'over as the command is interrupted',
    act: (played: Played) => played.interrupt(),
    end: { how: 'interrupted', reason: null },
    released: ['desk'],
  },
]) {
  test(`a lease that is ${what} ends the program's connection`, async () => {
    const played = play();
    const { program, fds } = await played.got;
    for (const fd of fds) fd.close();
    const hungUp = new Promise<void>((resolve) => {
      program.onClose = () => resolve();
    });
    act(played);
    assert.deepEqual(await played.end, end);
    await hungUp;
    assert.deepEqual(played.released, released);
    played.close();
  });
}

test('a program that hangs up while the lease is waited for is not waited for', async () => {
  const path = socketPath();
  const server = SeqPacketServer.listen(path, { onConnection: (program) => program.close() });
  const daemon = { onLeaseEnded() {}, onLeaseNotice() {}, takeLease: () => new Promise(() => {}) };
  const world = { connectReceiver, error() {}, untilEnded: <T>(work: Promise<T>) => work };
  await assert.rejects(
    grantLease(
      daemon as unknown as Connection,
      { lease: 'desk', request: {}, socket: path },
      world,
      () => {},
    ),
    /the program has hung up/,
  );
  server.close();
});
