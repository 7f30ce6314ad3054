/** `npm run bench`, within the test machine: measures, prints the tables, saves the document and the page. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { createVkms, type VkmsDevice, vkmsShape } from '../../test/machine/inside/vkms.js';
import { benchDocument, type Conditions, type ScenarioResult, scenarioDocument } from './document.js';
import { type InputMeasured, inputDocument, inputScenarios, runInput } from './input.js';
import { LoopServer } from './loop-server.js';
import { formatInput, formatScenario, formatSummary, reportPage } from './report.js';
import { Runner } from './run.js';
import { ScanoutdServer } from './scanoutd-server.js';
import {
  CARD,
  cardsFor,
  type Length,
  layoutFor,
  PROGRAMS,
  type Program,
  programOf,
  type Scenario,
  scenarios,
} from './scenarios.js';
import type { Server } from './server.js';

interface Options {
  length: Length;
  programs: Program[];
  only: string | undefined;
  out: string;
}

export function parseOptions(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Options {
  const options = new Command('bench')
    .description('Measures scanoutd beside the smallest correct flip program. Root, with vkms and udmabuf.')
    .option('--quick', 'a minute and a half')
    .option('--long', 'half an hour, for narrow intervals')
    .option('--only <name>', 'scenarios whose name begins so: one, guests-1, kinds, text, input and so on')
    .option('--programs <names>', `some of ${PROGRAMS.join(', ')}, with commas`, readPrograms, [...PROGRAMS])
    .option('--out <dir>', 'where bench.json and bench.html go', env.SCANOUTD_OUT ?? 'out/bench')
    .allowExcessArguments(false)
    .parse(args, { from: 'user' })
    .opts<{ quick?: boolean; long?: boolean; only?: string; programs: Program[]; out: string }>();
  const { quick = false, long = false, only, programs, out } = options;
  return { length: quick ? 'quick' : long ? 'long' : 'normal', programs, only, out };
}

function readPrograms(text: string): Program[] {
  return text.split(',').map((name) => {
    const known = PROGRAMS.find((program) => program === name);
    if (known === undefined) throw new InvalidArgumentError(`They are ${PROGRAMS.join(', ')}.`);
    return known;
  });
}

function conditions(realtimeReason: string): Conditions {
  const [cpu] = cpus();
  const processor = (cpu?.model ?? 'unknown processor').replace(/\s+/g, ' ').trim();
  return {
    kernel: release(),
    processor,
    processors: cpus().length,
    emulated: processor.includes('TCG') || processor.includes('QEMU Virtual'),
    steady: process.env.SCANOUTD_STEADY === '1',
    node: process.versions.node,
    realtimeReason,
  };
}

/** Cards for each program, made all at once, so that no program finds another's master. */
class Cards {
  private readonly devices: VkmsDevice[] = [];

  make(count: number): VkmsDevice[] {
    const made = Array.from({ length: count }, () =>
      createVkms(vkmsShape({ outputs: CARD.crtcs, overlays: CARD.planes - 1 })),
    );
    this.devices.push(...made);
    return made;
  }

  destroy(): void {
    for (const device of this.devices) device.destroy();
  }
}

/** One after the other; each is handed to `done` when it is measured. Returns why there was no real-time priority. */
async function measure(
  list: readonly Scenario[],
  programs: readonly Program[],
  parent: string,
  cards: Cards,
  done: (result: ScenarioResult) => void,
): Promise<string> {
  const servers = new Map<Program, Server>();
  try {
    for (const program of programs) {
      const own = list.filter(({ subjects }) => subjects.some((subject) => programOf(subject) === program));
      if (own.length === 0) continue;
      const most = layoutFor(program, Math.max(...own.map(({ guests }) => guests)));
      const devices = cards.make(cardsFor(most));
      const directory = join(parent, program);
      const server =
        program === 'js' || program === 'reference'
          ? new LoopServer(program, devices, directory)
          : new ScanoutdServer(program, devices, most, directory);
      servers.set(program, server);
    }
    const runner = new Runner(servers, parent, say);
    for (const scenario of list) done({ scenario, measured: await runner.scenario(scenario) });
    const reasons = await Promise.all([...servers.values()].map((server) => server.realtimeReason()));
    return reasons.find((reason) => reason !== '') ?? '';
  } finally {
    for (const server of servers.values()) await server.end();
  }
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

/** What was measured before a failure is reported all the same. */
async function main(): Promise<number> {
  const { length, programs, only, out } = parseOptions(process.argv.slice(2));
  const wanted = ({ name }: { name: string }) => only === undefined || name.startsWith(only);
  const list = scenarios(length).filter(wanted);
  const inputList = inputScenarios(length).filter(wanted);
  if (list.length + inputList.length === 0) throw new Error(`no scenario begins with ${only}`);
  mkdirSync(out, { recursive: true });
  const directory = mkdtempSync(join(tmpdir(), 'scanoutd-bench-'));
  const cards = new Cards();
  const results: ScenarioResult[] = [];
  let failure = '';
  const realtimeReason = await measure(list, programs, directory, cards, (result) => {
    results.push(result);
    process.stdout.write(`\n${formatScenario(scenarioDocument(result))}\n`);
  }).catch((error: unknown) => {
    failure = error instanceof Error ? error.message : String(error);
    return '';
  });
  cards.destroy();
  const input: InputMeasured[] = [];
  for (const scenario of failure === '' ? inputList : []) {
    const measured = await runInput(scenario, directory, say);
    input.push(measured);
    process.stdout.write(`\n${formatInput(inputDocument(measured))}\n`);
  }
  rmSync(directory, { recursive: true, force: true });
  if (results.length + input.length > 0) {
    const document = benchDocument(conditions(realtimeReason), length, results, input);
    writeFileSync(join(out, 'bench.json'), `${JSON.stringify(document, null, 2)}\n`);
    writeFileSync(join(out, 'bench.html'), reportPage(document));
    const shown = process.env.SCANOUTD_OUT_SHOWN ?? out;
    process.stdout.write(
      `${formatSummary(document)}\n${join(shown, 'bench.html')}\n${join(shown, 'bench.json')}\n`,
    );
  }
  if (failure !== '') say(failure);
  return failure === '' ? 0 : 1;
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const status = await main().catch((error: unknown) => {
    say(error instanceof Error ? error.message : String(error));
    return 1;
  });
  // Not by itself: after a failure there may be guests that wait for a word. They are killed then.
  process.exit(status);
}
