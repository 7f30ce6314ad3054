/** What a CRTC has scanned out, vblank by vblank, by the CRCs that its driver computes (debugfs, drm_debugfs_crc.c). */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const DEBUGFS = '/sys/kernel/debug';
const PATIENCE_MS = 30_000;

export interface Crc {
  /** The vblank counter. */
  frame: number;
  crc: string;
}

export class CrcStream {
  private text = '';

  private constructor(private readonly reader: ChildProcess) {
    reader.stdout?.on('data', (chunk: Buffer) => {
      // Each line comes with its terminating zero.
      this.text += chunk.toString().replaceAll('\0', '');
    });
  }

  /** `index` is the card's, `crtc` the place of the CRTC on it. Resolves when the first CRC is there. */
  static async start(index: number, crtc: number): Promise<CrcStream> {
    if (readdirSync(DEBUGFS).length === 0) execFileSync('mount', ['-t', 'debugfs', 'none', DEBUGFS]);
    const directory = join(DEBUGFS, 'dri', String(index), `crtc-${crtc}`, 'crc');
    if (!existsSync(directory)) throw new Error(`${directory} is not there`);
    writeFileSync(join(directory, 'control'), 'auto');
    const stream = new CrcStream(
      spawn('cat', [join(directory, 'data')], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    await stream.more(1);
    return stream;
  }

  get all(): Crc[] {
    const lines = this.text.split('\n').slice(0, -1);
    return lines.map((line) => {
      const [frame = '', crc = ''] = line.trim().split(/\s+/);
      return { frame: Number.parseInt(frame, 16), crc };
    });
  }

  /** Waits for so many more. */
  async more(count: number): Promise<void> {
    const wanted = this.all.length + count;
    const deadline = performance.now() + PATIENCE_MS;
    while (this.all.length < wanted) {
      if (performance.now() > deadline) throw new Error(`${this.all.length} of ${wanted} CRCs`);
      await sleep(20);
    }
  }

  async stop(): Promise<Crc[]> {
    const ended = new Promise<void>((resolve) => this.reader.once('close', () => resolve()));
    this.reader.kill();
    await ended;
    return this.all;
  }
}

/** In their order, with repetitions left out. */
export function changes(crcs: readonly Crc[]): string[] {
  return crcs.map(({ crc }) => crc).filter((crc, i, all) => crc !== all[i - 1]);
}
