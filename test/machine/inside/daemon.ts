/** A real daemon under test: started, asked over its bus, killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode } from 'fast-png';
import type {
  AssignRequest,
  GuestDocument,
  OutputDocument,
  ScreenshotDocument,
  StatusDocument,
} from '../../../src/api/documents.js';
import type { Fd } from '../../../src/native/base.js';
import { Bus } from '../../../src/native/bus.js';
import type { FlipRecord } from './flip-rig.js';

const MAIN = new URL('../../../bin/scanoutd.js', import.meta.url).pathname;
const START_MS = 180_000; // emulated, beside other work
const MANAGER = { path: '/org/scanoutd1', interface: 'org.scanoutd1.Manager' } as const;

/** RGB, eight bits each, row by row. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8Array;
  document: ScreenshotDocument;
}

export interface DaemonOptions {
  /** TOML after [daemon]'s sockets. */
  config?: string;
  env?: NodeJS.ProcessEnv;
  /** On the daemon's command line. */
  args?: readonly string[];
  /** Numbers of descriptors that it gets as 3, 4 and so on. */
  descriptors?: readonly number[];
  /** TOML within [daemon]. */
  settings?: string;
  /** A program with its arguments that starts the daemon. */
  through?: readonly string[];
  /** Directory with sockets and configuration, for a daemon that follows another. */
  directory?: string;
}

export class TestDaemon {
  readonly guestSocket: string;
  private readonly busSocket: string;
  private bus: Bus | null = null;
  log = '';

  private constructor(
    readonly directory: string,
    readonly child: ChildProcess,
  ) {
    this.guestSocket = join(directory, 'guest.sock');
    this.busSocket = join(directory, 'bus');
    const collect = (chunk: Buffer) => {
      this.log += chunk.toString();
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
  }

  /** Resolves when it answers on its bus and says that it is ready. */
  static async start(options: DaemonOptions = {}): Promise<TestDaemon> {
    const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'scanoutd-test-'));
    const file = join(directory, 'scanoutd.toml');
    const sockets = `guest_socket = "${directory}/guest.sock"\nbus_socket = "${directory}/bus"\nsystem_bus = "off"`;
    writeFileSync(
      file,
      `[daemon]\n${sockets}\nlog_level = "debug"\n${options.settings ?? ''}\n${options.config ?? ''}\n`,
    );
    const main = [process.execPath, MAIN, '--config', file, ...(options.args ?? [])];
    const [command = '', ...args] = [...(options.through ?? []), ...main];
    const child = spawn(command, args, {
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe', ...(options.descriptors ?? [])],
    });
    const daemon = new TestDaemon(directory, child);
    await daemon.ready();
    return daemon;
  }

  private async ready(): Promise<void> {
    const deadline = performance.now() + START_MS;
    for (;;) {
      try {
        if (this.child.exitCode !== null) throw new Error(`the daemon ended with ${this.child.exitCode}`);
        this.bus ??= await Bus.open(`unix:path=${this.busSocket}`);
        await this.status();
        return;
      } catch (error) {
        const over = this.child.exitCode !== null || performance.now() > deadline;
        if (over) throw new Error(`no daemon: ${(error as Error).message}\n${this.log}`);
        await sleep(50);
      }
    }
  }

  private async call(member: string, signature = '', ...body: unknown[]): Promise<unknown[]> {
    if (this.bus === null) throw new Error('not connected');
    return await this.bus.call({ ...MANAGER, member, signature, body, timeoutMs: START_MS });
  }

  async status(): Promise<StatusDocument> {
    const [json] = await this.call('Describe');
    return JSON.parse(json as string) as StatusDocument;
  }

  async output(name: string): Promise<OutputDocument> {
    const found = (await this.status()).outputs.find((output) => output.name === name);
    if (found === undefined) throw new Error(`no output ${name}`);
    return found;
  }

  async guest(name: string): Promise<GuestDocument> {
    const found = (await this.status()).guests.find((guest) => guest.name === name);
    if (found === undefined) throw new Error(`no guest ${name}`);
    return found;
  }

  async assign(guest: string, request: AssignRequest): Promise<void> {
    await this.call('Assign', 'ss', guest, JSON.stringify(request));
  }

  /** The flips of a guest's plane that are kept, oldest first. */
  async records(guest: string, plane = 0): Promise<FlipRecord[]> {
    const [json] = await this.call('Records', 's', guest);
    const { planes } = JSON.parse(json as string) as { planes: { index: number; flips: FlipRecord[] }[] };
    return planes.find(({ index }) => index === plane)?.flips ?? [];
  }

  /** What the output scans out, decoded. */
  async screenshot(output: string): Promise<Picture> {
    const [fd, json] = await this.call('Screenshot', 's', output);
    const png = readFileSync(`/proc/self/fd/${(fd as Fd).number}`);
    (fd as Fd).close();
    const { width, height, data, channels } = decode(png);
    if (channels !== 3) throw new Error(`PNG with ${channels} channels`);
    return {
      width,
      height,
      data: data as Uint8Array,
      document: JSON.parse(json as string) as ScreenshotDocument,
    };
  }

  /** Waits for a state of affairs; the message names what was waited for. */
  async until(
    what: string,
    holds: (status: StatusDocument) => boolean,
    ms = 20_000,
  ): Promise<StatusDocument> {
    const deadline = performance.now() + ms;
    for (;;) {
      const status = await this.status();
      if (holds(status)) return status;
      if (performance.now() > deadline) {
        throw new Error(
          `waited in vain for: ${what}\n${JSON.stringify(status, null, 1)}\n${this.log.slice(-4000)}`,
        );
      }
      await sleep(50);
    }
  }

  /** Runs a test's body and disposes of the daemon; a failure is told with the daemon's log. */
  async during(body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      const { exitCode, signalCode } = this.child;
      const end = exitCode ?? signalCode;
      process.stderr.write(
        `daemon ${end === null ? 'lives' : `ended with ${end}`}; its log:\n${this.log.slice(-8000)}\n`,
      );
      throw error;
    } finally {
      await this.dispose();
    }
  }

  /** Ends it and gives its exit code, or the signal's name. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string> {
    this.bus?.close();
    this.bus = null;
    const { child } = this;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.kill(signal);
      await ended;
    }
    return child.exitCode ?? child.signalCode ?? 'unknown';
  }

  /** Ends it and removes its directory. */
  async dispose(): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
