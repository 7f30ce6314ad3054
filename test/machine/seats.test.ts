/** A daemon with two seats on one card: real devices of uinput, and the devices of guests read at their far ends. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { InputEventDocument, SeatDocument, StatusDocument } from '../../src/api/documents.js';
import { ctl } from './inside/ctl.js';
import { TestDaemon } from './inside/daemon.js';
import {
  EV,
  EvdevReader,
  endAll,
  type InputEvent,
  KEYBOARD,
  MOUSE,
  TestInput,
  TOUCHSCREEN,
} from './inside/evdev.js';
import { TestGuest } from './inside/guest.js';
import { present } from './inside/kms-rig.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const [A, B, CTRL, RIGHT_CTRL, F1, F2] = [30, 48, 29, 97, 59, 60];
const RULES = '/run/udev/rules.d';
const OURS = `${RULES}/72-scanoutd.rules`;
const TESTS = `${RULES}/72-test-seats.rules`;
const PATIENCE_MS = 20_000;

let card: VkmsDevice;
let directory: string;
before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1 }));
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  directory = mkdtempSync(join(tmpdir(), 'seats-'));
  mkdirSync(RULES, { recursive: true });
  copyFileSync('systemd/72-scanoutd.rules', OURS);
  writeFileSync(TESTS, 'SUBSYSTEM=="input", ATTRS{name}=="Right Keyboard", ENV{ID_SEAT}="seat-right"\n');
  execFileSync('udevadm', ['control', '--reload']);
});
after(async () => {
  await endAll();
  rmSync(OURS);
  rmSync(TESTS);
  execFileSync('udevadm', ['control', '--reload']);
  card.destroy();
});

function config(): string {
  const [left, right] = card.connectors.map(present);
  const mark = (what: string) =>
    `["/bin/sh", "-c", "echo ${what} $SCANOUTD_SEAT $SCANOUTD_GUEST >> ${directory}/marks"]`;
  const guest = (name: string, output: string | undefined) =>
    `[[guest]]\nname = "${name}"\noutput = "${output}"\ninput = "uinput"`;
  return [
    '[[output]]\nmode = "640x480"',
    `[[seat]]\nname = "left"\nudev_seat = "seat0"\noutputs = ["${left}"]\nguests = ["work", "play"]`,
    `lock_command = ${mark('locked')}\nunlock_command = ${mark('unlocked')}`,
    `[[seat]]\nname = "right"\nudev_seat = "seat-right"\noutputs = ["${right}"]\nguests = ["desk"]`,
    'idle_seconds = 2',
    `idle_command = ${mark('idle')}\nactive_command = ${mark('active')}`,
    '[[input]]\nphys = "port-2/*"\nseat = "right"',
    '[[input]]\nname = "Nobody*"\nignore = true',
    guest('work', left),
    guest('play', left),
    guest('desk', right),
  ].join('\n');
}

function seatOf(status: StatusDocument, name: string): SeatDocument {
  const seat = status.seats.find((one) => one.name === name);
  assert.ok(seat, `there is a seat ${name}`);
  return seat;
}

async function connect(daemon: TestDaemon, name: string): Promise<TestGuest> {
  const guest = new TestGuest({ name, path: daemon.guestSocket, planes: ['primary'] });
  await guest.client.connect({ timeoutMs: PATIENCE_MS });
  return guest;
}

async function farEnd(guest: string, of: string): Promise<EvdevReader> {
  const path = `/dev/input/scanoutd/${guest}/${of}`;
  const deadline = performance.now() + PATIENCE_MS;
  while (!existsSync(path)) {
    assert.ok(performance.now() < deadline, `${path} is there`);
    await sleep(20);
  }
  return EvdevReader.open(path);
}

/** Devices that are open in a seat, by their nodes. */
async function opened(daemon: TestDaemon, seat: string, ...devices: TestInput[]): Promise<void> {
  await daemon.until(`devices of ${seat} are open`, (status) =>
    devices.every(({ path }) => seatOf(status, seat).devices.some((one) => one.device === path && one.open)),
  );
}

/** The next events but for repetitions, which the kernel adds to whatever is held. */
async function next(end: EvdevReader, count: number): Promise<InputEvent[]> {
  const events: InputEvent[] = [];
  while (events.length < count) {
    events.push(...(await end.take(1)).filter(([type, , value]) => type !== EV.KEY || value !== 2));
  }
  return events;
}

