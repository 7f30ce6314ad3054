import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/load.js';
import { INPUT_CLASSES } from '../../src/native/input.js';
import { assignDevice, matchesPattern, readOptions, seatsOf, settingsFor } from '../../src/seats/assign.js';
import { guestDescription, lacking, usualDescription } from '../../src/seats/describe.js';
import { type InputNode, isGuests, nodeOf } from '../../src/seats/nodes.js';

const ACCOUNTS = { user: () => 0, group: () => 0 };
const load = (text: string) => parseConfig(text, 'f', ACCOUNTS);

function node(change: Partial<InputNode> = {}): InputNode {
  return {
    path: '/dev/input/event3',
    sysPath: '/sys/devices/usb1/1-2/input/input5/event3',
    name: 'ACME Keyboard',
    phys: 'usb-2/input0',
    id: '046d:c31c',
    udevSeat: 'seat0',
    links: ['/dev/input/by-path/usb-2-event-kbd'],
    ...change,
  };
}

test('a node is read from udev and sysfs; what is no event device is none', () => {
  const attributes: Record<string, string> = {
    name: 'A B',
    phys: 'p',
    'id/vendor': '046d',
    'id/product': 'c31c',
  };
  const parent = '/sys/devices/x/input/input5/';
  const device = {
    subsystem: 'input',
    devtype: null,
    sysname: 'event3',
    syspath: `${parent}event3`,
    devnode: '/dev/input/event3',
    properties: { DEVLINKS: '/dev/input/by-id/a /dev/input/by-path/b', ID_SEAT: 'seat-x' },
  };
  const read = (path: string) => attributes[path.replace(parent, '')] ?? '';
  assert.deepEqual(nodeOf(device, read), {
    path: '/dev/input/event3',
    sysPath: `${parent}event3`,
    name: 'A B',
    phys: 'p',
    id: '046d:c31c',
    udevSeat: 'seat-x',
    links: ['/dev/input/by-id/a', '/dev/input/by-path/b'],
  });
  assert.equal(nodeOf({ ...device, properties: {} }, read)?.udevSeat, 'seat0');
  assert.equal(nodeOf({ ...device, sysname: 'input5', devnode: null }, read), null);
  assert.equal(nodeOf({ ...device, sysname: 'mouse0', devnode: '/dev/input/mouse0' }, read), null);
});

test('what a guest has is no device of a seat', () => {
  assert.equal(isGuests(node({ phys: 'scanoutd/tv/keyboard' })), true);
  assert.equal(isGuests(node({ phys: 'usb/scanoutd/' })), false);
});

test('patterns: a star is anything, everything else is itself', () => {
  assert.equal(matchesPattern('ACME *', 'ACME Keyboard'), true);
  assert.equal(matchesPattern('ACME *', 'XACME Keyboard'), false);
  assert.equal(matchesPattern('*(2.4G)*', 'Mouse (2.4G) Receiver'), true);
  assert.equal(matchesPattern('a.c', 'abc'), false);
  assert.equal(matchesPattern('*', ''), true);
});

test('the first entry that fits counts, by whatever it asks for', () => {
  for (const [match, fits] of [
    ['id = "046D:C31C"', true],
    ['id = "046d:c31d"', false],
    ['name = "ACME*"', true],
    ['phys = "usb-3/*"', false],
    ['device = "/dev/input/event3"', true],
    ['device = "/dev/input/by-path/usb-2-event-kbd"', true],
    ['device = "/sys/devices/usb1/1-2"', true],
    ['device = "/sys/devices/usb1/1-"', false],
    ['class = "keyboard"', true],
    ['class = "pointer"', false],
    ['name = "ACME*"\nclass = "keyboard"\nid = "046d:c31c"', true],
  ] as const) {
    const found = settingsFor(load(`[[input]]\n${match}\n`), node(), 'keyboard');
    assert.equal(found != null, fits, match);
  }
});

test('what depends on a class that is not known yet is said to be open', () => {
  const config = load('[[input]]\nclass = "pad"\nignore = true\n[[input]]\nname = "ACME*"\n[[input]]');
  assert.equal(settingsFor(config, node(), undefined), undefined);
  assert.equal(settingsFor(config, node(), 'keyboard'), config.inputs[1]);
  assert.equal(settingsFor(config, node(), 'pad'), config.inputs[0]);
  const sure = load('[[input]]\nname = "ACME*"\n[[input]]\nclass = "pad"');
  assert.equal(settingsFor(sure, node(), undefined), sure.inputs[0]);
});

