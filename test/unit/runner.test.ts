import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { unitTests } from '../runner/programs.js';
import { readReport, readTap } from '../runner/report.js';
import { judge, type Result, run } from '../runner/run.js';

const dir = mkdtempSync(join(tmpdir(), 'scanoutd-runner-'));
after(() => rmSync(dir, { recursive: true }));

/** Runs a file of node:test with this text; returns its result and what it printed. */
async function runText(
  name: string,
  text: string,
  seconds = 20,
): Promise<{ result: Result; lines: string[] }> {
  const file = join(dir, `${name}.test.mjs`);
  writeFileSync(
    file,
    `import { describe, test } from 'node:test';\nimport { setTimeout } from 'node:timers/promises';\n${text}`,
  );
  const lines: string[] = [];
  const program = { name, command: ['node', file], reports: 'json' as const, seconds };
  const result = await run(program, dir, (line) => lines.push(line));
  return { result, lines };
}

test('every kind of result is counted, tests within tests by their full names', async () => {
  const { result, lines } = await runText(
    'kinds',
    `test('one', () => console.log('a word'));
    test('hash # in it', { skip: 'no # card' }, () => {});
    test('later', { todo: 'some day' }, () => { throw new Error('x'); });
    describe('suite', () => { test('bad', () => { throw new Error('x'); }); });
    test('outer', async (t) => {
      await t.test('inner', (t) => t.skip());
      await t.test('good', () => {});
    });`,
  );
  assert.deepEqual([result.passed, result.failed, result.skipped], [3, 1, 3]);
  assert.deepEqual(result.failures, ['suite > bad']);
  assert.deepEqual(result.skips, [
    'hash # in it: no # card',
    'later: to do: some day',
    'outer > inner: no reason given',
  ]);
  assert.ok(lines.includes('a word'));
  assert.ok(!lines.some((line) => line.startsWith('ℹ pass')));
});

const FAULTS: [name: string, text: string, passed: number, failures: string[]][] = [
  ['no test in the file', `console.log('nothing');`, 0, ['no test in it came to its end']],
  ['an exception at the top', `throw new Error('x');`, 0, ['ended with status 1']],
  [
    'death by a signal',
    `test('a', () => {}); test('b', () => setTimeout(100).then(() => process.kill(process.pid, 'SIGSEGV')));`,
    1,
    ['died of SIGSEGV'],
  ],
  [
    'an exit in the middle',
    `test('a', () => {}); test('b', () => setTimeout(100).then(() => process.exit(0)));`,
    1,
    ['ended in the middle of its tests'],
  ],
  [
    'a hook that fails',
    `import { before } from 'node:test'; before(() => { throw new Error('x'); }); test('a', () => {});`,
    0,
    ['a'],
  ],
  [
    'a status after good tests',
    `test('a', () => {}); process.on('exit', () => { process.exitCode = 3; });`,
    1,
    ['ended with status 3'],
  ],
];
for (const [name, text, passed, failures] of FAULTS) {
  test(`a failure: ${name}`, async () => {
    const { result } = await runText(name.replaceAll(' ', '-'), text);
    assert.deepEqual({ passed: result.passed, failures: result.failures }, { passed, failures });
    assert.equal(result.failed, failures.length);
  });
}

test('a program that hangs is stopped, with what it started, and keeps what passed', async () => {
  const { result, lines } = await runText(
    'hang',
    `import { spawn } from 'node:child_process';
    test('a', () => {});
    test('b', () => new Promise(() => {
      const child = spawn('sleep', ['1000'], { stdio: 'inherit' });
      console.log('child ' + child.pid);
    }));`,
    2,
  );
  assert.deepEqual(result.failures, ['ran for more than 2 s']);
  assert.equal(result.passed, 1);
  const child = lines.find((line) => line.startsWith('child '))?.slice('child '.length);
  while (isAlive(Number(child))) await setTimeout(10);
});

/** Where nobody waits for it, a process that ended stays as a zombie. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

test('a program that does not start is a failure', async () => {
  const program = { name: 'absent', command: [join(dir, 'absent')], reports: 'status' as const, seconds: 5 };
  const result = await run(program, dir, () => {});
  assert.equal(result.failed, 1);
  assert.match(result.failures[0] ?? '', /did not start: .*ENOENT/);
});

test('TAP of native tests and checks', () => {
  const text =
    '# a.cc:3: x\nnot ok 1 - a\nok 2 - b # SKIP no card\nok 3 - c\nok, a word\n1..3\n2 passed, 1 failed\n';
  const report = readTap(text);
  assert.ok(report.complete);
  assert.deepEqual(
    report.lines.map(({ verdict }) => verdict),
    ['failed', 'skipped', 'passed'],
  );
  const result = judge({ name: 'native' }, 'ended with status 1', report);
  assert.deepEqual([result.passed, result.failed, result.skips], [1, 1, ['b: no card']]);
});

test('TAP that ends early, or whose plan is another', () => {
  assert.ok(!readTap('ok 1 - a\n').complete);
  assert.ok(!readTap('ok 1 - a\n1..2\n').complete);
  assert.deepEqual(judge({ name: 'x' }, 'died of SIGABRT', readTap('ok 1 - a\n')).failures, [
    'died of SIGABRT',
  ]);
});

test('a report that was cut off in the middle of a line', () => {
  const report = readReport('{"name":"a","verdict":"passed"}\n{"name":"b","ver');
  assert.deepEqual(report, { lines: [{ name: 'a', verdict: 'passed' }], complete: false });
});

test('programs are chosen by a part of their names', () => {
  assert.deepEqual(
    unitTests('runner').map(({ name }) => name),
    ['runner'],
  );
  assert.deepEqual(unitTests('no such test'), []);
});
