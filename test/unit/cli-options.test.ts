import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, test } from 'node:test';
import { CommanderError } from 'commander';
import { daemonCommand, parseDaemonOptions } from '../../src/cli/options.js';
import { VERSION } from '../../src/cli/version.js';

const { SCANOUTD_LOG } = process.env;
const { write } = process.stderr;

beforeEach(() => {
  delete process.env.SCANOUTD_LOG;
});

afterEach(() => {
  process.stderr.write = write;
  if (SCANOUTD_LOG !== undefined) {
    process.env.SCANOUTD_LOG = SCANOUTD_LOG;
  }
});

function refused(args: string[]): string {
  let text = '';
  process.stderr.write = (chunk: string | Uint8Array) => {
    text += chunk;
    return true;
  };
  assert.throws(
    () => parseDaemonOptions(args),
    (error) => error instanceof CommanderError && error.exitCode !== 0,
  );
  return text;
}

test('without options everything is left to the configuration', () => {
  assert.deepEqual(parseDaemonOptions([]), { drmDevices: [], drmFds: [], dlmLeases: [], check: false });
});

test('every option arrives', () => {
  const args =
    '-c /a --drm-device /dev/dri/card0 --drm-device /dev/dri/card1 --drm-fd 3 --drm-fd 5 --dlm-lease desk --socket /s --bus /b --log-level kms=trace --check';
  const { logLevels, ...rest } = parseDaemonOptions(args.split(' '));
  assert.deepEqual(rest, {
    config: '/a',
    drmDevices: ['/dev/dri/card0', '/dev/dri/card1'],
    drmFds: [3, 5],
    dlmLeases: ['desk'],
    socket: '/s',
    bus: '/b',
    check: true,
  });
  assert.deepEqual([...(logLevels?.modules ?? [])], [['kms', 'trace']]);
});

test('one parse leaves nothing behind for the next', () => {
  parseDaemonOptions(['--drm-device', '/dev/dri/card0']);
  assert.deepEqual(parseDaemonOptions([]).drmDevices, []);
});

test('SCANOUTD_LOG counts, --log-level counts more', () => {
  process.env.SCANOUTD_LOG = 'debug';
  assert.equal(parseDaemonOptions([]).logLevels?.all, 'debug');
  assert.equal(parseDaemonOptions(['--log-level', 'warn']).logLevels?.all, 'warn');
  process.env.SCANOUTD_LOG = 'loud';
  assert.match(refused([]), /from env 'SCANOUTD_LOG' is invalid\. found "loud", allowed is LEVEL/);
});

test('wrong use is told', () => {
  assert.match(refused(['--frob']), /unknown option '--frob'/);
  assert.match(refused(['file']), /too many arguments/);
  assert.match(refused(['--log-level', 'loud']), /found "loud"/);
});

test('the help has every option, signal and exit code', () => {
  let help = '';
  daemonCommand()
    .configureOutput({ writeOut: (text) => (help += text) })
    .outputHelp();
  for (const word of [
    '--config',
    '--drm-device',
    '--socket',
    '--bus',
    '--log-level',
    '--check',
    '--version',
    'SIGHUP',
    '78',
  ]) {
    assert.ok(help.includes(word), word);
  }
});

test('the version is that of the package', () => {
  assert.equal(VERSION, JSON.parse(readFileSync('package.json', 'utf8')).version);
});
