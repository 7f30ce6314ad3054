/** Statistics of flips, from the records that the flip threads leave. */
import type { LatencyDocument } from '../api/documents.js';
import { RECORD_COLUMNS } from '../native/flip.js';

/** Flips kept per stream; at 60 Hz a good two minutes. */
const KEPT = 8192;
const WIDTH = RECORD_COLUMNS.length;
const STREAM = RECORD_COLUMNS.indexOf('stream');
const KICK = RECORD_COLUMNS.indexOf('kickNs');
const COMMIT = RECORD_COLUMNS.indexOf('commitEnterNs');

/** The newest flips of one stream, oldest overwritten first. */
class Window {
  private readonly rows = new Float64Array(KEPT * WIDTH);
  private next = 0;
  count = 0;

  push(row: Float64Array): void {
    this.rows.set(row, this.next * WIDTH);
    this.next = (this.next + 1) % KEPT;
    this.count = Math.min(this.count + 1, KEPT);
  }

  /** Oldest first. */
  *values(): Generator<Float64Array> {
    const start = this.count < KEPT ? 0 : this.next;
    for (let i = 0; i < this.count; i++) {
      const at = ((start + i) % KEPT) * WIDTH;
      yield this.rows.subarray(at, at + WIDTH);
    }
  }
}

export class FlipStatistics {
  private readonly windows = new Map<number, Window>();

  /** `records` as FlipEngine.records() gives them. */
  ingest(records: Float64Array): void {
    for (let at = 0; at + WIDTH <= records.length; at += WIDTH) {
      const row = records.subarray(at, at + WIDTH);
      const stream = row[STREAM] ?? 0;
      const window = this.windows.get(stream) ?? new Window();
      this.windows.set(stream, window);
      window.push(row);
    }
  }

  forget(streams: readonly number[]): void {
    for (const stream of streams) this.windows.delete(stream);
  }

  /** Eventfd to commit, of the flips that are kept. */
  latency(stream: number): LatencyDocument {
    const values = [...(this.windows.get(stream)?.values() ?? [])]
      .map((row) => ((row[COMMIT] ?? 0) - (row[KICK] ?? 0)) / 1000)
      .sort((a, b) => a - b);
    return {
      count: values.length,
      p50: percentile(values, 0.5),
      p99: percentile(values, 0.99),
      max: values.at(-1) ?? 0,
    };
  }

  /** The kept flips of a stream as objects by RECORD_COLUMNS, oldest first. */
  records(stream: number): Record<(typeof RECORD_COLUMNS)[number], number>[] {
    return [...(this.windows.get(stream)?.values() ?? [])].map(
      (row) =>
        Object.fromEntries(RECORD_COLUMNS.map((name, i) => [name, row[i] ?? 0])) as Record<
          (typeof RECORD_COLUMNS)[number],
          number
        >,
    );
  }
}

/** Nearest rank; 0 for no values. `sorted` ascending, `p` from 0 to 1. */
export function percentile(sorted: readonly number[], p: number): number {
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? 0;
}
