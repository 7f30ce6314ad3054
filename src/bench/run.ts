/** Runs scenarios: who serves takes turns, round by round, while the others stand still. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Child, nativeFile } from './child.js';
import {
  type GuestLayout,
  layoutOf,
  orderOf,
  PERIOD_NS,
  type Program,
  programOf,
  type Scenario,
  type Subject,
} from './scenarios.js';
import type { OwnFlip, Server } from './server.js';
import { type Flip, type Kick, matchFlips, type Place, readKicks, readStamps, type Stamp } from './stamps.js';
import { minus, parseStrace, residentOf, threadsOf, type Usage, usageOf } from './usage.js';

const CONNECT_MS = 120_000;
const WARM_SECONDS = 1;
/** After a change of turns: what the former one left in caches and queues is over. */
const SETTLE_MS = 50;
const STRACE_SECONDS = 3;
const STRACE_START_MS = 2000;

/** One turn of one subject. Times are CLOCK_MONOTONIC nanoseconds. */
interface Turn {
  startNs: number;
  endNs: number;
  flips: number;
  lost: number;
  hot: Usage;
  whole: Usage;
}

/** What was measured of a subject, by rounds. */
export interface Measured {
  subject: Subject;
  rounds: { turn: Turn; flips: Flip[]; ownNs: number[] }[];
  residentBytes: number;
  /** System calls of the flipping threads for each flip; null when they were not counted. */
  syscalls: { total: number; byName: Map<string, number> } | null;
}

/** The guests of one program. */
class Guests {
  private readonly child: Child;
  readonly file: string;

  constructor(layout: readonly GuestLayout[], sockets: readonly string[], rate: number, base: string) {
    this.file = `${base}.kicks`;
    const names = layout.map(({ name, width, height }, i) => `${sockets[i]}:${name}:${width}x${height}`);
    const command = [nativeFile('bench_guest'), '--out', this.file, '--rate', String(rate), ...names];
    this.child = new Child('guests', command, { log: `${base}.log` });
  }

  async connected(): Promise<void> {
    await this.child.line('ready', CONNECT_MS);
  }

  async run(seconds: number): Promise<{ flips: number; lost: number }> {
    this.child.write(`run ${seconds}\n`);
    const [, flips, lost] = (await this.child.line('ran ', seconds * 1000 + CONNECT_MS)).split(' ');
    return { flips: Number(flips), lost: Number(lost) };
  }

  async leave(): Promise<void> {
    await this.child.end();
  }
}

interface Running {
  server: Server;
  guests: Guests;
  places: Place[];
}

export class Runner {
  constructor(
    private readonly servers: ReadonlyMap<Program, Server>,
    private readonly directory: string,
    private readonly say: (text: string) => void,
  ) {}

  async scenario(scenario: Scenario): Promise<Measured[]> {
    this.say(scenario.title);
    const layout = layoutOf(scenario.guests);
    const subjects = scenario.subjects.filter((subject) => this.servers.has(programOf(subject)));
    const running = new Map<Program, Running>();
    for (const program of new Set(subjects.map(programOf))) {
      running.set(program, await this.begin(program, scenario, layout));
    }
    const turns = new Map<Subject, Turn[]>(subjects.map((subject) => [subject, []]));
    for (let round = 0; round < scenario.rounds; round++) {
      this.say(`  round ${round + 1} of ${scenario.rounds}`);
      for (const subject of orderOf(subjects, round)) {
        const one = found(running, programOf(subject));
        turns.get(subject)?.push(await this.turn(subject, one, scenario.seconds));
      }
    }
    const measured: Measured[] = [];
    for (const [program, one] of running) {
      const resident = one.server.threads().reduce((sum, { pid }) => sum + residentOf(pid), 0);
      const syscalls = scenario.syscalls ? await this.countSyscalls(one) : null;
      const flips = await this.end(one, layout);
      for (const subject of subjects.filter((name) => programOf(name) === program)) {
        const rounds = (turns.get(subject) ?? []).map((turn) => ({ turn, ...flips(turn) }));
        const counted = subject === program ? syscalls : null;
        measured.push({ subject, rounds, residentBytes: resident, syscalls: counted });
      }
    }
    return subjects.flatMap((subject) => measured.filter((one) => one.subject === subject));
  }

