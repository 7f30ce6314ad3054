/** The benchmark's document as text for a terminal, and as a page. */
import { formatMicros, formatTable } from '../cli/table.js';
import type { CountDocument } from './counts.js';
import type {
  BenchDocument,
  ComparisonDocument,
  Conditions,
  ScenarioDocument,
  SubjectDocument,
} from './document.js';
import type { InputScenarioDocument, InputSubjectDocument } from './input.js';
import { htmlPage, type Plot, type Section } from './page.js';

const SUBJECT_HEAD = [
  'PROGRAM',
  'FLIPS',
  'LOST',
  'MISSED',
  'P50',
  'P99',
  'MAX',
  'COMMIT P50',
  'OWN P50',
  'CPU/FLIP',
  'PROCESS CPU/FLIP',
  'SLEEPS/FLIP',
  'SYSCALLS/FLIP',
  'MEMORY',
];
const INPUT_HEAD = ['PROGRAM', 'FRAMES', 'LOST', 'LATE', 'P50', 'P99', 'MAX'];
const COUNT_HEAD = ['COUNT', 'VALUE', '95 % INTERVAL', 'TARGET', 'VERDICT'];
const RATIO_HEAD = ['RATIO', 'OF', 'VALUE', '95 % INTERVAL', 'TARGET', 'VERDICT'];

export function formatScenario(scenario: ScenarioDocument): string {
  const table = formatTable(SUBJECT_HEAD, scenario.subjects.map(subjectCells), { color: false });
  return `${scenarioTitle(scenario)}\n${table}`;
}

export function formatInput(scenario: InputScenarioDocument): string {
  const table = formatTable(INPUT_HEAD, scenario.subjects.map(inputCells), { color: false });
  return `${inputTitle(scenario)}\n${table}`;
}

function inputTitle({ title, rounds, seconds }: InputScenarioDocument): string {
  return `${title}; ${rounds} rounds of ${seconds} s`;
}

function inputCells({ subject, frames, lost, late, latencyUs }: InputSubjectDocument): string[] {
  const times = [latencyUs.p50, latencyUs.p99, latencyUs.max].map(formatMicros);
  return [subject, String(frames), String(lost), String(late), ...times];
}

/** What is known when all scenarios are measured: where, the ratios, and what they come to. */
export function formatSummary(document: BenchDocument): string {
  const table = formatTable(RATIO_HEAD, document.comparisons.map(ratioCells), { color: false });
  const counts =
    document.counts.length === 0
      ? ''
      : `\nCounts\n${formatTable(COUNT_HEAD, document.counts.map(countCells), { color: false })}`;
  return `Ratios of latency\n${table}${counts}\n${conditionsText(document.conditions)}\n${verdictText(document)}`;
}

export function reportPage(document: BenchDocument): string {
  const scale = document.scenarios.filter(({ name }) => name.startsWith('guests-'));
  const sections: Section[] = [
    {
      heading: 'Ratios of latency',
      text:
        'Latency is the time from when a frame could be committed (its page-flip eventfd was written, and nothing was ' +
        'in flight on its CRTC) until the entry of its commit ioctl, both stamped outside of the program.',
      table: { head: RATIO_HEAD, rows: document.comparisons.map(ratioCells) },
    },
    ...(document.counts.length === 0
      ? []
      : [{ heading: 'Counts', table: { head: COUNT_HEAD, rows: document.counts.map(countCells) } }]),
    ...document.scenarios.map(scenarioSection),
    ...document.input.map((scenario) => ({
      heading: inputTitle(scenario),
      text: "Latency is the time from the kernel's timestamp of a frame of events until it was written to the guest's device.",
      table: { head: INPUT_HEAD, rows: scenario.subjects.map(inputCells) },
    })),
  ];
  if (scale.length > 1) sections.push({ heading: 'As guests grow', plots: [scalePlot(scale)] });
  return htmlPage({
    title: 'scanoutd beside the smallest correct flip program',
    text: conditionsText(document.conditions),
    sections,
  });
}

