/**
 * A real QEMU in the test machine: started with the bare guest or a kernel, heard on its serial line, asked over QMP,
 * killed at will. It dies with the test, however that ends.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Expected } from './pixels.js';

/** Debian 13's (10.0), and its backports' (11.1). */
export const VERSIONS = { debian: 'qemu-system-x86_64', backports: 'qemu-system-x86_64-backports' } as const;
export type QemuVersion = keyof typeof VERSIONS;

export const BARE_GUEST = 'build-machine/guest.elf';
/** SeaBIOS, the guest and QMP, in nested emulation beside other work. */
const ANSWER_MS = 60_000;

export interface QemuOptions {
  version?: QemuVersion;
  /** The kernel's command line: the bare guest's options. */
  append?: string;
  kernel?: string;
  initrd?: string;
  /** Arguments for the display's devices and whatever else: `-device`, `virtio-gpu-pci`. */
  args?: readonly string[];
  /** `-display`'s argument (none). */
  display?: string;
  memoryMb?: number;
  cpu?: string;
  /** Further monitors, by the name that `monitor` gives the path of. */
  monitors?: readonly string[];
  env?: Record<string, string>;
}

/** A line `@WORD NAME=VALUE...`; values that look like decimal numbers are numbers. */
export interface SerialEvent {
  word: string;
  values: Record<string, string | number>;
}

export class Qemu {
  readonly directory = mkdtempSync(join(tmpdir(), 'qemu-'));
  readonly child: ChildProcessWithoutNullStreams;
  readonly events: SerialEvent[] = [];
  /** What it and the guest said, line by line. */
  log = '';
  /** A guest that says `@error` fails whoever waits for it, unless this is set. */
  errorsExpected = false;
  private readonly ended: Promise<void>;
  private wake: (() => void)[] = [];
  private qmpSocket: Socket | null = null;
  private replies: ((reply: { return?: unknown; error?: { desc: string } }) => void)[] = [];
  private dumps = 0;

