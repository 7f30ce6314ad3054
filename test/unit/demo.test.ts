import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CommanderError } from 'commander';
import type { FlipRecord } from '../../src/bench/daemon.js';
import { checkConfig } from '../../src/cli/check.js';
import { demoConfiguration, demoGuests } from '../../src/cli/demo-layout.js';
import { parseDemoOptions } from '../../src/cli/demo-options.js';
import { Progress } from '../../src/cli/demo-progress.js';
import { demoFailures, demoPage, demoRows, flipPlot, histogram } from '../../src/cli/demo-report.js';
import { guest, output, plane, status } from '../fixtures/documents.js';

const OUTPUTS = [
  { name: 'Virtual-1', width: 1024, height: 768 },
  { name: 'Virtual-2', width: 1366, height: 767 },
];

function flip(change: Partial<FlipRecord>): FlipRecord {
  return {
    crtc: 51,
    plane: 31,
    stream: 1,
    flags: 7,
    sequence: 1,
    kickNs: 0,
    commitEnterNs: 50_000,
    commitReturnNs: 90_000,
    flipNs: 16_000_000,
    vblank: 1,
    missed: 0,
    retries: 0,
    ...change,
  };
}

test('without options it runs for ten seconds, on a virtual card in the test machine only', () => {
  const plainly = { probe: false, seconds: 10, out: 'out/demo', vkms: false };
  assert.deepEqual(parseDemoOptions([], {}), plainly);
  const machine = { SCANOUTD_MACHINE: '1', SCANOUTD_OUT: '/var/out' };
  assert.deepEqual(parseDemoOptions([], machine), { ...plainly, out: '/var/out', vkms: true });
});

test('options are read, and wrong ones refused', () => {
  const args = ['--probe', '--vkms', '--seconds', '2.5', '--out', 'there'];
  assert.deepEqual(parseDemoOptions(args, {}), { probe: true, seconds: 2.5, out: 'there', vkms: true });
  for (const wrong of [['--seconds', '0'], ['--seconds', 'long'], ['--nothing'], ['more']]) {
    assert.throws(() => parseDemoOptions(wrong, {}), CommanderError);
  }
});

test('four guests on two outputs, three on one, each within its output', () => {
  assert.deepEqual(
    demoGuests(OUTPUTS).map(({ name, output: on, plane: kind }) => [name, on, kind]),
    [
      ['left', 'Virtual-1', 'primary'],
      ['right', 'Virtual-2', 'primary'],
      ['inset', 'Virtual-1', 'overlay'],
      ['pointer', 'Virtual-2', 'overlay'],
    ],
  );
  const one = demoGuests(OUTPUTS.slice(0, 1));
  assert.deepEqual(
    one.map(({ name }) => name),
    ['left', 'inset', 'pointer'],
  );
  const [, inset, pointer] = one;
  assert.ok((pointer?.area.x ?? 0) + (pointer?.area.width ?? 0) <= (inset?.area.x ?? 0), 'side by side');
  for (const { area, output: on } of demoGuests(OUTPUTS)) {
    const { width = 0, height = 0 } = OUTPUTS.find(({ name }) => name === on) ?? {};
    assert.ok(area.x >= 0 && area.x + area.width <= width && area.y + area.height <= height);
  }
  assert.deepEqual(demoGuests([]), []);
});

