/**
 * Runs clang-tidy on every file of build/Release/compile_commands.json: `tidy.js CLANG_TIDY [--fix]`.
 *
 * A file takes seconds, so that what passed is remembered in the user's cache, by a hash of all that the verdict depends
 * on within the project: the file, the headers that it reaches, the compiler's flags, the checks and the tool's version.
 */
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, homedir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';

const DATABASE = 'build/Release';
const KEEP_DAYS = 30;
const ARGUMENTS = [
  '--quiet',
  ...['-p', DATABASE],
  // What is found in headers of a system directory is not reported.
  ...['-isystem', 'node_modules/node-addon-api'].map((word) => `--extra-arg=${word}`),
  // Deep, the analyzer takes three times as long as all the rest.
  ...['-Xclang', '-analyzer-config', '-Xclang', 'mode=shallow'].map((word) => `--extra-arg=${word}`),
];

const [tool = 'clang-tidy', ...options] = process.argv.slice(2);
const project = process.cwd();
const cache = join(
  process.env.SCANOUTD_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'scanoutd'),
  'tidy',
);

interface Job {
  file: string;
  stamp: string;
}

const constant = [
  execFileSync(tool, ['--version'], { encoding: 'utf8' }),
  readFileSync('.clang-tidy', 'utf8'),
  ...ARGUMENTS,
].join('\n');
const jobs = readCommands()
  .map(({ file, command }) => ({ file, stamp: join(cache, keyOf(file, command)) }))
  .filter(({ stamp }) => !isKnown(stamp));

mkdirSync(cache, { recursive: true });
let failed = 0;
const count = jobs.length;
await Promise.all(Array.from({ length: availableParallelism() }, work));
dropOld();
if (count > 0) console.log(`clang-tidy: ${count} checked, ${failed} with findings`);
process.exitCode = failed === 0 ? 0 : 1;

async function work(): Promise<void> {
  for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) await check(job);
}

/** Prints what was found in the file. */
function check({ file, stamp }: Job): Promise<void> {
  return new Promise((done) => {
    execFile(tool, [...ARGUMENTS, ...options, file], { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error === null) {
        writeFileSync(stamp, '');
      } else {
        failed++;
        // Counts of warnings that are suppressed are on stderr, which matters only when there is nothing else.
        console.log(`clang-tidy: ${relative(project, file)}\n${stdout.trim() || stderr.trim()}`);
      }
      done();
    });
  });
}

/** Each file once, though more than one target may compile it. */
function readCommands(): { file: string; command: string }[] {
  const text = readFileSync(join(DATABASE, 'compile_commands.json'), 'utf8');
  const commands = JSON.parse(text) as { file: string; command: string }[];
  return [...new Map(commands.map((entry) => [entry.file, entry])).values()];
}

function keyOf(file: string, command: string): string {
  const hash = createHash('sha256').update(constant).update(command.replaceAll(project, ''));
  const dirs = [...command.matchAll(/ -I(\S+)/g)].map(([, dir = '']) => dir);
  for (const path of reached(file, dirs))
    hash.update(`\0${relative(project, path)}\0`).update(readFileSync(path));
  return hash.digest('hex').slice(0, 32);
}

/** The file and the project's headers that it includes, directly or not. */
function reached(file: string, dirs: readonly string[]): Set<string> {
  const seen = new Set([file]);
  for (const path of seen) {
    for (const [, name = ''] of readFileSync(path, 'utf8').matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      const found = [dirname(path), ...dirs].map((dir) => resolve(dir, name)).find(existsSync);
      if (found?.startsWith(`${project}/`)) seen.add(found);
    }
  }
  return seen;
}

function isKnown(stamp: string): boolean {
  if (!existsSync(stamp)) return false;
  const now = new Date();
  utimesSync(stamp, now, now);
  return true;
}

function dropOld(): void {
  const oldest = Date.now() - KEEP_DAYS * 24 * 3600 * 1000;
  for (const name of readdirSync(cache)) {
    if (statSync(join(cache, name)).mtimeMs < oldest) rmSync(join(cache, name));
  }
}
