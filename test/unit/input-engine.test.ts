/** The input engine without a device: what it is asked, and what it says to what makes no sense. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { after, test } from 'node:test';
import { Fd } from '../../src/native/base.js';
import {
  classify,
  type DeviceDescription,
  describeDevice,
  InputEngine,
  type SeatTable,
} from '../../src/native/input.js';

const engine = new InputEngine({ priority: 0, onNotice: () => {} });
after(() => engine.shut());

const TABLE: SeatTable = {
  devices: [],
  guest: null,
  switches: 0,
  pointer: 'seat',
  outputs: [{ width: 640, height: 480 }],
  places: [],
  hotkeys: [],
  carryLocks: true,
};

const PLAIN: DeviceDescription = {
  name: 'x',
  phys: '',
  uniq: '',
  bus: 3,
  vendor: 1,
  product: 2,
  version: 3,
  properties: [],
  types: [1],
  keys: [30],
  relative: [],
  absolute: {},
  misc: [],
  switches: [],
  leds: [],
};

test('seats, guests and tables come and go, in the order in which they are asked', async () => {
  const [seat, guest] = await Promise.all([engine.addSeat(), engine.addGuest()]);
  assert.notEqual(seat, guest);
  const before = engine.heartbeat();
  await engine.setSeat(seat, {
    ...TABLE,
    guest,
    places: [{ guest, output: 0, x: 0, y: 0, width: 640, height: 480 }],
    hotkeys: [{ held: [[29, 97]], key: 59, id: 4, guest }],
  });
  assert.ok(engine.heartbeat() > before);
  assert.ok(engine.idleNs(seat) >= 0);
  // The table names a guest that is removed before it is replaced.
  await Promise.all([engine.removeGuest(guest), engine.setSeat(seat, TABLE), engine.removeSeat(seat)]);
  assert.throws(() => engine.idleNs(seat), RangeError);
  assert.throws(() => engine.setSeat(seat, TABLE), RangeError);
});

test('what makes no sense is refused, and changes nothing', async () => {
  const seat = await engine.addSeat();
  const wrong: [Partial<Record<keyof SeatTable, unknown>>, RegExp][] = [
    [{ guest: 4711 }, /guest: there is no 4711/],
    [{ devices: [{ id: 99, output: null }] }, /device: there is no 99/],
    [{ outputs: [{ width: 0, height: 1 }] }, /outputs: width: 1 or more/],
    [{ pointer: 'elsewhere' }, /pointer: seat or under/],
    [{ hotkeys: [{ held: [], key: 70000, id: 1, guest: null }] }, /there is no key 70000/],
    [{ devices: 'all' }, /devices: array expected/],
    [{ places: [{ guest: 4711, output: 0, x: 0, y: 0, width: 1, height: 1 }] }, /guest: there is no 4711/],
  ];
  for (const [part, message] of wrong)
    assert.throws(() => engine.setSeat(seat, { ...TABLE, ...part } as SeatTable), message);
  assert.throws(() => new InputEngine({ priority: 100, onNotice: () => {} }), /priority: 0 to 99/);
  assert.throws(() => engine.stats(1), /sink: there is no 1/);
  assert.throws(() => describeDevice(new Fd(openSync('/dev/null', 'r'))), { code: 'ENOTTY' });
});

test('a class is given by what a device has', () => {
  const axis = { minimum: 0, maximum: 100, fuzz: 0, flat: 0, resolution: 0 };
  const position = { 0: axis, 1: axis };
  const of = (part: Partial<DeviceDescription>) => classify({ ...PLAIN, ...part });
  assert.equal(of({}), 'keyboard');
  assert.equal(of({ keys: [272], relative: [0, 1] }), 'pointer');
  assert.equal(of({ keys: [272], absolute: position }), 'absolute');
  assert.equal(of({ keys: [330], absolute: position, properties: [1] }), 'touchscreen');
  assert.equal(of({ keys: [272, 325, 330], absolute: position }), 'touchpad');
  assert.equal(of({ keys: [320, 330], absolute: position }), 'tablet');
  assert.equal(of({ keys: [256, 257], absolute: { 8: axis } }), 'pad');
  // As Wacom's: with axes that never move.
  assert.equal(of({ keys: [256, 257, 331], absolute: position }), 'pad');
  assert.equal(of({ keys: [288, 304], absolute: position }), 'joystick');
  assert.equal(of({ keys: [], switches: [0] }), 'switch');
  assert.equal(of({ keys: [], absolute: position, properties: [6] }), null);
  assert.equal(of({ keys: [], types: [] }), null);
  assert.throws(() => of({ absolute: { 0: { ...axis, minimum: 100 } } }), /absolute\[0\]: no range/);
  assert.throws(() => of({ keys: [-1] }), RangeError);
});

test('an engine that is shut says so, and lets go of what waits', async () => {
  const other = new InputEngine({ priority: 0, onNotice: () => {} });
  const waiting = other.addSeat();
  other.shut();
  await Promise.allSettled([waiting]);
  assert.throws(() => other.heartbeat(), /shut/);
  other.shut();
});
