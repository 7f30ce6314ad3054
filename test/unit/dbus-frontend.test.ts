/** The front end's life on the system bus, as a bus daemon sees it. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { after, before, test } from 'node:test';
import { DbusFrontend } from '../../src/api/dbus.js';
import type { Manager } from '../../src/api/manager.js';
import type { Config } from '../../src/config/config.js';
import type { Logger } from '../../src/service/log.js';
import { status } from '../fixtures/documents.js';
import { type BusDaemon, noBusDaemon as skip, startBusDaemon } from './bus-daemon.js';
import { countFds, socketPath, untilFds } from './sockets.js';

let generous: BusDaemon;
let strict: BusDaemon;

before(async () => {
  if (skip !== false) return;
  generous = await startBusDaemon();
  strict = await startBusDaemon('<deny own="org.scanoutd1"/>');
});
after(() => {
  generous?.child.kill();
  strict?.child.kill();
});

/** A front end of a manager that has the status of the fixtures, on a system bus. */
function frontend(address: string): { frontend: DbusFrontend; log: [level: string, text: string][] } {
  process.env.DBUS_SYSTEM_BUS_ADDRESS = address;
  const log: [string, string][] = [];
  const at = (level: string) => (_details: object, text: string) => log.push([level, text]);
  const logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  const manager = Object.assign(new EventEmitter(), { describe: status, version: '0', ready: true });
  const config = { daemon: { busSocket: socketPath(), systemBus: 'auto' } };
  return {
    frontend: new DbusFrontend(manager as unknown as Manager, config as Config, logger as unknown as Logger),
    log,
  };
}

test('it owns its name until it is stopped', { skip }, async () => {
  const fds = countFds();
  const made = frontend(generous.address);
  await made.frontend.start();
  assert.deepEqual(made.log, [['info', 'on the system bus']]);
  await made.frontend.stop();
  await untilFds(fds);
});

test('a bus that refuses the name is told of, and not kept', { skip }, async () => {
  const fds = countFds();
  const made = frontend(strict.address);
  await made.frontend.start();
  assert.deepEqual(made.log, [['warn', 'not on the system bus']]);
  await untilFds(fds + 1); // the listening socket
  await made.frontend.stop();
  await untilFds(fds);
});

test('stopped while it joins, it leaves', { skip }, async () => {
  const fds = countFds();
  const made = frontend(generous.address);
  const started = made.frontend.start();
  await made.frontend.stop();
  await started;
  await untilFds(fds);
});