async function nothing(end: EvdevReader, ms = 200): Promise<InputEvent[]> {
  return (await end.nothing(ms)).filter(([type, , value]) => type !== EV.KEY || value !== 2);
}

const key = (code: number, value: number): InputEvent => [EV.KEY, code, value];

test('two seats: whose devices are whose, and what becomes of what they send', async () => {
  const leftKeyboard = await TestInput.make({ ...KEYBOARD, name: 'Left Keyboard' });
  const rightKeyboard = await TestInput.make({ ...KEYBOARD, name: 'Right Keyboard' });
  const ignored = await TestInput.make({ ...KEYBOARD, name: 'Nobody Uses Me' });
  // Of one name: they differ by their ports alone.
  const leftMouse = await TestInput.make({ ...MOUSE, phys: 'port-1/input0' });
  const rightMouse = await TestInput.make({ ...MOUSE, phys: 'port-2/input0' });
  const daemon = await TestDaemon.start({ config: config() });
  await daemon.during(async () => {
    await assigned(daemon, [leftKeyboard, leftMouse], [rightKeyboard, rightMouse], ignored);
    const guests = { work: await connect(daemon, 'work'), desk: await connect(daemon, 'desk') };
    const ends = {
      work: await farEnd('work', 'keyboard'),
      play: await farEnd('play', 'keyboard'),
      desk: await farEnd('desk', 'keyboard'),
    };
    const pointers = { work: await farEnd('work', 'pointer'), desk: await farEnd('desk', 'pointer') };
    await daemon.until('guests at their seats', (status) => {
      return seatOf(status, 'left').guest === 'work' && seatOf(status, 'right').guest === 'desk';
    });
    leftKeyboard.tap(A);
    rightKeyboard.tap(B);
    leftMouse.send([EV.REL, 0, 5]);
    rightMouse.send([EV.REL, 1, -7]);
    assert.deepEqual(await next(ends.work, 2), [key(A, 1), key(A, 0)]);
    assert.deepEqual(await next(ends.desk, 2), [key(B, 1), key(B, 0)]);
    assert.deepEqual(await next(pointers.work, 1), [[EV.REL, 0, 5]]);
    assert.deepEqual(await next(pointers.desk, 1), [[EV.REL, 1, -7]]);

    const play = await connect(daemon, 'play');
    await daemon.until('play can be switched to', (status) =>
      seatOf(status, 'left').guests.some(({ name, present: there }) => name === 'play' && there),
    );
    await byHotkey(daemon, leftKeyboard, ends);
    await byCommand(daemon, leftKeyboard, ends);
    await dyingGuest(daemon, guests.work, leftKeyboard, ends);
    await unplugged(daemon, leftKeyboard, ends.play);
    await locked(daemon, ends.play);
    await watched(daemon, rightKeyboard);
    await attached(daemon, rightKeyboard, ends);
    for (const reader of Object.values(ends)) assert.deepEqual(await nothing(reader, 20), []);
    for (const guest of [guests.desk, play]) guest.close();
  });
});

async function assigned(
  daemon: TestDaemon,
  left: readonly TestInput[],
  right: readonly TestInput[],
  ignored: TestInput,
): Promise<void> {
  const status = await daemon.status();
  const by = ({ devices }: SeatDocument) => new Map(devices.map(({ device, by }) => [device, by]));
  const [ofLeft, ofRight] = [by(seatOf(status, 'left')), by(seatOf(status, 'right'))];
  for (const { path } of left) assert.equal(ofLeft.get(path), 'rest', path);
  assert.deepEqual(
    right.map(({ path }) => [ofRight.get(path), ofLeft.has(path)]),
    [
      ['udev', false],
      ['configuration', false],
    ],
  );
  const nobody = status.inputDevices.find(({ device }) => device === ignored.path);
  assert.deepEqual([nobody?.open, nobody?.reason], [false, 'ignored by the configuration']);
  // Guests' devices are there already, and are nobody's hardware.
  const all = [...status.seats.flatMap(({ devices }) => devices), ...status.inputDevices];
  const sinks = status.seats.flatMap(({ guests }) => guests.flatMap((guest) => guest.sinks));
  assert.ok(sinks.length >= 6, 'a keyboard and a pointer for each of three guests');
  assert.deepEqual(
    all.filter(
      ({ device, phys }) => phys.startsWith('scanoutd/') || sinks.some(({ path }) => path === device),
    ),
    [],
  );
}

interface Ends {
  work: EvdevReader;
  play: EvdevReader;
  desk: EvdevReader;
}

