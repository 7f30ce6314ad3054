/** A bus daemon for tests. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { socketAddress } from '../../src/native/bus.js';
import { socketPath } from './sockets.js';

export interface BusDaemon {
  address: string;
  child: ChildProcess;
}

/** Why tests that need one are to be skipped. */
export const noBusDaemon = spawnSync('dbus-daemon', ['--version']).status === 0 ? false : 'no dbus-daemon';

/** A bus that any user may use, but for what `rules` say. */
export async function startBusDaemon(rules = ''): Promise<BusDaemon> {
  const path = socketPath();
  chmodSync(dirname(path), 0o711);
  const address = socketAddress(path);
  writeFileSync(
    `${path}.conf`,
    `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>${address}</listen><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>${rules}
</policy></busconfig>`,
  );
  const args = [`--config-file=${path}.conf`, '--print-address', '--nofork', '--nopidfile'];
  const child = spawn('dbus-daemon', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return { address, child };
}
