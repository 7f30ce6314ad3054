/** What the benchmark asks of each program that it compares: scanoutd-server.ts, loop-server.ts. */
import { statSync } from 'node:fs';
import { nativeFile } from './child.js';
import type { GuestLayout, Program } from './scenarios.js';
import type { Place } from './stamps.js';

/** A card of the benchmark. */
export interface BenchCard {
  /** `/dev/dri/cardN` */
  readonly card: string;
  /** Names of its connectors, one for each CRTC. */
  readonly connectors: readonly string[];
}

/** A flip by the program's own clock. */
export interface OwnFlip {
  wakeNs: number;
  enterNs: number;
}

/** What the program did of work that a flip should not need, since it began. */
export interface Counts {
  /** Buffers that it was asked to import, whether it had them already or not. */
  imports: number;
  /** Frames of each guest that were copied, by its name. */
  copies: Record<string, number>;
  /** Pixels that these copies wrote, on each CRTC of the first card. */
  copiedPixels: number[];
}

/** A program that serves guests, on cards of its own: the programs take turns within one boot. */
export interface Server {
  readonly program: Program;
  /** Makes it ready for these guests, and says where each one connects. */
  open(guests: readonly GuestLayout[]): Promise<string[]>;
  /** Where the frames of the guests go. They are connected; `flip` makes them flip for a while. */
  places(guests: readonly GuestLayout[], flip: () => Promise<void>): Promise<Place[]>;
  /** Its processes, and of each the threads that flip. */
  threads(): { pid: number; hot: number[] }[];
  /** Files of libstamp for these guests. */
  stamps(): string[];
  /** Everything of it stands still, so that it disturbs no other. */
  freeze(): void;
  thaw(): void;
  /** Begins or ends keeping its JS thread busy. */
  toggleBusy(): void;
  /** Null for a program that does not count. */
  counts(): Promise<Counts | null>;
  /** Serves these guests no more, and says what it noted of them; `leave` ends the guests. */
  close(guests: readonly GuestLayout[], leave: () => Promise<void>): Promise<OwnFlip[]>;
  /** Why it flips without real-time priority; empty when it has that, or does not say. */
  realtimeReason(): Promise<string>;
  end(): Promise<void>;
}

/** So that the program's commits are stamped into the file. */
export function stampEnv(file: string): Record<string, string> {
  return { LD_PRELOAD: nativeFile('libstamp.so'), SCANOUTD_STAMPS: file };
}

/** How stamps name a plane. */
export function planeKey(card: string, plane: number): number {
  return plane + (statSync(card).rdev & 0xff) * 2 ** 32;
}