  private async begin(program: Program, scenario: Scenario, layout: GuestLayout[]): Promise<Running> {
    this.say(`  starting ${program}`);
    const server = found(this.servers, program);
    const sockets = await server.open(layout);
    const base = join(this.directory, `${scenario.name}-${program}`);
    const guests = new Guests(layout, sockets, scenario.rate, base);
    await guests.connected();
    const places = await server.places(layout, async () => {
      await guests.run(WARM_SECONDS);
    });
    server.freeze();
    return { server, guests, places };
  }

  private async turn(subject: Subject, { server, guests }: Running, seconds: number): Promise<Turn> {
    const busy = subject.endsWith('+busy');
    server.thaw();
    if (busy) server.toggleBusy();
    await sleep(SETTLE_MS);
    const threads = server.threads().map(({ pid, hot }) => ({ pid, hot, all: threadsOf(pid) }));
    const use = (of: 'hot' | 'all') => sumOf(threads.map((process) => usageOf(process.pid, process[of])));
    const before = { hot: use('hot'), whole: use('all'), ns: nowNs() };
    const { flips, lost } = await guests.run(seconds);
    const after = { hot: use('hot'), whole: use('all'), ns: nowNs() };
    if (busy) server.toggleBusy();
    server.freeze();
    return {
      startNs: before.ns,
      endNs: after.ns,
      flips,
      lost,
      hot: minus(after.hot, before.hot),
      whole: minus(after.whole, before.whole),
    };
  }

  private async countSyscalls({ server, guests }: Running): Promise<Measured['syscalls']> {
    server.thaw();
    const file = join(this.directory, `strace-${server.program}`);
    const tids = server.threads().flatMap(({ hot }) => hot);
    const attach = tids.flatMap((tid) => ['-p', String(tid)]);
    const strace = new Child('strace', ['strace', '-c', '-o', file, ...attach], { log: `${file}.log` });
    await sleep(STRACE_START_MS);
    const { flips } = await guests.run(STRACE_SECONDS);
    await strace.end('SIGINT');
    const calls = parseStrace(readFileSync(file, 'utf8'));
    server.freeze();
    if (flips === 0 || calls.size === 0) return null;
    const byName = new Map([...calls].map(([name, count]) => [name, count / flips]));
    return { total: [...byName.values()].reduce((sum, count) => sum + count, 0), byName };
  }

  /** Ends the guests; returns what was noted of any turn. */
  private async end(
    { server, guests, places }: Running,
    layout: readonly GuestLayout[],
  ): Promise<(turn: Turn) => { flips: Flip[]; ownNs: number[] }> {
    const stampFiles = server.stamps();
    const own = await server.close(layout, () => guests.leave());
    const kicks = readKicks(guests.file);
    const stamps = stampFiles.flatMap((file) => readStamps(file));
    rmSync(guests.file);
    return (turn) => ({ flips: flipsOf(turn, kicks, stamps, places), ownNs: ownOf(turn, own) });
  }
}

function flipsOf(
  turn: Turn,
  kicks: readonly Kick[],
  stamps: readonly Stamp[],
  places: readonly Place[],
): Flip[] {
  const within = kicks.filter(({ kickNs }) => kickNs >= turn.startNs && kickNs <= turn.endNs);
  const during = stamps.filter(({ enterNs }) => enterNs >= turn.startNs && enterNs <= turn.endNs);
  return matchFlips(within, during, places, PERIOD_NS);
}

function ownOf(turn: Turn, own: readonly OwnFlip[]): number[] {
  return own
    .filter(({ wakeNs }) => wakeNs >= turn.startNs && wakeNs <= turn.endNs)
    .map(({ wakeNs, enterNs }) => enterNs - wakeNs);
}

function sumOf(usages: readonly Usage[]): Usage {
  return usages.reduce(
    (sum, { cpuNs, switches }) => ({ cpuNs: sum.cpuNs + cpuNs, switches: sum.switches + switches }),
    { cpuNs: 0, switches: 0 },
  );
}

function found<K, V>(map: ReadonlyMap<K, V>, key: K): V {
  const value = map.get(key);
  if (value === undefined) throw new Error(`no ${String(key)}`);
  return value;
}

/** CLOCK_MONOTONIC, as everything that is measured. */
function nowNs(): number {
  return Number(process.hrtime.bigint());
}
