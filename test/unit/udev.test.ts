/** The devices of this host, and what the kernel says of them. What udevd adds is tested in the test machine. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { enumerateDevices, type UdevEvent, UdevMonitor } from '../../src/native/session.js';
import { countFds, until, untilFds } from './sockets.js';

const UEVENT = '/sys/class/mem/null/uevent';
const OTHER = '/sys/class/mem/zero/uevent';

function canTrigger(): boolean {
  try {
    accessSync(UEVENT, constants.W_OK);
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
}
const skip = canTrigger() ? false : 'cannot make the kernel send events here';

/** Makes the kernel say that /dev/null changed; it adds the number as SYNTH_ARG_N. */
function trigger(number: number, file = UEVENT): void {
  writeFileSync(file, `change 01234567-89ab-cdef-0123-456789abcdef N=${number}`);
}

const numbers = (events: readonly UdevEvent[]) =>
  events.map(({ properties }) => Number(properties.SYNTH_ARG_N));

test('devices of a subsystem, with their properties', () => {
  const found = enumerateDevices({ subsystem: 'mem' });
  const device = found.find(({ sysname }) => sysname === 'null');
  assert.ok(device);
  const { properties, ...rest } = device;
  assert.deepEqual(rest, {
    subsystem: 'mem',
    devtype: null,
    sysname: 'null',
    syspath: '/sys/devices/virtual/mem/null',
    devnode: '/dev/null',
  });
  const { SUBSYSTEM, MAJOR, MINOR, DEVNAME } = properties;
  assert.deepEqual([SUBSYSTEM, MAJOR, MINOR, DEVNAME], ['mem', '1', '3', '/dev/null']);
  assert.ok(found.some(({ sysname }) => sysname === 'zero'));
  assert.deepEqual(enumerateDevices({ subsystem: 'no-such-subsystem' }), []);
  assert.throws(() => enumerateDevices({ subsystem: '' }), TypeError);
  assert.throws(() => enumerateDevices({} as { subsystem: string }), TypeError);
});

test('devices of a type', () => {
  const all = enumerateDevices({ subsystem: 'block' });
  const disks = enumerateDevices({ subsystem: 'block', devtype: 'disk' });
  assert.ok(disks.length > 0);
  assert.ok(disks.every(({ devtype }) => devtype === 'disk'));
  assert.equal(disks.length, all.filter(({ devtype }) => devtype === 'disk').length);
  assert.deepEqual(enumerateDevices({ subsystem: 'block', devtype: 'none' }), []);
});

test('all events that came at once come in one go', { skip }, async () => {
  const calls: UdevEvent[][] = [];
  const monitor = new UdevMonitor({
    subsystems: ['mem'],
    source: 'kernel',
    onEvents: (events, { overflow }) => {
      assert.equal(overflow, false);
      calls.push(events);
    },
  });
  assert.equal(monitor.source, 'kernel');
  for (let i = 0; i < 50; i++) trigger(i, i % 2 === 0 ? UEVENT : OTHER);
  await until('the events', () => calls.length > 0);
  await setTimeout(20);
  assert.equal(calls.length, 1);
  const [events] = calls as [UdevEvent[]];
  assert.deepEqual(
    numbers(events),
    Array.from({ length: 50 }, (_, i) => i),
  );
  const { action, sysname, devnode, subsystem } = events[1] as UdevEvent;
  assert.deepEqual([action, sysname, devnode, subsystem], ['change', 'zero', '/dev/zero', 'mem']);
  assert.ok(events.every(({ sequence }, i) => i === 0 || sequence > (events[i - 1]?.sequence ?? 0)));
  monitor.close();
  monitor.close();
});

test('filters let through what matches one of them', { skip }, async () => {
  const [none, some]: [UdevEvent[], UdevEvent[]] = [[], []];
  const other = new UdevMonitor({
    filters: [{ subsystem: 'mem', devtype: 'drm_minor' }, { subsystem: 'drm' }],
    source: 'kernel',
    onEvents: (events) => none.push(...events),
  });
  const everything = new UdevMonitor({ source: 'kernel', onEvents: (events) => some.push(...events) });
  trigger(1);
  await until('the event', () => some.length > 0);
  await setTimeout(20);
  assert.deepEqual([none.length, numbers(some)], [0, [1]]);
  other.close();
  everything.close();
});

test('lost events are told, and the next ones come', { skip }, async () => {
  const events: UdevEvent[] = [];
  let overflows = 0;
  const monitor = new UdevMonitor({
    subsystems: ['mem'],
    source: 'kernel',
    receiveBufferBytes: 4096,
    onEvents: (some, { overflow }) => {
      events.push(...some);
      if (overflow) overflows += 1;
    },
  });
  for (let i = 0; i < 300; i++) trigger(i);
  await until('the overflow', () => overflows > 0);
  await setTimeout(20);
  assert.equal(overflows, 1);
  assert.ok(events.length < 300, `${events.length}`);
  events.length = 0;
  trigger(1000);
  await until('the next', () => events.length > 0);
  assert.deepEqual(numbers(events), [1000]);
  monitor.close();
});

test('the buffer holds a storm when it is not made smaller', { skip }, async () => {
  let count = 0;
  const monitor = new UdevMonitor({
    subsystems: ['mem'],
    source: 'kernel',
    onEvents: (some, { overflow }) => {
      assert.ok(!overflow);
      count += some.length;
    },
  });
  for (let i = 0; i < 3000; i++) trigger(i);
  await until('all', () => count === 3000);
  monitor.close();
});

test('close within the handler, and nothing is left open', { skip }, async () => {
  const before = countFds();
  let count = 0;
  const monitor = new UdevMonitor({
    source: 'kernel',
    onEvents: () => {
      count += 1;
      monitor.close();
    },
  });
  trigger(1);
  await until('the event', () => count > 0);
  trigger(2);
  await setTimeout(20);
  assert.equal(count, 1);
  await untilFds(before);
});

test('wrong options are refused', () => {
  const onEvents = () => {};
  assert.throws(() => new UdevMonitor({ source: 'sysfs' as 'udev', onEvents }), TypeError);
  assert.throws(() => new UdevMonitor({ receiveBufferBytes: 0, onEvents }), TypeError);
  assert.throws(() => new UdevMonitor({ subsystems: [''], onEvents }), TypeError);
});

test('a process ends with a monitor that is open, and waits for one that is', () => {
  const module = new URL('../../src/native/session.js', import.meta.url).href;
  const run = (code: string) =>
    spawnSync(
      process.execPath,
      ['--expose-gc', '--input-type=module', '-e', `import { UdevMonitor } from '${module}'; ${code}`],
      {
        encoding: 'utf8',
        timeout: 120_000,
      },
    );
  const exits = run(
    'new UdevMonitor({ onEvents() {} }); globalThis.gc(); setTimeout(() => process.exit(5), 30);',
  );
  assert.deepEqual([exits.status, exits.stderr], [5, '']);
  const ends = run(
    "const m = new UdevMonitor({ onEvents() {} }); setTimeout(() => { m.close(); console.log('closed'); }, 30);",
  );
  assert.deepEqual([ends.status, ends.stdout, ends.stderr], [0, 'closed\n', '']);
});
