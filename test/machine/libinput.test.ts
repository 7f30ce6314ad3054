/** Devices that are read through libinput: what comes out at the far end, what can be set, and how they go. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Fd } from '../../src/native/base.js';
import {
  type InputClass,
  InputEngine,
  type InputNotice,
  type LibinputOptions,
  type OpenedDevice,
} from '../../src/native/input.js';
import {
  EV,
  EvdevReader,
  endAll,
  type InputEvent,
  KEYBOARD,
  type MadeDevice,
  MOUSE,
  TABLET,
  TestInput,
  TOUCHSCREEN,
} from './inside/evdev.js';

const [LEFT, RIGHT, MIDDLE, FINGER, TOUCH, DOUBLE, PEN] = [272, 273, 274, 325, 330, 333, 320];
const REL = { X: 0, Y: 1, HWHEEL: 6, WHEEL: 8, WHEEL_HI_RES: 11, HWHEEL_HI_RES: 12 } as const;
const MT = { SLOT: 47, X: 53, Y: 54, ID: 57 } as const;
const [A, TABLET_MODE] = [30, 1];
/** Of a laptop: libinput lets those that are built in have to do with each other. */
const I8042 = 0x11;
const FRAME_US = 10_000;

const TOUCHPAD: MadeDevice = {
  name: 'Test Touchpad',
  id: [I8042, 2, 7, 0x1b1],
  props: [0],
  keys: [LEFT, RIGHT, FINGER, TOUCH, DOUBLE],
  absolute: {
    0: [0, 5000, 50],
    1: [0, 3000, 50],
    [MT.SLOT]: [0, 4],
    [MT.X]: [0, 5000, 50],
    [MT.Y]: [0, 3000, 50],
    [MT.ID]: [0, 65535],
  },
};
/** As virtual machines have them. */
const POSITION: MadeDevice = {
  name: 'Test Position',
  id: [3, 0x627, 1, 0],
  keys: ['272-274'],
  relative: [8],
  absolute: { 0: [0, 32767], 1: [0, 32767] },
};
const PAD: MadeDevice = {
  name: 'Test Tablet Pad',
  id: [3, 0x56a, 0x1234, 0x111],
  keys: ['256-259', 331],
  absolute: { 0: [0, 1], 1: [0, 1], 8: [0, 71], 40: [0, 15] },
};
const BUILT_IN_KEYBOARD: MadeDevice = { ...KEYBOARD, name: 'Built-in Keyboard', id: [I8042, 1, 1, 0xab41] };
const MODE_SWITCH: MadeDevice = { name: 'Mode Switch', id: [I8042, 0, 5, 0], switches: [TABLET_MODE] };

const notices: InputNotice[] = [];
let engine: InputEngine;
before(() => {
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  engine = new InputEngine({ priority: 50, onNotice: (notice) => notices.push(notice) });
});
after(async () => {
  engine.shut();
  await endAll();
});

interface Plugged extends OpenedDevice {
  input: TestInput;
  /** Where its guest's device is, and whoever reads that. */
  far: string;
  reader: EvdevReader;
}

/** A device through libinput, with a guest of its own that has its first class, or `of`. */
async function plug(
  made: MadeDevice | TestInput,
  libinput: LibinputOptions = {},
  { group = made instanceof TestInput ? made.path : made.name, of }: { group?: string; of?: InputClass } = {},
): Promise<Plugged> {
  const input = made instanceof TestInput ? made : await TestInput.make(made);
  const fd = new Fd(openSync(input.path, 'r+'));
  const opened = engine.open({
    fd,
    path: input.path,
    class: 'pointer', // it decides nothing
    read: 'libinput',
    grab: true,
    libinput,
    group,
  });
  const one = opened.classes.find((each) => of === undefined || each.class === of);
  assert.ok(one, `${of} among ${JSON.stringify(opened.classes.map((each) => each.class))}`);
  const [seat, guest] = [await engine.addSeat(), await engine.addGuest()];
  const { path: far } = await engine.addUinput(guest, one.class, one.description);
  const reader = await EvdevReader.open(far);
  await engine.setSeat(seat, {
    devices: [{ id: opened.id, output: null }],
    guest,
    pointer: 'seat',
    outputs: [],
    places: [],
    hotkeys: [],
    carryLocks: false,
  });
  return { ...opened, input, far, reader };
}

const classes = ({ classes }: OpenedDevice) => classes.map((one) => one.class);

async function unplug(...plugged: readonly Plugged[]): Promise<void> {
  for (const { input, reader, id } of plugged) {
    await engine.close(id);
    await reader.end();
    await input.end();
  }
}

const key = (code: number, value: number): InputEvent => [EV.KEY, code, value];
const rel = (code: number, value: number): InputEvent => [EV.REL, code, value];
const abs = (code: number, value: number): InputEvent => [EV.ABS, code, value];

/** Waits for an event, and gives it with those before it; the next call goes on after it. */
function follow({ reader }: Plugged) {
  let at = 0;
  return async (what: string, wanted: (event: InputEvent) => boolean): Promise<InputEvent[]> => {
    const events = () => reader.events.filter(([type]) => type !== EV.SYN && type !== EV.LED).slice(at);
    const end = await reader.until(what, () => {
      const index = events().findIndex(wanted);
      return index >= 0 && index + 1;
    });
    const taken = events().slice(0, end);
    at += end;
    return taken;
  };
}

