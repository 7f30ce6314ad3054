/** Runs one test program: its output passed on line by line, its time bounded, its results counted. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import type { Program } from './programs.js';
import { type Report, readReport, readTap } from './report.js';

export interface Result {
  name: string;
  passed: number;
  failed: number;
  skipped: number;
  /** Names of the failed tests, or what else was wrong. */
  failures: string[];
  /** Names and reasons. */
  skips: string[];
  seconds: number;
}

/** What runs, for the word on what hung. */
export const running = new Map<ChildProcess, { name: string; since: number }>();

const KILL_AFTER_MS = 5_000;
/** The footer of every file is the same totals that are summed up at the end. */
const FOOTER = /^ℹ (tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /;

export async function run(
  program: Program,
  reportDir: string,
  print: (line: string) => void,
): Promise<Result> {
  const since = Date.now();
  const reportFile = join(reportDir, `${program.name}.jsonl`);
  const [file = '', ...args] = program.command;
  if (program.reports === 'json') {
    mkdirSync(dirname(reportFile), { recursive: true });
    rmSync(reportFile, { force: true });
    args.unshift(
      ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
      ...['--test-reporter=./dist/test/runner/reporter.js', `--test-reporter-destination=${reportFile}`],
    );
  }
  // A process group of its own, so that what it started goes with it.
  const child = spawn(file, args, {
    env: { ...process.env, ...program.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  running.set(child, { name: program.name, since });
  let stdout = '';
  const streams = [
    forLines(child.stdout, (line) => {
      if (program.reports === 'tap') stdout += `${line}\n`;
      if (!FOOTER.test(line)) print(line);
    }),
    forLines(child.stderr, print),
  ];
  const end = await ended(child, program.seconds);
  // A process that left the group may hold the pipes for ever.
  await Promise.race([Promise.all(streams), setTimeout(KILL_AFTER_MS, undefined, { ref: false })]);
  child.stdout.destroy();
  child.stderr.destroy();
  running.delete(child);
  return {
    ...judge(program, end, readProgramReport(program, end, reportFile, stdout)),
    seconds: (Date.now() - since) / 1000,
  };
}

/** Stops a program and all that it started. */
export function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Nothing of it is left.
  }
}

/** How a program ended: an empty text when well, else what was wrong. */
async function ended(child: ChildProcess, seconds: number): Promise<string> {
  let late = false;
  const done = new AbortController();
  const stop = async () => {
    await setTimeout(seconds * 1000, undefined, { signal: done.signal });
    late = true;
    killGroup(child, 'SIGTERM');
    await setTimeout(KILL_AFTER_MS, undefined, { signal: done.signal });
    killGroup(child, 'SIGKILL');
  };
  stop().catch(() => {}); // It was done in time.
  const end = await new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(`did not start: ${error.message}`));
    child.on('exit', (status, signal) => {
      const text = status === 0 ? '' : statusText(status);
      // A shell or a wrapper tells of a signal by its status.
      const name = signal ?? signalOf(status ?? 0);
      resolve(name === undefined ? text : `died of ${name}`);
    });
  });
  done.abort();
  // What it left running would disturb the next, and would hold the pipes.
  killGroup(child, 'SIGKILL');
  return late ? `ran for more than ${seconds} s` : end;
}

const statusText = (status: number | null) => `ended with status ${status}`;

function signalOf(status: number): string | undefined {
  return Object.entries(constants.signals).find(([, number]) => status === 128 + number)?.[0];
}

function readProgramReport(program: Program, end: string, file: string, stdout: string): Report {
  switch (program.reports) {
    case 'tap':
      return readTap(stdout);
    case 'status':
      return { lines: end === '' ? [{ name: program.name, verdict: 'passed' }] : [], complete: true };
    case 'json':
      try {
        return readReport(readFileSync(file, 'utf8'));
      } catch {
        return { lines: [], complete: false };
      }
  }
}

/** A program that ended badly, or that held no test at all, counts as one failure more. */
export function judge(program: { name: string }, end: string, report: Report): Omit<Result, 'seconds'> {
  const { lines } = report;
  const named = (verdict: string) => lines.filter((line) => line.verdict === verdict);
  const failures = named('failed').map(({ name }) => name);
  if (lines.length === 0) failures.push(end === '' ? 'no test in it came to its end' : end);
  else if (!report.complete) failures.push(end === '' ? 'ended in the middle of its tests' : end);
  // Status 1 is how programs say that a test failed.
  else if (end !== '' && !(end === statusText(1) && failures.length > 0)) failures.push(end);
  return {
    name: program.name,
    passed: named('passed').length,
    failed: failures.length,
    skipped: named('skipped').length,
    failures,
    skips: named('skipped').map(({ name, reason }) => `${name}: ${reason || 'no reason given'}`),
  };
}

/** A program that was not run at all. */
export function notRun(name: string, why: string): Result {
  return { name, passed: 0, failed: 1, skipped: 0, failures: [why], skips: [], seconds: 0 };
}

/** Resolves at the end of the stream. */
export async function forLines(stream: Readable, take: (line: string) => void): Promise<void> {
  for await (const line of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
    take(line);
  }
}
