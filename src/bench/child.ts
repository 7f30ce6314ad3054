/** Child processes that are not left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { addonPaths } from '../native/addon.js';

/** From SIGTERM to SIGKILL. */
const PATIENCE_MS = 10_000;

export interface ChildOptions {
  env?: Record<string, string>;
  /** File for stderr, and for stdout too unless its lines are asked for. */
  log: string;
}

const alive = new Set<Child>();
process.on('exit', () => {
  for (const child of alive) child.process.kill('SIGKILL');
});

/** A program with its lines on stdout one by one, and its log. */
export class Child {
  readonly process: ChildProcess;
  /** Status, or name of the signal. */
  readonly exited: Promise<number | string>;
  private readonly lines: string[] = [];
  private rest = '';
  private wake: () => void = () => {};
  ended: number | string | null = null;

  constructor(
    readonly name: string,
    readonly command: readonly string[],
    private readonly options: ChildOptions,
  ) {
    const log = openSync(options.log, 'a');
    const [file = '', ...args] = command;
    this.process = spawn(file, args, {
      stdio: ['pipe', 'pipe', log],
      env: { ...process.env, ...options.env },
    });
    closeSync(log);
    alive.add(this);
    this.process.stdin?.on('error', () => {}); // its end is noticed elsewhere
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => this.read(text));
    this.exited = new Promise((resolve) => {
      const end = (how: number | string) => {
        this.ended = how;
        alive.delete(this);
        this.wake();
        resolve(how);
      };
      this.process.once('error', (error) => end(error.message));
      this.process.once('close', (code, signal) => end(code ?? signal ?? 'gone'));
    });
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  private read(text: string): void {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop() ?? '';
    this.lines.push(...lines);
    this.wake();
  }

  /** The next line that begins with `start`; lines before it are dropped. Throws when it does not come. */
  async line(start: string, timeoutMs: number): Promise<string> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const line = this.lines.shift();
      if (line?.startsWith(start)) return line;
      if (line !== undefined) continue;
      if (this.ended !== null) throw this.failure(`ended (${this.ended})`);
      if (Date.now() >= deadline) throw this.failure(`said no "${start}" in ${timeoutMs / 1000} s`);
      await this.news(deadline - Date.now());
    }
  }

  private async news(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.wake = () => {};
  }

  write(text: string): void {
    this.process.stdin?.write(text);
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** Closes its stdin and waits; with `signal` sends that first. Kills it when it does not end. */
  async end(signal?: NodeJS.Signals): Promise<number | string> {
    if (signal !== undefined) this.kill(signal);
    this.process.stdin?.end();
    const timer = setTimeout(() => this.kill('SIGKILL'), PATIENCE_MS);
    const how = await this.exited;
    clearTimeout(timer);
    return how;
  }

  /** An error with the end of its log. */
  failure(what: string): Error {
    return new Error(`${this.name} ${what}${logTail(this.options.log)}`);
  }
}

/** The last lines of a log, indented, to be put behind a sentence; empty when there are none. */
export function logTail(path: string, count = 12): string {
  const text = existsSync(path) ? readFileSync(path, 'utf8').trimEnd() : '';
  if (text === '') return '';
  const lines = text.split('\n').slice(-count);
  return `; the end of its log:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

/** Path of a program or library that the native build makes, beside the add-on. */
export function nativeFile(name: string): string {
  const places = addonPaths().map((path) => join(dirname(path), name));
  const found = places.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`${name} is not built; looked for ${places.join(', ')}`);
  return found;
}
