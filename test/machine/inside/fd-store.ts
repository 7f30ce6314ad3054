/** A service manager's store of descriptors, for daemons that are not started by one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const STORE = resolve('build-machine/store');

export class StoreServer {
  private constructor(
    private readonly directory: string,
    private readonly child: ChildProcess,
  ) {}

  static async start(): Promise<StoreServer> {
    const directory = mkdtempSync(join(tmpdir(), 'store-'));
    const child = spawn(STORE, ['serve', directory], { stdio: ['pipe', 'pipe', 'inherit'] });
    if (child.stdout === null) throw new Error('no output');
    await once(child.stdout, 'data');
    return new StoreServer(directory, child);
  }

  /** Starts a program with what is stored now, and stores what it leaves. */
  get through(): string[] {
    return [STORE, 'run', this.directory];
  }

  async dispose(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.kill();
    await ended;
    rmSync(this.directory, { recursive: true });
  }
}
