import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compare, ended, formatTop, redraw, runTop, type TopTerminal } from '../../src/cli/top.js';
import { guest, output, plane, status } from '../fixtures/documents.js';

const FIRST = { at: 1_000_000, status: status({ guests: [guest()], outputs: [output()] }) };
const SECOND = {
  at: 1_002_000,
  status: status({
    guests: [guest({ planes: [plane({ flips: 720, missed: 2 })] })],
    outputs: [output({ flips: 1320 })],
  }),
};

function terminal(rounds: number, live = false): TopTerminal & { text: string } {
  let now = 1_000_000;
  let left = rounds;
  return {
    text: '',
    live,
    size: () => ({ columns: 40, rows: 5 }),
    write(text) {
      this.text += text;
    },
    sleep: async (ms) => {
      now += ms;
      left--;
    },
    untilEnded: async (work) => {
      const result = await work;
      return left < 0 ? ended : result;
    },
    now: () => now,
  };
}

test('rates are differences over the time between two samples', () => {
  const { seconds, time, rows, outputs } = compare(FIRST, SECOND);
  assert.equal(seconds, 2);
  assert.equal(time, '1970-01-01T00:16:42.000Z');
  assert.equal(rows[0]?.flips, 60);
  assert.equal(rows[0]?.missed, 0.5);
  assert.equal(rows[0]?.superseded, 0);
  assert.deepEqual(outputs, [{ name: 'HDMI-A-1', mode: output().mode, lit: true, flips: 60, missed: 0 }]);
});

test('the first sample has no rates, a new or restarted guest counts from zero', () => {
  assert.equal(compare(null, FIRST).rows[0]?.flips, null);
  const restarted = { ...SECOND, status: status({ guests: [guest({ planes: [plane({ flips: 10 })] })] }) };
  assert.equal(compare(FIRST, restarted).rows[0]?.flips, 5);
  const newcomer = { ...SECOND, status: status({ guests: [guest({ name: 'new' })] }) };
  assert.equal(compare(FIRST, newcomer).rows[0]?.flips, 300);
});

test('the table says how each plane is shown, and why not directly', () => {
  const now = {
    at: 1_001_000,
    status: status({ outputs: [output(), output({ name: 'DP-1', lit: false })] }),
  };
  assert.equal(
    formatTop(compare({ ...now, at: 1_000_000 }, now)),
    `up 3 h 12 min; 2 guests; HDMI-A-1 1920x1080@59.94 0/s

GUEST  PLANE    OUTPUT    FLIPS/S  MISSED/S  SUPERSEDED/S  P50    P99     MAX    SHOWN
tv     primary  HDMI-A-1  0        0         0             85 us  1.3 ms  2.6 s  direct
clock  overlay  HDMI-A-1  0        0         0             -      -       -      copied: TEST_ONLY refused NV12 on plane 35: EINVAL
`,
  );
});

test('without an output or a guest there is still a table', () => {
  const nothing = compare(null, { at: 0, status: status({ guests: [], outputs: [] }) });
  assert.match(formatTop(nothing), /^up 3 h 12 min; 0 guests; no output lit\n\nGUEST /);
});

test('--json is one document a line', async () => {
  const screen = terminal(2, true);
  await runTop(async () => status(), screen, { intervalMs: 1000, once: false, json: true });
  const documents = screen.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    documents.map(({ seconds }) => seconds),
    [null, 1, 1],
  );
});

test('--once is one table with rates', async () => {
  const screen = terminal(5, true);
  await runTop(async () => status(), screen, { intervalMs: 500, once: true, json: false });
  assert.equal(screen.text.match(/GUEST/g)?.length, 1);
  assert.ok(!screen.text.includes('\x1b'));
  assert.match(screen.text, / 0\/s\n/);
});

test('off a terminal tables follow each other, without codes', async () => {
  const screen = terminal(1);
  await runTop(async () => status(), screen, { intervalMs: 1000, once: false, json: false });
  assert.equal(screen.text.match(/GUEST/g)?.length, 2);
  assert.ok(!screen.text.includes('\x1b'));
});

test('on a terminal the table is redrawn in place, and the screen given back even after an error', async () => {
  const screen = terminal(9, true);
  let calls = 0;
  const describe = async () => {
    if (++calls > 2) {
      throw new Error('gone');
    }
    return status();
  };
  await assert.rejects(runTop(describe, screen, { intervalMs: 1000, once: false, json: false }), /gone/);
  assert.ok(screen.text.startsWith('\x1b[?1049h\x1b[?25l\x1b[H'));
  assert.ok(screen.text.endsWith('\x1b[J\x1b[?25h\x1b[?1049l'));
});

test('a redraw fits the terminal', () => {
  const text = redraw('one line that is long\ntwo\nthree\nfour\n', { columns: 8, rows: 4 });
  assert.equal(text, '\x1b[Hone line\x1b[K\r\ntwo\x1b[K\r\nthree\x1b[K\x1b[J');
});
