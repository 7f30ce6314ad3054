/** Input of guests on the socket: from the real input thread, by the daemon's own half, to GuestClient. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { GuestClient, type InputDevices, type InputFrame, RefusedError } from '../../clients/node/index.js';
import type { GuestInputName } from '../../src/config/config.js';
import { Code, type DaemonMessage, type ErrorMessage } from '../../src/guests/protocol.js';
import { RingInput } from '../../src/guests/ring-input.js';
import { SocketGuest } from '../../src/guests/socket.js';
import type { Card } from '../../src/kms/card.js';
import { Fd } from '../../src/native/base.js';
import { FIRST_VIRTUAL_CRTC } from '../../src/native/flip.js';
import {
  type DeviceDescription,
  InputEngine,
  type InputNotice,
  type SeatTable,
} from '../../src/native/input.js';
import { SeqPacketServer } from '../../src/native/seqpacket.js';
import type { FlipStatistics } from '../../src/service/statistics.js';
import { engineWithoutCard, PERIOD_NS, SmallDaemon, temporaryDirectory } from './small-daemon.js';

const KEY_CAPSLOCK = 58;
const LED_CAPSL = 1;
const EV_KEY = 1;

const KEYBOARD: DeviceDescription = {
  ...{
    name: 'Keys of brass',
    phys: 'usb-1',
    uniq: '',
    bus: 3,
    vendor: 0x46d,
    product: 0xc31c,
    version: 0x110,
  },
  ...{ properties: [], types: [0, EV_KEY, 0x11], keys: [30, KEY_CAPSLOCK, 0x2ff], relative: [], misc: [] },
  ...{ absolute: {}, switches: [], leds: [0, LED_CAPSL] },
};
const TOUCH: DeviceDescription = {
  ...{ ...KEYBOARD, name: 'Glass', types: [0, EV_KEY, 3], keys: [0x14a], leds: [], properties: [1] },
  absolute: {
    53: { minimum: -5, maximum: 4095, fuzz: 1, flat: 2, resolution: 40 },
    54: { minimum: 0, maximum: 2047, fuzz: 0, flat: 0, resolution: 0 },
  },
};
const DEVICES = [{ class: 'keyboard', description: KEYBOARD } as const];

interface Guest {
  client: GuestClient;
  daemon: SmallDaemon;
  /** Of the input thread. */
  id: number;
  /** What it asked for last. */
  ring: RingInput | null;
  frames: InputFrame[];
  devices: InputDevices[];
}

function seatTable(guest: number | null): SeatTable {
  return {
    devices: [],
    guest,
    switches: 0,
    pointer: 'seat',
    outputs: [],
    places: [],
    hotkeys: [],
    carryLocks: true,
  };
}

/** The input thread and connected guests, whose rings are attached as soon as they are asked for unless `late`. */
async function setUp(t: TestContext, count: number, late = false) {
  const directory = temporaryDirectory(t);
  const flips = engineWithoutCard(directory);
  await flips.addCrtc(FIRST_VIRTUAL_CRTC, PERIOD_NS, 'eager');
  const notices: InputNotice[] = [];
  const input = new InputEngine({ priority: 0, onNotice: (notice) => notices.push(notice) });
  const guests: Guest[] = [];
  for (let i = 0; i < count; i++) {
    const path = join(directory, `guest${i}.sock`);
    const daemon = new SmallDaemon(path, flips);
    const client = new GuestClient({ name: `guest${i}`, path });
    const guest: Guest = { client, daemon, id: await input.addGuest(), ring: null, frames: [], devices: [] };
    daemon.takeInput = (serial, [event, room]) => {
      assert.ok(event && room);
      const ended = () => {
        guest.ring = null;
      };
      guest.ring = new RingInput(serial, { event, room }, (message, fds) => daemon.send(message, fds), ended);
      if (!late) void guest.ring.attach(input, guest.id, DEVICES).catch(() => {});
    };
    client.on('input', (frame) => guest.frames.push(frame));
    client.on('devices', (devices) => guest.devices.push(devices));
    await client.connect();
    guests.push(guest);
  }
  t.after(async () => {
    for (const { client, daemon } of guests) {
      client.close();
      await daemon.close();
    }
    input.shut();
    flips.close();
  });
  return { input, guests, notices };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 5000; !holds(); await new Promise((done) => setTimeout(done, 5)))
    assert.ok(performance.now() < end, `not within five seconds: ${what}`);
}

const keys = ({ frames }: Guest) =>
  frames.flatMap(({ events }) => events.map(({ type, code, value }) => [type, code, value]));

