/** `scanoutctl top`: what happens in each second, of two statuses in a row. */
import type {
  GuestPlaneDocument,
  GuestSinkDocument,
  LatencyDocument,
  OutputDocument,
  PlaneState,
  StatusDocument,
} from '../api/documents.js';
import type { InputClass } from '../native/input.js';
import { count, formatDuration, formatMicros, formatMode, formatTable, plain } from './table.js';

/** One plane of one guest. Rates are per second over `TopDocument.seconds`; null in the first document. */
export interface TopRow {
  guest: string;
  plane: number;
  kind: GuestPlaneDocument['kind'];
  output: string | null;
  state: PlaneState;
  /** Why the state is not `direct`. */
  reason: string;
  flips: number | null;
  missed: number | null;
  superseded: number | null;
  latencyUs: LatencyDocument;
}

export interface TopOutput {
  name: string;
  mode: OutputDocument['mode'];
  lit: boolean;
  flips: number | null;
  missed: number | null;
}

/** One way of a guest's input. */
export interface TopInput {
  seat: string;
  guest: string;
  class: InputClass | null;
  how: GuestSinkDocument['how'];
  /** Per second, as above. */
  events: number | null;
  dropped: number | null;
  latencyUs: GuestSinkDocument['latencyUs'];
}

export interface TopDocument {
  /** When the newer status was taken, ISO 8601. */
  time: string;
  uptimeMs: number;
  /** Time between the two statuses; null when there is only one. */
  seconds: number | null;
  outputs: TopOutput[];
  rows: TopRow[];
  /** Of guests that have had input. */
  inputs: TopInput[];
}

/** A status and when it was taken, in milliseconds since the epoch. */
export interface Sample {
  at: number;
  status: StatusDocument;
}

export const ended = Symbol('ended');

export interface TopTerminal {
  /** True: the table is redrawn in place. */
  live: boolean;
  size(): { columns: number; rows: number };
  write(text: string): void;
  sleep(ms: number): Promise<void>;
  /** What `work` gives, or `ended` as soon as the user wants to end. */
  untilEnded<T>(work: Promise<T>): Promise<T | typeof ended>;
  now(): number;
}

export interface TopOptions {
  intervalMs: number;
  /** End after the first document that has rates. */
  once: boolean;
  json: boolean;
}

const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';

/** Draws until the user ends it. Errors of `describe` pass through, the terminal as it was before. */
export async function runTop(
  describe: () => Promise<StatusDocument>,
  terminal: TopTerminal,
  options: TopOptions,
): Promise<void> {
  const live = terminal.live && !options.json && !options.once;
  let before: Sample | null = null;
  try {
    for (;;) {
      const status = await terminal.untilEnded(describe());
      if (status === ended) {
        return;
      }
      const sample = { at: terminal.now(), status };
      if (live && before === null) {
        terminal.write(ENTER);
      }
      if (before !== null || !options.once) {
        draw(compare(before, sample), terminal, options, live);
      }
      const isLast = before !== null && options.once;
      before = sample;
      if (isLast || (await terminal.untilEnded(terminal.sleep(options.intervalMs))) === ended) {
        return;
      }
    }
  } finally {
    if (live && before !== null) {
      terminal.write(LEAVE);
    }
  }
}

/** The document of what happened between two samples. */
export function compare(before: Sample | null, now: Sample): TopDocument {
  const seconds = before === null ? null : Math.max((now.at - before.at) / 1000, 0.001);
  const rate = (then: number | undefined, value: number) => rateOf(then, value, seconds);
  const outputsBefore = new Map(before?.status.outputs.map((output) => [output.name, output]));
  const guestsBefore = new Map(before?.status.guests.map((guest) => [guest.name, guest]));
  const sinksBefore = new Map(sinksOf(before?.status).map((sink) => [sink.key, sink.sink]));
  return {
    time: new Date(now.at).toISOString(),
    uptimeMs: now.status.uptimeMs,
    seconds,
    outputs: now.status.outputs.map(({ name, mode, lit, flips, missed }) => {
      const then = outputsBefore.get(name);
      return { name, mode, lit, flips: rate(then?.flips, flips), missed: rate(then?.missed, missed) };
    }),
    rows: now.status.guests.flatMap((guest) =>
      guest.planes.map((plane) => {
        const then = guestsBefore.get(guest.name)?.planes.find(({ index }) => index === plane.index);
        const { index, kind, state, reason, latencyUs } = plane;
        return {
          guest: guest.name,
          plane: index,
          kind,
          output: guest.output,
          state,
          reason,
          flips: rate(then?.flips, plane.flips),
          missed: rate(then?.missed, plane.missed),
          superseded: rate(then?.superseded, plane.superseded),
          latencyUs,
        };
      }),
    ),
    inputs: sinksOf(now.status).flatMap(({ key, seat, guest, sink }) => {
      if (sink.delivered === 0) return [];
      const then = sinksBefore.get(key);
      const { class: of, how, delivered, dropped, latencyUs } = sink;
      const rates = { events: rate(then?.delivered, delivered), dropped: rate(then?.dropped, dropped) };
      return [{ seat, guest, class: of, how, ...rates, latencyUs }];
    }),
  };
}

