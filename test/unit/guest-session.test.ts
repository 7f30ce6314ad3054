/** One guest's connection, with a socket and a daemon of this file: what is sent too much, too early and never read. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { test } from 'node:test';
import type { GuestLeaseRequest } from '../../src/guests/lease-request.js';
import type { DeviceOffer } from '../../src/guests/offer.js';
import {
  Code,
  decodeFromDaemon,
  encode,
  type GuestMessage,
  ProtocolError,
} from '../../src/guests/protocol.js';
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
  const offers: Pick<DeviceOffer, 'ended'>[] = [];
  const requests: Omit<GuestLeaseRequest, 'peer'>[] = [];
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
    offered: async (_session, offer) => {
      const { name, device } = offer;
      if (name === 'strange') throw new ProtocolError(Code.badName, 'a strange name');
      note(`offered ${name}`);
      offers.push(offer);
      assert.equal(device.closed, false);
      return { withdraw: async (clean) => note(clean ? 'withdrawn' : 'withdrawn without a word') };
    },
    lease: (_session, request) => {
      if (request.name === 'planes') throw new ProtocolError(Code.badName, 'has no lease');
      note(`asked for ${request.name}`);
      requests.push(request);
      return { withdraw: async (clean) => note(clean ? 'given back' : 'gone without a word') };
    },
    arrived: async () => note('arrived'),
    departed: async (_guest, clean) => note(clean ? 'departed' : 'departed without a word'),
  };
  const log = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, () => {}]));
  const connection = {
    send: (data: Uint8Array, fds: Fd[] = []) => {
      if (reads.full) return 'full' as const;
      const message = decodeFromDaemon(data, fds.length);
      if (message.type === 'error') errors.push([message.code, message.serial, message.text]);
      else note(message.type);
      return 'sent' as const;
    },
    pause: () => note('pause'),
    resume: () => note('resume'),
    close: () => note('close'),
  };
  return {
    session: new GuestSession(connection, host, log as unknown as Logger),
    did,
    errors,
    offers,
    requests,
  };
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

function offer(name: string, serial = 5): Uint8Array {
  return encode({ type: 'offerDevice', serial, versionMajor: 1, versionMinor: 1, name });
}

test('a device is shown as long as its owner stays, who then says no more than bye', async () => {
  const { session, did, errors } = open({ full: false });
  const device = descriptor();
  session.receive(offer('vgpu'), [device], true);
  session.receive(PRESENT, [], true);
  session.receive(offer('vgpu', 6), [descriptor()], true);
  session.receive(encode(HELLO), [descriptor(), descriptor()], true);
  await session.settled();
  assert.deepEqual(did, ['offered vgpu', 'done']);
  assert.deepEqual(
    errors.map(([code, serial]) => [code, serial]),
    [7, 6, 1].map((serial) => [Code.badState, serial]),
  );
  assert.ok(device.closed, 'the session has kept it');
  session.receive(encode({ type: 'bye', serial: 9 }), [], true);
  await session.settled();
  await session.settled(); // the end that followed from it
  assert.deepEqual(did.slice(2), ['done', 'close', 'withdrawn']);
});

test('the owner of a device goes without a word', async () => {
  const { session, did } = open({ full: false });
  session.receive(offer('vgpu'), [descriptor()], true);
  await session.settled();
  session.end('ECONNRESET');
  await session.settled();
  assert.deepEqual(did.slice(2), ['close', 'withdrawn without a word']);
});

test('the owner of a device is told why it is shown no more, and that is the end', async () => {
  const { session, did, errors, offers } = open({ full: false });
  session.receive(offer('vgpu'), [descriptor()], true);
  await session.settled();
  offers[0]?.ended(Code.badFd, 'the device was removed');
  await session.settled();
  assert.deepEqual(errors, [[Code.badFd, 0, 'the device was removed']]);
  assert.deepEqual(did, ['offered vgpu', 'done', 'close']);
});

test('offers that cannot be are refused, and their descriptors closed', async () => {
  const good = offer('strange');
  const refused: [bytes: Uint8Array, fds: number, code: number][] = [
    [good, 1, Code.badName],
    [good, 0, Code.badFd],
    [good, 2, Code.badFd],
    [offer('no/name'), 1, Code.badName],
    [good.subarray(0, good.length - 4), 1, Code.badMessage],
    [good.with(16, 2), 1, Code.badVersion],
  ];
  for (const [bytes, count, code] of refused) {
    const { session, did, errors } = open({ full: false });
    const fds = Array.from({ length: count }, descriptor);
    session.receive(bytes, fds, true);
    await session.settled();
    assert.deepEqual([errors[0]?.[0], did], [code, ['close']]);
    assert.ok(fds.every((fd) => fd.closed));
  }
  const { session, errors } = open({ full: false });
  session.receive(encode(HELLO), [descriptor(), descriptor()], true);
  session.receive(offer('vgpu'), [descriptor()], true);
  await session.settled();
  assert.deepEqual(errors[0]?.slice(0, 2), [Code.badState, 5]);
});

function takeLease(name: string, serial = 5): Uint8Array {
  return encode({ type: 'takeLease', serial, versionMajor: 1, versionMinor: 3, name });
}

test('a lease comes when it is free; who has it says no more than bye', async () => {
  const { session, did, errors, requests } = open({ full: false });
  session.receive(takeLease('player'), [], true);
  await session.settled();
  assert.deepEqual(did, ['asked for player']);
  const lease = descriptor();
  requests[0]?.granted('wall', lease);
  requests[0]?.noticed(1500, 'the room closes');
  session.receive(PRESENT, [], true);
  session.receive(takeLease('player', 6), [], true);
  session.receive(offer('vgpu', 8), [descriptor()], true);
  session.receive(encode(HELLO), [descriptor(), descriptor()], true);
  await session.settled();
  assert.deepEqual(did.slice(1), ['lease', 'leaseNotice']);
  assert.deepEqual(
    errors.map(([code, serial, text]) => [code, serial, text]),
    [
      [7, 'setPresent after a lease was asked for'],
      [6, 'a lease after a lease was asked for'],
      [8, 'a device after a lease was asked for'],
      [1, 'a hello after a lease was asked for'],
    ].map(([serial, text]) => [Code.badState, serial, text]),
  );
  session.receive(encode({ type: 'bye', serial: 9 }), [], true);
  await session.settled();
  await session.settled(); // the end that followed from it
  assert.deepEqual(did.slice(3), ['done', 'close', 'given back']);
  lease.close();
});

test('who waits for a lease may go, with a word or without', async () => {
  const waiting = open({ full: false });
  waiting.session.receive(takeLease('player'), [], true);
  waiting.session.receive(encode({ type: 'bye', serial: 9 }), [], true);
  await waiting.session.settled();
  await waiting.session.settled();
  assert.deepEqual(waiting.did, ['asked for player', 'done', 'close', 'given back']);
  const crashed = open({ full: false });
  crashed.session.receive(takeLease('player'), [], true);
  await crashed.session.settled();
  crashed.session.end('ECONNRESET');
  await crashed.session.settled();
  assert.deepEqual(crashed.did, ['asked for player', 'close', 'gone without a word']);
});

test('a lease that is refused is the answer, one that is taken back is not', async () => {
  const first = open({ full: false });
  first.session.receive(takeLease('player'), [], true);
  await first.session.settled();
  first.requests[0]?.ended(Code.noLease, 'there is no output DP-9');
  assert.deepEqual(first.errors, [[Code.noLease, 5, 'there is no output DP-9']]);
  const second = open({ full: false });
  second.session.receive(takeLease('player'), [], true);
  await second.session.settled();
  const lease = descriptor();
  second.requests[0]?.granted('wall', lease);
  lease.close();
  second.requests[0]?.ended(Code.leaseEnded, 'the room is closed');
  await second.session.settled();
  assert.deepEqual(second.errors, [[Code.leaseEnded, 0, 'the room is closed']]);
  assert.deepEqual(second.did, ['asked for player', 'lease', 'close']);
});

test('one that does not read its lease has crashed', async () => {
  const reads = { full: false };
  const { session, did, requests } = open(reads);
  session.receive(takeLease('player'), [], true);
  await session.settled();
  reads.full = true;
  const lease = descriptor();
  requests[0]?.granted('wall', lease);
  lease.close();
  await session.settled();
  assert.deepEqual(did, ['asked for player', 'close', 'gone without a word']);
});

test('leases that cannot be asked for are refused, and descriptors that come with it closed', async () => {
  const good = takeLease('planes');
  const refused: [bytes: Uint8Array, fds: number, code: number][] = [
    [good, 0, Code.badName],
    [good, 1, Code.badFd],
    [takeLease('no/name'), 0, Code.badName],
    [takeLease(''), 0, Code.badName],
    [good.subarray(0, good.length - 4), 0, Code.badMessage],
    [good.with(4, good.length + 1), 0, Code.badMessage],
    [good.with(12, 1), 0, Code.badMessage],
    [good.with(16, 2), 0, Code.badVersion],
    [good.map((byte, at) => (at >= 24 ? 97 : byte)), 0, Code.badMessage],
  ];
  for (const [bytes, count, code] of refused) {
    const { session, did, errors } = open({ full: false });
    const fds = Array.from({ length: count }, descriptor);
    session.receive(bytes, fds, true);
    await session.settled();
    assert.deepEqual([errors[0]?.[0], did], [code, ['close']]);
    assert.ok(fds.every((fd) => fd.closed));
  }
  const { session, errors } = open({ full: false });
  session.receive(encode(HELLO), [descriptor(), descriptor()], true);
  session.receive(takeLease('player'), [], true);
  await session.settled();
  assert.deepEqual(errors[0]?.slice(0, 2), [Code.badState, 5]);
});
