/**
 * Runs in the test machine: `inside.js MACHINE [PATTERN]`, all programs of that machine, one after the other.
 *
 * Results go to stdout as they come, since nothing else is left of a machine that dies.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { destroyAllVkms } from '../machine/inside/vkms.js';
import { BEGIN, RESULT } from './marks.js';
import { type MachineName, machineTests } from './programs.js';
import { run } from './run.js';

const reports = join(process.env.SCANOUTD_OUT ?? 'out', 'reports');
mkdirSync(reports, { recursive: true });
for (const program of machineTests(process.argv[2] as MachineName, process.argv[3])) {
  console.log(`${BEGIN}${program.name}`);
  const result = await run(program, reports, console.log);
  console.log(`${RESULT}${JSON.stringify(result)}`);
  // What a test that died left behind would be found by the next.
  destroyAllVkms();
}
