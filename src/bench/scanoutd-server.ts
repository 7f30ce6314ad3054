/** scanoutd itself: one process for all cards, which runs on from scenario to scenario. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { GuestDocument } from '../api/documents.js';
import { DaemonProcess, GUEST_SOCKET } from './daemon.js';
import { CARD, type GuestLayout, MODE, type Program } from './scenarios.js';
import { type BenchCard, type Counts, type OwnFlip, planeKey, type Server, stampEnv } from './server.js';
import type { Place } from './stamps.js';
import { threadsOf } from './usage.js';

/** Planning 64 guests one after the other takes its time in an emulated machine. */
const DIRECT_MS = 120_000;
const LEFT_MS = 30_000;

/**
 * Committing at once, as the reference program does; the deadline policy waits on purpose. Beside machines that print the
 * policy is what it is by itself.
 */
function configuration(
  cards: readonly BenchCard[],
  guests: readonly GuestLayout[],
  socketOf: (guest: GuestLayout) => string,
): string {
  const { width, height, refreshHz } = MODE;
  const mode = `${width}x${height}@${refreshHz}`;
  const policy = guests.some(({ printing }) => printing !== null) ? 'auto' : 'eager';
  const output = `[[output]]\nmode = "${mode}"\npolicy = "${policy}"\nwriteback = false\nidle = { text = false }\n`;
  const entries = guests.map((guest) => {
    const { name, kind, card, crtc, plane, x, y, ...size } = guest;
    const area = `{ x = ${x}, y = ${y}, width = ${size.width}, height = ${size.height} }`;
    return [
      '\n[[guest]]',
      `name = "${name}"`,
      `kind = "${kind}"`,
      ...(kind === 'socket' ? [] : [`socket = "${socketOf(guest)}"`]),
      `output = "${cards[card]?.connectors[crtc]}"`,
      `plane = "${plane === 0 ? 'primary' : 'overlay'}"`,
      `area = ${area}`,
      `z = ${plane}\n`,
    ].join('\n');
  });
  return `${output}${entries.join('')}\n[policy]\nunknown_guests = "refuse"\nmax_guests = 64\n`;
}

export class ScanoutdServer implements Server {
  private running: DaemonProcess | null = null;
  private readonly stampFile: string;

  /** `guests`: all that will ever come. */
  constructor(
    readonly program: Program,
    private readonly cards: readonly BenchCard[],
    private readonly guests: readonly GuestLayout[],
    private readonly directory: string,
  ) {
    mkdirSync(directory, { recursive: true });
    this.stampFile = join(directory, 'stamps');
  }

  private get daemon(): DaemonProcess {
    if (this.running === null) throw new Error(`${this.program} is not open`);
    return this.running;
  }

  /** When it is needed, so that a slow machine does not start several at one time. */
  private async start(): Promise<void> {
    if (this.running !== null) return;
    this.running = new DaemonProcess({
      configuration: configuration(this.cards, this.guests, (guest) => this.socketOf(guest)),
      cards: this.cards.map(({ card }) => card),
      directory: this.directory,
      env: stampEnv(this.stampFile),
      node: ['--import', fileURLToPath(new URL('../../test/bench/burn.js', import.meta.url))],
    });
    await this.running.ready();
  }

  async open(guests: readonly GuestLayout[]): Promise<string[]> {
    if (this.running !== null) this.thaw();
    await this.start();
    return guests.map((guest) => this.socketOf(guest));
  }

  private socketOf({ kind, name }: GuestLayout): string {
    return kind === 'socket' ? join(this.directory, GUEST_SOCKET) : join(this.directory, `${name}.sock`);
  }

  async places(guests: readonly GuestLayout[], flip: () => Promise<void>): Promise<Place[]> {
    for (const end = Date.now() + DIRECT_MS; ; ) {
      await flip();
      const known = new Map((await this.daemon.describe()).guests.map((guest) => [guest.name, guest]));
      const places = guests.flatMap((guest) => this.placeOf(guest, known.get(guest.name)));
      if (places.length === guests.length) return places;
      if (Date.now() > end) throw new Error(this.complaint(guests, known));
    }
  }

  private placeOf(guest: GuestLayout, document: GuestDocument | undefined): Place[] {
    const plane = document?.planes[0];
    if (plane?.state !== 'direct' || plane.plane === null) return [];
    const card = this.cards[guest.card]?.card ?? '';
    return [{ plane: planeKey(card, plane.plane), crtc: guest.card * CARD.crtcs + guest.crtc }];
  }

  private complaint(guests: readonly GuestLayout[], known: ReadonlyMap<string, GuestDocument>): string {
    const wrong = guests.flatMap(({ name }) => {
      const plane = known.get(name)?.planes[0];
      return plane?.state === 'direct'
        ? []
        : [`${name} is ${plane?.state ?? 'not there'}: ${plane?.reason ?? ''}`];
    });
    return `${wrong.length} guests are not shown directly: ${wrong.slice(0, 5).join('; ')}`;
  }

  threads(): { pid: number; hot: number[] }[] {
    const { pid } = this.daemon;
    return [{ pid, hot: threadsOf(pid, 'scanoutd-flip') }];
  }

  stamps(): string[] {
    return [this.stampFile];
  }

  async counts(): Promise<Counts> {
    this.thaw();
    const { cards, guests, outputs } = await this.daemon.describe();
    return {
      imports: cards.reduce((sum, { framebuffers }) => sum + framebuffers.imports + framebuffers.hits, 0),
      copies: Object.fromEntries(guests.map(({ name, copies }) => [name, copies])),
      copiedPixels: (this.cards[0]?.connectors ?? []).map(
        (name) => outputs.find((output) => output.name === name)?.copied.pixels ?? 0,
      ),
    };
  }

  freeze(): void {
    this.daemon.kill('SIGSTOP');
  }

  thaw(): void {
    this.daemon.kill('SIGCONT');
  }

  toggleBusy(): void {
    this.daemon.kill('SIGUSR2');
  }

  async close(guests: readonly GuestLayout[], leave: () => Promise<void>): Promise<OwnFlip[]> {
    this.thaw();
    const own: OwnFlip[] = [];
    // Of one guest; megabytes of JSON of many would take longer than what they are about.
    if (guests.length === 1) {
      const [planes = []] = [await this.daemon.records(guests[0]?.name ?? '')];
      for (const { kickNs, commitEnterNs } of planes[0] ?? []) {
        own.push({ wakeNs: kickNs, enterNs: commitEnterNs });
      }
    }
    await leave();
    await this.waitUntilLeft();
    return own;
  }

  async realtimeReason(): Promise<string> {
    if (this.running === null) return '';
    this.thaw();
    const { cards } = await this.daemon.describe();
    return cards.find(({ realtime }) => !realtime)?.realtimeReason ?? '';
  }

  private async waitUntilLeft(): Promise<void> {
    for (const end = Date.now() + LEFT_MS; Date.now() < end; await sleep(100)) {
      const { guests } = await this.daemon.describe();
      if (guests.every(({ connected }) => !connected)) return;
    }
    throw new Error('guests that left are still there');
  }

  async end(): Promise<void> {
    if (this.running === null) return;
    this.thaw();
    await this.daemon.end();
  }
}
