/** Runs a test file a second time, with the faults between it and the driver. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createFaults, type Faults, faultsEnvironment, openFaults } from '../../faults/faults.js';

export const FAULTS_LIBRARY = new URL('../../../../build-machine/libfaults.so', import.meta.url).pathname;

/** The first time this does not return: the process ends with what the second one ended with. */
export function withFaults(): Faults {
  const path = process.env.SCANOUTD_FAULTS;
  if (path !== undefined) return openFaults(path);
  const control = join(mkdtempSync(join(tmpdir(), 'faults-')), 'control');
  createFaults(control).close();
  const { status } = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env: faultsEnvironment(control, FAULTS_LIBRARY),
    stdio: 'inherit',
  });
  process.exit(status ?? 1);
}