  private constructor(options: QemuOptions) {
    const memory = `${options.memoryMb ?? 128}M`;
    const monitors = ['test', ...(options.monitors ?? [])];
    const args = [
      ...['-nodefaults', '-no-user-config', '-accel', 'tcg,thread=multi', '-m', memory],
      ...['-object', `memory-backend-memfd,id=memory,size=${memory},share=on`],
      ...['-machine', 'pc,memory-backend=memory', '-display', options.display ?? 'none'],
      ...(options.cpu === undefined ? [] : ['-cpu', options.cpu]),
      ...['-chardev', 'stdio,id=serial,signal=off', '-serial', 'chardev:serial'],
      ...monitors.flatMap((name) => ['-qmp', `unix:${this.monitor(name)},server=on,wait=off`]),
      ...['-kernel', options.kernel ?? BARE_GUEST, '-append', options.append ?? ''],
      ...(options.initrd === undefined ? [] : ['-initrd', options.initrd]),
      ...(options.args ?? []),
    ];
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', VERSIONS[options.version ?? 'debian'], ...args], {
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error) => {
        this.log += `${error.message}\n`;
        resolve();
      });
      this.child.once('close', () => resolve());
    });
    this.ended.then(() => this.tell());
    // It may end while it is written to.
    this.child.stdin.on('error', () => {});
    createInterface({ input: this.child.stdout, crlfDelay: Number.POSITIVE_INFINITY }).on('line', (line) =>
      this.hear(line),
    );
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.log += chunk.toString();
    });
  }

  /** Resolves when it answers on QMP; a guest may have said much by then. */
  static async start(options: QemuOptions = {}): Promise<Qemu> {
    const qemu = new Qemu(options);
    try {
      await qemu.connect();
    } catch (error) {
      await qemu.dispose();
      throw new Error(`no QEMU: ${(error as Error).message}\n${qemu.log}`);
    }
    return qemu;
  }

  /** The path of a QMP monitor's socket; each takes one client. */
  monitor(name: string): string {
    return join(this.directory, `${name}.qmp`);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  private hear(line: string): void {
    this.log += `${line}\n`;
    // Firmware and kernels may have left something on the line before it.
    const at = line.indexOf('@');
    const found = at < 0 ? null : /^@([a-z]+)((?: [a-z_]+=\S*)*)$/.exec(line.slice(at));
    if (found === null) return;
    const pairs = (found[2] ?? '').split(' ').slice(1);
    const values = Object.fromEntries(
      pairs.map((pair) => {
        const [name = '', value = ''] = pair.split('=');
        return [name, /^\d{1,15}$/.test(value) ? Number(value) : value];
      }),
    );
    this.events.push({ word: found[1] ?? '', values });
    this.tell();
  }

  private tell(): void {
    const waiting = this.wake;
    this.wake = [];
    for (const wake of waiting) wake();
  }

  /** Sends bytes to the guest's serial line; the bare guest hears those that come after its `@hello`. */
  send(text: string): void {
    this.child.stdin.write(text);
  }

  /** All events of a word, oldest first. */
  all(word: string): SerialEvent[] {
    return this.events.filter((event) => event.word === word);
  }

  /** The first event of the word with these values, waited for when it has not come yet. */
  async event(
    word: string,
    values: Record<string, string | number> = {},
    ms = ANSWER_MS,
  ): Promise<SerialEvent> {
    const matches = (event: SerialEvent) =>
      event.word === word && Object.entries(values).every(([name, value]) => event.values[name] === value);
    const what = `@${word} ${JSON.stringify(values)}`;
    return await this.until(what, () => this.events.find(matches), ms);
  }

  /** The guest's next word of the kind, beyond `count` that were there. */
  async eventAfter(count: number, word: string, ms = ANSWER_MS): Promise<SerialEvent> {
    return await this.until(`@${word} number ${count}`, () => this.all(word)[count], ms);
  }

  private async until<T>(what: string, find: () => T | undefined, ms: number): Promise<T> {
    const deadline = performance.now() + ms;
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      const [error] = this.errorsExpected ? [] : this.all('error');
      const left = deadline - performance.now();
      let trouble = '';
      if (error !== undefined) trouble = `the guest said ${JSON.stringify(error.values)}`;
      else if (!this.alive) trouble = `QEMU ended with ${this.child.exitCode ?? this.child.signalCode}`;
      else if (left <= 0) trouble = `nothing in ${ms / 1000} s`;
      if (trouble !== '') throw new Error(`${what}: ${trouble}\n${this.log.slice(-3000)}`);
      await this.news(left);
    }
  }

  /** Resolves at the next event, at the end, or when the time is over. */
  private news(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  private async connect(): Promise<void> {
    const deadline = performance.now() + ANSWER_MS;
    for (;;) {
      if (!this.alive) throw new Error(`ended with ${this.child.exitCode ?? this.child.signalCode}`);
      const socket = await tryConnect(this.monitor('test'));
      if (socket !== null) {
        this.listen(socket);
        await this.qmp('qmp_capabilities');
        return;
      }
      if (performance.now() > deadline) throw new Error('no monitor');
      await sleep(50);
    }
  }

  private listen(socket: Socket): void {
    this.qmpSocket = socket;
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const reply of this.replies.splice(0)) reply({ error: { desc: 'QEMU went away' } });
    });
    createInterface({ input: socket }).on('line', (line) => {
      const message = JSON.parse(line) as Record<string, unknown>;
      if ('return' in message || 'error' in message) this.replies.shift()?.(message);
    });
  }

  /** Executes a QMP command and gives what it returned. */
  async qmp(execute: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const reply = await new Promise<{ return?: unknown; error?: { desc: string } }>((resolve) => {
      if (this.qmpSocket === null || this.qmpSocket.destroyed) {
        resolve({ error: { desc: 'not connected' } });
        return;
      }
      this.replies.push(resolve);
      this.qmpSocket.write(JSON.stringify({ execute, arguments: args }));
    });
    if (reply.error !== undefined) throw new Error(`QMP ${execute}: ${reply.error.desc}`);
    return reply.return;
  }

  /** What QEMU itself takes for the picture of a console: of a device by its id and head, else of the first. */
  async screendump(of: { device?: string; head?: number } = {}): Promise<Expected> {
    const filename = join(this.directory, `${this.dumps++}.ppm`);
    await this.qmp('screendump', { filename, ...of });
    const ppm = readFileSync(filename);
    rmSync(filename);
    const head = /^P6\s(\d+)\s(\d+)\s255\s/.exec(ppm.toString('latin1', 0, 64));
    if (head === null) throw new Error('screendump: not a PPM');
    const [width, height] = [Number(head[1]), Number(head[2])];
    return { width, height, data: ppm.subarray(head[0].length) };
  }

  /** Ends it by a signal, at once by default, and waits for its end. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.alive) this.child.kill(signal);
    await this.ended;
  }

  /** Waits for an end of its own accord, as when the guest powers off. */
  async end(ms = ANSWER_MS): Promise<void> {
    await this.until('the end of QEMU', () => (this.alive ? undefined : true), ms);
  }

  /** Runs a test's body and disposes of QEMU; a failure is told with what it and the guest said. */
  async during<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      process.stderr.write(`QEMU ${this.alive ? 'lives' : 'is gone'}; it said:\n${this.log.slice(-4000)}\n`);
      throw error;
    } finally {
      await this.dispose();
    }
  }

  async dispose(): Promise<void> {
    await this.kill();
    this.qmpSocket?.destroy();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function tryConnect(path: string): Promise<Socket | null> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', () => resolve(null));
  });
}