export function conditionsText(conditions: Conditions): string {
  const { kernel, processor, processors, emulated, steady, node, realtimeReason } = conditions;
  return [
    `Linux ${kernel}, ${processors} x ${processor}, Node.js ${node}, `,
    realtimeReason === '' ? 'real-time priority.' : `no real-time priority: ${realtimeReason}.`,
    emulated ? ' The machine is emulated: only ratios mean something, times do not.' : '',
    steady
      ? ' Time passes with the instructions executed, so that the load of the host has no part in it.'
      : '',
  ].join('');
}

function scenarioTitle({ title, rounds, seconds }: ScenarioDocument): string {
  return `${title}; ${rounds} rounds of ${seconds} s`;
}

function subjectCells(one: SubjectDocument): string[] {
  const { latencyUs, commitUs, ownUs } = one;
  return [
    one.subject,
    String(one.flips),
    String(one.lost),
    String(one.missed),
    formatMicros(latencyUs.p50),
    formatMicros(latencyUs.p99),
    formatMicros(latencyUs.max),
    formatMicros(commitUs.p50),
    ownUs === null ? '-' : formatMicros(ownUs.p50),
    formatMicros(one.cpuUsPerFlip),
    formatMicros(one.wholeCpuUsPerFlip),
    one.switchesPerFlip.toFixed(2),
    one.syscallsPerFlip === null ? '-' : one.syscallsPerFlip.toFixed(1),
    `${one.residentMiB.toFixed(1)} MiB`,
  ];
}

function ratioCells({ what, percentile, ratio, target, verdict }: ComparisonDocument): string[] {
  const interval = `${ratio.low.toFixed(2)} to ${ratio.high.toFixed(2)}`;
  return [what, percentile, ratio.value.toFixed(2), interval, target || '-', verdict || '-'];
}

function countCells({ what, value, interval, target, verdict }: CountDocument): string[] {
  const between = interval === null ? '-' : `${interval.low.toFixed(2)} to ${interval.high.toFixed(2)}`;
  return [what, value.toFixed(2), between, target || '-', verdict || '-'];
}

function verdictText({ comparisons, counts }: BenchDocument): string {
  const all = [
    ...comparisons.map(({ what, percentile, verdict }) => ({ name: `${what} (${percentile})`, verdict })),
    ...counts.map(({ what, verdict }) => ({ name: what, verdict })),
  ];
  const asked = all.filter(({ verdict }) => verdict !== '');
  const missed = asked.filter(({ verdict }) => verdict === 'missed');
  const names = missed.map(({ name }) => name).join(', ');
  const met = asked.length - missed.length;
  if (asked.length === 0) return '';
  return `${met} of ${asked.length} targets met${missed.length === 0 ? '' : `; missed: ${names}`}\n`;
}

function scenarioSection(scenario: ScenarioDocument): Section {
  return {
    heading: scenarioTitle(scenario),
    table: { head: SUBJECT_HEAD, rows: scenario.subjects.map(subjectCells) },
    plots: [
      {
        title: 'Latency by percentile',
        x: { label: 'percentile', kind: 'nines' },
        y: { label: 'latency', kind: 'micros' },
        series: scenario.subjects.map(({ subject, curve }) => ({
          label: subject,
          x: curve.nines,
          y: curve.values,
          look: 'line',
        })),
      },
    ],
  };
}

function scalePlot(scenarios: readonly ScenarioDocument[]): Plot {
  const subjects = [
    ...new Set(scenarios.flatMap((scenario) => scenario.subjects.map(({ subject }) => subject))),
  ];
  const lines = subjects.flatMap((subject) =>
    (['p50', 'p99'] as const).map((percentile) => {
      const points = scenarios.flatMap(({ guests, subjects: all }) =>
        all
          .filter((one) => one.subject === subject)
          .map(({ latencyUs }) => ({ guests, value: latencyUs[percentile] })),
      );
      return {
        label: `${subject} ${percentile}`,
        x: points.map(({ guests }) => guests),
        y: points.map(({ value }) => value),
        look: 'line' as const,
      };
    }),
  );
  return {
    title: 'Latency as guests grow',
    x: { label: 'guests', kind: 'log' },
    y: { label: 'latency', kind: 'micros' },
    series: lines,
  };
}
