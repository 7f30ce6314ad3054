/** Input devices that a test makes by uinput, and readers of others; they go with the test. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { InputClass } from '../../../src/native/input.js';

const PROGRAM = 'build-machine/evdev';
const WAIT_MS = 20_000;

export const EV = { SYN: 0, KEY: 1, REL: 2, ABS: 3, MSC: 4, SW: 5, LED: 0x11 } as const;

/** [type, code, value] */
export type InputEvent = readonly [number, number, number];

export interface MadeDevice {
  name: string;
  phys?: string;
  /** bus, vendor, product, version */
  id?: readonly [number, number, number, number];
  props?: readonly number[];
  /** Codes, or "1-83". */
  keys?: readonly (number | string)[];
  relative?: readonly number[];
  /** code: [minimum, maximum, resolution] */
  absolute?: Readonly<Record<number, readonly [number, number, number?]>>;
  misc?: readonly number[];
  switches?: readonly number[];
  leds?: readonly number[];
}

export const KEYBOARD: MadeDevice = {
  name: 'Test Keyboard',
  id: [3, 0x1234, 1, 0x111],
  keys: ['1-127'],
  misc: [4],
  leds: [0, 1, 2],
};
export const MOUSE: MadeDevice = {
  name: 'Test Mouse',
  id: [3, 0x1234, 2, 0x111],
  keys: ['272-276'],
  relative: [0, 1, 6, 8, 11, 12],
};
export const TOUCHSCREEN: MadeDevice = {
  name: 'Test Touchscreen',
  id: [3, 0x1234, 3, 0x111],
  props: [1],
  keys: [330],
  absolute: {
    0: [0, 4095, 10],
    1: [0, 4095, 10],
    47: [0, 9],
    53: [0, 4095, 10],
    54: [0, 4095, 10],
    57: [0, 65535],
  },
};
export const TABLET: MadeDevice = {
  name: 'Test Tablet',
  id: [3, 0x56a, 0x1234, 0x111],
  props: [0],
  keys: [320, 321, 330, 331, 332],
  absolute: { 0: [0, 20000, 100], 1: [0, 12000, 100], 24: [0, 2047], 26: [-60, 60, 57], 27: [-60, 60, 57] },
};

/** A few frames for each of these devices, of which every event changes something. */
export const FRAMES: Partial<Record<InputClass, InputEvent[][]>> = {
  keyboard: [
    [
      [EV.MSC, 4, 30],
      [EV.KEY, 30, 1],
    ],
    [
      [EV.KEY, 30, 0],
      [EV.KEY, 48, 1],
    ],
    [[EV.KEY, 48, 0]],
  ],
  pointer: [
    [
      [EV.REL, 0, 5],
      [EV.REL, 1, -7],
    ],
    [[EV.KEY, 272, 1]],
    [
      [EV.REL, 11, 60],
      [EV.REL, 12, -120],
      [EV.REL, 6, -1],
    ],
    [[EV.KEY, 272, 0]],
  ],
  touchscreen: [
    [
      [EV.ABS, 57, 1],
      [EV.ABS, 53, 100],
      [EV.ABS, 54, 200],
      [EV.KEY, 330, 1],
      [EV.ABS, 0, 100],
      [EV.ABS, 1, 200],
    ],
    [
      [EV.ABS, 47, 1],
      [EV.ABS, 57, 2],
      [EV.ABS, 53, 4000],
      [EV.ABS, 54, 1],
    ],
    [
      [EV.ABS, 47, 0],
      [EV.ABS, 57, -1],
      [EV.ABS, 47, 1],
      [EV.ABS, 53, 4001],
    ],
    [
      [EV.ABS, 57, -1],
      [EV.KEY, 330, 0],
    ],
  ],
  tablet: [
    [
      [EV.KEY, 320, 1],
      [EV.ABS, 0, 15000],
      [EV.ABS, 1, 9000],
      [EV.ABS, 26, -20],
    ],
    [
      [EV.ABS, 24, 700],
      [EV.KEY, 330, 1],
      [EV.KEY, 331, 1],
    ],
    [
      [EV.ABS, 24, 0],
      [EV.KEY, 330, 0],
      [EV.KEY, 331, 0],
    ],
    [[EV.KEY, 320, 0]],
  ],
};

const all = new Set<Talker>();

/** Ends whatever the test has left. */
export async function endAll(): Promise<void> {
  await Promise.all([...all].map((one) => one.end()));
}

/** A child of a test that says lines. */
class Talker {
  protected readonly child: ChildProcessWithoutNullStreams;
  readonly lines: string[] = [];
  private wake: (() => void)[] = [];
  private ended = false;

  protected constructor(args: readonly string[]) {
    all.add(this);
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', PROGRAM, ...args], { stdio: 'pipe' });
    this.child.stdin.on('error', () => {});
    this.child.stderr.on('data', (chunk: Buffer) => this.hear(`! ${chunk.toString().trim()}`));
    createInterface({ input: this.child.stdout }).on('line', (line) => this.hear(line));
    this.child.once('close', () => {
      all.delete(this);
      this.ended = true;
      this.hear('closed');
    });
  }

  private hear(line: string): void {
    this.lines.push(line);
    for (const wake of this.wake.splice(0)) wake();
  }

