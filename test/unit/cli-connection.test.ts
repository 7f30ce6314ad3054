import assert from 'node:assert/strict';
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type BusClient, type BusTarget, connectionOver, explain } from '../../src/cli/connection.js';
import { EXIT } from '../../src/cli/errors.js';
import { status } from '../fixtures/documents.js';

const SOCKET: BusTarget = { kind: 'socket', path: '/run/scanoutd/bus' };
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 1, 2, 3]);

function client(answer: unknown[]): BusClient & { calls: unknown[] } {
  const calls: unknown[] = [];
  return {
    calls,
    call: async (call) => {
      calls.push(call);
      return answer;
    },
    subscribe: (match) => calls.push(match),
    closed: new Promise(() => {}),
    close: () => {},
  };
}

/** As the native class Fd. */
const owned = (number: number) => ({ number, close: () => closeSync(number) });

function withFile<T>(content: Buffer, use: (fd: number) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'scanoutctl-'));
  const file = join(directory, 'png');
  writeFileSync(file, content);
  const fd = openSync(file, 'r');
  rmSync(directory, { recursive: true });
  return use(fd);
}

test('a peer gets calls without a destination, a bus daemon with one', async () => {
  const peer = client([JSON.stringify(status())]);
  assert.deepEqual(await connectionOver(peer, SOCKET).describe(), status());
  const call = {
    path: '/org/scanoutd1',
    interface: 'org.scanoutd1.Manager',
    member: 'Describe',
    signature: '',
    body: [],
  };
  assert.deepEqual(peer.calls, [call]);
  const bus = client([JSON.stringify(status())]);
  await connectionOver(bus, { kind: 'system' }).describe();
  assert.deepEqual(bus.calls, [{ destination: 'org.scanoutd1', interactive: true, ...call }]);
});

test('an assignment is a name and a document', async () => {
  const bus = client([]);
  await connectionOver(bus, SOCKET).assign('tv', { output: 'DP-1' });
  await connectionOver(bus, SOCKET).unassign('tv');
  const bodies = bus.calls.map((call) => call as { signature: string; body: unknown[] });
  assert.deepEqual([bodies[0]?.signature, bodies[0]?.body], ['ss', ['tv', '{"output":"DP-1"}']]);
  assert.deepEqual([bodies[1]?.signature, bodies[1]?.body], ['s', ['tv']]);
});

test('a screenshot is read from its descriptor, which is closed', async () => {
  const fd = withFile(PNG, (fd) => fd);
  const document = { output: 'DP-1', width: 1, height: 1, how: 'composed', frames: [] };
  const shot = await connectionOver(client([owned(fd), JSON.stringify(document)]), SOCKET).screenshot('DP-1');
  assert.deepEqual(shot, { png: PNG, document });
  assert.throws(() => fstatSync(fd), { code: 'EBADF' });
});

test('a screenshot that is none is refused, and its descriptor closed', async () => {
  const fd = withFile(Buffer.from('not a picture'), (fd) => fd);
  await assert.rejects(connectionOver(client([owned(fd), '{}']), SOCKET).screenshot('DP-1'), {
    exitCode: EXIT.refused,
    message: /no PNG/,
  });
  assert.throws(() => closeSync(fd), { code: 'EBADF' });
  await assert.rejects(connectionOver(client([]), SOCKET).screenshot('DP-1'), {
    message: /without a picture/,
  });
});

test('an answer that is no document is told as a difference of versions', async () => {
  await assert.rejects(connectionOver(client(['{']), SOCKET).describe(), { exitCode: EXIT.refused });
});

const ERRORS: { error: object; exitCode: number; says: RegExp }[] = [
  {
    error: { dbusName: 'org.scanoutd1.Error.NoSuchOutput', message: 'no output "X-1"' },
    exitCode: EXIT.refused,
    says: /^the daemon refused: no output "X-1".*scanoutctl status/s,
  },
  {
    error: { dbusName: 'org.freedesktop.DBus.Error.AccessDenied', message: 'denied' },
    exitCode: EXIT.refused,
    says: /denied.*group scanoutd/s,
  },
  {
    error: { dbusName: 'org.freedesktop.DBus.Error.UnknownMethod', message: 'no such method' },
    exitCode: EXIT.refused,
    says: /another version/,
  },
  {
    error: { dbusName: 'org.freedesktop.DBus.Error.ServiceUnknown', message: 'not provided' },
    exitCode: EXIT.unreachable,
    says: /^no daemon at \/run\/scanoutd\/bus: not provided.*--bus PATH/s,
  },
  {
    error: { name: 'Error', code: 'ECONNREFUSED', message: 'connect: ECONNREFUSED' },
    exitCode: EXIT.unreachable,
    says: /ECONNREFUSED/,
  },
  {
    error: { name: 'Error', code: 'ERR_MODULE_NOT_FOUND', message: 'Cannot find bus.js' },
    exitCode: EXIT.unreachable,
    says: /native part .* missing.*npm run build/s,
  },
];

for (const { error, exitCode, says } of ERRORS) {
  const { code, name } = error as { code?: string; name?: string };
  test(`${code ?? name} ends with ${exitCode}`, () => {
    const told = explain(error, SOCKET);
    assert.equal(told.exitCode, exitCode);
    assert.match(`${told.message}\n${told.advice}`, says);
  });
}

test('calls for seats have their members and signatures', async () => {
  const peer = client([]);
  const connection = connectionOver(peer, SOCKET);
  await connection.switchSeat('desk', 'tv');
  await connection.attachDevice('event3', 'desk');
  await connection.detachDevice('event3');
  await connection.lockSeat('desk', true);
  await connection.lockSeat('desk', false);
  await connection.watchInput('desk', true, () => {});
  const made = peer.calls as { member: string; signature?: string; body?: unknown[] }[];
  assert.deepEqual(
    made.map(({ member, signature, body }) => [member, signature, body]),
    [
      ['SwitchSeat', 'ss', ['desk', 'tv']],
      ['AttachDevice', 'ss', ['event3', 'desk']],
      ['DetachDevice', 's', ['event3']],
      ['LockSeat', 's', ['desk']],
      ['UnlockSeat', 's', ['desk']],
      ['InputEvents', undefined, undefined],
      ['WatchInput', 'sb', ['desk', true]],
    ],
  );
});
