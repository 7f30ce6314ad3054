import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const hasAnalyze = spawnSync('systemd-analyze', ['--version']).status === 0;

/** The unit as shipped, but with a program that is there; the checks ask for one. */
function withUnit<T>(use: (file: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'scanoutd-unit-'));
  try {
    const file = join(directory, 'scanoutd.service');
    const unit = readFileSync('systemd/scanoutd.service', 'utf8');
    writeFileSync(file, unit.replace('/usr/bin/scanoutd', '/bin/true'));
    return use(file);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('the unit has nothing that systemd does not know', { skip: !hasAnalyze }, () => {
  withUnit((file) => {
    const result = spawnSync('systemd-analyze', ['verify', '--man=no', file], { encoding: 'utf8' });
    assert.equal(result.stdout + result.stderr, '');
    assert.equal(result.status, 0);
  });
});

test('the unit is exposed as little as seatd is', { skip: !hasAnalyze }, () => {
  withUnit((file) => {
    const analyze = spawnSync('systemd-analyze', ['security', '--offline=yes', '--threshold=18', file]);
    assert.equal(analyze.status, 0, String(analyze.stdout));
  });
});

test('user, sockets and limits of the unit fit the defaults', () => {
  const unit = readFileSync('systemd/scanoutd.service', 'utf8');
  for (const line of [
    'Type=notify',
    'NotifyAccess=main',
    'RuntimeDirectory=scanoutd',
    'User=scanoutd',
    'LimitRTPRIO=99',
  ]) {
    assert.ok(unit.split('\n').includes(line), line);
  }
});
