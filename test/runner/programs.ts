/** The test programs, the same on this machine and in the test machine. Paths are relative to the project. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** How a program tells its results: through our reporter, as TAP on stdout, or as one test by its exit status. */
export type Reports = 'json' | 'tap' | 'status';

export interface Program {
  name: string;
  command: string[];
  env?: Record<string, string>;
  reports: Reports;
  /** Longest it may run. */
  seconds: number;
}

/** Emulated, a test takes many times what it takes here; less than what the machine may be silent for. */
const UNIT_SECONDS = 120;
const MACHINE_SECONDS = 540;

/** Tests of what needs no device. */
export function unitTests(pattern = ''): Program[] {
  return nodeTests('dist/test/unit', pattern, UNIT_SECONDS);
}

/**
 * The test machines, each booted anew: what one does to its kernel the others do not meet. Tests in a directory of that
 * name, and `plain` all others.
 */
export const MACHINES = ['plain', 'systemd', 'kvm'] as const;
export type MachineName = (typeof MACHINES)[number];

/** Tests of the native core, of its add-on, and of all that needs a device or a system. */
export function machineTests(machine: MachineName, pattern = ''): Program[] {
  const native = machine === 'plain' ? [addonLoads('build-machine'), nativeTests('build-machine')] : [];
  return [
    ...native.filter(({ name }) => name.includes(pattern)),
    ...nodeTests('dist/test/machine', pattern, MACHINE_SECONDS).filter(
      ({ name }) => (MACHINES.find((dir) => name.startsWith(`${dir}/`)) ?? 'plain') === machine,
    ),
  ];
}

/** `build` is where the native part was built; `filter` a part of the names of the tests to run. */
export function nativeTests(build: string, filter = ''): Program {
  const command = [`${build}/native_tests`, ...(filter === '' ? [] : [filter])];
  return { name: 'native_tests', command, reports: 'tap', seconds: MACHINE_SECONDS };
}

/** The linker accepts an add-on with undefined symbols; only binding all of them at once shows them. */
export function addonLoads(build: string): Program {
  return {
    name: 'addon',
    command: ['node', '-e', `require('./${build}/scanoutd.node')`],
    env: { LD_BIND_NOW: '1' },
    reports: 'status',
    seconds: 60,
  };
}

function nodeTests(dir: string, pattern: string, seconds: number): Program[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.js') && path.includes(pattern))
    .sort()
    .map((path) => ({
      name: path.replace(/\.test\.js$/, ''),
      command: ['node', join(dir, path)],
      reports: 'json',
      seconds,
    }));
}
