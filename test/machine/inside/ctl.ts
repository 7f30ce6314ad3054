/** scanoutctl in this process: starting a program takes seconds where it is emulated. */
import { join } from 'node:path';
import { processIo } from '../../../src/cli/io.js';
import { run } from '../../../src/cli/program.js';
import type { TestDaemon } from './daemon.js';

export interface Answer {
  code: number;
  out: string;
  err: string;
}

/** A command to a daemon, and how it ends. */
export async function ctl({ directory }: TestDaemon, ...args: string[]): Promise<Answer> {
  const answer = { out: '', err: '' };
  const code = await run(args, {
    ...processIo(),
    env: { SCANOUTD_BUS: join(directory, 'bus') },
    out: (data) => {
      answer.out += data;
    },
    error: (text) => {
      answer.err += text;
    },
  });
  return { code, ...answer };
}
