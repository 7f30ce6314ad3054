/** A guest with a lease, in TypeScript and by `scanoutctl guest run`, with a daemon of this file that says what a test wants. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ClosedError, RefusedError, takeLease } from '../../clients/node/index.js';
import { EXIT } from '../../src/cli/errors.js';
import { Code, type DaemonMessage, decodeFromGuest, encode } from '../../src/guests/protocol.js';
import { Fd } from '../../src/native/base.js';
import { type SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';
import { socketPath, until } from './sockets.js';

const PROGRAM = fileURLToPath(new URL('../../bin/scanoutctl.js', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'scanoutd-lease-client-'));
after(() => rmSync(directory, { recursive: true }));

const GRANT: DaemonMessage = { type: 'lease', serial: 1, lease: 'wall' };
const NOTICE: DaemonMessage = { type: 'leaseNotice', serial: 0, milliseconds: 1500, text: 'the room closes' };
const error = (code: Code, text: string, serial = 1): DaemonMessage => {
  return { type: 'error', serial, code, errnum: 0, fatal: 1, text };
};

/** Answers who asks one after the other; null hangs up. With a grant comes a descriptor of /dev/zero. */
function listen(path: string, answers: (DaemonMessage | null)[]) {
  const heard: string[] = [];
  const connections: SeqPacket[] = [];
  const send = (connection: SeqPacket, message: DaemonMessage) => {
    const fds = message.type === 'lease' ? [new Fd(openSync('/dev/zero', 'r'))] : [];
    connection.send(encode(message), fds);
    for (const fd of fds) fd.close();
  };
  const server = SeqPacketServer.listen(path, {
    onConnection: (connection) => {
      connections.push(connection);
      connection.onClose = () => heard.push('closed');
      connection.onMessage = (data, fds) => {
        const message = decodeFromGuest(data, fds.length);
        heard.push(message.type === 'takeLease' ? `takeLease ${message.name}` : message.type);
        const answer = message.type === 'takeLease' ? (answers.shift() ?? null) : null;
        if (message.type === 'bye') send(connection, { type: 'done', serial: message.serial });
        if (answer === null) connection.close();
        else send(connection, answer);
      };
    },
  });
  const close = () => {
    for (const connection of connections) connection.close();
    server.close();
  };
  const tell = (message: DaemonMessage) => {
    for (const connection of connections) if (!connection.closed) send(connection, message);
  };
  return { heard, connections, close, tell };
}

test('a lease is taken, noticed, and given back', async (t) => {
  const path = socketPath();
  const daemon = listen(path, [GRANT]);
  t.after(daemon.close);
  const lease = await takeLease({ name: 'player', path });
  assert.equal(readlinkSync(`/proc/self/fd/${lease.fd.number}`), '/dev/zero');
  assert.equal(lease.name, 'wall');
  const noticed = once(lease, 'notice');
  daemon.tell(NOTICE);
  assert.deepEqual(await noticed, [1500, 'the room closes']);
  await lease.bye();
  assert.deepEqual(daemon.heard, ['takeLease player', 'bye']);
  assert.equal((await lease.ended).message, 'the connection to scanoutd is closed');
  assert.equal(lease.fd.closed, false, "it is the caller's");
  lease.fd.close();
});

test('the daemon takes it back, and says why', async (t) => {
  const path = socketPath();
  const daemon = listen(path, [GRANT]);
  t.after(daemon.close);
  const lease = await takeLease({ name: 'player', path });
  daemon.tell(error(Code.leaseEnded, 'the room is closed', 0));
  const why = await lease.ended;
  assert.ok(why instanceof RefusedError && why.code === Code.leaseEnded);
  assert.equal(why.message, 'the room is closed');
  await lease.bye();
  lease.fd.close();
});

test('who goes without a word closes the connection, also after it was given away', async (t) => {
  const path = socketPath();
  const daemon = listen(path, [GRANT, GRANT]);
  t.after(daemon.close);
  const first = await takeLease({ name: 'player', path });
  first.disconnect();
  first.fd.close();
  await until('its end', () => daemon.heard.at(-1) === 'closed');
  const second = await takeLease({ name: 'player', path });
  const connection = second.detach();
  assert.ok((await second.ended) instanceof ClosedError);
  second.fd.close();
  daemon.tell(NOTICE); // nobody reads it, and the connection is there
  assert.equal(daemon.heard.at(-1), 'takeLease player');
  connection.close();
  await until('its end', () => daemon.heard.at(-1) === 'closed');
});

