/** scanoutctl guest run: what it starts, what it waits for, and that it becomes it. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CliError, EXIT } from '../../src/cli/errors.js';
import {
  formatCommand,
  type GuestStart,
  type ProgramIo,
  planGuest,
  runGuest,
} from '../../src/cli/guest-run.js';

const PROGRAM = fileURLToPath(new URL('../../bin/scanoutctl.js', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'scanoutd-guest-run-'));
const SOCKET = join(directory, 'guest.sock');
const FILE = join(directory, 'scanoutd.toml');
const SHOW =
  "trap '' TERM; echo \"$$ $0 $1 $SCANOUTD_GUEST $SCANOUTD_SOCKET\"; grep -E 'Sig(Ign|Blk)' /proc/self/status; cat; exit 7";
after(() => rmSync(directory, { recursive: true }));

writeFileSync(
  FILE,
  `[daemon]
guest_socket = "${SOCKET}"
[[guest]]
name = "tv"
command = ["sh", "-c", ${JSON.stringify(SHOW)}, "{name}", "a 'b' {{}}"]
[[guest]]
name = "vm"
kind = "virtio"
command = ["/no/qemu", "{socket}"]
[[guest]]
name = "q"
kind = "qemu"
socket = "/run/q"
command = ["no-such-program"]
[[guest]]
name = "bare"
`,
);

function scanoutctl(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [PROGRAM, 'guest', 'run', '-c', FILE, ...args],
    {
      encoding: 'utf8',
      input: 'line\n',
    },
  );
  return { status, stdout, stderr };
}

/** A listener for as long as `body` runs. */
async function listening(body: () => Promise<void>): Promise<void> {
  const server = createServer(() => assert.fail('it was connected'));
  server.listen(SOCKET);
  await once(server, 'listening');
  try {
    await body();
  } finally {
    server.close();
  }
}

test('it becomes the program: its id, its streams, its status, no signal ignored', async () => {
  await listening(async () => {
    const child = spawn(process.execPath, [PROGRAM, 'guest', 'run', 'tv', '--config', FILE]);
    let text = '';
    child.stdout.on('data', (data) => {
      text += data;
    });
    child.stdin.end('line\n');
    const [status] = await once(child, 'close');
    // The shell's own trap, and nothing else.
    const wanted = [
      `${child.pid} tv a 'b' {} tv ${SOCKET}`,
      'SigBlk:\t0000000000000000',
      'SigIgn:\t0000000000004000',
    ];
    assert.equal(text, `${wanted.join('\n')}\nline\n`);
    assert.equal(status, 7);
  });
});

test('it waits for the daemon, and says for what', async () => {
  const child = spawn(process.execPath, [PROGRAM, 'guest', 'run', 'tv', '-c', FILE, '--wait', '100']);
  child.stdin.end();
  let text = '';
  child.stdout.on('data', (data) => {
    text += data;
  });
  const [told] = await once(child.stderr, 'data');
  assert.match(String(told), /^scanoutctl: waiting for the daemon: connect \(.*guest\.sock\): ENOENT/);
  assert.equal(text, '');
  await listening(async () => {
    assert.deepEqual(await once(child, 'close'), [7, null]);
  });
  assert.match(text, new RegExp(`^${child.pid} tv`));
});

test('a daemon that does not come is told with what to do', () => {
  const { status, stdout, stderr } = scanoutctl('tv', '--wait', '0');
  assert.equal(status, EXIT.unreachable);
  assert.equal(stdout, '');
  assert.match(stderr, /no daemon at .*guest\.sock after 0 s: .*ENOENT.*\n {2}Is it running, with this/);
});

