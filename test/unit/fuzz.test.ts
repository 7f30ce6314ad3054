/** Every fuzz target for a bounded time; `test/fuzz/run TARGET SECONDS` takes longer. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const SECONDS = 10;
const SKIPPED = 77;

for (const target of ['virtio', 'qemu', 'vfio']) {
  test(`fuzz target ${target}`, (t) => {
    const { status, stdout, stderr } = spawnSync('test/fuzz/run', [target, String(SECONDS)], {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    if (status === SKIPPED) {
      t.skip(stdout.trim());
      return;
    }
    assert.equal(status, 0, `${stdout.slice(-2000)}\n${stderr.slice(-6000)}`);
    const runs = /number_of_executed_units:\s+(\d+)/.exec(stderr)?.[1];
    assert.ok(Number(runs) > 100, `it ran: ${stderr.slice(-2000)}`);
  });
}