test('the daemon takes the configuration', () => {
  const directory = mkdtempSync(join(tmpdir(), 'demo-'));
  const file = join(directory, 'scanoutd.toml');
  try {
    writeFileSync(file, demoConfiguration(demoGuests(OUTPUTS)));
    assert.deepEqual(checkConfig(file).problems ?? [], []);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('the table and the failures come from the status', () => {
  const guests = demoGuests(OUTPUTS).slice(0, 3);
  const now = status({
    outputs: [output({ name: 'Virtual-1' }), output({ name: 'Virtual-2' })],
    guests: [
      guest({ name: 'left', output: 'Virtual-1' }),
      guest({
        name: 'right',
        output: 'Virtual-1',
        planes: [plane({ flips: 0, state: 'copied', reason: 'EINVAL' })],
      }),
    ],
  });
  const rows = demoRows(now, guests, new Map([[31, 'overlay']]));
  assert.deepEqual(rows[0], [
    'left',
    'full screen',
    'Virtual-1',
    'deadline',
    'overlay 31',
    '600',
    '1',
    '85 us',
    '1.3 ms',
    'direct',
  ]);
  assert.equal(rows[1]?.at(-1), 'copied: EINVAL');
  assert.equal(rows[2]?.at(-1), 'not connected');
  assert.deepEqual(demoFailures(now, guests), [
    'right is on Virtual-1, not on Virtual-2',
    'inset is not connected',
  ]);
  now.guests[1] = { ...guest({ name: 'right', output: 'Virtual-2' }), planes: now.guests[1]?.planes ?? [] };
  assert.equal(
    demoFailures(now, guests)[0],
    'plane 0 (primary) of right never flipped; it is copied: EINVAL',
  );
  assert.deepEqual(demoFailures(now, guests.slice(0, 1)), []);
});

test('the plots have every flip, and mark the missed vblanks', () => {
  const flips = [
    flip({}),
    flip({ sequence: 2, kickNs: 20_000_000, commitEnterNs: 20_500_000, missed: 1 }),
    flip({ sequence: 3, kickNs: 40_000_000, commitEnterNs: 40_060_000 }),
  ];
  const planes = [
    { guest: 'left', plane: 0, kind: 'primary', flips },
    { guest: 'pointer', plane: 1, kind: 'cursor', flips: flips.slice(1, 2) },
  ];
  const { series } = flipPlot(planes);
  assert.deepEqual(
    series.map(({ label, x, y }) => [label, x, y]),
    [
      ['left', [0, 0.02, 0.04], [50, 500, 60]],
      ['pointer (cursor)', [0.02], [500]],
      ['missed a vblank', [0.02, 0.02], [500, 500]],
    ],
  );
  const bars = histogram(planes).series;
  assert.deepEqual(
    bars.map(({ y }) => y.reduce((sum, count) => sum + count, 0)),
    [3, 1],
  );
  assert.equal(bars[0]?.y.at(-1), 0, 'the last step comes down');
  const html = demoPage(
    status(),
    [['left']],
    planes,
    [{ output: 'Virtual-1', how: 'composed', png: Buffer.from('png') }],
    true,
  );
  assert.match(html, /<img alt="Virtual-1, composed" src="data:image\/png;base64,cG5n">/);
  assert.doesNotMatch(html, /(?:src|href)="(?!data:)/);
});

test('a page without a single flip is still a page', () => {
  assert.match(demoPage(status(), [], [], [], false), /<\/html>/);
});

test('progress is a line a second, or a table in place', () => {
  const written: string[] = [];
  let now = 0;
  const terminal = {
    live: false,
    size: () => ({ columns: 60, rows: 20 }),
    write: (text: string) => void written.push(text),
    now: () => now,
  };
  const at = (flips: number, missed: number) =>
    status({
      guests: [guest({ planes: [plane({ flips, missed }), plane({ index: 1, kind: 'cursor', flips })] })],
    });
  const lines = new Progress(terminal);
  lines.show(at(0, 0));
  now = 1000;
  lines.show(at(60, 0));
  now = 2000;
  lines.show(at(119, 1));
  assert.deepEqual(written, [
    '1 s: tv 60.0/s, its cursor 60.0/s\n',
    '2 s: tv 59.0/s (1.0 missed), its cursor 59.0/s\n',
  ]);
  written.length = 0;
  const live = new Progress({ ...terminal, live: true });
  live.show(at(0, 0));
  live.show(at(60, 0));
  assert.match(written[0] ?? '', /^\rup /);
  assert.ok(written[1]?.startsWith('\x1b[5A\rup '), 'five lines up');
});
