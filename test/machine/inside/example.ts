/** The C example guest as a process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ExampleStats {
  connections: number;
  frames: number;
  /** Buffers that were released early, or were not as they were left. */
  violations: number;
  planes: {
    kind: string;
    state: string;
    submitted: number;
    reclaimed: number;
    presented: number;
    superseded: number;
    missed: number;
    refused: number;
    early_releases: number;
    changed: number;
  }[];
}

const PROGRAM =
  ['build-machine/example', 'build/Release/example'].find((path) => existsSync(path)) ?? 'example';

export class Example {
  readonly child: ChildProcess;
  private readonly file = join(mkdtempSync(join(tmpdir(), 'example-')), 'stats.json');
  private readonly ended: Promise<void>;
  output = '';

  constructor(socket: string, name: string, args: readonly string[]) {
    this.child = spawn(PROGRAM, ['--socket', socket, '--name', name, '--stats', this.file, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const collect = (chunk: Buffer) => {
      this.output += chunk.toString();
    };
    this.child.stdout?.on('data', collect);
    this.child.stderr?.on('data', collect);
    this.ended = new Promise((resolve) => this.child.once('exit', () => resolve()));
  }

  /** Waits for its end; throws when it failed. */
  async stats(): Promise<ExampleStats> {
    await this.ended;
    if (this.child.exitCode !== 0) {
      throw new Error(`example ended with ${this.child.exitCode ?? this.child.signalCode}: ${this.output}`);
    }
    return JSON.parse(readFileSync(this.file, 'utf8')) as ExampleStats;
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.child.kill(signal);
    await this.ended;
  }
}