async function shows(daemon: TestDaemon, guest: string): Promise<void> {
  await daemon.until(`${guest} is shown`, (status) => {
    const left = seatOf(status, 'left');
    const output = status.outputs.find(({ name }) => name === left.outputs[0]?.name);
    return left.guest === guest && output?.guests.join() === guest;
  });
}

/** Both Ctrl keys and F2: the keys are the daemon's own, and what is held goes up in the former guest. */
async function byHotkey(daemon: TestDaemon, keyboard: TestInput, ends: Ends): Promise<void> {
  await shows(daemon, 'work');
  keyboard.send(key(CTRL, 1));
  keyboard.send(key(RIGHT_CTRL, 1));
  keyboard.tap(F2);
  keyboard.tap(A);
  keyboard.send(key(RIGHT_CTRL, 0));
  keyboard.send(key(CTRL, 0));
  assert.deepEqual(await next(ends.work, 2), [key(CTRL, 1), key(RIGHT_CTRL, 1)]);
  const released = await next(ends.work, 2);
  assert.deepEqual(
    new Set(released.map(String)),
    new Set([String(key(CTRL, 0)), String(key(RIGHT_CTRL, 0))]),
  );
  const toPlay = (await next(ends.play, 2)).filter(([, code]) => code === A);
  assert.deepEqual(toPlay, [key(A, 1), key(A, 0)]);
  await shows(daemon, 'play');
  assert.match(daemon.log, /switched by hotkey/);
}

async function byCommand(daemon: TestDaemon, keyboard: TestInput, ends: Ends): Promise<void> {
  keyboard.send(key(B, 1));
  assert.deepEqual(await next(ends.play, 1), [key(B, 1)]);
  const { code, out, err } = await ctl(daemon, 'seat', 'switch', 'left', 'work');
  assert.equal(code, 0, err);
  assert.match(out, /^1 +work +has the input/m);
  assert.deepEqual(await next(ends.play, 1), [key(B, 0)]);
  keyboard.send(key(B, 0));
  await shows(daemon, 'work');
  const strange = await ctl(daemon, 'seat', 'switch', 'left', 'desk');
  assert.equal(strange.code, 1);
  assert.match(strange.err, /seat left has no guest desk; its guests are: work, play/);
}

/** A guest that is killed with a key down: the other one is shown, and the key is up at both. */
async function dyingGuest(
  daemon: TestDaemon,
  work: TestGuest,
  keyboard: TestInput,
  ends: Ends,
): Promise<void> {
  keyboard.send(key(A, 1));
  assert.deepEqual(await next(ends.work, 1), [key(A, 1)]);
  work.close();
  assert.deepEqual(await next(ends.work, 1), [key(A, 0)]);
  await shows(daemon, 'play');
  keyboard.send(key(A, 0));
  keyboard.tap(B);
  assert.deepEqual(await next(ends.play, 2), [key(B, 1), key(B, 0)]);
  keyboard.send(key(CTRL, 1));
  keyboard.send(key(RIGHT_CTRL, 1));
  keyboard.tap(F1);
  keyboard.send(key(RIGHT_CTRL, 0));
  keyboard.send(key(CTRL, 0));
  assert.equal((await next(ends.play, 4)).filter(([, code]) => code === F1).length, 0);
  await daemon.until('the log says why nothing happens', () => /guest work is not there/.test(daemon.log));
}

async function unplugged(daemon: TestDaemon, keyboard: TestInput, end: EvdevReader): Promise<void> {
  const more = await TestInput.make({ ...KEYBOARD, name: 'One More Keyboard' });
  await opened(daemon, 'left', more);
  more.send(key(A, 1));
  assert.deepEqual(await next(end, 1), [key(A, 1)]);
  await more.unplug();
  assert.deepEqual(await next(end, 1), [key(A, 0)]);
  await daemon.until('it is gone', (status) => {
    return !seatOf(status, 'left').devices.some(({ device }) => device === more.path);
  });
  // What no device can be is left alone, and said.
  const absurd = {
    ...TOUCHSCREEN,
    name: 'Absurd',
    absolute: { ...TOUCHSCREEN.absolute, 0: [0, 2 ** 31 - 1] },
  } as const;
  const made = await TestInput.make(absurd);
  const status = await daemon.until('it is refused', ({ seats }) =>
    seats.some(({ devices }) =>
      devices.some(({ device, reason }) => device === made.path && /ERANGE/.test(reason)),
    ),
  );
  assert.equal(seatOf(status, 'left').devices.find(({ device }) => device === made.path)?.open, false);
  await made.unplug();
  keyboard.tap(B);
  assert.deepEqual(await next(end, 2), [key(B, 1), key(B, 0)]);
}

