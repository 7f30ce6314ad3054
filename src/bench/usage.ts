/** What threads and processes use, by procfs. */
import { readdirSync, readFileSync } from 'node:fs';

/** Sums over some threads. */
export interface Usage {
  /** On a processor, nanoseconds. */
  cpuNs: number;
  /** Times that a thread went to sleep by itself. */
  switches: number;
}

export function threadsOf(pid: number, name?: string): number[] {
  const all = readdirSync(`/proc/${pid}/task`).map(Number);
  return name === undefined ? all : all.filter((tid) => commOf(pid, tid) === name);
}

function commOf(pid: number, tid: number): string {
  return readFileSync(`/proc/${pid}/task/${tid}/comm`, 'utf8').trim();
}

/** Threads that have ended meanwhile count nothing. */
export function usageOf(pid: number, tids: readonly number[]): Usage {
  const sum: Usage = { cpuNs: 0, switches: 0 };
  for (const tid of tids) {
    try {
      const task = `/proc/${pid}/task/${tid}`;
      const [cpuNs = '0'] = readFileSync(`${task}/schedstat`, 'utf8').split(' ');
      const switches = /^voluntary_ctxt_switches:\s*(\d+)$/m.exec(readFileSync(`${task}/status`, 'utf8'));
      sum.cpuNs += Number(cpuNs);
      sum.switches += Number(switches?.[1] ?? 0);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ESRCH') throw error;
    }
  }
  return sum;
}

export function minus(after: Usage, before: Usage): Usage {
  return { cpuNs: after.cpuNs - before.cpuNs, switches: after.switches - before.switches };
}

/** Resident memory in bytes; pages that several processes share count in each. */
export function residentOf(pid: number): number {
  const match = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) * 1024;
}

/** System calls by name, of what `strace -c` prints. */
export function parseStrace(text: string): Map<string, number> {
  const calls = new Map<string, number>();
  for (const line of text.split('\n')) {
    const match = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/.exec(line);
    if (match !== null && match[2] !== 'total') calls.set(match[2] ?? '', Number(match[1]));
  }
  return calls;
}
