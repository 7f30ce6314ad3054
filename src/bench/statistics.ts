/** What the report says of samples: percentiles, and ratios with how sure they are. */

export interface Summary {
  count: number;
  p50: number;
  p99: number;
  max: number;
}

/** `samples` in any order. */
export function summarize(samples: ArrayLike<number>): Summary {
  const sorted = Float64Array.from(samples).sort();
  return {
    count: sorted.length,
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    max: sorted.at(-1) ?? 0,
  };
}

/** A ratio of two percentiles (or a difference of two means), and the interval in which it lies 95 times of 100. */
export interface Ratio {
  value: number;
  low: number;
  high: number;
}

/** Enough for two digits of the interval's ends; in an emulated machine each round costs milliseconds. */
const RESAMPLES = 200;

/**
 * The percentile of `a` over that of `b`, each a list of rounds. The interval is by bootstrap in two levels, rounds and
 * then samples in them: samples of one round share what the machine was busy with, so they alone would promise too much.
 * Null without samples. `random` gives numbers from 0 to 1.
 */
export function ratioOf(
  a: readonly ArrayLike<number>[],
  b: readonly ArrayLike<number>[],
  p: number,
  random: () => number = seeded(1),
): Ratio | null {
  const over = percentileOf(flatten(a), p);
  const under = percentileOf(flatten(b), p);
  if (!(over > 0 && under > 0)) return null;
  const resampled: number[] = [];
  for (let i = 0; i < RESAMPLES; i++) {
    const denominator = percentileOf(resample(b, random), p);
    if (denominator > 0) resampled.push(percentileOf(resample(a, random), p) / denominator);
  }
  const sorted = Float64Array.from(resampled).sort();
  return { value: over / under, low: percentile(sorted, 0.025), high: percentile(sorted, 0.975) };
}

/** The mean of `a` less that of `b`, with an interval by the same bootstrap. Null without samples. */
export function differenceOf(
  a: readonly ArrayLike<number>[],
  b: readonly ArrayLike<number>[],
  random: () => number = seeded(1),
): Ratio | null {
  const [over, under] = [flatten(a), flatten(b)];
  if (over.length === 0 || under.length === 0) return null;
  const resampled = Array.from(
    { length: RESAMPLES },
    () => meanOf(resample(a, random)) - meanOf(resample(b, random)),
  );
  const sorted = Float64Array.from(resampled).sort();
  return {
    value: meanOf(over) - meanOf(under),
    low: percentile(sorted, 0.025),
    high: percentile(sorted, 0.975),
  };
}

/** Values at `points` quantiles, closer towards the end, where the interesting ones are. For plots. */
export function tailCurve(samples: ArrayLike<number>, points = 120): { nines: number[]; values: number[] } {
  const sorted = Float64Array.from(samples).sort();
  const most = Math.log10(Math.max(sorted.length, 2));
  const nines = Array.from({ length: points }, (_, i) => (i / (points - 1)) * most);
  return { nines, values: nines.map((n) => percentile(sorted, 1 - 10 ** -n)) };
}

/** Numbers from 0 to 1 that look random and are the same in every run (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** All samples of all rounds. */
export function flatten(rounds: readonly ArrayLike<number>[]): Float64Array {
  const all = new Float64Array(rounds.reduce((sum, round) => sum + round.length, 0));
  let at = 0;
  for (const round of rounds) {
    all.set(round, at);
    at += round.length;
  }
  return all;
}

function resample(rounds: readonly ArrayLike<number>[], random: () => number): Float64Array {
  const picked = rounds.map(() => rounds[Math.floor(random() * rounds.length)] ?? []);
  const all = new Float64Array(picked.reduce((sum, round) => sum + round.length, 0));
  let at = 0;
  for (const round of picked) {
    for (let i = 0; i < round.length; i++) all[at++] = round[Math.floor(random() * round.length)] ?? 0;
  }
  return all;
}

function meanOf(samples: Float64Array): number {
  return samples.length === 0 ? 0 : samples.reduce((sum, value) => sum + value, 0) / samples.length;
}

function percentileOf(samples: Float64Array, p: number): number {
  return percentile(samples.sort(), p);
}

/** Nearest rank; 0 for no values. `sorted` ascending, as typed arrays are by `sort`. */
export function percentile(sorted: Float64Array, p: number): number {
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? 0;
}
