/** Who may have a lease. */
import { readFileSync } from 'node:fs';
import type { LeaseConfig } from '../config/config.js';
import { allowsPeer } from '../config/match.js';
import type { Lessee } from './held.js';

/** Root always may. */
export function mayHave(settings: LeaseConfig, { uid, gid, pid }: Lessee): boolean {
  if (uid === 0) return true;
  const { units, uids, gids } = settings;
  if (units === null) return allowsPeer(settings, uid, gid ?? -1);
  const isAccount = (uids !== null || gids !== null) && allowsPeer(settings, uid, gid ?? -1);
  return isAccount || units.includes(unitOf(pid) ?? '');
}

/** The systemd unit that a process belongs to, from its control group; null where there is none to be found. */
export function unitOf(pid: number): string | null {
  let groups: string;
  try {
    groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
  } catch {
    return null; // it has ended
  }
  return unitOfGroup(/^0::(.*)$/m.exec(groups)?.[1] ?? '');
}

/** The innermost service or scope of a path such as `/system.slice/player.service/sub` (systemd: docs/CONTROL_GROUP_INTERFACE.md). */
export function unitOfGroup(path: string): string | null {
  const names = path.split('/').filter((part) => /^[^.].*\.(service|scope)$/.test(part));
  const last = names.at(-1);
  // systemd puts an underscore before names that the kernel would take for its own.
  return last === undefined ? null : last.replace(/^_/, '');
}
