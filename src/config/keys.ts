/** Names of keys and buttons in the configuration: those of linux/input-event-codes.h in small letters, without KEY_. */

const KEYS: Readonly<Record<string, number>> = {
  a: 30,
  b: 48,
  c: 46,
  d: 32,
  e: 18,
  f: 33,
  g: 34,
  h: 35,
  i: 23,
  j: 36,
  k: 37,
  l: 38,
  m: 50,
  n: 49,
  o: 24,
  p: 25,
  q: 16,
  r: 19,
  s: 31,
  t: 20,
  u: 22,
  v: 47,
  w: 17,
  x: 45,
  y: 21,
  z: 44,
  '0': 11,
  '1': 2,
  '2': 3,
  '3': 4,
  '4': 5,
  '5': 6,
  '6': 7,
  '7': 8,
  '8': 9,
  '9': 10,
  f1: 59,
  f2: 60,
  f3: 61,
  f4: 62,
  f5: 63,
  f6: 64,
  f7: 65,
  f8: 66,
  f9: 67,
  f10: 68,
  f11: 87,
  f12: 88,
  f13: 183,
  f14: 184,
  f15: 185,
  f16: 186,
  f17: 187,
  f18: 188,
  f19: 189,
  f20: 190,
  f21: 191,
  f22: 192,
  f23: 193,
  f24: 194,
  esc: 1,
  minus: 12,
  equal: 13,
  backspace: 14,
  tab: 15,
  leftbrace: 26,
  rightbrace: 27,
  enter: 28,
  leftctrl: 29,
  rightctrl: 97,
  leftshift: 42,
  rightshift: 54,
  leftalt: 56,
  rightalt: 100,
  leftmeta: 125,
  rightmeta: 126,
  compose: 127,
  menu: 139,
  space: 57,
  capslock: 58,
  numlock: 69,
  scrolllock: 70,
  sysrq: 99,
  pause: 119,
  semicolon: 39,
  apostrophe: 40,
  grave: 41,
  backslash: 43,
  comma: 51,
  dot: 52,
  slash: 53,
  home: 102,
  up: 103,
  pageup: 104,
  left: 105,
  right: 106,
  end: 107,
  down: 108,
  pagedown: 109,
  insert: 110,
  delete: 111,
  kpenter: 96,
  kpplus: 78,
  kpminus: 74,
  kpasterisk: 55,
  kpslash: 98,
  kpdot: 83,
  mute: 113,
  volumedown: 114,
  volumeup: 115,
  power: 116,
  sleep: 142,
  help: 138,
  switchvideomode: 227,
  prog1: 148,
  prog2: 149,
  '102nd': 86,
  kp0: 82,
  kp1: 79,
  kp2: 80,
  kp3: 81,
  kp4: 75,
  kp5: 76,
  kp6: 77,
  kp7: 71,
  kp8: 72,
  kp9: 73,
};

const BUTTONS: Readonly<Record<string, number>> = {
  btn_left: 0x110,
  btn_right: 0x111,
  btn_middle: 0x112,
  btn_side: 0x113,
  btn_extra: 0x114,
  btn_forward: 0x115,
  btn_back: 0x116,
  btn_task: 0x117,
};

/** One of these is meant: either key of a pair. */
const PAIRS: Readonly<Record<string, readonly string[]>> = {
  ctrl: ['leftctrl', 'rightctrl'],
  shift: ['leftshift', 'rightshift'],
  alt: ['leftalt', 'rightalt'],
  meta: ['leftmeta', 'rightmeta'],
};

const MODIFIERS = new Set([
  ...Object.keys(PAIRS),
  ...Object.values(PAIRS).flat(),
  'capslock',
  'scrolllock',
  'compose',
  'menu',
]);

const MOST_HELD = 4;

/** What is to be held, each as alternatives, and the key that is pressed last. */
export interface KeyCombination {
  held: number[][];
  key: number;
}

/** `text` as "leftctrl+rightctrl+f1". Null for anything else: a name that there is not, a key twice, nothing held. */
export function parseKeys(text: string): KeyCombination | null {
  const names = text.split('+');
  const last = names.pop() ?? '';
  const key = codeOf(last);
  if (key === null || names.length === 0 || names.length > MOST_HELD) return null;
  if (new Set([...names, last]).size !== names.length + 1) return null;
  const held: number[][] = [];
  for (const name of names) {
    const codes = Object.hasOwn(PAIRS, name) ? PAIRS[name]?.map(codeOf) : [codeOf(name)];
    if (codes === undefined || !codes.every((code) => code !== null) || !MODIFIERS.has(name)) return null;
    held.push(codes);
  }
  return { held, key };
}

function codeOf(name: string): number | null {
  return Object.hasOwn(KEYS, name) ? (KEYS[name] ?? null) : null;
}

/** A button of a pointer, such as "btn_middle"; null for what is none. */
export function buttonOf(name: string): number | null {
  return Object.hasOwn(BUTTONS, name) ? (BUTTONS[name] ?? null) : null;
}

export const BUTTON_NAMES = Object.keys(BUTTONS);
