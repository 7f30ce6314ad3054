/** Numbers of users and groups by name. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { AccountLookup } from './config.js';

/**
 * The machine's accounts: /etc/passwd and /etc/group, and through getent whatever else the machine is set up to ask.
 * Both are read anew at every call, so that a reload sees accounts that were just made.
 */
export const systemAccounts: AccountLookup = {
  user: (name) => fromFile('/etc/passwd', name) ?? fromGetent('passwd', name),
  group: (name) => fromFile('/etc/group', name) ?? fromGetent('group', name),
};

function fromFile(file: string, name: string): number | null {
  try {
    return idIn(readFileSync(file, 'utf8'), name);
  } catch {
    return null;
  }
}

function fromGetent(database: string, name: string): number | null {
  const result = spawnSync('getent', ['--', database, name], { encoding: 'utf8', timeout: 5000 });
  return result.status === 0 ? idIn(result.stdout, name) : null;
}

/** The third field of the line that begins with `name`, in the format that both databases share. */
function idIn(text: string, name: string): number | null {
  for (const line of text.split('\n')) {
    const fields = line.split(':');
    if (fields[0] === name && /^[0-9]+$/.test(fields[2] ?? '')) {
      return Number(fields[2]);
    }
  }
  return null;
}
