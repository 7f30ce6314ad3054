/** What is measured: who flips how, on which planes, and who serves them. Plain data. */

/**
 * Who serves which guests. `socket`, `virtio`, `dbus`: scanoutd with one guest of that kind; `neighbours`: scanoutd with
 * socket guests beside virtual machines in text mode.
 */
export const PROGRAMS = ['reference', 'scanoutd', 'js', 'socket', 'virtio', 'dbus', 'neighbours'] as const;
export type Program = (typeof PROGRAMS)[number];
/** `+busy`: while its JS thread is kept busy. `+map`, `+pixels`: while the machine that shows its screen so prints. */
export type Subject = Program | 'scanoutd+busy' | 'js+busy' | 'neighbours+map' | 'neighbours+pixels';

export function programOf(subject: Subject): Program {
  return subject.replace(/\+.*/, '') as Program;
}

/** How a machine in text mode shares its screen. */
export type Printing = 'map' | 'pixels';

/** Where such a machine prints: in its lowest lines, in turn (test/bench/dbus.c). Pixels. */
export const PRINTED = { rows: 64 } as const;

/** The machine that prints for this subject, or null. */
export function printingOf(subject: Subject): Printing | null {
  const [, what] = subject.split('+');
  return what === 'map' || what === 'pixels' ? what : null;
}

/** Every card of the benchmark is like this: VKMS has at most 31 planes in a card. */
export const CARD = { crtcs: 4, planes: 7 } as const;
export const GUESTS_PER_CARD = CARD.crtcs * CARD.planes;
export const MODE = { width: 640, height: 480, refreshHz: 60 } as const;
export const PERIOD_NS = 1e9 / MODE.refreshHz;
const OVERLAY = { width: 64, height: 64 } as const;