test('it is asked for again while somebody has it or the daemon restarts, and not after a refusal', async (t) => {
  const path = socketPath();
  const early = takeLease({ name: 'player', path, timeoutMs: 20_000 });
  const daemon = listen(path, [error(Code.busy, 'held'), null, GRANT]);
  t.after(daemon.close);
  const lease = await early;
  assert.equal(daemon.heard.filter((what) => what !== 'closed').length, 3);
  lease.disconnect();
  lease.fd.close();
  const refused = listen(`${path}2`, [error(Code.noLease, 'there is no output DP-9')]);
  t.after(refused.close);
  await assert.rejects(takeLease({ name: 'player', path: `${path}2`, timeoutMs: 20_000 }), {
    name: 'RefusedError',
    code: Code.noLease,
    message: 'there is no output DP-9',
  });
  await assert.rejects(takeLease({ name: 'player', path: `${path}3` }), { code: 'ENOENT' });
});

test('a daemon that says what it may not is left', async (t) => {
  const configure: DaemonMessage = {
    ...{ type: 'configure', serial: 0, width: 1, height: 1, refreshMhz: 1, lit: 0, output: '' },
  };
  for (const answer of [configure, NOTICE]) {
    const path = socketPath();
    const daemon = listen(path, [answer]);
    t.after(daemon.close);
    await assert.rejects(takeLease({ name: 'player', path }), { name: 'ClosedError', reason: 'EPROTO' });
  }
  const path = socketPath();
  const daemon = listen(path, [GRANT]);
  t.after(daemon.close);
  const lease = await takeLease({ name: 'player', path });
  daemon.tell(GRANT);
  assert.equal(((await lease.ended) as ClosedError).reason, 'EPROTO');
  lease.fd.close();
});

// ---- scanoutctl guest run

function configuration(socket: string): string {
  const script =
    'echo "$SCANOUTD_GUEST $SCANOUTD_LEASE $1"; [ "$1" = "$SCANOUTD_LEASE_FD" ]; ' +
    'readlink /proc/$$/fd/$1; readlink /proc/$$/fd/$SCANOUTD_LEASE_CONNECTION_FD; read line; exit 7';
  const file = join(directory, `${socket.replaceAll('/', '_')}.toml`);
  writeFileSync(
    file,
    `[daemon]\nguest_socket = "${socket}"\n[[lease]]\nname = "wall"\noutputs = ["DP-1"]\n[[guest]]\nname = "player"\n` +
      `kind = "lease"\nlease = "wall"\ncommand = ["sh", "-ec", ${JSON.stringify(script)}, "sh", "{fd}"]\n`,
  );
  return file;
}

test('a program that is started inherits the lease, which lasts as long as it', async (t) => {
  const socket = socketPath();
  const daemon = listen(socket, [GRANT]);
  t.after(daemon.close);
  const child = spawn(process.execPath, [PROGRAM, 'guest', 'run', 'player', '-c', configuration(socket)]);
  let text = '';
  child.stdout.on('data', (data) => {
    text += data;
  });
  child.stderr.pipe(process.stderr);
  await until('it runs', () => text.split('\n').length > 3);
  assert.match(text, /^player wall \d+\n\/dev\/zero\nsocket:\[\d+\]\n$/);
  // The guest is the program itself by its credentials.
  assert.equal(daemon.connections[0]?.peerCredentials().pid, child.pid);
  assert.deepEqual(daemon.heard, ['takeLease player']);
  child.stdin.end('over\n');
  assert.deepEqual(await once(child, 'close'), [7, null]);
  await until('its end', () => daemon.heard.at(-1) === 'closed');
});

test('a lease that is refused is told with its reason, and so is a daemon that ends', (t, done) => {
  const socket = socketPath();
  const daemon = listen(socket, [error(Code.busy, 'lease wall is held by process 7'), null]);
  t.after(daemon.close);
  const run = (then: (status: number | null, said: string) => void) => {
    const child = spawn(process.execPath, [PROGRAM, 'guest', 'run', 'player', '-c', configuration(socket)]);
    let said = '';
    child.stderr.on('data', (data) => {
      said += data;
    });
    child.once('close', (status) => then(status, said));
  };
  run((status, said) => {
    assert.equal(status, EXIT.refused);
    assert.match(
      said,
      /guest "player" does not get its lease: lease wall is held by process 7\n {2}`scanoutctl leases`/,
    );
    run((again, more) => {
      assert.equal(again, EXIT.unreachable);
      assert.match(more, /the connection to scanoutd is closed: ECONNRESET\n {2}The daemon has ended/);
      done();
    });
  });
});

test('--dry-run leaves open which number the descriptor has', () => {
  const args = [PROGRAM, 'guest', 'run', 'player', '--dry-run', '-c', configuration('/run/g')];
  const plain = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.match(plain.stdout, /^sh -ec '.*' sh '\{fd\}'\n$/);
  const json = spawnSync(process.execPath, [...args, '--json'], { encoding: 'utf8' });
  const { kind, lease, argv, environment } = JSON.parse(json.stdout);
  assert.deepEqual([kind, lease, argv.at(-1)], ['lease', 'wall', '{fd}']);
  assert.deepEqual(environment, { SCANOUTD_GUEST: 'player', SCANOUTD_SOCKET: '/run/g' });
});