/** Everything up to a click of the right button, which is made now. */
async function upToMark(one: Plugged, next: ReturnType<typeof follow>): Promise<InputEvent[]> {
  one.input.send(key(RIGHT, 1));
  one.input.send(key(RIGHT, 0));
  const events = await next(
    'the mark',
    ([type, code, value]) => type === EV.KEY && code === RIGHT && value === 0,
  );
  return events.filter(([type, code]) => type !== EV.KEY || code !== RIGHT);
}

let tracking = 0;
const fingers = (count: number): InputEvent[] => [
  key(TOUCH, count > 0 ? 1 : 0),
  key(FINGER, count === 1 ? 1 : 0),
  key(DOUBLE, count === 2 ? 1 : 0),
];

/** Fingers side by side that go down, along `step` so often, and up. */
function strokes(count: number, steps: number, [dx, dy]: readonly [number, number]): InputEvent[][] {
  const at = (slot: number, i: number) => {
    const [x, y] = [1500 + slot * 1200 + dx * i, 1000 + dy * i];
    return [abs(MT.SLOT, slot), abs(MT.X, x), abs(MT.Y, y), ...(slot === 0 ? [abs(0, x), abs(1, y)] : [])];
  };
  const slots = Array.from({ length: count }, (_, slot) => slot);
  return [
    [
      ...slots.flatMap((slot) => [abs(MT.SLOT, slot), abs(MT.ID, ++tracking), ...at(slot, 0)]),
      ...fingers(count),
    ],
    ...Array.from({ length: steps }, (_, i) => slots.flatMap((slot) => at(slot, i + 1))),
    [...slots.flatMap((slot) => [abs(MT.SLOT, slot), abs(MT.ID, -1)]), ...fingers(0)],
  ];
}

const sum = (events: readonly InputEvent[], of: number) =>
  events.reduce((total, [type, code, value]) => total + (type === EV.REL && code === of ? value : 0), 0);

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
    mouse.input.send(key(MIDDLE, value));
    assert.deepEqual(await mouse.reader.take(1), [key(MIDDLE, value)]);
  }
  await unplug(mouse);
});

test('a left-handed mouse has its buttons exchanged, and its wheel turned round', async () => {
  const mouse = await plug(MOUSE, { leftHanded: true, naturalScroll: true });
  assert.deepEqual(mouse.refused, []);
  for (const value of [1, 0]) {
    mouse.input.send(key(LEFT, value));
    assert.deepEqual(await mouse.reader.take(1), [key(RIGHT, value)]);
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
  assert.deepEqual(plain.tapped, [key(LEFT, 1), key(LEFT, 0)]);
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
  screen.input.send(...contact(0, 5, 1000, 300), key(TOUCH, 1), abs(0, 1000), abs(1, 300));
  const first = await next('a contact', ([type, code]) => type === EV.ABS && code === 1);
  assert.deepEqual(first, [...contact(0, 0, 3096, 300).slice(1), key(TOUCH, 1), abs(0, 3096), abs(1, 300)]);
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
    key(TOUCH, 0),
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
  tablet.input.send(key(PEN, 1), abs(0, 15000), abs(1, 9000), abs(26, -30), abs(27, 40));
  await settle('a pen', ([type, code]) => type === EV.ABS && code === 27);
  assert.equal(values.get(`${EV.KEY}:${PEN}`), 1);
  near(0, 15000, 1);
  near(1, 9000, 1);
  near(26, -30, 1);
  near(27, 40, 1);
  tablet.input.send(abs(24, 1024), key(TOUCH, 1), abs(0, 15001));
  await settle('its tip', ([type, code, value]) => type === EV.KEY && code === TOUCH && value === 1);
  near(24, 1024, 60);
  tablet.input.send(abs(24, 2047), abs(0, 15002));
  await settle('all of its weight', ([type, code, value]) => type === EV.ABS && code === 24 && value >= 2000);
  tablet.input.send(key(331, 1));
  await settle('its button', ([type, code, value]) => type === EV.KEY && code === 331 && value === 1);
  tablet.input.send(key(331, 0), abs(24, 0), key(TOUCH, 0));
  await settle('the tip up', ([type, code, value]) => type === EV.KEY && code === TOUCH && value === 0);
  tablet.input.send(key(PEN, 0));
  await settle('the pen away', ([type, code, value]) => type === EV.KEY && code === PEN && value === 0);
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
  pointer.input.send(key(LEFT, 1));
  assert.deepEqual(await pointer.reader.take(1), [key(LEFT, 1)]);
  pointer.input.send(rel(REL.WHEEL, 1));
  assert.deepEqual(await pointer.reader.take(2), [rel(REL.WHEEL_HI_RES, 120), rel(REL.WHEEL, 1)]);
  await unplug(pointer);
});

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

test('a keyboard shows the LEDs of its guest', async () => {
  const keyboard = await plug(KEYBOARD);
  for (const value of [1, 0]) {
    execFileSync('build-machine/evdev', ['led', keyboard.far, '1', `${value}`]);
    await keyboard.input.led(1, value);
  }
  await unplug(keyboard);
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

/** Ours that are open on a path. */
function descriptors(path: string): number[] {
  return readdirSync('/proc/self/fd')
    .filter((number) => {
      try {
        return readlinkSync(`/proc/self/fd/${number}`) === path;
      } catch {
        return false; // of the listing itself
      }
    })
    .map(Number);
}

async function until(what: string, found: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!found()) {
    assert.ok(performance.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
