#!/usr/bin/env node
/** The demonstration: the real daemon and real guests, on a card of this machine or on a virtual one. */
import { constants } from 'node:fs';
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommanderError } from 'commander';
import type { StatusDocument } from '../api/documents.js';
import { Child, logTail, nativeFile } from '../bench/child.js';
import { DaemonProcess } from '../bench/daemon.js';
import { findCard, makeVirtualCard, type ReadyCard } from './demo-card.js';
import { type DemoGuest, demoConfiguration, demoGuests } from './demo-layout.js';
import { type DemoOptions, parseDemoOptions } from './demo-options.js';
import { Progress } from './demo-progress.js';
import {
  demoFailures,
  demoPage,
  demoRows,
  EMULATED,
  formatDemo,
  type PlaneFlips,
  type Screenshot,
} from './demo-report.js';
import { processIo } from './io.js';
import { run } from './program.js';

/** An emulated machine plans for seconds what a real one plans at once. */
const FIRST_FLIP_MS = 60_000;
const INTERRUPTED = 130;
/** For what is in flight to be shown. */
const SETTLE_MS = 300;

let interrupted = false;
const io = processIo();

function say(text: string): void {
  io.out(`${text}\n`);
}

async function probe(): Promise<number> {
  const card = await findCard();
  if (typeof card === 'string') {
    io.error(`demo: no card can be taken here: ${card}\n`);
    return 1;
  }
  io.error(`demo: ${card.path} can be taken, with ${card.outputs.map(({ name }) => name).join(' and ')}\n`);
  return 0;
}

/** All that is running, so that it can be ended whatever happens. */
interface Stage {
  daemon: DaemonProcess;
  guests: { guest: DemoGuest; child: Child }[];
  directory: string;
}

function startGuests(stage: Stage, guests: readonly DemoGuest[]): void {
  const program = nativeFile('example');
  for (const guest of guests) {
    const command = [program, '--socket', stage.daemon.socket, '--name', guest.name, ...guest.args];
    const child = new Child(guest.name, command, { log: join(stage.directory, `${guest.name}.log`) });
    stage.guests.push({ guest, child });
  }
}

function checkAlive({ daemon, guests }: Stage): void {
  if (daemon.ended !== null) throw new Error(`scanoutd ended (${daemon.ended})`);
  const gone = guests.find(({ child }) => child.ended !== null);
  if (gone !== undefined) throw gone.child.failure(`ended (${gone.child.ended})`);
}

/** Waits until every plane has flipped; gives up quietly, what is missing is told at the end. */
async function waitForFlips(stage: Stage, guests: readonly DemoGuest[]): Promise<void> {
  for (const end = Date.now() + FIRST_FLIP_MS; Date.now() < end && !interrupted; await sleep(200)) {
    checkAlive(stage);
    if (demoFailures(await stage.daemon.describe(), guests).length === 0) return;
  }
}

async function watch(stage: Stage, seconds: number): Promise<StatusDocument> {
  const progress = new Progress(io.terminal);
  const end = Date.now() + seconds * 1000;
  for (;;) {
    checkAlive(stage);
    const status = await stage.daemon.describe();
    progress.show(status);
    const left = end - Date.now();
    if (left <= 0 || interrupted) return status;
    await sleep(Math.min(left, 1000));
  }
}

/**
 * By the real scanoutctl. The guests hold still meanwhile: an emulated VKMS writes a picture back for longer than the
 * three frames after which a guest has its buffer again.
 */
async function screenshots(stage: Stage, outputs: readonly string[], out: string): Promise<Screenshot[]> {
  for (const { child } of stage.guests) child.kill('SIGSTOP');
  await sleep(SETTLE_MS);
  try {
    return await takeScreenshots(stage, outputs, out);
  } finally {
    for (const { child } of stage.guests) child.kill('SIGCONT');
  }
}

