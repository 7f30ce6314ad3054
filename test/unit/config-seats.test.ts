import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffConfig, formatChange } from '../../src/config/diff.js';
import { parseKeys } from '../../src/config/keys.js';
import { parseConfig } from '../../src/config/load.js';
import { ConfigError, formatProblem } from '../../src/config/problems.js';
import { wantsInput } from '../../src/config/seats.js';

const ACCOUNTS = { user: () => 0, group: () => 0 };
const load = (text: string) => parseConfig(text, 'f', ACCOUNTS);
const SEAT = '[[seat]]\nname = "left"\n';

test('a seat has its defaults', () => {
  const [seat] = load(SEAT).seats;
  assert.ok(seat !== undefined);
  const { hotkeys, ...rest } = seat;
  assert.deepEqual(rest, {
    name: 'left',
    outputs: null,
    guests: null,
    udevSeat: 'left',
    pointer: 'seat',
    carryLocks: true,
    idleSeconds: 0,
    lockOnIdle: false,
    idleCommand: null,
    activeCommand: null,
    lockCommand: null,
    unlockCommand: null,
    input: { read: null, grab: null, libinput: {} },
  });
  assert.equal(hotkeys.length, 12);
  // KEY_LEFTCTRL, KEY_RIGHTCTRL, KEY_F1 and KEY_F12.
  assert.deepEqual(hotkeys[0], {
    held: [[29], [97]],
    key: 59,
    text: 'leftctrl+rightctrl+f1',
    target: { number: 1 },
  });
  assert.equal(hotkeys[11]?.key, 88);
});

test('every value of a seat and of a device reaches the configuration', () => {
  const { seats, inputs, guests } = load(`
    [[output]]
    name = "desk"
    serial = "1"
    [[seat]]
    name = "left"
    outputs = ["desk", "DP-1"]
    guests = ["work", "play"]
    udev_seat = "seat0"
    pointer = "under"
    carry_locks = false
    hotkeys = [{ keys = "alt+n", action = "next" }, { keys = "leftmeta+f2", guest = "play" }]
    idle_seconds = 5
    lock_on_idle = true
    lock_command = ["/bin/lock", "now"]
    input = { grab = "no", natural_scroll = true }
    [[input]]
    id = "046D:C52b"
    name = "USB *"
    phys = "usb-*"
    class = "touchpad"
    seat = "left"
    output = "desk"
    read = "libinput"
    scroll_button = "btn_middle"
    accel_speed = -0.5
    calibration = [1, 0, 0, 0, 1, 0]
    [[guest]]
    name = "work"
    kind = "virtio"
    input_socket = "/run/w-{class}"
    input_devices = ["keyboard"]
    [[guest]]
    name = "play"
    input = "watch"
  `);
  const [seat] = seats;
  assert.deepEqual(
    [seat?.outputs, seat?.guests, seat?.udevSeat, seat?.pointer, seat?.carryLocks],
    [['desk', 'DP-1'], ['work', 'play'], 'seat0', 'under', false],
  );
  assert.deepEqual(
    seat?.hotkeys.map(({ held, key, target }) => ({ held, key, target })),
    [
      { held: [[56, 100]], key: 49, target: { action: 'next' } },
      { held: [[125]], key: 60, target: { guest: 'play' } },
    ],
  );
  assert.deepEqual([seat?.idleSeconds, seat?.lockOnIdle, seat?.lockCommand], [5, true, ['/bin/lock', 'now']]);
  assert.deepEqual(seat?.input, { read: null, grab: 'no', libinput: { naturalScroll: true } });
  assert.deepEqual(inputs, [
    {
      match: { id: '046d:c52b', name: 'USB *', device: null, phys: 'usb-*', class: 'touchpad' },
      seat: 'left',
      output: 'desk',
      ignore: false,
      read: 'libinput',
      grab: null,
      libinput: { scrollButton: 0x112, accelSpeed: -0.5, calibration: [1, 0, 0, 0, 1, 0] },
    },
  ]);
  const [work, play] = guests.map(({ input }) => input);
  assert.deepEqual(work, { how: 'virtio', asked: false, socket: '/run/w-{class}', classes: ['keyboard'] });
  assert.deepEqual([play?.how, play?.asked], ['watch', true]);
});

test('nothing is opened unless the configuration asks for input', () => {
  const guest = '[[guest]]\nname = "a"\n';
  for (const text of ['', guest, `${guest}input = "none"`, `${guest}kind = "virtio"`]) {
    assert.equal(wantsInput(load(text)), false, text);
  }
  for (const text of [
    SEAT,
    '[[input]]\nignore = true',
    `${guest}input = "uinput"`,
    `${guest}input = "watch"`,
  ]) {
    assert.equal(wantsInput(load(text)), true, text);
  }
});

test('keys of hotkeys: what is held are modifiers, either or both of a pair', () => {
  assert.deepEqual(parseKeys('ctrl+shift+f24'), {
    held: [
      [29, 97],
      [42, 54],
    ],
    key: 194,
  });
  for (const text of [
    'f1',
    '',
    '+f1',
    'ctrl+',
    'ctrl+ctrl+f1',
    'a+b',
    'ctrl+f25',
    'ctrl+toString',
    'Ctrl+f1',
  ]) {
    assert.equal(parseKeys(text), null, text);
  }
  assert.equal(parseKeys('leftctrl+rightctrl+leftalt+rightalt+leftshift+f1'), null);
});

