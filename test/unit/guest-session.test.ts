/** One guest's connection, with a socket and a daemon of this file: what is sent too much, too early and never read. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { test } from 'node:test';
import { Code, decodeFromDaemon, encode, type GuestMessage } from '../../src/guests/protocol.js';
import { GuestSession, type SessionHost } from '../../src/guests/session.js';
import type { SocketGuest } from '../../src/guests/socket.js';
import { Fd } from '../../src/native/base.js';
import type { Logger } from '../../src/service/log.js';

const HELLO: GuestMessage = {
  ...{ type: 'hello', serial: 1, versionMajor: 1, versionMinor: 0, capabilities: 0n, name: 'kiosk' },
  ...{ planeCount: 1, planeKinds: [1, 0, 0, 0] },
};
const PRESENT = encode({ type: 'setPresent', serial: 7, plane: 0, mode: 1 });

function descriptor(): Fd {
  return new Fd(openSync('/dev/null', 'r'));
}

/** A session with all that it does recorded. `hold` keeps the guest from finishing what it is asked for. */
function open(reads: { full: boolean }, hold?: Promise<void>) {
  const did: string[] = [];
  const errors: [code: number, serial: number, text: string][] = [];
  const note = (what: string) => {
    did.push(what);
  };
  const guest = {
    name: 'kiosk',
    buffers: () => [],
    welcome: () => note('welcome'),
    told: () => {},
    setPresent: async () => {
      await hold;
      note('setPresent');
    },
  };
  const host: SessionHost = {
    admit: (_session, _hello, kick, release) => {
      for (const fd of [kick, release]) fd.close();
      return guest as unknown as SocketGuest;
    },
    arrived: async () => note('arrived'),
    departed: async (_guest, clean) => note(clean ? 'departed' : 'departed without a word'),
  };
  const log = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, () => {}]));
  const connection = {
    send: (data: Uint8Array) => {
      if (reads.full) return 'full' as const;
      const message = decodeFromDaemon(data, 0);
      if (message.type === 'error') errors.push([message.code, message.serial, message.text]);
      else note(message.type);
      return 'sent' as const;
    },
    pause: () => note('pause'),
    resume: () => note('resume'),
    close: () => note('close'),
  };
  return { session: new GuestSession(connection, host, log as unknown as Logger), did, errors };
}

test('a guest that does not read is closed, and leaves its planes', async () => {
  const reads = { full: false };
  const { session, did } = open(reads);
  session.receive(encode(HELLO), [descriptor(), descriptor()], true);
  session.receive(PRESENT, [], true);
  await session.settled();
  assert.deepEqual(did, ['welcome', 'arrived', 'setPresent', 'done']);
  reads.full = true;
  session.receive(PRESENT, [], true);
  session.receive(PRESENT, [], true);
  await session.settled(); // what came
  await session.settled(); // the end that followed from it
  assert.deepEqual(did.slice(4), ['setPresent', 'close', 'departed without a word']);
});

test('a guest that sends more than is done is not read for a while', async () => {
  let go: () => void = () => {};
  const hold = new Promise<void>((resolve) => {
    go = resolve;
  });
  const { session, did } = open({ full: false }, hold);
  session.receive(encode(HELLO), [descriptor(), descriptor()], true);
  for (let i = 0; i < 100; i++) session.receive(PRESENT, [], true);
  assert.deepEqual(did, ['pause']);
  go();
  await session.settled();
  assert.equal(did.filter((what) => what === 'done').length, 100);
  assert.equal(did.filter((what) => what === 'resume').length, 1);
});

test('a message that was cut off is refused, and the guest goes on', async () => {
  const { session, did, errors } = open({ full: false });
  session.receive(encode(HELLO), [descriptor(), descriptor()], true);
  session.receive(PRESENT, [], false);
  session.receive(PRESENT.subarray(0, PRESENT.length - 4), [], true);
  session.receive(PRESENT, [], true);
  await session.settled();
  assert.deepEqual(
    errors.map(([code, serial]) => [code, serial]),
    [
      [Code.badMessage, 0],
      [Code.badMessage, 7],
    ],
  );
  assert.deepEqual(did, ['welcome', 'arrived', 'setPresent', 'done']);
});

test('who does not begin with a hello is told so and closed, and nothing that it sent stays open', async () => {
  const { session, did, errors } = open({ full: false });
  const [first, late] = [descriptor(), descriptor()];
  session.receive(encode({ type: 'bye', serial: 3 }), [], true);
  session.receive(PRESENT, [first], true);
  await session.settled();
  session.receive(encode(HELLO), [late], true);
  assert.deepEqual(did, ['close']);
  assert.deepEqual(errors[0]?.slice(0, 2), [Code.badState, 3]);
  assert.ok(first.closed && late.closed);
});
