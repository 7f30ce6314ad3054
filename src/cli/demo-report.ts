/** What the demonstration tells at its end: a table, a verdict, and a page with the latency of every flip. */
import type { StatusDocument } from '../api/documents.js';
import type { FlipRecord } from '../bench/daemon.js';
import { htmlPage, type Plot, type Section, type Series } from '../bench/page.js';
import type { DemoGuest } from './demo-layout.js';
import { formatMicros, formatTable } from './table.js';

/** Flips of one plane of one guest, oldest first. */
export interface PlaneFlips {
  guest: string;
  plane: number;
  kind: string;
  flips: readonly FlipRecord[];
}

export interface Screenshot {
  output: string;
  how: string;
  png: Uint8Array;
}

const HEAD = ['GUEST', 'SHOWS', 'OUTPUT', 'POLICY', 'PLANE', 'FLIPS', 'MISSED', 'P50', 'P99', 'SHOWN'];
export const EMULATED =
  'This machine is emulated by software: it is many times slower than a real one, and misses vblanks that one makes.';
/** Of the histogram, for each factor of ten. */
const BINS_A_DECADE = 10;

/** `planes`: types of hardware planes by id. */
export function demoRows(
  status: StatusDocument,
  guests: readonly DemoGuest[],
  planes: ReadonlyMap<number, string>,
): string[][] {
  return guests.flatMap(({ name, role }) => {
    const guest = status.guests.find((one) => one.name === name);
    const output = status.outputs.find((one) => one.name === guest?.output);
    if (guest === undefined) return [[name, role, '-', '-', '-', '0', '-', '-', '-', 'not connected']];
    return guest.planes.map((plane) => [
      plane.index === 0 ? name : '',
      plane.index === 0 ? role : '',
      guest.output ?? '-',
      output?.policy ?? '-',
      plane.plane === null ? '-' : `${planes.get(plane.plane) ?? plane.kind} ${plane.plane}`,
      String(plane.flips),
      String(plane.missed),
      ...[plane.latencyUs.p50, plane.latencyUs.p99].map((us) =>
        plane.latencyUs.count === 0 ? '-' : formatMicros(us),
      ),
      plane.reason === '' ? plane.state : `${plane.state}: ${plane.reason}`,
    ]);
  });
}

export function formatDemo(rows: readonly string[][], color: boolean): string {
  return formatTable(HEAD, rows, { color });
}

/** What was not shown, a sentence each; empty when everything was. */
export function demoFailures(status: StatusDocument, guests: readonly DemoGuest[]): string[] {
  return guests.flatMap(({ name, output }) => {
    const guest = status.guests.find((one) => one.name === name);
    if (guest?.connected !== true) return [`${name} is not connected`];
    if (guest.output !== output) return [`${name} is on ${guest.output ?? 'no output'}, not on ${output}`];
    const still = guest.planes.filter(({ flips }) => flips === 0);
    return still.map(({ index, kind, state, reason }) => {
      const why = reason === '' ? '' : `: ${reason}`;
      return `plane ${index} (${kind}) of ${name} never flipped; it is ${state}${why}`;
    });
  });
}

export function demoPage(
  status: StatusDocument,
  rows: string[][],
  planes: readonly PlaneFlips[],
  pictures: readonly Screenshot[],
  emulated: boolean,
): string {
  const driver = status.cards.map((card) => `${card.path} (${card.driver})`).join(', ');
  const sections: Section[] = [
    { heading: 'Guests', table: { head: HEAD, rows } },
    {
      heading: 'Outputs',
      pictures: pictures.map(({ output, how, png }) => ({ title: `${output}, ${how}`, png })),
    },
    {
      heading: 'Latency of every flip',
      text:
        'From the wake-up by the page-flip eventfd to the entry of the commit. Where several guests share an output ' +
        '(policy deadline) frames wait on purpose until just before the vblank, so that each guest has its newest in.',
      plots: [flipPlot(planes), histogram(planes)],
    },
  ];
  const where = emulated ? ` ${EMULATED}` : '';
  return htmlPage({ title: 'scanoutd: a demonstration', text: `Card ${driver}.${where}`, sections });
}

function labelOf({ guest, kind, plane }: PlaneFlips): string {
  return plane === 0 ? guest : `${guest} (${kind})`;
}

function latencyUs(flip: FlipRecord): number {
  return Math.max((flip.commitEnterNs - flip.kickNs) / 1000, 0.1);
}

export function flipPlot(planes: readonly PlaneFlips[]): Plot {
  const start = Math.min(...planes.flatMap(({ flips }) => flips.slice(0, 1).map(({ kickNs }) => kickNs)));
  const points = (flips: readonly FlipRecord[]): Pick<Series, 'x' | 'y'> => ({
    x: flips.map(({ kickNs }) => (kickNs - start) / 1e9),
    y: flips.map(latencyUs),
  });
  const missed = planes
    .flatMap(({ flips }) => flips.filter((flip) => flip.missed > 0))
    .sort((a, b) => a.kickNs - b.kickNs);
  const series = planes.map((one): Series => ({ label: labelOf(one), ...points(one.flips), look: 'dots' }));
  if (missed.length > 0) series.push({ label: 'missed a vblank', ...points(missed), look: 'marks' });
  return {
    title: 'Flips in time',
    x: { label: 'time, s', kind: 'linear' },
    y: { label: 'latency', kind: 'micros' },
    series,
  };
}

export function histogram(planes: readonly PlaneFlips[]): Plot {
  const bin = (us: number) => Math.floor(Math.log10(us) * BINS_A_DECADE);
  const all = planes.flatMap(({ flips }) => flips.map((flip) => bin(latencyUs(flip))));
  const first = Math.min(...all);
  const bins = Array.from({ length: Math.max(...all) - first + 2 }, (_, i) => first + i);
  return {
    title: 'Flips by latency',
    x: { label: 'latency', kind: 'micros' },
    y: { label: 'flips', kind: 'linear' },
    series: planes.map((one): Series => {
      const counts = new Map<number, number>();
      for (const flip of one.flips) {
        const at = bin(latencyUs(flip));
        counts.set(at, (counts.get(at) ?? 0) + 1);
      }
      return {
        label: labelOf(one),
        x: bins.map((at) => 10 ** (at / BINS_A_DECADE)),
        y: bins.map((at) => counts.get(at) ?? 0),
        look: 'steps',
      };
    }),
  };
}
