/** scanoutd itself: one process for all cards, which runs on from scenario to scenario. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { GuestDocument } from '../api/documents.js';
import { DaemonProcess } from './daemon.js';
import { CARD, type GuestLayout, MODE } from './scenarios.js';
import { type BenchCard, type OwnFlip, planeKey, type Server, stampEnv } from './server.js';
import type { Place } from './stamps.js';
import { threadsOf } from './usage.js';

/** Planning 64 guests one after the other takes its time in an emulated machine. */
const DIRECT_MS = 120_000;
const LEFT_MS = 30_000;

/** Committing at once, as the reference program does; the deadline policy waits on purpose. */
function configuration(cards: readonly BenchCard[], guests: readonly GuestLayout[]): string {
  const { width, height, refreshHz } = MODE;
  const mode = `${width}x${height}@${refreshHz}`;
  const output = `[[output]]\nmode = "${mode}"\npolicy = "eager"\nwriteback = false\nidle = { text = false }\n`;
  const entries = guests.map(({ name, card, crtc, plane, x, y, ...size }) => {
    const area = `{ x = ${x}, y = ${y}, width = ${size.width}, height = ${size.height} }`;
    return [
      '\n[[guest]]',
      `name = "${name}"`,
      `output = "${cards[card]?.connectors[crtc]}"`,
      `plane = "${plane === 0 ? 'primary' : 'overlay'}"`,
      `area = ${area}`,
      `z = ${plane}\n`,
    ].join('\n');
  });
  return `${output}${entries.join('')}\n[policy]\nunknown_guests = "refuse"\nmax_guests = 64\n`;
}

export class ScanoutdServer implements Server {
  readonly program = 'scanoutd';
  private readonly daemon: DaemonProcess;
  private readonly stampFile: string;
  private started = false;

  /** `guests`: all that will ever come. */
  constructor(
    private readonly cards: readonly BenchCard[],
    guests: readonly GuestLayout[],
    directory: string,
  ) {
    mkdirSync(directory, { recursive: true });
    this.stampFile = join(directory, 'stamps');
    this.daemon = new DaemonProcess({
      configuration: configuration(cards, guests),
      cards: cards.map(({ card }) => card),
      directory,
      env: stampEnv(this.stampFile),
      node: ['--import', fileURLToPath(new URL('../../test/bench/burn.js', import.meta.url))],
    });
  }

  async open(guests: readonly GuestLayout[]): Promise<string[]> {
    this.thaw();
    if (!this.started) await this.daemon.ready();
    this.started = true;
    return guests.map(() => this.daemon.socket);
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
    this.thaw();
    await this.daemon.end();
  }
}
