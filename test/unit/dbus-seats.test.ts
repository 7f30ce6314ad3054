/** The calls for seats over the bus, and whoever watches input there: to one caller, and no longer than its connection. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DbusFrontend } from '../../src/api/dbus.js';
import type { InputEventDocument } from '../../src/api/documents.js';
import { ApiError } from '../../src/api/errors.js';
import type { Manager } from '../../src/api/manager.js';
import { connectionOver } from '../../src/cli/connection.js';
import type { Config } from '../../src/config/config.js';
import { Bus, socketAddress } from '../../src/native/bus.js';
import { seat, status, watched } from '../fixtures/documents.js';
import { type BusDaemon, noBusDaemon as skip, startBusDaemon } from './bus-daemon.js';
import { socketPath } from './sockets.js';

let daemon: BusDaemon;
before(async () => {
  if (skip === false) daemon = await startBusDaemon();
});
after(() => daemon?.child.kill());

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; !holds(); i++) {
    assert.ok(i < 1000, what);
    await sleep(5);
  }
}

/** A front end whose manager notes what is asked of it. */
async function started(systemBus: 'on' | 'off') {
  if (systemBus === 'on') process.env.DBUS_SYSTEM_BUS_ADDRESS = daemon.address;
  const calls: unknown[][] = [];
  const note =
    (name: string) =>
    async (_caller: unknown, ...args: unknown[]) => {
      calls.push([name, ...args]);
    };
  let tell: (events: InputEventDocument[]) => void = () => {};
  let watching = false;
  const manager = Object.assign(new EventEmitter(), {
    describe: () => status({ seats: [seat()] }),
    version: '0',
    ready: true,
    switchSeat: note('switch'),
    attachDevice: note('attach'),
    detachDevice: note('detach'),
    lockSeat: note('lock'),
    watchInput: async (_caller: unknown, name: string, keys: boolean, told: typeof tell) => {
      if (watching) throw new ApiError('Busy', 'seat desk is watched already');
      calls.push(['watch', name, keys]);
      watching = true;
      tell = told;
      return () => {
        watching = false;
      };
    },
  });
  const path = socketPath();
  const config = { daemon: { busSocket: path, systemBus } } as Config;
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  const frontend = new DbusFrontend(manager as unknown as Manager, config, log as never);
  await frontend.start();
  return {
    frontend,
    path,
    calls,
    manager,
    tell: (events: InputEventDocument[]) => tell(events),
    isWatched: () => watching,
  };
}

test('what scanoutctl asks for seats reaches the manager, and refusals come back', async () => {
  const { frontend, path, calls, tell, isWatched } = await started('off');
  const target = { kind: 'socket', path } as const;
  const client = connectionOver(await Bus.open(socketAddress(path)), target);
  await client.switchSeat('desk', 'tv');
  await client.attachDevice('event3', 'desk');
  await client.detachDevice('event3');
  await client.lockSeat('desk', true);
  await client.lockSeat('desk', false);
  const seen: InputEventDocument[] = [];
  await client.watchInput('desk', true, (events) => seen.push(...events));
  assert.deepEqual(calls, [
    ['switch', 'desk', 'tv'],
    ['attach', 'event3', 'desk'],
    ['detach', 'event3'],
    ['lock', 'desk', true],
    ['lock', 'desk', false],
    ['watch', 'desk', true],
  ]);
  tell([watched(), watched({ value: 0 })]);
  await until('both events', () => seen.length === 2);
  assert.deepEqual(seen, [watched(), watched({ value: 0 })]);
  const other = connectionOver(await Bus.open(socketAddress(path)), target);
  await assert.rejects(
    other.watchInput('desk', false, () => {}),
    /the daemon refused: seat desk is watched already/,
  );
  other.close();
  assert.equal(isWatched(), true);
  client.close();
  await until('its end', () => !isWatched());
  await frontend.stop();
});

test('every seat is an object, whose counters do not count as changes', async () => {
  const { frontend, path, manager } = await started('off');
  manager.emit('changed', 'seats');
  const bus = await Bus.open(socketAddress(path));
  const ask = async (member: string) => {
    const [value] = await bus.call({
      path: '/org/scanoutd1/seats/desk',
      interface: 'org.freedesktop.DBus.Properties',
      member: 'Get',
      signature: 'ss',
      body: ['org.scanoutd1.Seat', member],
    });
    return (value as { value: string }).value;
  };
  assert.equal(await ask('Name'), 'desk');
  const document = JSON.parse(await ask('Json'));
  assert.deepEqual([document.guest, document.idleMs, document.guests[0].sinks], ['tv', 0, []]);
  bus.close();
  await frontend.stop();
});

test('on the system bus events go to the one who watches, until it is gone', { skip }, async () => {
  const { frontend, tell, isWatched } = await started('on');
  const [watcher, other] = [await Bus.system(), await Bus.system()];
  const seen: [unknown, string][] = [];
  for (const bus of [watcher, other]) {
    const match = { path: '/org/scanoutd1', interface: 'org.scanoutd1.Manager', member: 'InputEvents' };
    bus.subscribe(match, ({ body }) => seen.push([bus, String(body[0])]));
  }
  const call = { destination: 'org.scanoutd1', path: '/org/scanoutd1', interface: 'org.scanoutd1.Manager' };
  await watcher.call({ ...call, member: 'WatchInput', signature: 'sb', body: ['desk', false] });
  tell([watched()]);
  await until('the event', () => seen.length > 0);
  await sleep(50);
  assert.deepEqual(seen, [[watcher, 'desk']]);
  await assert.rejects(other.call({ ...call, member: 'UnwatchInput' }), /the caller watches nothing/);
  watcher.close();
  await until('its end', () => !isWatched());
  await other.call({ ...call, member: 'WatchInput', signature: 'sb', body: ['desk', false] });
  await other.call({ ...call, member: 'UnwatchInput' });
  assert.equal(isWatched(), false);
  other.close();
  await frontend.stop();
});