function sinksOf(status: StatusDocument | undefined) {
  return (status?.seats ?? []).flatMap((seat) =>
    seat.guests.flatMap((guest) =>
      guest.sinks.map((sink) => {
        const key = `${guest.name} ${sink.how} ${sink.class}`;
        return { key, seat: seat.name, guest: guest.name, sink };
      }),
    ),
  );
}

export function formatTop(document: TopDocument): string {
  const lit = document.outputs.filter((output) => output.lit);
  const outputs = lit.map(({ name, mode, flips }) => {
    const size = mode === null ? '' : ` ${formatMode(mode)}`;
    return `${name}${size}${flips === null ? '' : ` ${rateText(flips)}/s`}`;
  });
  const title = [
    `up ${formatDuration(document.uptimeMs)}`,
    count(new Set(document.rows.map((row) => row.guest)).size, 'guest'),
    outputs.length === 0 ? 'no output lit' : outputs.join(', '),
  ];
  const rows = document.rows.map((row) => [
    row.guest,
    row.kind,
    row.output ?? '-',
    rateText(row.flips),
    rateText(row.missed),
    rateText(row.superseded),
    ...latencyCells(row.latencyUs),
    row.state === 'direct' || row.reason === '' ? row.state : `${row.state}: ${row.reason}`,
  ]);
  const head = [
    'GUEST',
    'PLANE',
    'OUTPUT',
    'FLIPS/S',
    'MISSED/S',
    'SUPERSEDED/S',
    'P50',
    'P99',
    'MAX',
    'SHOWN',
  ];
  const flips = formatTable(head, rows, { color: false });
  return `${plain(title.join('; '))}\n\n${flips}${formatInputs(document.inputs)}`;
}

function formatInputs(inputs: readonly TopInput[]): string {
  if (inputs.length === 0) return '';
  const rows = inputs.map(({ seat, guest, class: of, how, events, dropped, latencyUs }) => [
    plain(guest),
    plain(seat),
    `${of ?? 'all'}, ${how}`,
    rateText(events),
    rateText(dropped),
    ...[latencyUs.p50, latencyUs.p99, latencyUs.max].map(formatMicros),
  ]);
  const head = ['GUEST', 'SEAT', 'INPUT', 'EVENTS/S', 'DROPPED/S', 'P50', 'P99', 'MAX'];
  return `\n${formatTable(head, rows, { color: false })}`;
}

/** What fits of `text` into a terminal, with the codes that draw it over what was there before. */
export function redraw(text: string, size: { columns: number; rows: number }): string {
  const lines = text.trimEnd().split('\n');
  const shown = lines.slice(0, Math.max(size.rows - 1, 1)).map((line) => line.slice(0, size.columns));
  return `\x1b[H${shown.map((line) => `${line}\x1b[K`).join('\r\n')}\x1b[J`;
}

function draw(document: TopDocument, terminal: TopTerminal, options: TopOptions, live: boolean): void {
  if (options.json) {
    terminal.write(`${JSON.stringify(document)}\n`);
  } else if (live) {
    terminal.write(redraw(formatTop(document), terminal.size()));
  } else {
    terminal.write(`${formatTop(document)}${options.once ? '' : '\n'}`);
  }
}

/** A counter that went back began anew, as that of a guest that came again. */
function rateOf(then: number | undefined, now: number, seconds: number | null): number | null {
  if (seconds === null) {
    return null;
  }
  const start = then === undefined || then > now ? 0 : then;
  return (now - start) / seconds;
}

function rateText(rate: number | null): string {
  if (rate === null) {
    return '-';
  }
  return Number.isInteger(rate) ? String(rate) : rate.toFixed(1);
}

function latencyCells({ count: flips, p50, p99, max }: LatencyDocument): string[] {
  return flips === 0 ? ['-', '-', '-'] : [p50, p99, max].map(formatMicros);
}
