/** A server with one good client, for peers that break the rules. */
import assert from 'node:assert/strict';
import { after, before, beforeEach } from 'node:test';
import { isSystemError } from '../../src/native/base.js';
import { Bus, BusServer, socketAddress } from '../../src/native/bus.js';
import { OBJECT } from './bus-pair.js';
import { encodeCall, type RawPeer } from './bus-raw.js';
import { socketPath, until } from './sockets.js';

export const path = socketPath();
/** The bytes of a call. */
export const call = (member: string) => encodeCall(OBJECT.path, OBJECT.interface, member);
export let server: BusServer;
let good: Bus;
/** How often Ping was called. */
export let calls = 0;
/** Why connections ended, except those that were closed in order. */
export let ends: string[] = [];

before(async () => {
  server = BusServer.listen(path, {
    maxConnections: 500,
    onConnection(bus) {
      bus.addInterface(OBJECT.path, OBJECT.interface, {
        methods: {
          Ping: {
            handler: () => {
              calls += 1;
            },
          },
          Text: { in: 's', out: 's', handler: (args) => args },
          Any: { in: 'a{sv}', handler: () => {} },
          Never: { handler: () => new Promise<void>(() => {}) },
          Fill: { out: 'ay', handler: () => [new Uint8Array(50_000)] },
        },
        properties: { Level: { signature: 'u', get: () => 1, set: () => {} } },
      });
      bus.closed.then((error) => ends.push(isSystemError(error) ? error.code : `${error}`));
    },
    onRefused: (_, error) => ends.push(isSystemError(error) ? error.code : `${error}`),
  });
  good = await Bus.open(socketAddress(path));
});
beforeEach(async () => {
  await until('the last test’s peers to be gone', () => server.connections === 1);
  calls = 0;
  ends = [];
});
after(() => {
  good.close();
  server.close();
});

export async function othersAreFine(): Promise<void> {
  const text = ['still there'];
  assert.deepEqual(await good.call({ ...OBJECT, member: 'Text', signature: 's', body: text }), text);
}

export async function ended(peer: RawPeer, code: string): Promise<void> {
  await peer.ended();
  await until('the end to be told', () => ends.length > 0);
  assert.deepEqual(ends, [code]);
  await othersAreFine();
}

/** Forgets the ends so far. */
export function forgetEnds(): void {
  ends = [];
}
