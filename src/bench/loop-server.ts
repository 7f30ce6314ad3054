/** The reference program, or the loop in JavaScript, which takes the same arguments: one process for each card. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child, nativeFile } from './child.js';
import { CARD, type GuestLayout, MODE } from './scenarios.js';
import { type BenchCard, type OwnFlip, planeKey, type Server, stampEnv } from './server.js';
import { doubles, type Place } from './stamps.js';

const READY_MS = 60_000;
/** Rows of the records: guest, sequence, wake-up, commit entered, commit returned, flip event. */
const RECORD_WIDTH = 6;

interface Running {
  card: BenchCard;
  child: Child;
  /** Path without its ending, of all files of it. */
  files: string;
  /** Plane ids by names of guests. */
  planes: Map<string, number>;
}

function argumentOf(guest: GuestLayout): string {
  const { name, crtc, plane, x, y, width, height } = guest;
  return `${name}:${crtc}:${plane}:${x}:${y}:${width}x${height}`;
}

function testFile(name: string): string {
  return fileURLToPath(new URL(`../../test/bench/${name}`, import.meta.url));
}

export class LoopServer implements Server {
  private running: Running[] = [];
  private runs = 0;

  constructor(
    readonly program: 'reference' | 'js',
    private readonly cards: readonly BenchCard[],
    private readonly directory: string,
  ) {
    mkdirSync(directory, { recursive: true });
  }

  private command(): string[] {
    if (this.program === 'reference') {
      return [nativeFile('reference'), '--mode', `${MODE.width}x${MODE.height}`];
    }
    return [process.execPath, '--import', testFile('burn.js'), testFile('js-loop.js')];
  }

  async open(guests: readonly GuestLayout[]): Promise<string[]> {
    const run = this.runs++;
    this.running = [];
    for (const [number, card] of this.cards.entries()) {
      const own = guests.filter((guest) => guest.card === number);
      if (own.length > 0)
        this.running.push(await this.start(card, join(this.directory, `${run}-${number}`), own));
    }
    return guests.map(({ card }) => `${this.running[card]?.files}.sock`);
  }

  private async start(card: BenchCard, files: string, guests: readonly GuestLayout[]): Promise<Running> {
    const options = ['--card', card.card, '--socket', `${files}.sock`, '--out', `${files}.records`];
    const child = new Child(this.program, [...this.command(), ...options, ...guests.map(argumentOf)], {
      log: `${files}.log`,
      env: stampEnv(`${files}.stamps`),
    });
    const planes = new Map<string, number>();
    for (const _ of guests) {
      const [, name = '', plane] = (await child.line('plane ', READY_MS)).split(' ');
      planes.set(name, Number(plane));
    }
    await child.line('listening', READY_MS);
    return { card, child, files, planes };
  }

  async places(guests: readonly GuestLayout[], flip: () => Promise<void>): Promise<Place[]> {
    for (const { child } of this.running) await child.line('ready', READY_MS);
    await flip();
    return guests.map(({ name, card, crtc }) => {
      const running = this.running[card];
      if (running === undefined) throw new RangeError(`no card ${card}`);
      const plane = planeKey(running.card.card, running.planes.get(name) ?? 0);
      return { plane, crtc: card * CARD.crtcs + crtc };
    });
  }

  threads(): { pid: number; hot: number[] }[] {
    return this.running.map(({ child }) => ({ pid: child.pid, hot: [child.pid] }));
  }

  stamps(): string[] {
    return this.running.map(({ files }) => `${files}.stamps`);
  }

  async counts(): Promise<null> {
    return null;
  }

  private signal(signal: NodeJS.Signals): void {
    for (const { child } of this.running) child.kill(signal);
  }

  freeze(): void {
    this.signal('SIGSTOP');
  }

  thaw(): void {
    this.signal('SIGCONT');
  }

  toggleBusy(): void {
    this.signal('SIGUSR2');
  }

  /** It ends first: it reads no messages any more, so the guests' good-bye would wait for its answer. */
  async close(_guests: readonly GuestLayout[], leave: () => Promise<void>): Promise<OwnFlip[]> {
    this.thaw();
    const own: OwnFlip[] = [];
    for (const { child, files } of this.running) {
      const how = await child.end('SIGTERM');
      if (how !== 0) throw child.failure(`ended with ${how}`);
      const rows = doubles(`${files}.records`);
      for (let at = 0; at + RECORD_WIDTH <= rows.length; at += RECORD_WIDTH) {
        own.push({ wakeNs: rows[at + 2] ?? 0, enterNs: rows[at + 3] ?? 0 });
      }
    }
    this.running = [];
    await leave();
    return own;
  }

  /** They say it on stderr, where nobody looks: scanoutd lacks it for the same reason. */
  async realtimeReason(): Promise<string> {
    return '';
  }

  async end(): Promise<void> {
    this.thaw();
    await Promise.all(this.running.map(({ child }) => child.end('SIGTERM')));
  }
}
