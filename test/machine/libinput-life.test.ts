/** Devices that are read through libinput: how they come and go, and what goes wrong. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { Fd } from '../../src/native/base.js';
import type { LibinputOptions } from '../../src/native/input.js';
import { EV, KEYBOARD, MOUSE, TestInput, TOUCHSCREEN } from './inside/evdev.js';
import {
  descriptors,
  engine,
  FRAME_US,
  key,
  notices,
  plug,
  REL,
  rel,
  strokes,
  sum,
  TOUCHPAD,
  unplug,
  until,
  useInput,
} from './inside/libinput-rig.js';

const A = 30; // a key

useInput();

/** Opens and closes a device of the group as long as another one plays: how often. */
async function openBeside(playing: Promise<void>, other: TestInput, group: string): Promise<number> {
  let opened = 0;
  let played = false;
  const end = playing.finally(() => {
    played = true;
  });
  for (; !played; ++opened) {
    const { id } = engine.open({
      fd: new Fd(openSync(other.path, 'r+')),
      path: other.path,
      class: 'pointer', // it decides nothing
      read: 'libinput',
      grab: true,
      libinput: {},
      group,
    });
    await engine.close(id);
  }
  await end;
  return opened;
}

test('nothing is lost while other devices of the group come and go', async () => {
  const mouse = await plug(MOUSE, { accelProfile: 'flat' }, { group: 'busy' });
  const other = await TestInput.make({ ...MOUSE, name: 'Another Mouse' });
  const moves = Array.from({ length: 400 }, () => [rel(REL.X, 1)]);
  // What the kernel keeps for a reader lasts longer than a device takes to be opened.
  const opened = await openBeside(mouse.input.play(moves, 4000), other, 'busy');
  assert.ok(opened >= 5, `${opened} times`);
  assert.equal(sum(await mouse.reader.take(400), REL.X), 400);
  await unplug(mouse);
  await other.end();
});

test('what libinput has to say of a device is told', async () => {
  const pad = await plug(TOUCHPAD);
  await pad.input.play(strokes(1, 2, [1700, 0]), FRAME_US);
  await until('a jump is told', () =>
    notices.some((one) => one.type === 'nonsense' && one.device === pad.id && /jump/.test(one.why)),
  );
  await unplug(pad);

  // More at once than the kernel keeps for a reader, who is busy.
  const keyboard = await plug(KEYBOARD, {}, { group: 'flood' });
  const other = await TestInput.make(MOUSE);
  const dropped = () => notices.some((one) => one.type === 'dropped' && one.device === keyboard.id);
  for (let i = 0; i < 20 && !dropped(); ++i) {
    const taps = Array.from({ length: 2000 }, (_, at) => [key(A, (at + 1) % 2)]);
    await openBeside(keyboard.input.play(taps, 0), other, 'flood');
  }
  assert.ok(dropped());
  keyboard.input.send(key(A, 1));
  keyboard.input.send(key(A, 0));
  // Whatever was lost, a key is pressed and released by turns.
  await keyboard.input.play([], 0);
  await until('all of it', () => keyboard.reader.events.findLast(([type]) => type === EV.KEY)?.[2] === 0);
  await unplug(keyboard);
  await other.end();
});

test('every descriptor of a device is closed once', async () => {
  const input = await TestInput.make(MOUSE);
  const [one, other] = [
    await plug(input, {}, { group: 'shared' }),
    await plug(TOUCHSCREEN, {}, { group: 'shared' }),
  ];
  const numbers = descriptors(input.path);
  assert.ok(numbers.length >= 2, 'ours, and that of libinput');
  await engine.close(one.id);
  assert.deepEqual(descriptors(input.path), []);
  // Whoever closed them once more would close these.
  const taken = Array.from({ length: 64 }, () => openSync('/dev/null', 'r'));
  assert.ok(numbers.every((number) => taken.includes(number)));
  await other.input.unplug();
  await until('it is gone', () =>
    notices.some((notice) => notice.type === 'deviceGone' && notice.device === other.id),
  );
  await engine.close(other.id);
  for (const number of taken) {
    assert.equal(readlinkSync(`/proc/self/fd/${number}`), '/dev/null');
    closeSync(number);
  }
  assert.deepEqual(descriptors(other.input.path), []);
  await one.reader.end();
  await other.reader.end();
  await input.end();
});

test('what cannot be read or set is refused with a reason', async () => {
  const input = await TestInput.make(MOUSE);
  const open = (libinput: unknown, path = input.path, opened = input.path) =>
    engine.open({
      fd: new Fd(openSync(opened, 'r+')),
      path,
      class: 'pointer',
      read: 'libinput',
      grab: false,
      libinput: libinput as LibinputOptions,
    });
  assert.throws(
    () => open({ scrollMethod: 'three-finger' }),
    /libinput.scrollMethod: there is no three-finger/,
  );
  assert.throws(() => open({ tap: 1 }), /libinput.tap/);
  assert.throws(() => open({ calibration: [1, 2] }), /libinput.calibration: six numbers expected/);
  // A descriptor of another device than the path's.
  const other = await TestInput.make(TOUCHSCREEN);
  assert.throws(() => open({}, other.path), { code: 'EOPNOTSUPP' });
  assert.deepEqual(descriptors(input.path), []);
  await other.end();
  await input.end();
});
