/** Devices that are read through libinput: what comes out at the far end, and what can be set. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import type { LibinputOptions } from '../../src/native/input.js';
import { EV, type InputEvent, KEYBOARD, MOUSE, TABLET, TestInput, TOUCHSCREEN } from './inside/evdev.js';
import {
  abs,
  BTN,
  BUILT_IN_KEYBOARD,
  classes,
  descriptors,
  engine,
  FRAME_US,
  follow,
  key,
  MODE_SWITCH,
  MT,
  notices,
  PAD,
  POSITION,
  plug,
  REL,
  rel,
  strokes,
  sum,
  TABLET_MODE,
  TOUCHPAD,
  unplug,
  until,
  upToMark,
  useInput,
} from './inside/libinput-rig.js';

const A = 30; // a key

useInput();

test('a mouse with flat acceleration comes out as it is, with its wheel in high resolution', async () => {
  const mouse = await plug(MOUSE, {
    accelProfile: 'flat',
    accelSpeed: 0,
    tap: true,
    rotation: 400,
    clickMethod: 'clickfinger',
  });
  assert.deepEqual(classes(mouse), ['pointer']);
  assert.deepEqual(mouse.refused, [
    'tap: the device has no such setting',
    'clickMethod: the device has no such setting',
    'rotation: libinput takes no such value',
  ]);
  for (const [x, y] of [
    [5, -7],
    [1, 0],
    [-300, 200],
  ] as const) {
    const frame = [rel(REL.X, x), rel(REL.Y, y)].filter(([, , value]) => value !== 0);
    mouse.input.send(...frame);
    assert.deepEqual(await mouse.reader.take(frame.length), frame);
  }
  mouse.input.send(rel(REL.WHEEL_HI_RES, -120), rel(REL.WHEEL, -1));
  assert.deepEqual(await mouse.reader.take(2), [rel(REL.WHEEL_HI_RES, -120), rel(REL.WHEEL, -1)]);
  for (let i = 0; i < 4; ++i)
    mouse.input.send(rel(REL.WHEEL_HI_RES, -60), ...(i % 2 === 1 ? [rel(REL.WHEEL, -1)] : []));
  const half = [rel(REL.WHEEL_HI_RES, -60), rel(REL.WHEEL_HI_RES, -60), rel(REL.WHEEL, -1)];
  assert.deepEqual(await mouse.reader.take(6), [...half, ...half]);
  for (const value of [1, 0]) {
    mouse.input.send(key(BTN.MIDDLE, value));
    assert.deepEqual(await mouse.reader.take(1), [key(BTN.MIDDLE, value)]);
  }
  await unplug(mouse);
});

test('a left-handed mouse has its buttons exchanged, and its wheel turned round', async () => {
  const mouse = await plug(MOUSE, { leftHanded: true, naturalScroll: true });
  assert.deepEqual(mouse.refused, []);
  for (const value of [1, 0]) {
    mouse.input.send(key(BTN.LEFT, value));
    assert.deepEqual(await mouse.reader.take(1), [key(BTN.RIGHT, value)]);
  }
  mouse.input.send(rel(REL.WHEEL_HI_RES, -120), rel(REL.WHEEL, -1));
  assert.deepEqual(await mouse.reader.take(2), [rel(REL.WHEEL_HI_RES, 120), rel(REL.WHEEL, 1)]);
  await unplug(mouse);
});

test('a touchpad comes out as a mouse: taps, and a wheel of two fingers', async () => {
  const input = await TestInput.make(TOUCHPAD);
  const swipe = async (libinput: LibinputOptions) => {
    const pad = await plug(input, libinput);
    assert.deepEqual(classes(pad), ['pointer']);
    assert.deepEqual(pad.refused, []);
    const next = follow(pad);
    await input.play(strokes(2, 30, [0, 40]), FRAME_US);
    const scrolled = await upToMark(pad, next);
    assert.deepEqual([sum(scrolled, REL.X), sum(scrolled, REL.Y)], [0, 0]);
    const fine = sum(scrolled, REL.WHEEL_HI_RES);
    assert.equal(sum(scrolled, REL.WHEEL), Math.trunc(fine / 120));
    await input.play(strokes(1, 0, [0, 0]), FRAME_US);
    const tapped = await upToMark(pad, next);
    await engine.close(pad.id);
    await pad.reader.end();
    return { fine, tapped };
  };
  const plain = await swipe({ tap: true, tapDrag: false, naturalScroll: false });
  assert.ok(plain.fine < -240, `down is ${plain.fine}`);
  assert.deepEqual(plain.tapped, [key(BTN.LEFT, 1), key(BTN.LEFT, 0)]);
  const natural = await swipe({ tap: false, naturalScroll: true });
  assert.ok(natural.fine > 240, `down is ${natural.fine}`);
  assert.deepEqual(natural.tapped, []);
  await input.end();
});

test('a keyboard that is typed on disables the touchpad of its group, unless that is off', async () => {
  const keyboard = await plug(BUILT_IN_KEYBOARD, {}, { group: 'laptop' });
  assert.deepEqual(classes(keyboard), ['keyboard']);
  keyboard.input.send(key(A, 1));
  assert.deepEqual(await keyboard.reader.take(1), [key(A, 1)]);
  keyboard.input.send(key(A, 0));
  assert.deepEqual(await keyboard.reader.take(1), [key(A, 0)]);

  const moved = async (libinput: LibinputOptions, group: string) => {
    const pad = await plug(TOUCHPAD, libinput, { group });
    assert.deepEqual(pad.refused, []);
    const next = follow(pad);
    // A key that is held is being typed.
    keyboard.input.send(key(A, 1));
    await keyboard.reader.take(1);
    await pad.input.play(strokes(1, 20, [60, 0]), FRAME_US);
    const typing = sum(await upToMark(pad, next), REL.X);
    keyboard.input.send(key(A, 0));
    await keyboard.reader.take(1);
    let rested = 0;
    for (let i = 0; i < 20 && rested === 0; ++i) {
      await pad.input.play(strokes(1, 20, [60, 0]), FRAME_US);
      rested = sum(await upToMark(pad, next), REL.X);
    }
    assert.ok(rested > 0, 'it moves the pointer again');
    await unplug(pad);
    return typing;
  };
  assert.equal(await moved({ disableWhileTyping: true }, 'laptop'), 0);
  assert.ok((await moved({ disableWhileTyping: false }, 'laptop')) > 0);
  assert.ok((await moved({ disableWhileTyping: true }, 'another')) > 0, 'of another group');
  await unplug(keyboard);
});

test('a switch comes out, and a touchpad that it disables is opened again', async () => {
  const mode = await plug(MODE_SWITCH, {}, { group: 'tablet mode' });
  assert.deepEqual(classes(mode), ['switch']);
  const pad = await plug(TOUCHPAD, {}, { group: 'tablet mode' });
  const next = follow(pad);
  const move = async () => {
    await pad.input.play(strokes(1, 20, [60, 0]), FRAME_US);
    return sum(await upToMark(pad, next), REL.X);
  };
  assert.ok((await move()) > 0);
  const before = descriptors(pad.input.path).length;
  mode.input.send([EV.SW, TABLET_MODE, 1]);
  assert.deepEqual(await mode.reader.take(1), [[EV.SW, TABLET_MODE, 1]]);
  await until('libinput closes the touchpad', () => descriptors(pad.input.path).length === before - 1);
  await pad.input.play(strokes(1, 20, [60, 0]), FRAME_US);
  mode.input.send([EV.SW, TABLET_MODE, 0]);
  assert.deepEqual(await mode.reader.take(1), [[EV.SW, TABLET_MODE, 0]]);
  await until('and opens it', () => descriptors(pad.input.path).length === before);
  const mark = await upToMark(pad, next);
  assert.equal(sum(mark, REL.X), 0, 'what it did meanwhile is gone');
  assert.ok((await move()) > 0);
  await unplug(mode, pad);
});

test('a touch screen is calibrated, and what is touched when it is unplugged is released', async () => {
  const screen = await plug(TOUCHSCREEN, { calibration: [-1, 0, 1, 0, 1, 0], tap: true });
  assert.deepEqual(classes(screen), ['touchscreen']);
  assert.deepEqual(screen.refused, ['tap: the device has no such setting']);
  assert.equal(screen.classes[0]?.description.absolute[MT.SLOT]?.maximum, 9);
  const next = follow(screen);
  const contact = (slot: number, id: number, x: number, y: number) => [
    abs(MT.SLOT, slot),
    abs(MT.ID, id),
    abs(MT.X, x),
    abs(MT.Y, y),
  ];
  screen.input.send(...contact(0, 5, 1000, 300), key(BTN.TOUCH, 1), abs(0, 1000), abs(1, 300));
  const first = await next('a contact', ([type, code]) => type === EV.ABS && code === 1);
  assert.deepEqual(first, [
    ...contact(0, 0, 3096, 300).slice(1),
    key(BTN.TOUCH, 1),
    abs(0, 3096),
    abs(1, 300),
  ]);
  screen.input.send(...contact(3, 6, 0, 4095));
  // The far edge stays within the range.
  assert.deepEqual(await next('another', ([, code]) => code === MT.Y), contact(3, 1, 4095, 4095));
  screen.input.send(abs(MT.SLOT, 0), abs(MT.ID, -1));
  assert.deepEqual(await next('the first to go', ([type, code]) => type === EV.ABS && code === 1), [
    abs(MT.SLOT, 0),
    abs(MT.ID, -1),
    abs(0, 4095),
    abs(1, 4095),
  ]);

  await screen.input.unplug();
  assert.deepEqual(await next('all to go', ([type, , value]) => type === EV.KEY && value === 0), [
    abs(MT.SLOT, 3),
    abs(MT.ID, -1),
    key(BTN.TOUCH, 0),
  ]);
  await until('it is gone', () =>
    notices.some((one) => one.type === 'deviceGone' && one.device === screen.id && one.code === 'ENODEV'),
  );
  await engine.close(screen.id);
  await screen.reader.end();
});

test('a tablet has its tools, with pressure and tilt', async () => {
  const tablet = await plug(TABLET);
  assert.deepEqual(classes(tablet), ['tablet']);
  const description = tablet.classes[0]?.description;
  assert.deepEqual([description?.absolute[0]?.maximum, description?.absolute[24]?.maximum], [20000, 2047]);
  const values = new Map<string, number>();
  const next = follow(tablet);
  const settle = async (what: string, wanted: (event: InputEvent) => boolean) => {
    for (const [type, code, value] of await next(what, wanted)) values.set(`${type}:${code}`, value);
  };
  const near = (code: number, wanted: number, within: number) => {
    const got = values.get(`${EV.ABS}:${code}`) ?? Number.NaN;
    assert.ok(Math.abs(got - wanted) <= within, `axis ${code} is ${got}, not ${wanted}`);
  };
  tablet.input.send(key(BTN.PEN, 1), abs(0, 15000), abs(1, 9000), abs(26, -30), abs(27, 40));
  await settle('a pen', ([type, code]) => type === EV.ABS && code === 27);
  assert.equal(values.get(`${EV.KEY}:${BTN.PEN}`), 1);
  near(0, 15000, 1);
  near(1, 9000, 1);
  near(26, -30, 1);
  near(27, 40, 1);
  tablet.input.send(abs(24, 1024), key(BTN.TOUCH, 1), abs(0, 15001));
  await settle('its tip', ([type, code, value]) => type === EV.KEY && code === BTN.TOUCH && value === 1);
  near(24, 1024, 60);
  tablet.input.send(abs(24, 2047), abs(0, 15002));
  await settle('all of its weight', ([type, code, value]) => type === EV.ABS && code === 24 && value >= 2000);
  tablet.input.send(key(331, 1));
  await settle('its button', ([type, code, value]) => type === EV.KEY && code === 331 && value === 1);
  tablet.input.send(key(331, 0), abs(24, 0), key(BTN.TOUCH, 0));
  await settle('the tip up', ([type, code, value]) => type === EV.KEY && code === BTN.TOUCH && value === 0);
  tablet.input.send(key(BTN.PEN, 0));
  await settle('the pen away', ([type, code, value]) => type === EV.KEY && code === BTN.PEN && value === 0);
  assert.equal(values.get(`${EV.KEY}:331`), 0);
  await unplug(tablet);
});

test('a pad of a tablet has its buttons and its ring', async () => {
  const pad = await plug(PAD);
  assert.deepEqual(classes(pad), ['pad']);
  for (const button of [256, 259]) {
    for (const value of [1, 0]) {
      pad.input.send(key(button, value), abs(40, value * 15));
      assert.deepEqual(await pad.reader.take(1), [key(button, value)]);
    }
  }
  pad.input.send(abs(8, 20), abs(40, 15));
  assert.deepEqual(await pad.reader.take(2), [abs(8, 20), abs(40, 15)]);
  pad.input.send(abs(8, 53));
  assert.deepEqual(await pad.reader.take(1), [abs(8, 53)]);
  pad.input.send(abs(8, 0), abs(40, 0));
  assert.deepEqual(await pad.reader.take(2), [abs(8, 0), abs(40, 0)]);
  await unplug(pad);
});

test('a pointer with a position keeps it', async () => {
  const pointer = await plug(POSITION);
  assert.deepEqual(classes(pointer), ['absolute']);
  for (const [x, y] of [
    [1, 32766],
    [20000, 0],
    [32767, 32767],
  ] as const) {
    pointer.input.send(abs(0, x), abs(1, y));
    assert.deepEqual(await pointer.reader.take(2), [abs(0, x), abs(1, y)]);
  }
  pointer.input.send(key(BTN.LEFT, 1));
  assert.deepEqual(await pointer.reader.take(1), [key(BTN.LEFT, 1)]);
  pointer.input.send(rel(REL.WHEEL, 1));
  assert.deepEqual(await pointer.reader.take(2), [rel(REL.WHEEL_HI_RES, 120), rel(REL.WHEEL, 1)]);
  await unplug(pointer);
});

test('a keyboard shows the LEDs of its guest', async () => {
  const keyboard = await plug(KEYBOARD);
  for (const value of [1, 0]) {
    execFileSync('build-machine/evdev', ['led', keyboard.far, '1', `${value}`]);
    await keyboard.input.led(1, value);
  }
  await unplug(keyboard);
});

test('a keyboard with a pointer on it comes out as both', async () => {
  const both = { ...KEYBOARD, keys: ['1-127', '272-274'], relative: [0, 1, 8] };
  const device = await plug(both, { accelProfile: 'flat' }, { of: 'pointer' });
  assert.deepEqual(classes(device), ['keyboard', 'pointer']);
  const [keys, pointer] = device.classes.map(({ description }) => description);
  assert.deepEqual(
    [keys?.keys.includes(30), keys?.keys.includes(BTN.LEFT), keys?.relative],
    [true, false, []],
  );
  assert.deepEqual([pointer?.keys.includes(30), pointer?.keys.includes(BTN.LEFT)], [false, true]);
  device.input.send(rel(REL.X, 3));
  device.input.send(key(30, 1));
  device.input.send(rel(REL.X, 4));
  assert.deepEqual(await device.reader.take(2), [rel(REL.X, 3), rel(REL.X, 4)]);
  await unplug(device);
});