async function locked(daemon: TestDaemon, end: EvdevReader): Promise<void> {
  const keyboard = await TestInput.make({ ...KEYBOARD, name: 'Locked Keyboard' });
  await opened(daemon, 'left', keyboard);
  keyboard.send(key(A, 1));
  assert.deepEqual(await next(end, 1), [key(A, 1)]);
  assert.match((await ctl(daemon, 'seat', 'lock', 'left')).out, /^left: locked/m);
  assert.deepEqual(await next(end, 1), [key(A, 0)]);
  keyboard.tap(B);
  assert.deepEqual(await nothing(end), []);
  assert.match((await ctl(daemon, 'seat', 'unlock', 'left')).out, /^left: ready/m);
  keyboard.send(key(A, 0));
  keyboard.tap(B);
  assert.deepEqual(await next(end, 2), [key(B, 1), key(B, 0)]);
  await keyboard.unplug();
  const marks = () => readFileSync(`${directory}/marks`, 'utf8').split('\n');
  await daemon.until('its programs have run', () => marks().includes('unlocked left play'));
  assert.ok(marks().includes('locked left play'));
}

async function watched(daemon: TestDaemon, keyboard: TestInput): Promise<void> {
  // Idle by now, or soon.
  await daemon.until('the right seat is idle', (status) => seatOf(status, 'right').idle);
  const main = new URL('../../bin/scanoutctl.js', import.meta.url).pathname;
  const env = { ...process.env, SCANOUTD_BUS: join(daemon.directory, 'bus') };
  const child = spawn(process.execPath, [main, 'input', 'watch', 'right', '--json'], { env });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  await daemon.until('it watches', () => /watch input/.test(daemon.log));
  keyboard.tap(A);
  await daemon.until('it has seen two events', () => out.split('\n').length > 2);
  const events = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as InputEventDocument);
  assert.deepEqual(
    events.map(({ device, guest, type, code, value }) => [device, guest, type, code, value]),
    [
      [keyboard.path, 'desk', EV.KEY, null, 1],
      [keyboard.path, 'desk', EV.KEY, null, 0],
    ],
  );
  const second = await ctl(daemon, 'input', 'watch', 'left');
  assert.match(second.err, /seat right is watched already/);
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.kill();
  await ended;
  await daemon.until('the right seat is used', (status) => !seatOf(status, 'right').idle);
  const marks = () => readFileSync(`${directory}/marks`, 'utf8').split('\n');
  await daemon.until('its programs have run', () => marks().includes('active right desk'));
  assert.ok(marks().includes('idle right desk'));
}

/** A call gives a device to another seat, and takes that back. */
async function attached(daemon: TestDaemon, keyboard: TestInput, ends: Ends): Promise<void> {
  assert.deepEqual(await next(ends.desk, 2), [key(A, 1), key(A, 0)]);
  assert.equal((await ctl(daemon, 'seat', 'attach', keyboard.path, 'left')).code, 0);
  keyboard.tap(A);
  assert.deepEqual(await next(ends.play, 2), [key(A, 1), key(A, 0)]);
  assert.equal((await ctl(daemon, 'seat', 'detach', keyboard.path)).code, 0);
  keyboard.tap(B);
  assert.deepEqual(await next(ends.desk, 2), [key(B, 1), key(B, 0)]);
  assert.match((await ctl(daemon, 'seat', 'detach', keyboard.path)).err, /was not attached by a call/);
}

test('without a seat in the configuration no device is opened', async () => {
  const keyboard = await TestInput.make({ ...KEYBOARD, name: 'Left Keyboard' });
  const daemon = await TestDaemon.start({ config: '[[output]]\nmode = "640x480"' });
  await daemon.during(async () => {
    const { seats, inputDevices } = await daemon.status();
    assert.deepEqual([seats, inputDevices], [[], []]);
    const open = execFileSync('find', [`/proc/${daemon.child.pid}/fd`, '-lname', '/dev/input/*'], {
      encoding: 'utf8',
    });
    assert.equal(open, '');
    assert.match((await ctl(daemon, 'seat', 'lock', 'seat0')).err, /there is no seat seat0; known are: none/);
  });
  await keyboard.unplug();
});