test('a guest is given devices as they are', async (t) => {
  const { input, guests } = await setUp(t, 1);
  const [guest] = guests;
  assert.ok(guest);
  await guest.client.takeInput();
  await until('devices', () => guest.devices.length === 1);
  const { keyboard, ...others } = guest.devices[0] ?? {};
  assert.deepEqual(others, {});
  const { phys: _, uniq: __, absolute: ___, ...wanted } = KEYBOARD;
  assert.deepEqual(keyboard, { ...wanted, axes: {} });

  await guest.ring?.describe([...DEVICES, { class: 'touchscreen', description: TOUCH }]);
  await until('other devices', () => guest.devices.length === 2);
  const touch = guest.devices[1]?.touchscreen;
  assert.deepEqual(touch?.properties, [1]);
  assert.deepEqual(touch?.axes, {
    53: { value: 0, ...TOUCH.absolute[53] },
    54: { value: 0, ...TOUCH.absolute[54] },
  });
  assert.ok(guest.devices[1]?.keyboard);
  const [event, room] = [0, 1].map(() => new Fd(openSync('/dev/null', 'r')));
  assert.ok(event && room);
  assert.throws(() => input.addRing(guest.id, { event, room, devices: [] }), { code: 'EINVAL' });
  const twice = [...DEVICES, ...DEVICES];
  assert.throws(() => input.addRing(guest.id, { event, room, devices: twice }), /one of each class/);
  for (const fd of [event, room]) fd.close();
});

test('keys reach the guest of the seat and no other, and LEDs come back', async (t) => {
  const { input, guests, notices } = await setUp(t, 3);
  const [first, second, third] = guests;
  assert.ok(first && second && third);
  for (const { client } of guests) await client.takeInput();
  const seat = await input.addSeat();
  await input.setSeat(seat, seatTable(first.id));
  const told = (leds: number) => () =>
    notices.some((notice) => notice.type === 'leds' && notice.leds === leds);
  first.client.setLeds(1 << LED_CAPSL);
  second.client.setLeds(0);
  await until('LEDs of the first', told(1 << LED_CAPSL));
  await until('LEDs of the second', told(0));
  // The lock goes along with the seat: to the next guest by a tap of its key.
  await input.setSeat(seat, seatTable(second.id));
  await until('a tap', () => second.frames.length === 2);
  assert.deepEqual(keys(second), [
    [EV_KEY, KEY_CAPSLOCK, 1],
    [EV_KEY, KEY_CAPSLOCK, 0],
  ]);
  assert.ok(second.frames.every(({ device, timeNs }) => device === 'keyboard' && timeNs > 0n));
  assert.deepEqual([first.frames, third.frames], [[], []]);
});

test('a ring that ends says so, and may be asked for again', async (t) => {
  const { input, guests } = await setUp(t, 1);
  const [guest] = guests;
  assert.ok(guest);
  await guest.client.takeInput();
  await assert.rejects(async () => guest.client.takeInput(), { code: 'EEXIST' });
  const error = once(guest.client, 'error');
  guest.ring?.detached(null);
  const [ended] = (await error) as [RefusedError];
  assert.equal(ended.code, Code.inputEnded);
  assert.match(ended.message, /no seat gives/);
  assert.equal(guest.ring, null);
  await guest.client.takeInput();
  assert.ok(guest.ring);
  input.shut();
});

test('a ring that cannot be made is refused with the reason', async (t) => {
  const { input, guests } = await setUp(t, 1);
  const [guest] = guests;
  assert.ok(guest);
  input.shut();
  await assert.rejects(guest.client.takeInput(), (error: RefusedError) => {
    assert.ok(error instanceof RefusedError);
    assert.equal(error.code, Code.internal);
    return /there is no/.test(error.message);
  });
  assert.equal(guest.ring, null);
});

test('a guest that is given no ring after all is told, and one that has left is not', async (t) => {
  const { input, guests } = await setUp(t, 2, true);
  const [first, second] = guests;
  assert.ok(first && second);
  const refused = assert.rejects(
    first.client.takeInput(),
    (error: RefusedError) => error.code === Code.inputEnded,
  );
  await until('the question', () => first.ring !== null);
  first.ring?.detached('the seat is gone');
  await refused;

  const asked = second.client.takeInput();
  await until('the question', () => second.ring !== null);
  const { ring } = second;
  const attached = ring?.attach(input, second.id, DEVICES);
  ring?.close();
  const sink = await attached;
  ring?.detached(null);
  assert.equal(typeof sink, 'number');
  second.client.disconnect();
  await assert.rejects(asked, { name: 'ClosedError' });
  assert.deepEqual(second.devices, []);
});

