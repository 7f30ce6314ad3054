/** Runs scenarios: who serves takes turns, round by round, while the others stand still. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Child } from './child.js';
import { Guests } from './guests.js';
import {
  type GuestLayout,
  layoutFor,
  orderOf,
  PERIOD_NS,
  type Printing,
  type Program,
  printingOf,
  programOf,
  type Scenario,
  type Subject,
} from './scenarios.js';
import type { Counts, OwnFlip, Server } from './server.js';
import { type Flip, type Kick, matchFlips, type Place, readKicks, readStamps, type Stamp } from './stamps.js';
import { minus, parseStrace, residentOf, threadsOf, type Usage, usageOf } from './usage.js';

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
  /** What the program counted meanwhile; null where it does not. */
  counts: TurnCounts | null;
}

/** Work of one turn that a flip should not need. */
export interface TurnCounts {
  imports: number;
  /** Frames of guests that flip, which were copied. */
  copies: number;
  /** Of the machine that printed; null where none did. */
  printed: Printed | null;
}

export interface Printed {
  lines: number;
  /** Copies, and the pixels that were copied for them. */
  copies: number;
  pixels: number;
}

/** What was measured of a subject, by rounds. */
export interface Measured {
  subject: Subject;
  rounds: { turn: Turn; flips: Flip[]; ownNs: number[] }[];
  residentBytes: number;
  /** System calls of the flipping threads for each flip; null when they were not counted. */
  syscalls: { total: number; byName: Map<string, number> } | null;
}

interface Running {
  server: Server;
  guests: Guests;
  places: Place[];
  layout: GuestLayout[];
  /** Machines that print, each with its place. */
  printers: Map<Printing, { machine: Guests; layout: GuestLayout }>;
}

export class Runner {
  constructor(
    private readonly servers: ReadonlyMap<Program, Server>,
    private readonly directory: string,
    private readonly say: (text: string) => void,
  ) {}

  async scenario(scenario: Scenario): Promise<Measured[]> {
    this.say(scenario.title);
    const subjects = scenario.subjects.filter((subject) => this.servers.has(programOf(subject)));
    const running = new Map<Program, Running>();
    for (const program of new Set(subjects.map(programOf))) {
      running.set(program, await this.begin(program, scenario));
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
      const flips = await this.end(one);
      for (const subject of subjects.filter((name) => programOf(name) === program)) {
        const rounds = (turns.get(subject) ?? []).map((turn) => ({ turn, ...flips(turn) }));
        const counted = subject === program ? syscalls : null;
        measured.push({ subject, rounds, residentBytes: resident, syscalls: counted });
      }
    }
    return subjects.flatMap((subject) => measured.filter((one) => one.subject === subject));
  }

  private async begin(program: Program, scenario: Scenario): Promise<Running> {
    this.say(`  starting ${program}`);
    const server = found(this.servers, program);
    const all = layoutFor(program, scenario.guests);
    const layout = all.filter(({ printing }) => printing === null);
    const sockets = await server.open(all);
    const base = join(this.directory, `${scenario.name}-${program}`);
    const guests = new Guests(layout, sockets, scenario.rate, base);
    await guests.connected();
    const printers: Running['printers'] = new Map();
    for (const [i, one] of all.entries()) {
      if (one.printing === null) continue;
      const machine = new Guests([one], sockets.slice(i), 0, `${base}-${one.name}`);
      printers.set(one.printing, { machine, layout: one });
      await machine.connected();
      await machine.run(WARM_SECONDS); // both surfaces of its copy are drawn as a whole once
    }
    const places = await server.places(layout, async () => {
      await guests.run(WARM_SECONDS);
    });
    server.freeze();
    return { server, guests, places, layout, printers };
  }

  private async turn(subject: Subject, running: Running, seconds: number): Promise<Turn> {
    const { server, guests } = running;
    const busy = subject.endsWith('+busy');
    const printing = printingOf(subject);
    const printer = printing === null ? null : found(running.printers, printing);
    server.thaw();
    const counted = await server.counts();
    if (busy) server.toggleBusy();
    await sleep(SETTLE_MS);
    const threads = server.threads().map(({ pid, hot }) => ({ pid, hot, all: threadsOf(pid) }));
    const use = (of: 'hot' | 'all') => sumOf(threads.map((process) => usageOf(process.pid, process[of])));
    const before = { hot: use('hot'), whole: use('all'), ns: nowNs() };
    const [{ flips, lost }, lines] = await Promise.all([
      guests.run(seconds),
      printer?.machine.run(seconds).then((ran) => ran.flips) ?? 0,
    ]);
    const after = { hot: use('hot'), whole: use('all'), ns: nowNs() };
    if (busy) server.toggleBusy();
    const counts = counted === null ? null : { before: counted, after: await server.counts() };
    server.freeze();
    return {
      startNs: before.ns,
      endNs: after.ns,
      flips,
      lost,
      hot: minus(after.hot, before.hot),
      whole: minus(after.whole, before.whole),
      counts: counts === null ? null : countsOf(counts.before, counts.after, running, printer?.layout, lines),
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
  private async end({
    server,
    guests,
    places,
    layout,
    printers,
  }: Running): Promise<(turn: Turn) => { flips: Flip[]; ownNs: number[] }> {
    const stampFiles = server.stamps();
    const own = await server.close(layout, async () => {
      await guests.leave();
      for (const { machine } of printers.values()) await machine.leave();
    });
    const kicks = readKicks(guests.file);
    const stamps = stampFiles.flatMap((file) => readStamps(file));
    rmSync(guests.file);
    return (turn) => ({ flips: flipsOf(turn, kicks, stamps, places), ownNs: ownOf(turn, own) });
  }
}

/** What came between two counts. */
function countsOf(
  before: Counts,
  after: Counts | null,
  { layout }: Running,
  printer: GuestLayout | undefined,
  lines: number,
): TurnCounts | null {
  if (after === null) return null;
  const copies = (name: string) => (after.copies[name] ?? 0) - (before.copies[name] ?? 0);
  const printed =
    printer === undefined
      ? null
      : {
          lines,
          copies: copies(printer.name),
          pixels: (after.copiedPixels[printer.crtc] ?? 0) - (before.copiedPixels[printer.crtc] ?? 0),
        };
  return {
    imports: after.imports - before.imports,
    copies: layout.reduce((sum, { name }) => sum + copies(name), 0),
    printed,
  };
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