const SEATS = '[[seat]]\nname = "left"\nudev_seat = "seat0"\n[[seat]]\nname = "right"\n';

test('whose a device is: by a call, by configuration, by udev, and the rest', () => {
  const { seats } = load(SEATS);
  const [entry] = load(`${SEATS}[[input]]\nseat = "right"`).inputs;
  const of = (change: Partial<InputNode>, how = entry ?? null, attached: string | null = null) => {
    const { seat, by } = assignDevice(seats, node(change), how, attached);
    return [seat, by];
  };
  assert.deepEqual(of({}, null), ['left', 'rest']);
  assert.deepEqual(of({ udevSeat: 'right' }, null), ['right', 'udev']);
  assert.deepEqual(of({ udevSeat: 'seat-x' }, null), [null, 'udev']);
  assert.deepEqual(of({}), ['right', 'configuration']);
  assert.deepEqual(of({}, entry, 'left'), ['left', 'attached']);
  assert.deepEqual(of({}, entry, 'gone'), ['right', 'configuration']);
  const nobodys = assignDevice(seats.slice(1), node(), null, null);
  assert.deepEqual(
    [nobodys.seat, nobodys.reason],
    [null, 'no [[input]] gives it a seat, and no [[seat]] has udev_seat = "seat0"'],
  );
});

test('without a seat in the configuration there are those of udev that have a card, and the first', () => {
  const names = (list: string[]) => seatsOf(load(''), list).map(({ name }) => name);
  assert.deepEqual(names([]), ['seat0']);
  assert.deepEqual(names(['seat-a', 'seat0', 'seat-a']), ['seat0', 'seat-a']);
  assert.deepEqual(
    seatsOf(load(SEATS), ['seat-a']).map(({ name }) => name),
    ['left', 'right'],
  );
});

test('how a device is read: what its entry says, then its seat, then what it is', () => {
  const { seats, inputs } = load(
    `${SEATS}input = { grab = "no", accel_speed = 0.5, natural_scroll = true }\n[[input]]\naccel_speed = 1`,
  );
  const seat = seats[1]?.input;
  const plain = seats[0]?.input;
  assert.ok(seat !== undefined && plain !== undefined);
  assert.deepEqual(readOptions('keyboard', null, plain, true), { read: 'raw', grab: true, libinput: {} });
  assert.equal(readOptions('keyboard', null, plain, false).grab, false);
  assert.equal(readOptions('touchpad', null, plain, true).read, 'libinput');
  // Options that a device has no use for leave it raw.
  assert.equal(readOptions('keyboard', null, seat, true).read, 'raw');
  assert.deepEqual(readOptions('pointer', inputs[0] ?? null, seat, true), {
    read: 'libinput',
    grab: false,
    libinput: { accelSpeed: 1, naturalScroll: true },
  });
  const raw = { read: 'raw', grab: 'yes', libinput: {} } as const;
  assert.deepEqual(readOptions('touchpad', raw, plain, false), { read: 'raw', grab: true, libinput: {} });
});

test('a guest has one device for all of a class', () => {
  const first = { ...usualDescription('touchscreen'), name: 'One', uniq: 'u', vendor: 7, keys: [330] };
  const second = {
    ...usualDescription('touchscreen'),
    name: 'Two',
    keys: [330, 331],
    absolute: {
      ...first.absolute,
      0: { minimum: 0, maximum: 9, fuzz: 0, flat: 0, resolution: 0 },
      24: { minimum: 0, maximum: 99, fuzz: 0, flat: 0, resolution: 0 },
    },
  };
  const one = guestDescription('tv', 'touchscreen', [first]);
  assert.deepEqual(one, { ...first, phys: 'scanoutd/tv/touchscreen' });
  const both = guestDescription('tv', 'touchscreen', [first, second]);
  assert.deepEqual([both.name, both.vendor, both.uniq, both.keys], ['One', 7, '', [330, 331]]);
  assert.equal(both.absolute[0]?.maximum, 32767);
  assert.equal(both.absolute[24]?.maximum, 99);
  assert.equal(lacking(one, both), '1 of keys, 1 of axes');
  assert.equal(lacking(both, one), '');
});

test('the usual device of a class is named after it, and has its types', () => {
  for (const of of INPUT_CLASSES) {
    const description = guestDescription('tv', of, []);
    assert.equal(description.phys, `scanoutd/tv/${of}`);
    assert.deepEqual(
      description.types,
      [...new Set(description.types)].sort((a, b) => a - b),
    );
    assert.ok(description.types.length > 1, of);
  }
});