test('the end of a daemon ends what the guest had', async (t) => {
  const { input, guests } = await setUp(t, 1);
  const [guest] = guests;
  assert.ok(guest);
  await guest.client.takeInput();
  await until('devices', () => guest.devices.length === 1);
  const closed = once(guest.client, 'closed');
  guest.daemon.hangUp();
  assert.deepEqual(await closed, ['ECONNRESET']);
  // It is asked for by itself after the next connect.
  await guest.client.connect();
  await until('devices', () => guest.devices.length === 2);
  assert.ok(input.heartbeat() > 0);
});

/** The daemon's half of a guest that speaks this minor version and is configured so. */
async function daemonHalf(t: TestContext, versionMinor: number, how: GuestInputName) {
  const directory = temporaryDirectory(t);
  const engine = engineWithoutCard(directory);
  const changes: string[] = [];
  const sent: DaemonMessage[] = [];
  const eventfds = await eventfdsOf(t, directory);
  const guest = new SocketGuest(
    { engine, newStreams: () => 1, shadows: { forget: async () => {} } } as unknown as Card,
    {
      ...{ type: 'hello', serial: 1, versionMajor: 1, versionMinor, capabilities: 0n, name: 'kiosk' },
      ...{ planeCount: 1, planeKinds: [1, 0, 0, 0] },
    },
    null,
    { pid: 1, uid: 0, gid: 0 },
    { kick: eventfds[0].dup(), release: eventfds[1].dup() },
    (message) => sent.push(message),
    { forget: () => {} } as unknown as FlipStatistics,
    { engine: null, how: () => how, changed: (name) => changes.push(name) },
  );
  t.after(async () => {
    await guest.leave();
    engine.close();
  });
  return { guest, changes, sent, eventfds };
}

/** Two eventfds, such as a client sends. */
async function eventfdsOf(t: TestContext, directory: string): Promise<[Fd, Fd]> {
  const path = join(directory, 'eventfds.sock');
  const client = new GuestClient({ name: 'eventfds', path });
  const fds = await new Promise<Fd[]>((resolve) => {
    const server = SeqPacketServer.listen(path, {
      onConnection: (connection) => {
        connection.onMessage = (_, received) => resolve(received);
      },
    });
    t.after(() => server.close());
    void client.connect().catch(() => {});
  });
  client.close();
  const [kick, release] = fds;
  assert.ok(kick && release);
  t.after(() => {
    for (const fd of fds) fd.close();
  });
  return [kick, release];
}

const TAKE_INPUT = { type: 'takeInput', serial: 9 } as const;

test('a guest that speaks an older version is given no input', async (t) => {
  const { guest, eventfds, changes } = await daemonHalf(t, 3, 'ring');
  assert.throws(() => guest.takeInput(TAKE_INPUT, eventfds), {
    name: 'ProtocolError',
    code: Code.badMessage,
  });
  assert.equal(guest.input, null);
  assert.deepEqual(changes, []);
});

test('a guest whose input goes another way by the configuration is told so', async (t) => {
  const { guest, eventfds, changes } = await daemonHalf(t, 4, 'none');
  assert.throws(() => guest.takeInput(TAKE_INPUT, eventfds), {
    code: Code.notAllowed,
    message: 'guest kiosk gets no input by a ring: the configuration says input = "none"',
  });
  assert.deepEqual(changes, []);
});

test('a guest asks once, with eventfds, and the seats hear of it', async (t) => {
  const { guest, eventfds, changes, sent } = await daemonHalf(t, 4, 'ring');
  const [null1, null2] = [0, 1].map(() => new Fd(openSync('/dev/null', 'r')));
  assert.ok(null1 && null2);
  assert.throws(() => guest.takeInput(TAKE_INPUT, [null1, null2]), { code: Code.badFd });
  for (const fd of [null1, null2]) fd.close();
  guest.takeInput(TAKE_INPUT, eventfds);
  assert.ok(eventfds.every((fd) => !fd.closed)); // the session's, which closes them
  assert.deepEqual(changes, ['kiosk']);
  assert.equal(guest.input?.how, 'ring');
  assert.throws(() => guest.takeInput(TAKE_INPUT, eventfds), { code: Code.badState });
  guest.input?.detached('its read index went back');
  assert.equal(guest.input, null);
  const { code, serial, text, fatal } = sent[0] as ErrorMessage;
  assert.deepEqual(
    { code, serial, text, fatal },
    { code: Code.inputEnded, serial: 9, text: 'its read index went back', fatal: 0 },
  );
  guest.takeInput({ ...TAKE_INPUT, serial: 10 }, eventfds);
  await guest.leave(); // is told nothing
  assert.equal(sent.length, 1);
});
