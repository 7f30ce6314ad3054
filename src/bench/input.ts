/** The way of input: from the kernel's timestamp of a frame of events until it is written to the guest's device. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Child, nativeFile } from './child.js';
import { type Length, orderOf } from './scenarios.js';
import { doubles } from './stamps.js';
import { flatten, type Ratio, ratioOf, type Summary, summarize } from './statistics.js';

export const INPUT_SUBJECTS = ['reference', 'reference+busy', 'scanoutd', 'scanoutd+busy'] as const;
export type InputSubject = (typeof INPUT_SUBJECTS)[number];
type InputProgram = 'reference' | 'scanoutd';

export interface InputScenario {
  name: string;
  title: string;
  /** Pointers, each with a seat and a guest of its own. */
  devices: number;
  /** Frames of two events a second, of each. */
  rate: number;
  /**
   * Whether the events come on the processor that their reader runs on. Left to the kernel it stays as it began for a
   * whole turn, and an idle processor of an emulated machine takes longer to wake than all the rest does.
   */
  processor: 'same' | 'other';
  rounds: number;
  seconds: number;
}

export const INPUT_TARGETS = { p50: 1.3, p99: 1.5 } as const;

const PRIORITY = '10';
const READY_MS = 60_000;
const SETTLE_MS = 100;
const READER = 'scanoutd-input';
/** Of libinputstamp's file: frames written, frames read, SYN_DROPPED. */
const STAMP_HEADER = 4;

const LENGTHS = {
  quick: { rounds: 2, seconds: 3 },
  normal: { rounds: 5, seconds: 4 },
  long: { rounds: 12, seconds: 10 },
} as const;

/** The most is as much as an emulated machine can do: that is measured below its limit as well. */
export function inputScenarios(length: Length): InputScenario[] {
  const eight = (rate: number, name: string): InputScenario => ({
    name,
    title: `input: eight seats, a pointer with ${rate * 2} events/s each`,
    devices: 8,
    rate,
    processor: 'other',
    ...LENGTHS[length],
  });
  const one = (processor: InputScenario['processor'], name: string): InputScenario => ({
    name,
    title: `input: one seat, a pointer with 2000 events/s from the ${processor} processor`,
    devices: 1,
    rate: 1000,
    processor,
    ...LENGTHS[length],
  });
  return [
    one('same', 'input-1-same'),
    one('other', 'input-1-other'),
    eight(250, 'input-8-calm'),
    eight(4000, 'input-8'),
  ];
}

interface InputTurn {
  latenciesUs: Float64Array;
  played: number;
  /** Frames that the machine was too slow to send in time. */
  late: number;
}

export interface InputMeasured {
  scenario: InputScenario;
  subjects: Map<InputSubject, InputTurn[]>;
}

/** The thread that reads the devices; the reference has one only. */
function readerOf(program: InputProgram, pid: number): number {
  if (program === 'reference') return pid;
  const tasks = `/proc/${pid}/task`;
  const tid = readdirSync(tasks).find(
    (one) => readFileSync(`${tasks}/${one}/comm`, 'utf8').trim() === READER,
  );
  if (tid === undefined) throw new Error(`${program}: process ${pid} has no thread ${READER}`);
  return Number(tid);
}

function pin(tid: number, processor: number): void {
  execFileSync('taskset', ['--pid', '--cpu-list', String(processor), String(tid)], { stdio: 'ignore' });
}

/** A program with pointers of its own, which it hands on. */
class InputServer {
  private constructor(
    readonly program: InputProgram,
    private readonly player: Child,
    private readonly child: Child,
    private readonly stamps: string,
    /** Whose JS thread is made busy: the program's own, or that of a process beside one that has none. */
    private readonly burner: Child,
  ) {}

  static async start(
    program: InputProgram,
    scenario: InputScenario,
    directory: string,
  ): Promise<InputServer> {
    const base = join(directory, `${scenario.name}-${program}`);
    const player = new Child('input-play', [nativeFile('input_play'), String(scenario.devices)], {
      log: `${base}-play.log`,
    });
    const devices: string[] = [];
    for (let i = 0; i < scenario.devices; i++)
      devices.push((await player.line('device ', READY_MS)).slice('device '.length));
    await player.line('ready', READY_MS);
    const testFile = (name: string) => fileURLToPath(new URL(`../../test/bench/${name}`, import.meta.url));
    const burning = [process.execPath, '--import', testFile('burn.js')];
    const command =
      program === 'reference' ? [nativeFile('input_reference')] : [...burning, testFile('input-engine.js')];
    const stamps = `${base}-stamps`;
    const env = { LD_PRELOAD: nativeFile('libinputstamp.so'), SCANOUTD_INPUT_STAMPS: stamps };
    const child = new Child(program, [...command, PRIORITY, ...devices], { log: `${base}.log`, env });
    await child.line('ready', READY_MS);
    const idle = ['--eval', 'process.stdin.resume(); console.log("ready")'];
    const burner =
      program === 'reference'
        ? new Child('burner', [...burning, ...idle], { log: `${base}-burner.log` })
        : child;
    if (burner !== child) await burner.line('ready', READY_MS);
    pin(player.pid, 0);
    pin(readerOf(program, child.pid), scenario.processor === 'same' ? 0 : 1);
    child.kill('SIGSTOP');
    burner.kill('SIGSTOP');
    return new InputServer(program, player, child, stamps, burner);
  }

