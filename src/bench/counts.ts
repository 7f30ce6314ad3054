/** What the report says of things that are counted rather than timed: imports, copies, vblanks that were missed. */
import type { Measured, Printed } from './run.js';
import { MODE, PERIOD_NS, PRINTED, printingOf, type Subject } from './scenarios.js';
import { differenceOf } from './statistics.js';

export interface CountDocument {
  what: string;
  value: number;
  /** Where the value lies 95 times of 100; null for what was counted without exception. */
  interval: { low: number; high: number } | null;
  /** In words; empty where nothing is asked. */
  target: string;
  verdict: 'met' | 'missed' | '';
}

/** Of one scenario's subjects, whatever of it they counted. */
export function countsOf(measured: readonly Measured[]): CountDocument[] {
  const quiet = measured.find(({ subject }) => subject === 'neighbours');
  return measured.flatMap((one) => {
    if (one.subject === 'virtio' || one.subject === 'dbus') return steadyCounts(one);
    return printingOf(one.subject) !== null && quiet !== undefined ? printingCounts(one, quiet) : [];
  });
}

/** A buffer is imported once, and what the display shows is the guest's own memory. */
function steadyCounts({ subject, rounds }: Measured): CountDocument[] {
  const turns = rounds.map(({ turn }) => turn);
  const flips = sum(turns.map((turn) => turn.flips));
  return (['imports', 'copies'] as const).flatMap((what) => {
    if (flips === 0 || turns.some(({ counts }) => counts === null)) return [];
    const value = sum(turns.map(({ counts }) => counts?.[what] ?? 0)) / flips;
    return {
      what: `${subject} guest: ${what} a flip`,
      value,
      interval: null,
      target: 'none',
      verdict: value === 0 ? ('met' as const) : ('missed' as const),
    };
  });
}

function printingCounts(one: Measured, quiet: Measured): CountDocument[] {
  const missedOf = ({ rounds }: Measured) =>
    rounds.map(({ flips }) => flips.map(({ missed }) => missed * 1000));
  const more = differenceOf(missedOf(one), missedOf(quiet));
  const counts: CountDocument[] = [];
  if (more !== null) {
    counts.push({
      what: `${nameOf(one.subject)}: vblanks missed by 1000 frames of other guests, more than without it`,
      value: more.value,
      interval: { low: more.low, high: more.high },
      target: 'within noise',
      verdict: more.low <= 0 ? 'met' : 'missed',
    });
  }
  const printed = one.rounds.flatMap(({ turn }) => turn.counts?.printed ?? []);
  const seconds = sum(one.rounds.map(({ turn }) => turn.endNs - turn.startNs)) / 1e9;
  return printed.length === 0 ? counts : [...counts, ...copyCounts(nameOf(one.subject), printed, seconds)];
}

function copyCounts(name: string, printed: readonly Printed[], seconds: number): CountDocument[] {
  const total = (what: keyof Printed) => sum(printed.map((one) => one[what]));
  const copies = total('copies');
  const refreshes = (seconds * 1e9) / PERIOD_NS;
  const atMostOne = (what: string, value: number): CountDocument => ({
    what: `${name}: ${what}`,
    value,
    interval: null,
    target: 'at most 1.00',
    verdict: value <= 1 ? 'met' : 'missed',
  });
  return [
    {
      what: `${name}: lines a second`,
      value: total('lines') / seconds,
      interval: null,
      target: '',
      verdict: '',
    },
    // The first one of each turn is of the picture that was there before.
    atMostOne('copies a refresh', Math.max(0, copies - printed.length) / refreshes),
    atMostOne(
      'pixels copied by a copy, of those that were printed on',
      // One more may be drawn at the end of a turn and not shown yet.
      total('pixels') / (copies + printed.length) / (PRINTED.rows * MODE.width),
    ),
  ];
}

function nameOf(subject: Subject): string {
  return printingOf(subject) === 'map' ? 'text in shared memory' : 'text in messages';
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
