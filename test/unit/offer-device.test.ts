/** The owner of a device, in TypeScript, with a daemon of this file that says what a test wants. */
import assert from 'node:assert/strict';
import { openSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { type DeviceOffer, offerDevice, RefusedError } from '../../clients/node/index.js';
import { Code, type DaemonMessage, decodeFromGuest, encode } from '../../src/guests/protocol.js';
import { Fd } from '../../src/native/base.js';
import { type SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';
import { socketPath, until } from './sockets.js';

const DONE: DaemonMessage = { type: 'done', serial: 1 };
const error = (code: Code, text: string): DaemonMessage => {
  return { type: 'error', serial: 1, code, errnum: 0, fatal: 1, text };
};

/** Answers offers one after the other; null hangs up. */
function listen(path: string, answers: (DaemonMessage | null)[]) {
  const heard: string[] = [];
  const connections: SeqPacket[] = [];
  const server = SeqPacketServer.listen(path, {
    onConnection: (connection) => {
      connections.push(connection);
      connection.onClose = () => heard.push('closed');
      connection.onMessage = (data, fds) => {
        const message = decodeFromGuest(data, fds.length);
        assert.equal(message.type, 'offerDevice');
        heard.push(`${message.name} ${readlinkSync(`/proc/self/fd/${fds[0]?.number}`)}`);
        for (const fd of fds) fd.close();
        const answer = answers.shift() ?? null;
        if (answer === null) connection.close();
        else connection.send(encode(answer));
      };
    },
  });
  const close = () => {
    for (const connection of connections) connection.close();
    server.close();
  };
  return { heard, connections, close };
}

function withDevice(path: string, timeoutMs?: number): Promise<DeviceOffer> {
  const device = new Fd(openSync('/dev/null', 'r'));
  const offered = offerDevice({
    name: 'vgpu',
    device,
    path,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
  return offered.finally(() => {
    assert.equal(device.closed, false, "it stays its owner's");
    device.close();
  });
}

test('a device is offered, and taken back', async (t) => {
  const path = socketPath();
  const daemon = listen(path, [DONE]);
  t.after(daemon.close);
  const offer = await withDevice(path);
  assert.deepEqual(daemon.heard, ['vgpu /dev/null']);
  offer.close();
  assert.match((await offer.ended).message, /closed/);
  await until('its end', () => daemon.heard.length === 2);
});

test('the daemon gives the device up, and says why', async (t) => {
  const path = socketPath();
  const daemon = listen(path, [DONE]);
  t.after(daemon.close);
  const offer = await withDevice(path);
  daemon.connections[0]?.send(encode(error(Code.badFd, 'the device was removed')));
  const why = await offer.ended;
  assert.ok(why instanceof RefusedError && why.code === Code.badFd);
  assert.equal(why.message, 'the device was removed');
});

test('it is offered again while another device is shown or the daemon restarts, and not after a refusal', async (t) => {
  const path = socketPath();
  const early = withDevice(path, 20_000);
  const daemon = listen(path, [error(Code.busy, 'taken'), null, DONE]);
  t.after(daemon.close);
  const offer = await early;
  assert.equal(daemon.heard.filter((what) => what !== 'closed').length, 3);
  offer.close();
  const refused = listen(`${path}2`, [error(Code.notAllowed, 'uid 7 may not')]);
  t.after(refused.close);
  await assert.rejects(withDevice(`${path}2`, 20_000), { name: 'RefusedError', code: Code.notAllowed });
  await assert.rejects(withDevice(`${path}3`), { code: 'ENOENT' });
});

test('a daemon that says what it may not is left', async (t) => {
  const path = socketPath();
  const configure: DaemonMessage = {
    ...{ type: 'configure', serial: 0, width: 1, height: 1, refreshMhz: 1, lit: 0, output: '' },
  };
  const daemon = listen(path, [configure]);
  t.after(daemon.close);
  await assert.rejects(withDevice(path), { name: 'ClosedError', reason: 'EPROTO' });
});