export interface GuestLayout {
  name: string;
  kind: 'socket' | 'virtio' | 'qemu';
  /** It is in text mode and prints; null: it flips. */
  printing: Printing | null;
  /** Number among the cards of the program that serves it, among its CRTCs, among the planes of that. */
  card: number;
  crtc: number;
  plane: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The layout of `count` guests: over all CRTCs first, then over their planes, then over further cards. */
export function layoutOf(count: number): GuestLayout[] {
  return Array.from({ length: count }, (_, i) => {
    const card = Math.floor(i / GUESTS_PER_CARD);
    const within = i % GUESTS_PER_CARD;
    const crtc = within % CARD.crtcs;
    const plane = Math.floor(within / CARD.crtcs);
    const size = plane === 0 ? MODE : OVERLAY;
    const x = plane === 0 ? 0 : (plane - 1) * OVERLAY.width;
    const place = { card, crtc, plane, x, y: 0, width: size.width, height: size.height };
    return { name: `g${i}`, kind: 'socket', printing: null, ...place };
  });
}

/**
 * The guests of a program, those that flip first. Beside a machine that prints is one guest on its output, over it; one
 * more guest is on an output of its own.
 */
export function layoutFor(program: Program, count: number): GuestLayout[] {
  if (program === 'virtio' || program === 'dbus') {
    const kind = program === 'virtio' ? 'virtio' : 'qemu';
    return layoutOf(1).map((guest) => ({ ...guest, kind }));
  }
  if (program !== 'neighbours') return layoutOf(count);
  const over = { kind: 'socket', printing: null, card: 0, plane: 1, x: 0, y: 0, ...OVERLAY } as const;
  const whole = { card: 0, plane: 0, x: 0, y: 0, width: MODE.width, height: MODE.height } as const;
  return [
    { ...over, name: 'over-map', crtc: 0 },
    { ...over, name: 'over-pixels', crtc: 1 },
    { ...whole, name: 'apart', kind: 'socket', printing: null, crtc: 2 },
    { ...whole, name: 'map', kind: 'qemu', printing: 'map', crtc: 0 },
    { ...whole, name: 'pixels', kind: 'qemu', printing: 'pixels', crtc: 1 },
  ];
}

export function cardsFor(guests: readonly GuestLayout[]): number {
  return 1 + Math.max(0, ...guests.map(({ card }) => card));
}

export interface Scenario {
  name: string;
  title: string;
  guests: number;
  /** Frames a second of each guest; 0: one each refresh. */
  rate: number;
  subjects: Subject[];
  rounds: number;
  seconds: number;
  /** Whether the system calls of a flip are counted, in a round of their own. */
  syscalls: boolean;
}

export type Length = 'quick' | 'normal' | 'long';

const LENGTHS = {
  quick: { rounds: 2, seconds: 3, scaleRounds: 2, scaleSeconds: 2, counts: [1, 16] },
  normal: { rounds: 5, seconds: 4, scaleRounds: 3, scaleSeconds: 4, counts: [1, 4, 16, 64] },
  long: { rounds: 12, seconds: 10, scaleRounds: 8, scaleSeconds: 8, counts: [1, 2, 4, 8, 16, 28, 64] },
} as const;

export function scenarios(length: Length): Scenario[] {
  const { rounds, seconds, scaleRounds, scaleSeconds, counts } = LENGTHS[length];
  const scale = counts.map(
    (guests): Scenario => ({
      name: `guests-${guests}`,
      title: `${guests} ${guests === 1 ? 'guest' : 'guests'}, ${SCALE_RATE} frames/s each`,
      guests,
      rate: SCALE_RATE,
      subjects: ['reference', 'scanoutd'],
      rounds: scaleRounds,
      seconds: scaleSeconds,
      syscalls: false,
    }),
  );
  const one: Scenario = {
    name: 'one',
    title: 'one guest, a frame each refresh (60 Hz)',
    guests: 1,
    rate: 0,
    subjects: ['reference', 'scanoutd', 'scanoutd+busy', 'js', 'js+busy'],
    rounds,
    seconds,
    syscalls: true,
  };
  const kinds: Scenario = {
    name: 'kinds',
    title: 'one guest of each kind, a frame each refresh (60 Hz)',
    guests: 1,
    rate: 0,
    subjects: ['socket', 'virtio', 'dbus'],
    rounds,
    seconds,
    syscalls: true,
  };
  const text: Scenario = {
    name: 'text',
    title: 'three guests with a frame each refresh beside a machine in text mode that prints without a pause',
    guests: 3,
    rate: 0,
    subjects: ['neighbours', 'neighbours+map', 'neighbours+pixels'],
    rounds,
    seconds,
    syscalls: false,
  };
  return [one, ...scale, kinds, text];
}

/** Slow enough that 64 guests do not fill an emulated machine: then it would be what is measured. */
const SCALE_RATE = 10;

/** The order of the subjects in a round: each round begins with another one, and every second goes backwards. */
export function orderOf<T>(subjects: readonly T[], round: number): T[] {
  const turn = round % subjects.length;
  const turned = [...subjects.slice(turn), ...subjects.slice(0, turn)];
  return round % 2 === 0 ? turned : turned.reverse();
}

/** What a ratio is held against. */
export type Target =
  /** Of p50 or p99: at most so much. */
  | { kind: 'ratio'; at: number }
  /** No more than chance: 1 lies in the interval, or above it. */
  | { kind: 'noise' };

export interface ComparisonPlan {
  what: string;
  percentile: 0.5 | 0.99;
  over: { scenario: string; subject: Subject };
  under: { scenario: string; subject: Subject };
  target: Target | null;
}

export const TARGETS = {
  p50: 1.1,
  p99: 1.25,
  flat: 1.25,
  virtio: { p50: 1.25, p99: 1.5 },
  dbus: { p50: 2, p99: 2 },
} as const;

/** The ratios of the report, for the scenarios that there are. */
export function comparisons(list: readonly Scenario[]): ComparisonPlan[] {
  const plans: ComparisonPlan[] = [];
  const add = (
    what: string,
    over: ComparisonPlan['over'],
    under: ComparisonPlan['under'],
    targets: [Target | null, Target | null],
  ) => {
    for (const [i, percentile] of ([0.5, 0.99] as const).entries()) {
      plans.push({ what, percentile, over, under, target: targets[i] ?? null });
    }
  };
  const at = (scenario: string, subject: Subject) => ({ scenario, subject });
  const beside: [Target, Target] = [
    { kind: 'ratio', at: TARGETS.p50 },
    { kind: 'ratio', at: TARGETS.p99 },
  ];
  add('scanoutd / reference', at('one', 'scanoutd'), at('one', 'reference'), beside);
  const noise: Target = { kind: 'noise' };
  add('busy JS thread / idle', at('one', 'scanoutd+busy'), at('one', 'scanoutd'), [noise, noise]);
  add('JavaScript loop / reference', at('one', 'js'), at('one', 'reference'), [null, null]);
  add('busy JavaScript loop / reference', at('one', 'js+busy'), at('one', 'reference'), [null, null]);
  for (const kind of ['virtio', 'dbus'] as const) {
    const { p50, p99 } = TARGETS[kind];
    const targets: [Target, Target] = [
      { kind: 'ratio', at: p50 },
      { kind: 'ratio', at: p99 },
    ];
    add(`${kind} guest / socket guest`, at('kinds', kind), at('kinds', 'socket'), targets);
  }
  const scale = list.filter(({ name }) => name.startsWith('guests-'));
  for (const { name, guests } of scale) {
    const what = `${guests} ${guests === 1 ? 'guest' : 'guests'}: scanoutd / reference`;
    add(what, at(name, 'scanoutd'), at(name, 'reference'), beside);
  }
  const [first, last] = [scale[0], scale.at(-1)];
  if (first === undefined || last === undefined || first === last) return plans;
  const flat: Target = { kind: 'ratio', at: TARGETS.flat };
  const growth = `${last.guests} guests / ${first.guests}`;
  add(`${growth}: scanoutd`, at(last.name, 'scanoutd'), at(first.name, 'scanoutd'), [flat, null]);
  add(`${growth}: reference`, at(last.name, 'reference'), at(first.name, 'reference'), [null, null]);
  return plans;
}
