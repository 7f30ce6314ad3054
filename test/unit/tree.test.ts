/** The tree as a whole: what no compiler and no linter looks at. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

/** The project's files; none where git cannot tell, as in a source archive. */
function listFiles(): string[] {
  const git = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    encoding: 'utf8',
  });
  return git.status === 0 ? git.stdout.split('\0').filter((path) => path !== '' && existsSync(path)) : [];
}

const files = listFiles();
const skip = files.length > 0 ? false : 'git cannot tell which files are the project';

/** The text of a file; empty where it holds something else. */
function textOf(path: string): string {
  const bytes = readFileSync(path);
  return bytes.includes(0) ? '' : bytes.toString('utf8');
}

test('links in documents lead to files', { skip }, () => {
  const broken = files
    .filter((path) => path.endsWith('.md'))
    .flatMap((path) =>
      [...textOf(path).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
        .map(([, link = '']) => link)
        .filter((link) => !/^[a-z]+:/.test(link) && !existsSync(join(dirname(path), link)))
        .map((link) => `${path}: ${link}`),
    );
  assert.deepEqual(broken, []);
});

test('no file names a directory of the machine it was written on', { skip }, () => {
  // root's home is one of every machine.
  const places = [process.cwd(), homedir()].filter((path) => path !== '/' && path !== '/root');
  const named = files.filter((path) => {
    const text = textOf(path);
    return /\/home\/[a-z]/.test(text) || places.some((place) => text.includes(`${place}/`));
  });
  assert.deepEqual(named, []);
});

test('no conflict is left, and every text ends with its line', { skip }, () => {
  const bad = files.filter((path) => {
    const text = textOf(path);
    return /^(<{7}|>{7}) /m.test(text) || (text !== '' && !text.endsWith('\n'));
  });
  assert.deepEqual(bad, []);
});

test('scripts can be run', { skip }, () => {
  const scripts = files.filter((path) => path.startsWith('scripts/'));
  assert.ok(scripts.length > 0);
  for (const path of scripts) assert.doesNotThrow(() => accessSync(path, constants.X_OK), path);
});

test('the lockfile names no registry, and every optional package of every platform', () => {
  const text = readFileSync('package-lock.json', 'utf8');
  assert.ok(!text.includes('"resolved"'));
  // Without an entry for each of them npm 11 refuses the whole file; npm 10 writes such files.
  const { packages } = JSON.parse(text) as {
    packages: Record<string, { optionalDependencies?: Record<string, string> }>;
  };
  const optional = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
  assert.deepEqual(
    optional.filter((name) => packages[`node_modules/${name}`] === undefined),
    [],
  );
});
