/** A process that plays a virtual machine, or runs one, and says what its guest does; it dies with the test. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** SeaBIOS, the guest and QMP, in nested emulation beside other work. */
export const ANSWER_MS = 150_000;

/** A line `@WORD NAME=VALUE...`; values that look like decimal numbers are numbers. */
export interface SerialEvent {
  word: string;
  values: Record<string, string | number>;
}

export class GuestProcess {
  readonly child: ChildProcessWithoutNullStreams;
  readonly events: SerialEvent[] = [];
  /** What it and the guest said, line by line. */
  log = '';
  /** A guest that says `@error` fails whoever waits for it, unless this is set. */
  errorsExpected = false;
  private readonly ended: Promise<void>;
  private wake: (() => void)[] = [];

  constructor(
    private readonly what: string,
    command: readonly string[],
    env: Record<string, string> = {},
  ) {
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
      env: { ...process.env, ...env },
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

  protected async until<T>(what: string, find: () => T | undefined, ms: number): Promise<T> {
    const deadline = performance.now() + ms;
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      const [error] = this.errorsExpected ? [] : this.all('error');
      const left = deadline - performance.now();
      let trouble = '';
      if (error !== undefined) trouble = `the guest said ${JSON.stringify(error.values)}`;
      else if (!this.alive)
        trouble = `${this.what} ended with ${this.child.exitCode ?? this.child.signalCode}`;
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

  /** Ends it by a signal, at once by default, and waits for its end. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.alive) this.child.kill(signal);
    await this.ended;
  }

  /** Waits for an end of its own accord, as when the guest powers off. */
  async end(ms = ANSWER_MS): Promise<void> {
    await this.until(`the end of ${this.what}`, () => (this.alive ? undefined : true), ms);
  }

  /** Runs a test's body and disposes of QEMU; a failure is told with what it and the guest said. */
  async during<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      process.stderr.write(
        `${this.what} ${this.alive ? 'lives' : 'is gone'}; it said:\n${this.log.slice(-4000)}\n`,
      );
      throw error;
    } finally {
      await this.dispose();
    }
  }

  async dispose(): Promise<void> {
    await this.kill();
  }
}