const WRONG: { args: string[]; says: RegExp }[] = [
  { args: ['tw'], says: /^scanoutctl: no guest "tw"\n {2}The configuration has tv, vm, q, bare\.\n$/ },
  { args: ['bare'], says: /^scanoutctl: guest "bare" has no command\n {2}Give its \[\[guest\]\] one/ },
  { args: ['q'], says: /^scanoutctl: program "no-such-program" is not in PATH \(ENOENT\)\n {2}PATH is \// },
  {
    args: ['tv', '-c', '/no/file'],
    says: /the configuration is wrong:\n {2}\/no\/file: cannot be read: .*ENOENT/,
  },
];

for (const { args, says } of WRONG) {
  test(`"guest run ${args.join(' ')}" would not be better the next time`, () => {
    const { status, stdout, stderr } = scanoutctl(...args);
    assert.match(stderr, says);
    assert.equal(status, EXIT.config);
    assert.equal(stdout, '');
  });
}

test('--dry-run prints the command as a shell takes it, and with --json its document', () => {
  const { status, stdout } = scanoutctl('tv', '--dry-run');
  assert.equal(status, 0);
  const args = spawnSync('sh', ['-c', `printf '%s|' ${stdout}`], { encoding: 'utf8' }).stdout;
  assert.equal(args, `sh|-c|${SHOW}|tv|a 'b' {}|`);
  const document = JSON.parse(scanoutctl('vm', '--dry-run', '--json').stdout);
  const socket = '/run/scanoutd/vm.sock';
  const environment = { SCANOUTD_GUEST: 'vm', SCANOUTD_SOCKET: socket };
  assert.deepEqual(document, {
    guest: 'vm',
    kind: 'virtio',
    argv: ['/no/qemu', socket],
    environment,
    lease: null,
  });
  assert.equal(scanoutctl('vm', '--json').status, EXIT.usage);
  assert.equal(scanoutctl('vm', '--wait', 'long').status, EXIT.usage);
});

test('a command is quoted only where it has to be', () => {
  assert.equal(
    formatCommand(['qemu', '-m', '4G', 'a=b,c=/d', 'a b', '', "it's", '$x']),
    `qemu -m 4G a=b,c=/d 'a b' '' 'it'\\''s' '$x'\n`,
  );
});

test('which guests wait for the daemon', () => {
  const waits = ['tv', 'vm', 'q'].map((name) => planGuest(name, FILE).waitFor);
  assert.deepEqual(waits, [SOCKET, '/run/scanoutd/vm.sock', null]);
});

const START: GuestStart = {
  guest: 'vm',
  kind: 'virtio',
  argv: ['p', 'x'],
  environment: { A: 'guest' },
  waitFor: '/s',
  lease: null,
};

class Replaced extends Error {}

/** A world in which the socket answers these errors first, and nothing takes time but sleep. */
function world(codes: string[], more: Partial<ProgramIo> = {}) {
  const said: string[] = [];
  const calls: unknown[][] = [];
  let time = 0;
  const refused = (op: string, code: string) =>
    Object.assign(new Error(`${op}: ${code}`), { op, code, errno: 1 });
  const io: ProgramIo = {
    env: { A: 'mine', B: 'b', PATH: 'rel:/a:/b', NONE: undefined },
    pid: 77,
    error: (text) => said.push(text),
    isExecutable: (path) => path === '/b/p',
    probeSocket: async () => {
      const code = codes.shift();
      if (code !== undefined) throw refused('connect', code);
    },
    takeLease: async () => assert.fail('nobody wants a lease'),
    replaceProgram: async (...call) => {
      calls.push(call);
      throw new Replaced();
    },
    sleep: async (ms) => {
      time += ms;
    },
    now: () => time,
    ...more,
  };
  return { io, said, calls, refused };
}

test('a reason for waiting is told once, and another one again', async () => {
  const { io, said, calls } = world(['ENOENT', 'ENOENT', 'ECONNREFUSED', 'EACCES']);
  await assert.rejects(runGuest(START, 1, io), Replaced);
  assert.deepEqual(
    said.map((text) => text.split(': ').at(-1)),
    ['ENOENT\n', 'ECONNREFUSED\n', 'EACCES\n'],
  );
  assert.deepEqual(calls, [['/b/p', ['p', 'x'], ['A=guest', 'B=b', 'PATH=rel:/a:/b'], 3, []]]);
});

test('waiting ends, and tells the last reason', async () => {
  const { io } = world(Array.from({ length: 50 }, () => 'EACCES'));
  await assert.rejects(runGuest(START, 1, io), (error) => {
    assert.ok(error instanceof CliError && error.exitCode === EXIT.unreachable);
    assert.match(error.message, /after 1 s: connect: EACCES/);
    assert.match(error.advice, /guest_socket_group/);
    return true;
  });
});

test('descriptors that systemd passed to this process are passed on', async () => {
  for (const [env, descriptors] of [
    [{ LISTEN_PID: '77', LISTEN_FDS: '2' }, 5],
    [{ LISTEN_PID: '78', LISTEN_FDS: '2' }, 3],
    [{ LISTEN_PID: '77', LISTEN_FDS: '-1' }, 3],
  ] as const) {
    const { io, calls } = world([], { env: { PATH: '/b', ...env } });
    await assert.rejects(runGuest(START, 1, io), Replaced);
    assert.equal(calls[0]?.[3], descriptors);
  }
});

test('a program that is refused for good is told apart from one that may start yet', async () => {
  for (const [code, exit] of [
    ['ENOENT', EXIT.config],
    ['ENOMEM', EXIT.refused],
  ] as const) {
    const { io, refused } = world([], {
      replaceProgram: async () => Promise.reject(refused('execve', code)),
    });
    await assert.rejects(runGuest({ ...START, argv: ['/x'] }, 1, io), {
      exitCode: exit,
      message: `cannot start guest "vm": execve: ${code}`,
    });
  }
});

test('a file that is no program is not taken from PATH', () => {
  const plain = join(directory, 'no-such-program');
  writeFileSync(plain, '#!/bin/sh\necho ran\n');
  const run = () =>
    spawnSync(process.execPath, [PROGRAM, 'guest', 'run', 'q', '-c', FILE], {
      encoding: 'utf8',
      env: { PATH: directory },
    });
  assert.equal(run().status, EXIT.config);
  chmodSync(plain, 0o755);
  assert.equal(run().stdout, 'ran\n');
});
