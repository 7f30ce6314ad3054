/** The benchmark's result as one document: what the table, the JSON file and the page are made of. */
import { type CountDocument, countsOf } from './counts.js';
import { type InputMeasured, type InputScenarioDocument, inputComparisons, inputDocument } from './input.js';
import type { Measured } from './run.js';
import { type ComparisonPlan, comparisons, type Scenario, type Subject, type Target } from './scenarios.js';
import { flatten, type Ratio, ratioOf, type Summary, summarize, tailCurve } from './statistics.js';

/** Where it was measured: without this the numbers mean nothing. */
export interface Conditions {
  kernel: string;
  processor: string;
  processors: number;
  /** Times are those of an emulator: only ratios can be quoted. */
  emulated: boolean;
  /** Time passes with the instructions that are executed (QEMU's icount): nothing else on the host changes it. */
  steady: boolean;
  node: string;
  /** Why scanoutd had no real-time priority; empty when it had. */
  realtimeReason: string;
}

export interface SubjectDocument {
  subject: Subject;
  flips: number;
  /** Frames that were never presented. */
  lost: number;
  missed: number;
  /** From when a frame could be committed until the commit's entry, microseconds: by libstamp and the guests' clock. */
  latencyUs: Summary;
  /** The commit itself. */
  commitUs: Summary;
  /** From the program's own wake-up to its commit, by its own clock; null where it was not asked. */
  ownUs: Summary | null;
  cpuUsPerFlip: number;
  /** The process with all its threads. */
  wholeCpuUsPerFlip: number;
  switchesPerFlip: number;
  residentMiB: number;
  syscallsPerFlip: number | null;
  syscalls: Record<string, number> | null;
  curve: { nines: number[]; values: number[] };
}

export interface ScenarioDocument {
  name: string;
  title: string;
  guests: number;
  rounds: number;
  seconds: number;
  subjects: SubjectDocument[];
}

export interface ComparisonDocument {
  what: string;
  percentile: 'p50' | 'p99';
  ratio: Ratio;
  /** In words; empty where nothing is asked. */
  target: string;
  verdict: 'met' | 'missed' | '';
}

export interface BenchDocument {
  conditions: Conditions;
  length: string;
  scenarios: ScenarioDocument[];
  input: InputScenarioDocument[];
  comparisons: ComparisonDocument[];
  counts: CountDocument[];
}

export interface ScenarioResult {
  scenario: Scenario;
  measured: Measured[];
}

export function benchDocument(
  conditions: Conditions,
  length: string,
  results: readonly ScenarioResult[],
  input: readonly InputMeasured[] = [],
): BenchDocument {
  const plans = comparisons(results.map(({ scenario }) => scenario));
  return {
    conditions,
    length,
    scenarios: results.map(scenarioDocument),
    input: input.map(inputDocument),
    comparisons: [...plans.flatMap((plan) => compare(plan, results)), ...input.flatMap(inputComparisons)],
    counts: results.flatMap(({ measured }) => countsOf(measured)),
  };
}

export function scenarioDocument({ scenario, measured }: ScenarioResult): ScenarioDocument {
  const { name, title, guests, rounds, seconds } = scenario;
  return { name, title, guests, rounds, seconds, subjects: measured.map(subjectDocument) };
}

function subjectDocument({ subject, rounds, residentBytes, syscalls }: Measured): SubjectDocument {
  const latencies = flatten(latenciesOf(rounds));
  const own = flatten(rounds.map(({ ownNs }) => ownNs.map(toUs)));
  const flips = sum(rounds.map(({ turn }) => turn.flips));
  const each = (value: number) => (flips === 0 ? 0 : value / flips);
  return {
    subject,
    flips,
    lost: sum(rounds.map(({ turn }) => turn.lost)),
    missed: sum(rounds.flatMap((round) => round.flips.map(({ missed }) => missed))),
    latencyUs: summarize(latencies),
    commitUs: summarize(rounds.flatMap((round) => round.flips.map(({ commitNs }) => toUs(commitNs)))),
    ownUs: own.length === 0 ? null : summarize(own),
    cpuUsPerFlip: each(toUs(sum(rounds.map(({ turn }) => turn.hot.cpuNs)))),
    wholeCpuUsPerFlip: each(toUs(sum(rounds.map(({ turn }) => turn.whole.cpuNs)))),
    switchesPerFlip: each(sum(rounds.map(({ turn }) => turn.hot.switches))),
    residentMiB: residentBytes / 2 ** 20,
    syscallsPerFlip: syscalls?.total ?? null,
    syscalls: syscalls === null ? null : Object.fromEntries(syscalls.byName),
    curve: tailCurve(latencies),
  };
}

function latenciesOf(rounds: Measured['rounds']): Float64Array[] {
  return rounds.map(({ flips }) => Float64Array.from(flips, ({ latencyNs }) => toUs(latencyNs)));
}

function compare(plan: ComparisonPlan, results: readonly ScenarioResult[]): ComparisonDocument[] {
  const roundsOf = ({ scenario, subject }: ComparisonPlan['over']) =>
    results
      .find((result) => result.scenario.name === scenario)
      ?.measured.find((one) => one.subject === subject)?.rounds ?? [];
  const ratio = ratioOf(latenciesOf(roundsOf(plan.over)), latenciesOf(roundsOf(plan.under)), plan.percentile);
  if (ratio === null) return [];
  const percentile = plan.percentile === 0.5 ? 'p50' : 'p99';
  const verdict = plan.target === null ? '' : meets(ratio, plan.target) ? 'met' : 'missed';
  return [{ what: plan.what, percentile, ratio, target: targetText(plan.target), verdict }];
}

export function meets(ratio: Ratio, target: Target): boolean {
  return target.kind === 'ratio' ? ratio.value <= target.at : ratio.low <= 1;
}

function targetText(target: Target | null): string {
  if (target === null) return '';
  return target.kind === 'ratio' ? `at most ${target.at.toFixed(2)}` : 'within noise';
}

function toUs(ns: number): number {
  return ns / 1000;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