async function takeScreenshots(stage: Stage, outputs: readonly string[], out: string): Promise<Screenshot[]> {
  const pictures: Screenshot[] = [];
  for (const output of outputs) {
    const file = join(out, `${output}.png`);
    const said: string[] = [];
    const quiet = { ...io, out: (text: string | Buffer) => void said.push(String(text)) };
    const status = await run(['--bus', stage.daemon.bus, 'screenshot', output, '-o', file, '--json'], quiet);
    if (status !== 0) throw new Error(`scanoutctl screenshot ${output} failed with status ${status}`);
    const { how } = JSON.parse(said.join('')) as { how: string };
    pictures.push({
      output,
      how: how === 'writeback' ? 'read back from the display' : how,
      png: await readFile(file),
    });
  }
  return pictures;
}

async function flipsOf(stage: Stage, status: StatusDocument): Promise<PlaneFlips[]> {
  const planes: PlaneFlips[] = [];
  for (const { name, planes: documents } of status.guests) {
    for (const [plane, flips] of (await stage.daemon.records(name)).entries()) {
      planes.push({ guest: name, plane, kind: documents[plane]?.kind ?? '', flips });
    }
  }
  return planes;
}

async function show(options: DemoOptions, card: ReadyCard, directory: string): Promise<number> {
  const outputs = card.outputs.slice(0, 2);
  const guests = demoGuests(outputs);
  say(`demo: ${guests.length} guests on ${card.path}, ${outputs.map(({ name }) => name).join(' and ')}`);
  const daemon = new DaemonProcess({
    configuration: demoConfiguration(guests),
    cards: [card.path],
    directory,
  });
  const stage: Stage = { daemon, guests: [], directory };
  try {
    await daemon.ready();
    startGuests(stage, guests);
    await waitForFlips(stage, guests);
    const status = await watch(stage, options.seconds);
    if (interrupted) return INTERRUPTED;
    await mkdir(options.out, { recursive: true });
    const names = outputs.map(({ name }) => name);
    const flips = await flipsOf(stage, status);
    const pictures = await screenshots(stage, names, options.out);
    const rows = demoRows(status, guests, card.planes);
    const emulated = (cpus()[0]?.model ?? '').includes('QEMU');
    await writeFile(join(options.out, 'demo.html'), demoPage(status, rows, flips, pictures, emulated));
    say(`\n${formatDemo(rows, io.color)}`);
    if (emulated) say(`${EMULATED}\n`);
    const shown = process.env.SCANOUTD_OUT_SHOWN ?? options.out;
    for (const name of [...names.map((output) => `${output}.png`), 'demo.html']) say(join(shown, name));
    const failures = demoFailures(status, guests);
    for (const failure of failures) io.error(`demo: ${failure}\n`);
    if (failures.length > 0) io.error(`demo: not everything was shown${logTail(daemon.log, 20)}\n`);
    return failures.length > 0 ? 1 : 0;
  } catch (error) {
    if (interrupted) return INTERRUPTED;
    io.error(`demo: ${error instanceof Error ? error.message : String(error)}${logTail(daemon.log, 20)}\n`);
    return 1;
  } finally {
    // Guests first: they leave with a word, and the daemon is there to hear it.
    await Promise.all(stage.guests.map(({ child }) => child.end('SIGTERM')));
    await daemon.end();
  }
}

async function demonstrate(options: DemoOptions): Promise<number> {
  const card = options.vkms ? await makeVirtualCard() : await findCard();
  if (typeof card === 'string') {
    io.error(`demo: no card can be taken here: ${card}\n`);
    return 1;
  }
  const directory = await mkdtemp(join(tmpdir(), 'scanoutd-demo-'));
  try {
    await access('/dev/udmabuf', constants.R_OK | constants.W_OK);
    return await show(options, card, directory);
  } finally {
    card.remove();
    await rm(directory, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interrupted = true;
    });
  }
  try {
    const options = parseDemoOptions(process.argv.slice(2), process.env);
    return options.probe ? await probe() : await demonstrate(options);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    throw error;
  }
}

process.exit(await main());