  async turn({ rate, seconds }: InputScenario, busy: boolean): Promise<InputTurn> {
    for (const each of [this.child, this.burner]) each.kill('SIGCONT');
    if (busy) this.burner.kill('SIGUSR2');
    await sleep(SETTLE_MS);
    const before = this.rows().length;
    this.player.write(`${rate} ${seconds}\n`);
    const [, played = '0', late = '0'] = (
      await this.player.line('played ', READY_MS + seconds * 20_000)
    ).split(' ');
    await sleep(SETTLE_MS);
    if (busy) this.burner.kill('SIGUSR2');
    const latenciesUs = this.rows().subarray(before);
    for (const each of [this.child, this.burner]) each.kill('SIGSTOP');
    return { latenciesUs, played: Number(played), late: Number(late) };
  }

  private file(): Float64Array {
    return doubles(this.stamps);
  }

  /** Microseconds of each frame so far. */
  private rows(): Float64Array {
    const file = this.file();
    const count = file[0] ?? 0;
    const rows = file.subarray(STAMP_HEADER, STAMP_HEADER + count * 2);
    if (rows.length < count * 2) throw new Error(`${this.stamps}: stamps did not fit`);
    return Float64Array.from(
      { length: count },
      (_, i) => ((rows[i * 2 + 1] ?? 0) - (rows[i * 2] ?? 0)) / 1000,
    );
  }

  async end(): Promise<void> {
    for (const each of [this.child, this.burner]) each.kill('SIGCONT');
    await this.child.end();
    if (this.burner !== this.child) await this.burner.end();
    await this.player.end();
  }
}

export async function runInput(
  scenario: InputScenario,
  directory: string,
  say: (text: string) => void,
): Promise<InputMeasured> {
  say(scenario.title);
  if (scenario.processor === 'other' && availableParallelism() < 2)
    throw new Error(`${scenario.name}: the machine has one processor, this takes two`);
  const servers = new Map<InputProgram, InputServer>();
  try {
    for (const program of ['reference', 'scanoutd'] as const)
      servers.set(program, await InputServer.start(program, scenario, directory));
    const subjects = new Map<InputSubject, InputTurn[]>(INPUT_SUBJECTS.map((subject) => [subject, []]));
    for (let round = 0; round < scenario.rounds; round++) {
      say(`  round ${round + 1} of ${scenario.rounds}`);
      for (const subject of orderOf(INPUT_SUBJECTS, round)) {
        const server = servers.get(subject.startsWith('reference') ? 'reference' : 'scanoutd');
        const turn = await server?.turn(scenario, subject.endsWith('+busy'));
        if (turn !== undefined) subjects.get(subject)?.push(turn);
      }
    }
    return { scenario, subjects };
  } finally {
    for (const server of servers.values()) await server.end();
  }
}

// ---- as documents

export interface InputSubjectDocument {
  subject: InputSubject;
  frames: number;
  /** Frames that were read and not handed on, and frames that were sent and never came out. */
  lost: number;
  late: number;
  latencyUs: Summary;
}

export interface InputScenarioDocument {
  name: string;
  title: string;
  rounds: number;
  seconds: number;
  subjects: InputSubjectDocument[];
}

export interface InputComparison {
  what: string;
  percentile: 'p50' | 'p99';
  ratio: Ratio;
  target: string;
  verdict: 'met' | 'missed';
}

export function inputDocument({ scenario, subjects }: InputMeasured): InputScenarioDocument {
  const { name, title, rounds, seconds } = scenario;
  const sum = (turns: readonly InputTurn[], of: (turn: InputTurn) => number) =>
    turns.reduce((total, turn) => total + of(turn), 0);
  return {
    name,
    title,
    rounds,
    seconds,
    subjects: [...subjects].map(([subject, turns]) => ({
      subject,
      frames: sum(turns, ({ latenciesUs }) => latenciesUs.length),
      lost: sum(turns, ({ played, latenciesUs }) => played - latenciesUs.length),
      late: sum(turns, ({ late }) => late),
      latencyUs: summarize(flatten(turns.map(({ latenciesUs }) => latenciesUs))),
    })),
  };
}

/** Enough of a round for its percentiles: resampling hundreds of thousands takes an emulated machine minutes. */
const MOST_SAMPLES = 4000;

function thinned(samples: Float64Array): Float64Array {
  const step = Math.max(1, samples.length / MOST_SAMPLES);
  return Float64Array.from(
    { length: Math.floor(samples.length / step) },
    (_, i) => samples[Math.floor(i * step)] ?? 0,
  );
}

/**
 * Each subject of ours over the reference. What keeps a JS thread busy takes a processor from everything else as well, so
 * that the busy one is compared to the reference beside a process that is as busy.
 */
export function inputComparisons({ scenario, subjects }: InputMeasured): InputComparison[] {
  const roundsOf = (subject: InputSubject) =>
    (subjects.get(subject) ?? []).map(({ latenciesUs }) => thinned(latenciesUs));
  const pairs = [
    ['scanoutd', 'reference'],
    ['scanoutd+busy', 'reference+busy'],
  ] as const;
  return pairs.flatMap(([subject, to]) =>
    (['p50', 'p99'] as const).flatMap((percentile) => {
      const ratio = ratioOf(roundsOf(subject), roundsOf(to), percentile === 'p50' ? 0.5 : 0.99);
      if (ratio === null) return [];
      const at = INPUT_TARGETS[percentile];
      const what = `${scenario.name}: ${subject} / ${to}`;
      const verdict = ratio.value <= at ? ('met' as const) : ('missed' as const);
      return [{ what, percentile, ratio, target: `at most ${at.toFixed(2)}`, verdict }];
    }),
  );
}
