/** What the demonstration shows while it runs: the table of `scanoutctl top` in place, or a line a second. */
import type { StatusDocument } from '../api/documents.js';
import { plain } from './table.js';
import { compare, formatTop, type Sample, type TopDocument, type TopTerminal } from './top.js';

export class Progress {
  private before: Sample | null = null;
  private drawn = 0;
  private seconds = 0;

  constructor(private readonly terminal: Pick<TopTerminal, 'live' | 'size' | 'write' | 'now'>) {}

  show(status: StatusDocument): void {
    const sample = { at: this.terminal.now(), status };
    const document = compare(this.before, sample);
    this.before = sample;
    this.seconds += document.seconds ?? 0;
    if (this.terminal.live) this.redraw(formatTop(document));
    else if (document.seconds !== null) this.terminal.write(`${progressLine(this.seconds, document)}\n`);
  }

  /** Over what was drawn before, and not on a screen of its own: the last one stays. */
  private redraw(text: string): void {
    const { columns, rows } = this.terminal.size();
    const lines = text
      .trimEnd()
      .split('\n')
      .slice(0, Math.max(rows - 1, 1));
    const up = this.drawn > 0 ? `\x1b[${this.drawn}A` : '';
    this.terminal.write(
      `${up}\r${lines.map((line) => `${line.slice(0, columns - 1)}\x1b[K\n`).join('')}\x1b[J`,
    );
    this.drawn = lines.length;
  }
}

/** `3 s: left 60.0/s, right 59.8/s (1.0 missed)` */
export function progressLine(seconds: number, document: TopDocument): string {
  const rows = document.rows.map(({ guest, plane, kind, flips, missed }) => {
    const name = plane === 0 ? plain(guest) : `its ${kind}`;
    const lost = missed === null || missed === 0 ? '' : ` (${missed.toFixed(1)} missed)`;
    return `${name} ${(flips ?? 0).toFixed(1)}/s${lost}`;
  });
  return `${seconds.toFixed(0)} s: ${rows.join(', ')}`;
}
