import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../../src/config/load.js';
import { ConfigError } from '../../src/config/problems.js';

const PROGRAM = fileURLToPath(new URL('../../bin/scanoutctl.js', import.meta.url));
const FIXTURES = 'test/fixtures/config';

function scanoutctl(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    encoding: 'utf8',
    env: { ...process.env, SCANOUTD_BUS: join(tmpdir(), 'no such bus') },
  });
  return { status, stdout, stderr };
}

test('check is silent on stderr about what is right', () => {
  assert.deepEqual(scanoutctl('check', `${FIXTURES}/right.toml`), {
    status: 0,
    stdout: `${FIXTURES}/right.toml: right; it has entries for 1 card, 1 output, 1 guest\n`,
    stderr: '',
  });
});

test('check tells all that is wrong, each with its line, and ends with 1', () => {
  const file = `${FIXTURES}/wrong.toml`;
  const { status, stdout, stderr } = scanoutctl('check', file);
  assert.equal(status, 1);
  assert.equal(stdout, '');
  const lines = stderr.trimEnd().split('\n');
  assert.deepEqual(
    lines.map((line) => line.split(': ').slice(0, 2).join(': ')),
    [
      `${file}:3:1: daemon.realtime_priority`,
      `${file}:4:1: daemon.log_lvl`,
      `${file}:8:1: output[0].policy`,
      `${file}:12:1: guest[0].output`,
      `${file}:13:1: guest[0].area.height`,
      `${file}:18:1: guest[1].name`,
      `${file}: 6 problems`,
    ],
  );
});

test('check says what the daemon would say', () => {
  const file = `${FIXTURES}/wrong.toml`;
  const { status, stdout } = scanoutctl('check', '--json', file);
  assert.equal(status, 1);
  const document = JSON.parse(stdout);
  assert.equal(document.ok, false);
  assert.throws(
    () => loadConfig(file),
    (error) =>
      error instanceof ConfigError && JSON.stringify(error.problems) === JSON.stringify(document.problems),
  );
});

test('check tells the place of a syntax error', () => {
  const { status, stderr } = scanoutctl('check', `${FIXTURES}/syntax.toml`);
  assert.equal(status, 1);
  assert.match(stderr, /syntax\.toml:2:\d+: no valid TOML: .*, in: log_level = "info\n.*: 1 problem\n$/);
});

test('check of a file that was named and is not there ends with 1', () => {
  const { status, stderr } = scanoutctl('check', '/nonexistent/scanoutd.toml');
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^\/nonexistent\/scanoutd\.toml: cannot be read: no such file or directory \(ENOENT\)\n/,
  );
});

test('check without a file says that the defaults hold', {
  skip: existsSync('/etc/scanoutd/scanoutd.toml'),
}, () => {
  const { status, stdout } = scanoutctl('check');
  assert.equal(status, 0);
  assert.equal(stdout, '/etc/scanoutd/scanoutd.toml: not there, so the defaults hold\n');
});

test('the shipped schema is that of this version', () => {
  const { status, stdout } = scanoutctl('check', '--schema');
  assert.equal(status, 0);
  const message = 'run scripts/schema and commit docs/scanoutd.schema.json';
  assert.ok(stdout === readFileSync('docs/scanoutd.schema.json', 'utf8'), message);
});

test('wrong use ends with 2, on stderr', () => {
  const { status, stdout, stderr } = scanoutctl('assign');
  assert.equal(status, 2);
  assert.equal(stdout, '');
  assert.match(stderr, /missing required argument 'guest'/);
});

test('no daemon ends with 3, and says where, why and what to do', () => {
  assert.deepEqual(scanoutctl('status'), {
    status: 3,
    stdout: '',
    stderr:
      `scanoutctl: no daemon at ${join(tmpdir(), 'no such bus')}: no such file or directory (ENOENT)\n` +
      '  Is it running? `systemctl status scanoutd` tells. For a daemon elsewhere: --bus PATH, SCANOUTD_BUS or --system.\n',
  });
  const { status, stderr } = scanoutctl('status', '--bus', '/etc/hostname');
  assert.equal(status, 3);
  assert.match(stderr, /no daemon at \/etc\/hostname: it is no socket\n/);
});

test('a socket that nobody listens on any more ends with 3 too', async () => {
  const path = join(tmpdir(), `scanoutctl-${process.pid}.sock`);
  const server = createServer().listen(path);
  await new Promise((resolve) => server.once('listening', resolve));
  const moved = `${path}.old`;
  spawnSync('mv', [path, moved]);
  await new Promise((resolve) => server.close(resolve));
  try {
    const { status, stderr } = scanoutctl('status', '--bus', moved);
    assert.equal(status, 3);
    assert.match(stderr, /^scanoutctl: /);
  } finally {
    spawnSync('rm', ['-f', moved]);
  }
});

test('a reader that ends early is no error', () => {
  const command = `"${process.execPath}" "${PROGRAM}" check --schema | head -n 1; exit "\${PIPESTATUS[0]}"`;
  const { status, stderr } = spawnSync('bash', ['-c', command], { encoding: 'utf8' });
  assert.equal(stderr, '');
  assert.equal(status, 0);
});