  /** Waits until `found` gives something. */
  async until<T>(what: string, found: () => T | undefined | false, ms = WAIT_MS): Promise<T> {
    const deadline = performance.now() + ms;
    for (;;) {
      const value = found();
      if (value !== undefined && value !== false) return value;
      const left = deadline - performance.now();
      if (left <= 0 || this.ended)
        throw new Error(`${what}: not in time; it said:\n${this.lines.slice(-40).join('\n')}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.wake.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  line(start: string): Promise<string> {
    return this.until(start, () => this.lines.find((line) => line.startsWith(start)));
  }

  /** Ends when it is gone. */
  async end(): Promise<void> {
    if (this.ended) return;
    const closed = new Promise((resolve) => this.child.once('close', resolve));
    this.child.kill('SIGKILL');
    await closed;
  }
}

/** A device of uinput: the hardware. */
export class TestInput extends Talker {
  /** "/dev/input/event3" */
  path = '';
  /** "input12" */
  sysName = '';

  /** When udev has dealt with it. */
  static async make(device: MadeDevice): Promise<TestInput> {
    const made = new TestInput(['make']);
    const { id = [3, 1, 1, 1] } = device;
    const lines = [`name ${device.name}`, `id ${id.join(' ')}`];
    if (device.phys !== undefined) lines.push(`phys ${device.phys}`);
    for (const prop of device.props ?? []) lines.push(`prop ${prop}`);
    const lists = {
      key: device.keys,
      rel: device.relative,
      msc: device.misc,
      sw: device.switches,
      led: device.leds,
    };
    for (const [kind, codes] of Object.entries(lists)) {
      if (codes !== undefined) lines.push(`${kind} ${codes.join(' ')}`);
    }
    for (const [code, [minimum, maximum, resolution = 0]] of Object.entries(device.absolute ?? {}))
      lines.push(`abs ${code} ${minimum} ${maximum} ${resolution} 0 0`);
    made.say([...lines, 'create']);
    [, made.path = '', made.sysName = ''] = (await made.line('created ')).split(' ');
    execFileSync('udevadm', ['settle', '--timeout=20']);
    return made;
  }

  private say(lines: readonly string[]): void {
    this.child.stdin.write(`${lines.join('\n')}\n`);
  }

  /** One frame. */
  send(...events: readonly InputEvent[]): void {
    this.say([...events.map((event) => `e ${event.join(' ')}`), 's']);
  }

  tap(key: number): void {
    this.send([EV.KEY, key, 1]);
    this.send([EV.KEY, key, 0]);
  }

  /** Frames, each followed by so many microseconds; resolves when they are sent. */
  async play(frames: readonly (readonly InputEvent[])[], microseconds: number): Promise<void> {
    const file = join(mkdtempSync(join(tmpdir(), 'play-')), 'frames');
    const events = frames.flatMap((frame) => [...frame, [0, 0, 0] as const]);
    const bytes = Buffer.alloc(events.length * 8);
    for (const [i, [type, code, value]] of events.entries()) {
      bytes.writeUInt16LE(type, i * 8);
      bytes.writeUInt16LE(code, i * 8 + 2);
      bytes.writeInt32LE(value, i * 8 + 4);
    }
    writeFileSync(file, bytes);
    const before = this.lines.length;
    this.say([`play ${file} ${microseconds}`]);
    await this.until(
      'played',
      () => this.lines.slice(before).some((line) => line.startsWith('played')),
      300_000,
    );
  }

  /** LEDs that were set on it since it was asked last. */
  async led(code: number, value: number): Promise<void> {
    await this.until(`LED ${code} to be ${value}`, () => {
      const last = this.lines.findLast((line) => line.startsWith(`led ${code} `));
      return last === `led ${code} ${value}`;
    });
  }

  /** Unplugs it. */
  async unplug(): Promise<void> {
    this.say(['destroy']);
    await this.line('destroyed');
    await this.end();
  }
}

/** Whoever reads a device at its far end. */
export class EvdevReader extends Talker {
  private at = 0;

  /** Without SYN_REPORTs, and LEDs, which are not the device's. */
  private get news(): InputEvent[] {
    return this.events.filter(([type]) => type !== EV.SYN && type !== EV.LED).slice(this.at);
  }

  static async open(path: string, grab = false): Promise<EvdevReader> {
    const reader = new EvdevReader(grab ? ['read', path, '--grab'] : ['read', path]);
    await reader.line('ready');
    return reader;
  }

  /** Events so far, SYN_REPORTs included. */
  get events(): InputEvent[] {
    return this.lines
      .filter((line) => /^\d+ \d+ -?\d+$/.test(line))
      .map((line) => line.split(' ').map(Number) as unknown as InputEvent);
  }

  /** The next `count` events that have come since those taken before, without SYN_REPORTs and LEDs. */
  async take(count: number): Promise<InputEvent[]> {
    const events = await this.until(
      `${count} events`,
      () => this.news.length >= count && this.news.slice(0, count),
    );
    this.at += count;
    return events;
  }

  /** That nothing else has come; `ms` is how long to wait for it. */
  async nothing(ms = 200): Promise<InputEvent[]> {
    await new Promise((resolve) => setTimeout(resolve, ms));
    return this.news;
  }
}

/** Whoever keeps everything that comes out of many devices. */
export class Recorder extends Talker {
  private readonly directory: string;

  private constructor(directory: string, paths: readonly string[]) {
    super(['record', directory, ...paths]);
    this.directory = directory;
  }

  static async start(paths: readonly string[]): Promise<Recorder> {
    const recorder = new Recorder(mkdtempSync(join(tmpdir(), 'record-')), paths);
    await recorder.line('ready');
    return recorder;
  }

  /** Ends it. */
  async stop(): Promise<void> {
    this.child.stdin.end();
    await this.line('recorded');
  }

  /** What came out of the device with this number among the paths: 8 bytes an event (type, code, value). */
  bytes(device: number): Buffer {
    return readFileSync(join(this.directory, String(device)));
  }
}
