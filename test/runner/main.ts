/**
 * Runs the tests: `main.js [--only lint|unit|native|machine [PATTERN]]`, after `scripts/setup`.
 *
 * Ends with the line `N passed, N failed, N skipped` on stdout, however it ends.
 */
import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { BEGIN, RESULT } from './marks.js';
import {
  addonLoads,
  MACHINES,
  type MachineName,
  machineTests,
  nativeTests,
  type Program,
  unitTests,
} from './programs.js';
import { killGroup, notRun, type Result, run, running } from './run.js';

const OUT = 'out/test';
const BUILD = 'build/Release';
const LINT_SECONDS = 40 * 60;
/** What all programs of a machine may take together; and what one of them may take to say a word. */
const MACHINE_SECONDS = 65 * 60;
const SILENT_SECONDS = 10 * 60;
/** The machine's own bounds come first, as it has more to say when it stops. */
const MARGIN_SECONDS = 10 * 60;

const { values, positionals } = parseArgs({ options: { only: { type: 'string' } }, allowPositionals: true });
const [pattern = ''] = positionals;
const isWanted = (name: string) => values.only === undefined || values.only === name;

const all: { stage: string; result: Result }[] = [];
const print = (line: string) => console.log(line);

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    for (const [child, { name, since }] of running) {
      print(`test: stopped by ${signal} when ${name} had run for ${seconds(since)}`);
      killGroup(child, 'SIGTERM');
      all.push({ stage: 'stopped', result: notRun(name, `stopped by ${signal}`) });
    }
    finish();
  });
}

try {
  rmSync(OUT, { recursive: true, force: true });
  await main();
} catch (error) {
  console.error(error);
  all.push({ stage: 'tests', result: notRun('the tests themselves', String(error)) });
}
finish();

async function main(): Promise<void> {
  // Beside all the rest, with what time the processors have left.
  const lint = isWanted('lint') ? startLint() : undefined;
  if (isWanted('unit')) await stage('unit', runUnitTests);
  if (isWanted('native')) await stage('native', runNativeTests);
  if (isWanted('machine')) await stage('machine', runMachines);
  if (lint !== undefined) await stage('lint', lint);
}

async function stage(name: string, work: () => Promise<Result[]>): Promise<void> {
  const since = Date.now();
  print(`test: ${name} ...`);
  const results = await work();
  if (results.length === 0) results.push(notRun(name, `there is no test${pattern && ` named ${pattern}`}`));
  all.push(...results.map((result) => ({ stage: name, result })));
  print(`test: ${name}: ${totals(results)} (${seconds(since)})`);
}

/** Starts it, and returns what waits for it; what it prints is held back until then. */
function startLint(): () => Promise<Result[]> {
  const held: string[] = [];
  let take = (line: string) => {
    held.push(line);
  };
  const command = ['nice', '-n', '19', 'bash', 'scripts/lint', '--no-setup'];
  const result = run({ name: 'lint', command, reports: 'tap', seconds: LINT_SECONDS }, OUT, (line) =>
    take(line),
  );
  return async () => {
    for (const line of held) print(line);
    take = print;
    return [await result];
  };
}

/** As many at a time as there are processors; what each prints is kept together. */
async function runUnitTests(): Promise<Result[]> {
  const programs = unitTests(pattern);
  const results: Result[] = [];
  const work = async () => {
    for (let program = programs.shift(); program !== undefined; program = programs.shift()) {
      const lines: string[] = [];
      results.push(await run(program, `${OUT}/unit`, (line) => lines.push(line)));
      for (const line of lines) print(line);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return results;
}

async function runNativeTests(): Promise<Result[]> {
  const results: Result[] = [];
  for (const program of [addonLoads(BUILD), nativeTests(BUILD, pattern)]) {
    results.push(await run(program, OUT, print));
  }
  return results;
}

async function runMachines(): Promise<Result[]> {
  const results: Result[] = [];
  for (const name of MACHINES) results.push(...(await runMachine(name)));
  return results;
}

/** All of one in one boot, since that takes half a minute where it is emulated. */
async function runMachine(machineName: MachineName): Promise<Result[]> {
  const programs = machineTests(machineName, pattern);
  if (programs.length === 0) return [];
  const results: Result[] = [];
  let begun = '';
  const machine = await run(machineRun(machineName), OUT, (line) => {
    if (line.startsWith(BEGIN)) {
      begun = line.slice(BEGIN.length);
      print(`test: machine: ${begun}`);
    } else if (line.startsWith(RESULT)) {
      results.push(JSON.parse(line.slice(RESULT.length)) as Result);
    } else {
      print(line);
    }
  });
  for (const { name } of programs) {
    if (results.some((result) => result.name === name)) continue;
    const what = name === begun ? 'the machine ended in the middle of it' : 'it was not run';
    results.push(notRun(name, `${what}: ${machine.failures.join()}`));
  }
  if (machine.failed > 0) results.push(machine);
  return results;
}

function machineRun(name: MachineName): Program {
  return {
    name: `the test machine (${name})`,
    command: [
      'test/machine/run',
      ...['--init', name === 'systemd' ? 'systemd' : 'plain'],
      ...[
        '--timeout',
        `${MACHINE_SECONDS}`,
        '--idle',
        `${SILENT_SECONDS}`,
        '--out',
        `${OUT}/machine/${name}`,
      ],
      ...['--', 'node', 'dist/test/runner/inside.js', name, ...positionals],
    ],
    reports: 'status',
    seconds: MACHINE_SECONDS + MARGIN_SECONDS,
  };
}

function finish(): never {
  const list = (title: string, key: 'skips' | 'failures') => {
    const lines = all.flatMap(({ stage, result }) =>
      result[key].map((text) => `  ${stage}: ${result.name === stage ? '' : `${result.name}: `}${text}`),
    );
    if (lines.length > 0) print([`${title}:`, ...lines].join('\n'));
  };
  list('skipped', 'skips');
  list('failed', 'failures');
  const results = all.map(({ result }) => result);
  print(totals(results));
  process.exit(sum(results, 'failed') === 0 ? 0 : 1);
}

function sum(results: readonly Result[], key: 'passed' | 'failed' | 'skipped'): number {
  return results.reduce((total, result) => total + result[key], 0);
}

function totals(results: readonly Result[]): string {
  return `${sum(results, 'passed')} passed, ${sum(results, 'failed')} failed, ${sum(results, 'skipped')} skipped`;
}

function seconds(since: number): string {
  return `${((Date.now() - since) / 1000).toFixed(1)} s`;
}
