import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { createLog, type Log, logOncePer, parseLogLevels, withSyslogLevel } from '../../src/service/log.js';

type Line = Record<string, unknown>;

function capture(options: Omit<Parameters<typeof createLog>[0], 'stream'>): { log: Log; lines: Line[] } {
  const lines: Line[] = [];
  const log = createLog({ ...options, stream: { write: (line: string) => lines.push(JSON.parse(line)) } });
  return { log, lines };
}

test('modules have their own child logger, the same each time', () => {
  const { log, lines } = capture({ level: 'info' });
  log.module('kms').info({ card: '/dev/dri/card0' }, 'taken');
  assert.equal(log.module('kms'), log.module('kms'));
  const { time, ...rest } = lines[0] ?? {};
  assert.match(String(time), /^\d{4}-\d\d-\d\dT/);
  assert.deepEqual(rest, { level: 30, module: 'kms', card: '/dev/dri/card0', msg: 'taken' });
});

test('a level of the environment outlives a reload, a level of the configuration does not', () => {
  const { log, lines } = capture({ level: 'info', levels: parseLogLevels('kms=debug') });
  log.module('kms').debug('1');
  log.module('flip').debug('no');
  log.setLevel('trace');
  log.module('kms').trace('no');
  log.module('flip').trace('2');
  log.module('later').trace('3');
  log.setLevel('error');
  log.module('flip').info('no');
  log.module('kms').info('4');
  assert.deepEqual(
    lines.map(({ msg }) => msg),
    ['1', '2', '3', '4'],
  );
});

test('audit lines are written at every level', () => {
  const { log, lines } = capture({ level: 'fatal' });
  log.audit('assign', { uid: 1000, guest: 'tv' });
  const { time, ...rest } = lines[0] ?? {};
  assert.deepEqual(rest, {
    level: 30,
    module: 'audit',
    event: 'assign',
    uid: 1000,
    guest: 'tv',
    msg: 'audit: assign',
  });
});

test('errors keep code, errno and cause', () => {
  const { log, lines } = capture({ level: 'info' });
  const cause = Object.assign(new Error('EBUSY'), { code: 'EBUSY', errno: -16 });
  log.module('kms').error({ err: new Error('commit failed', { cause }) }, 'x');
  assert.match(JSON.stringify(lines[0]), /commit failed: EBUSY/);
});

const SPECS: [text: string, all: string | null, modules: Record<string, string>][] = [
  ['', null, {}],
  ['debug', 'debug', {}],
  [' info , kms=trace,guests=debug,', 'info', { kms: 'trace', guests: 'debug' }],
  ['kms=trace', null, { kms: 'trace' }],
];

for (const [text, all, modules] of SPECS) {
  test(`SCANOUTD_LOG="${text}" is understood`, () => {
    const levels = parseLogLevels(text);
    assert.equal(levels.all, all);
    assert.deepEqual(Object.fromEntries(levels.modules), modules);
  });
}

for (const text of ['loud', 'kms=', '=info', 'info;kms=debug', 'kms=a=b']) {
  test(`SCANOUTD_LOG="${text}" is refused`, () => {
    assert.throws(() => parseLogLevels(text), {
      name: 'TypeError',
      message:
        `found "${text}", allowed is LEVEL or MODULE=LEVEL, with LEVEL one of ` +
        'fatal, error, warn, info, debug, trace',
    });
  });
}

test('levels of pino are levels of syslog', () => {
  const prefixes = [60, 50, 40, 30, 20, 10].map((level) => withSyslogLevel('', level));
  assert.deepEqual(prefixes, ['<2>', '<3>', '<4>', '<6>', '<7>', '<7>']);
});

/** Runs a child that logs one line of each kind, with stdout in `file`. */
function logInChild(file: string, journalStream: (fd: number) => string): string {
  const fd = openSync(file, 'w');
  const module = new URL('../../src/service/log.js', import.meta.url).href;
  const script = `const { createLog } = await import(${JSON.stringify(module)});
    const log = createLog({ level: 'info' });
    log.module('a').info('one');
    log.module('a').error('two');
    process.kill(process.pid, 'SIGKILL');`;
  const env = { ...process.env, JOURNAL_STREAM: journalStream(fd) };
  spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env,
    stdio: ['ignore', fd, 'inherit'],
  });
  closeSync(fd);
  return readFileSync(file, 'utf8');
}

test('lines have the prefix only when stdout is the stream that JOURNAL_STREAM means', () => {
  const directory = mkdtempSync(join(tmpdir(), 'scanoutd-log-'));
  const identity = (fd: number) => {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return `${dev}:${ino}`;
  };
  try {
    const file = join(directory, 'out');
    assert.equal(
      logInChild(file, identity),
      '<6>{"level":30,"module":"a","msg":"one"}\n<3>{"level":50,"module":"a","msg":"two"}\n',
    );
    assert.match(
      logInChild(file, () => '1:2'),
      /^{"level":30,"time":"[^"]*","module":"a","msg":"one"}\n/,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a storm is logged once in the time, and no count is lost', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const written: [string, number][] = [];
    const storm = (text: string) =>
      logOncePer('EBUSY', 1000, (suppressed) => written.push([text, suppressed]));
    storm('first');
    storm('second');
    storm('third');
    logOncePer('other', 1000, (suppressed) => written.push(['other', suppressed]));
    assert.deepEqual(written, [
      ['first', 0],
      ['other', 0],
    ]);
    mock.timers.tick(1000);
    assert.deepEqual(written.slice(2), [['third', 1]]);
    storm('fourth');
    assert.equal(written.length, 3);
    mock.timers.tick(1000);
    assert.deepEqual(written.slice(3), [['fourth', 0]]);
    mock.timers.tick(1000);
    storm('fifth');
    assert.deepEqual(written.slice(4), [['fifth', 0]]);
  } finally {
    mock.timers.reset();
  }
});
