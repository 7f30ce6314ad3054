/** Devices that are read through libinput, each with a guest and a reader of its own, and what hands do on them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { openSync, readdirSync, readlinkSync } from 'node:fs';
import { after, before } from 'node:test';
import { Fd } from '../../../src/native/base.js';
import {
  type InputClass,
  InputEngine,
  type InputNotice,
  type LibinputOptions,
  type OpenedDevice,
} from '../../../src/native/input.js';
import { EV, EvdevReader, endAll, type InputEvent, KEYBOARD, type MadeDevice, TestInput } from './evdev.js';

export const BTN = {
  LEFT: 272,
  RIGHT: 273,
  MIDDLE: 274,
  PEN: 320,
  FINGER: 325,
  TOUCH: 330,
  DOUBLE: 333,
} as const;
export const REL = { X: 0, Y: 1, HWHEEL: 6, WHEEL: 8, WHEEL_HI_RES: 11, HWHEEL_HI_RES: 12 } as const;
export const MT = { SLOT: 47, X: 53, Y: 54, ID: 57 } as const;
export const TABLET_MODE = 1;
/** Of a laptop: libinput lets those that are built in have to do with each other. */
const I8042 = 0x11;
export const FRAME_US = 10_000;

export const TOUCHPAD: MadeDevice = {
  name: 'Test Touchpad',
  id: [I8042, 2, 7, 0x1b1],
  props: [0],
  keys: [BTN.LEFT, BTN.RIGHT, BTN.FINGER, BTN.TOUCH, BTN.DOUBLE],
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
export const POSITION: MadeDevice = {
  name: 'Test Position',
  id: [3, 0x627, 1, 0],
  keys: ['272-274'],
  relative: [8],
  absolute: { 0: [0, 32767], 1: [0, 32767] },
};
export const PAD: MadeDevice = {
  name: 'Test Tablet Pad',
  id: [3, 0x56a, 0x1234, 0x111],
  keys: ['256-259', 331],
  absolute: { 0: [0, 1], 1: [0, 1], 8: [0, 71], 40: [0, 15] },
};
export const BUILT_IN_KEYBOARD: MadeDevice = {
  ...KEYBOARD,
  name: 'Built-in Keyboard',
  id: [I8042, 1, 1, 0xab41],
};
export const MODE_SWITCH: MadeDevice = { name: 'Mode Switch', id: [I8042, 0, 5, 0], switches: [TABLET_MODE] };

export const notices: InputNotice[] = [];
export let engine: InputEngine;
/** For all tests of a file. */
export function useInput(): void {
  before(() => {
    execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
    engine = new InputEngine({ priority: 50, onNotice: (notice) => notices.push(notice) });
  });
  after(async () => {
    engine.shut();
    await endAll();
  });
}

export interface Plugged extends OpenedDevice {
  input: TestInput;
  /** Where its guest's device is, and whoever reads that. */
  far: string;
  reader: EvdevReader;
}

/** A device through libinput, with a guest of its own that has its first class, or `of`. */
export async function plug(
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
    switches: 0,
    pointer: 'seat',
    outputs: [],
    places: [],
    hotkeys: [],
    carryLocks: false,
  });
  return { ...opened, input, far, reader };
}

export const classes = ({ classes }: OpenedDevice) => classes.map((one) => one.class);

export async function unplug(...plugged: readonly Plugged[]): Promise<void> {
  for (const { input, reader, id } of plugged) {
    await engine.close(id);
    await reader.end();
    await input.end();
  }
}

export const key = (code: number, value: number): InputEvent => [EV.KEY, code, value];
export const rel = (code: number, value: number): InputEvent => [EV.REL, code, value];
export const abs = (code: number, value: number): InputEvent => [EV.ABS, code, value];

/** Waits for an event, and gives it with those before it; the next call goes on after it. */
export function follow({ reader }: Plugged) {
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
export async function upToMark(one: Plugged, next: ReturnType<typeof follow>): Promise<InputEvent[]> {
  one.input.send(key(BTN.RIGHT, 1));
  one.input.send(key(BTN.RIGHT, 0));
  const events = await next(
    'the mark',
    ([type, code, value]) => type === EV.KEY && code === BTN.RIGHT && value === 0,
  );
  return events.filter(([type, code]) => type !== EV.KEY || code !== BTN.RIGHT);
}

let tracking = 0;
const fingers = (count: number): InputEvent[] => [
  key(BTN.TOUCH, count > 0 ? 1 : 0),
  key(BTN.FINGER, count === 1 ? 1 : 0),
  key(BTN.DOUBLE, count === 2 ? 1 : 0),
];

/** Fingers side by side that go down, along `step` so often, and up. */
export function strokes(count: number, steps: number, [dx, dy]: readonly [number, number]): InputEvent[][] {
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

export const sum = (events: readonly InputEvent[], of: number) =>
  events.reduce((total, [type, code, value]) => total + (type === EV.REL && code === of ? value : 0), 0);

/** Ours that are open on a path. */
export function descriptors(path: string): number[] {
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

export async function until(what: string, found: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!found()) {
    assert.ok(performance.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
