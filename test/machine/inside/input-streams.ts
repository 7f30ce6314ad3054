/** Random streams of frames for devices of every class, the same ones for the same seed. */
import type { InputClass } from '../../../src/native/input.js';
import { EV, type InputEvent, KEYBOARD, type MadeDevice, MOUSE, TABLET, TOUCHSCREEN } from './evdev.js';

type Random = (below: number) => number;

/** Whole numbers from 0 to below the limit (mulberry32). */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const range = (maximum: number, minimum = 0) => [minimum, maximum, 0] as const;
const [MT_SLOT, MT_X, MT_Y, MT_ID, BTN_TOUCH] = [47, 53, 54, 57, 330];

export const DEVICES: Readonly<Record<InputClass, MadeDevice>> = {
  keyboard: KEYBOARD,
  pointer: MOUSE,
  touchscreen: TOUCHSCREEN,
  tablet: TABLET,
  absolute: {
    name: 'Test Position',
    id: [3, 0x1234, 5, 1],
    keys: ['272-274'],
    absolute: { 0: range(32767), 1: range(32767) },
  },
  touchpad: {
    name: 'Test Touchpad',
    id: [3, 0x1234, 6, 1],
    props: [0],
    keys: [272, 325, 328, 330, 333, 334, 335],
    absolute: {
      0: range(3000),
      1: range(2000),
      47: range(4),
      53: range(3000),
      54: range(2000),
      57: range(65535),
    },
  },
  pad: {
    name: 'Test Pad',
    id: [3, 0x56a, 7, 1],
    keys: ['256-259'],
    absolute: { 8: range(71), 40: range(1) },
  },
  switch: { name: 'Test Switch', id: [25, 0, 8, 1], switches: [0, 1] },
  joystick: {
    name: 'Test Joystick',
    id: [3, 0x1234, 9, 1],
    keys: ['288-293'],
    absolute: { 0: range(255, -255), 1: range(255, -255) },
  },
};

/** One frame after the other; what is pressed is known, so that each frame changes something. */
class Stream {
  private readonly down = new Set<number>();
  private readonly contacts = new Set<number>();
  private tracking = 0;

  constructor(private readonly random: Random) {}

  private toggle(key: number, type: number = EV.KEY): InputEvent {
    const value = this.down.delete(key) ? 0 : 1;
    if (value === 1) this.down.add(key);
    return [type, key, value];
  }

  private press(key: number, on: boolean): InputEvent[] {
    return this.down.has(key) === on ? [] : [this.toggle(key)];
  }

  private sometimes(events: () => InputEvent[]): InputEvent[] {
    return this.random(4) === 0 ? events() : [];
  }

  private positions(axes: Readonly<Record<number, number>>): InputEvent[] {
    return Object.entries(axes).map(([axis, size]) => [EV.ABS, Number(axis), this.random(size)]);
  }

  private touch(width: number, height: number, slots: number, fingers: readonly number[]): InputEvent[] {
    const slot = this.random(slots);
    const events: InputEvent[] = [[EV.ABS, MT_SLOT, slot]];
    const begins = !this.contacts.has(slot);
    if (!begins && this.random(3) === 0) {
      this.contacts.delete(slot);
      events.push([EV.ABS, MT_ID, -1]);
    } else {
      this.contacts.add(slot);
      if (begins) events.push([EV.ABS, MT_ID, ++this.tracking]);
      events.push(...this.positions({ [MT_X]: width, [MT_Y]: height }));
    }
    const count = this.contacts.size;
    events.push(...this.press(BTN_TOUCH, count > 0));
    for (const [i, key] of fingers.entries()) events.push(...this.press(key, count === i + 1));
    if (count > 0) events.push(...this.positions({ 0: width, 1: height }));
    return events;
  }

  frame(of: InputClass): InputEvent[] {
    const { random } = this;
    switch (of) {
      case 'keyboard': {
        // Keys from 1 to Z: no hotkey is among them.
        const key = this.down.size > 4 ? ([...this.down][0] ?? 2) : 2 + random(10);
        return [[EV.MSC, 4, 0x70000 + key], this.toggle(key)];
      }
      case 'pointer': {
        const wheel = (): InputEvent[] => [
          [EV.REL, 11, 120],
          [EV.REL, 8, 1],
        ];
        return [
          [EV.REL, 0, 1 + random(50)],
          [EV.REL, 1, -1 - random(50)],
          ...this.sometimes(() => [this.toggle(272 + random(3))]),
          ...this.sometimes(wheel),
        ];
      }
      case 'touchscreen':
        return this.touch(4096, 4096, 10, []);
      case 'touchpad':
        return this.touch(3001, 2001, 5, [325, 333, 334, 335, 328]);
      case 'tablet': {
        const near = this.press(320, true);
        const tip = this.sometimes(() => [this.toggle(BTN_TOUCH)]);
        return [...near, ...this.positions({ 0: 20001, 1: 12001, 24: 2048, 26: 61 }), ...tip];
      }
      case 'absolute':
        return [
          ...this.positions({ 0: 32768, 1: 32768 }),
          ...this.sometimes(() => [this.toggle(272 + random(3))]),
        ];
      case 'pad':
        return [
          [EV.ABS, 8, random(72)],
          this.toggle(256 + random(4)),
          [EV.ABS, 40, this.down.size > 2 ? 1 : 0],
        ];
      case 'switch':
        return [this.toggle(random(2), EV.SW)];
      case 'joystick':
        return [
          ...this.positions({ 0: 256, 1: 256 }),
          ...this.sometimes(() => [this.toggle(288 + random(6))]),
        ];
    }
  }
}

export function framesOf(of: InputClass, count: number, seed: number): InputEvent[][] {
  const stream = new Stream(randomOf(seed));
  return Array.from({ length: count }, () => stream.frame(of));
}
