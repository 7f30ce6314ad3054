/** What a test program reported: the lines of our reporter for node:test, or the TAP of native programs. */

export type Verdict = 'passed' | 'failed' | 'skipped';

/** One test. A test that is marked as to do counts as skipped. */
export interface Line {
  name: string;
  verdict: Verdict;
  /** Why it was skipped. */
  reason?: string;
}

export interface Report {
  lines: Line[];
  /** A program that dies does not come to the end of its report. */
  complete: boolean;
}

/** The last line of a report in JSON. */
export const END = '{"end":true}';

/** Reads what `reporter.ts` wrote. The last line may be cut off where the program died. */
export function readReport(text: string): Report {
  const lines = text.split('\n').slice(0, -1);
  const complete = lines.at(-1) === END;
  return { lines: lines.filter((line) => line !== END).map((line) => JSON.parse(line) as Line), complete };
}

/** Reads flat TAP: `ok 1 - name # SKIP reason`, with a plan (`1..N`) at the end. Other lines are for people. */
export function readTap(text: string): Report {
  const report: Report = { lines: [], complete: false };
  for (const line of text.split('\n')) {
    const [, not, name, skip] = /^(not )?ok \d+ - (.*?)(?: # SKIP ?(.*))?$/.exec(line) ?? [];
    if (name !== undefined) {
      const verdict = skip !== undefined ? 'skipped' : not ? 'failed' : 'passed';
      report.lines.push({ name, verdict, ...(skip === undefined ? {} : { reason: skip }) });
    }
    const plan = /^1\.\.(\d+)$/.exec(line)?.[1];
    report.complete ||= plan !== undefined && Number(plan) === report.lines.length;
  }
  return report;
}