const TWO = `${SEAT}outputs = ["DP-1"]\nguests = ["a"]\n[[seat]]\nname = "right"\n`;
const WRONG: [what: string, text: string, says: RegExp][] = [
  ['two seats of one name', SEAT + SEAT, /seat\[0\] has this one/],
  [
    'two seats of one udev seat',
    `${SEAT}[[seat]]\nname = "b"\nudev_seat = "left"`,
    /seat\[0\] has its devices/,
  ],
  ['an output of two seats', `${TWO}outputs = ["DP-1"]`, /seat\[0\] has this one/],
  ['an output twice', `${SEAT}outputs = ["DP-1", "DP-1"]`, /in the list already/],
  ['an output that nothing names', `${SEAT}outputs = ["desk"]`, /no \[\[output\]\] has this name/],
  ['a guest of two seats', `${TWO}guests = ["a"]`, /seat\[0\] has this one/],
  ['a hotkey of one key', `${SEAT}hotkeys = [{ keys = "f1", number = 1 }]`, /one to four modifiers/],
  [
    'a hotkey that does nothing',
    `${SEAT}hotkeys = [{ keys = "ctrl+f1" }]`,
    /one of guest, number and action/,
  ],
  [
    'a hotkey twice',
    `${SEAT}hotkeys = [{ keys = "ctrl+alt+f1", number = 1 }, { keys = "ctrl+alt+f1", number = 2 }]`,
    /hotkeys\[0\] has these/,
  ],
  [
    'a hotkey for a guest of nobody',
    `${SEAT}guests = ["a"]\nhotkeys = [{ keys = "ctrl+f1", guest = "b" }]`,
    /the seat does not have this guest/,
  ],
  [
    'a hotkey beyond the guests',
    `${SEAT}guests = ["a"]\nhotkeys = [{ keys = "ctrl+f1", number = 2 }]`,
    /the seat has 1 guests/,
  ],
  [
    'what idleness does where there is none',
    `${SEAT}lock_on_idle = true`,
    /has no effect: without idle_seconds/,
  ],
  ['a device of a seat that there is not', `${SEAT}[[input]]\nseat = "lef"`, /no \[\[seat\]\] has this name/],
  ['a device with a seat where none is', '[[input]]\nseat = "left"', /of which there is none/],
  [
    'an ignored device with a seat',
    `${SEAT}[[input]]\nignore = true\nseat = "left"`,
    /the devices are ignored/,
  ],
  [
    'options that nobody reads',
    '[[input]]\nread = "raw"\ntap = true',
    /has no effect: it is an option of libinput/,
  ],
  [
    'options of a seat that nobody reads',
    `${SEAT}input = { read = "raw", tap = true }`,
    /input\.tap: has no effect/,
  ],
  [
    'an entry that never applies',
    '[[input]]\n[[input]]\nclass = "pad"',
    /input\[0\] matches all that this entry does/,
  ],
  ['an id that is none', '[[input]]\nid = "46d:c52b"', /four hexadecimal digits each/],
  ['a matrix of another size', '[[input]]\ncalibration = [1, 0]', /a list of six numbers/],
  [
    'the ring of a virtual machine',
    '[[guest]]\nname = "a"\nkind = "qemu"\nsocket = "/q"\ninput = "ring"',
    /only guests of kind "socket" have it/,
  ],
  [
    'a socket that nobody listens on',
    '[[guest]]\nname = "a"\ninput_socket = "/run/a-{class}"',
    /is a key of a guest with input by virtio/,
  ],
  [
    'a socket for all classes',
    '[[guest]]\nname = "a"\nkind = "virtio"\ninput_socket = "/run/a"',
    /with "\{class\}" in it/,
  ],
  [
    'devices where none are made',
    '[[guest]]\nname = "a"\ninput_devices = ["keyboard"]',
    /by virtio or uinput; this one has "ring"/,
  ],
  [
    'sockets of one path',
    '[[guest]]\nname = "a"\nkind = "virtio"\n[[guest]]\nname = "b"\nkind = "virtio"\ninput_devices = ["pad"]\ninput_socket = "/run/scanoutd/a-input-{class}.sock"',
    /has this one/,
  ],
];

for (const [what, text, says] of WRONG) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => load(text),
      (error) => {
        assert.ok(error instanceof ConfigError);
        const all = error.problems.map(formatProblem);
        assert.equal(all.length, 1, all.join('\n'));
        assert.match(all.join('\n'), says);
        return true;
      },
    );
  });
}

test('a reload says what changes of seats and devices', () => {
  const to = load(`${SEAT}pointer = "under"\n[[input]]\nclass = "pad"\nignore = true`);
  assert.deepEqual(diffConfig(load(SEAT), to).map(formatChange), [
    'seat left: pointer changed from "seat" to "under"',
    'input class="pad": added',
  ]);
});
