import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Script } from 'node:vm';
import { countsOf } from '../../src/bench/counts.js';
import { type BenchDocument, benchDocument, meets } from '../../src/bench/document.js';
import { escapeHtml, htmlPage } from '../../src/bench/page.js';
import { formatScenario, formatSummary, reportPage } from '../../src/bench/report.js';
import type { Measured } from '../../src/bench/run.js';
import { printingOf, type Subject, scenarios } from '../../src/bench/scenarios.js';

const CONDITIONS = {
  kernel: '7.2.12',
  processor: 'QEMU TCG CPU',
  processors: 2,
  emulated: true,
  steady: true,
  node: '20.19.2',
  realtimeReason: '',
};

/** Two rounds, every flip after `latencyUs`. */
function measured(subject: Subject, latencyUs: number): Measured {
  const flips = Array.from({ length: 50 }, (_, i) => ({
    guest: 0,
    kickNs: i * 16_000_000,
    latencyNs: latencyUs * 1000,
    commitNs: 200_000,
    presentedNs: (i + 1) * 16_000_000,
    missed: i === 7 ? 1 : 0,
  }));
  const use = { cpuNs: 5_000_000, switches: 100 };
  const printed = printingOf(subject) === null ? null : { lines: 900, copies: 60, pixels: 60 * 64 * 640 };
  const counts = { imports: 0, copies: 0, printed };
  const turn = { startNs: 0, endNs: 1e9, flips: 50, lost: 0, hot: use, whole: use, counts };
  const round = { turn, flips, ownNs: [30_000] };
  const byName = new Map([['ioctl', 1]]);
  return { subject, rounds: [round, round], residentBytes: 2 ** 21, syscalls: { total: 3.5, byName } };
}

function document(scanoutdUs: number): BenchDocument {
  const latency: Record<Subject, number> = {
    reference: 100,
    scanoutd: scanoutdUs,
    'scanoutd+busy': scanoutdUs,
    js: 400,
    'js+busy': 4000,
    socket: 100,
    virtio: 110,
    dbus: 180,
    neighbours: 100,
    'neighbours+map': 100,
    'neighbours+pixels': 100,
  };
  const results = scenarios('normal').map((scenario) => ({
    scenario,
    measured: scenario.subjects.map((subject) => measured(subject, latency[subject])),
  }));
  return benchDocument(CONDITIONS, 'normal', results);
}

test('ratios are held against their targets', () => {
  const { comparisons } = document(120);
  const main = comparisons.filter(({ what }) => what === 'scanoutd / reference');
  assert.deepEqual(
    main.map(({ percentile, ratio, verdict }) => [percentile, ratio.value, verdict]),
    [
      ['p50', 1.2, 'missed'],
      ['p99', 1.2, 'met'],
    ],
  );
  assert.ok(meets({ value: 1.4, low: 0.9, high: 2 }, { kind: 'noise' }));
  assert.ok(!meets({ value: 1.4, low: 1.1, high: 2 }, { kind: 'noise' }));
});

test('the text has every program, its numbers and the verdicts', () => {
  const right = document(105);
  const [scenario] = right.scenarios;
  assert.ok(scenario !== undefined);
  const line =
    formatScenario(scenario)
      .split('\n')
      .find((one) => one.startsWith('scanoutd ')) ?? '';
  assert.match(
    line,
    /^scanoutd +100 +0 +2 +105 us +105 us +105 us +200 us +30 us +100 us +100 us +2\.00 +3\.5 +2\.0 MiB$/,
  );
  const text = formatSummary(right);
  assert.match(text, /only ratios mean something/);
  assert.match(text, /scanoutd \/ reference +p50 +1\.05 +1\.05 to 1\.05 +at most 1\.10 +met/);
  assert.match(text, /\n27 of 27 targets met\n$/);
  assert.match(formatSummary(document(120)), /missed: scanoutd \/ reference \(p50\), 1 guest: /);
});

test('what is counted has rows of its own, and a single import or copy misses', () => {
  const text = formatSummary(document(105));
  assert.match(text, /virtio guest: imports a flip +0\.00 +- +none +met/);
  assert.match(text, /text in messages: copies a refresh +0\.98 +- +at most 1\.00 +met/);
  assert.match(text, /text in shared memory: vblanks missed .* within noise +met/);
  const one = measured('virtio', 110);
  const counts = { imports: 1, copies: 0, printed: null };
  const rounds = one.rounds.map((round) => ({ ...round, turn: { ...round.turn, counts } }));
  assert.deepEqual(
    countsOf([{ ...one, rounds }]).map(({ value, verdict }) => [value, verdict]),
    [
      [0.02, 'missed'],
      [0, 'met'],
    ],
  );
});

test('a machine that prints must cost the others nothing, and copy no more than it has printed', () => {
  const quiet = measured('neighbours', 100);
  const loud = measured('neighbours+map', 100);
  const worse = loud.rounds.map((round) => ({
    turn: {
      ...round.turn,
      counts: { imports: 0, copies: 0, printed: { lines: 1, copies: 70, pixels: 70 * 640 * 480 } },
    },
    ownNs: [],
    flips: round.flips.map((flip) => ({ ...flip, missed: 1 })),
  }));
  assert.deepEqual(
    countsOf([quiet, { ...loud, rounds: worse }]).map(({ verdict }) => verdict),
    ['missed', '', 'missed', 'missed'],
  );
  assert.deepEqual(
    countsOf([quiet, loud]).map(({ verdict }) => verdict),
    ['met', '', 'met', 'met'],
  );
});

test('the page needs nothing from outside and its scripts are right', () => {
  const html = reportPage(document(105));
  assert.doesNotMatch(html, /<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?!data:)/i);
  assert.doesNotMatch(html, /@import|url\(|fetch\(|XMLHttpRequest|import\(/);
  const scripts = [...html.matchAll(/<script(?: type="([^"]*)" id="plots")?>([\s\S]*?)<\/script>/g)];
  assert.equal(scripts.length, 3);
  for (const [, type, text = ''] of scripts) {
    if (type === 'application/json') assert.equal(JSON.parse(text).length, 8);
    else new Script(text);
  }
  assert.equal(html.match(/class="plot"/g)?.length, 8);
  assert.match(html, /Permission is hereby granted/);
});

test('texts from outside cannot leave their place in the page', () => {
  const evil = '</script><script>alert(1)</script>';
  const axis = { label: evil, kind: 'linear' as const };
  const series = [{ label: evil, x: [1], y: [2], look: 'line' as const }];
  const plots = [{ title: evil, x: axis, y: axis, series }];
  const table = { head: [evil], rows: [[evil]] };
  const html = htmlPage({ title: evil, text: evil, sections: [{ heading: evil, text: evil, table, plots }] });
  assert.doesNotMatch(html, /<script>alert/);
  assert.equal(html.match(/<script/g)?.length, 3);
  assert.equal(escapeHtml('a<b & "c">'), 'a&lt;b &amp; &quot;c&quot;&gt;');
});
