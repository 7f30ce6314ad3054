import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AccountLookup, type Config, defaultConfig } from '../../src/config/config.js';
import { DEFAULT_CONFIG_PATH, loadConfig, parseConfig } from '../../src/config/load.js';
import { ConfigError, formatProblem, type Problem } from '../../src/config/problems.js';

const ACCOUNTS: AccountLookup = {
  user: (name) => ({ root: 0, qemu: 64055 })[name] ?? null,
  group: (name) => ({ root: 0, kvm: 108 })[name] ?? null,
};

function load(text: string): Config {
  return parseConfig(text, 'f', ACCOUNTS);
}

function problemsOf(text: string): readonly Problem[] {
  try {
    load(text);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return [];
}

const WIDTH = 'a whole number from 1 to 16384';
const SOCKET = 'an absolute path of at most 107 bytes';
const PLANES =
  '"auto", "primary", "overlay", "cursor", or the id of a hardware plane (a whole number from 1)';

/** Each document, and all that is to be said about it: `line:column: path: message`. */
const WRONG: { name: string; text: string; problems: string[] }[] = [
  {
    name: 'a value of the wrong type',
    text: '[daemon]\nrealtime_priority = "high"',
    problems: ['2:1: daemon.realtime_priority: found "high", allowed is a whole number from 0 to 99'],
  },
  {
    name: 'a number out of range, in an inline table of the second guest',
    text: '[[guest]]\nname = "a"\n[[guest]]\nname = "b"\narea = { x = 0, y = 0,\n  width = 0, height = 70000 }',
    problems: [
      `6:3: guest[1].area.width: found 0, allowed is ${WIDTH}`,
      `6:14: guest[1].area.height: found 70000, allowed is ${WIDTH}`,
    ],
  },
  {
    name: 'a dotted key',
    text: '[[guest]]\nname = "a"\narea.x = 0\narea.y = 0.5\narea.width = 1\narea.height = 1',
    problems: ['4:6: guest[0].area.y: found 0.5, allowed is a whole number from 0 to 16383'],
  },
  {
    name: 'a key missing from a table: the place is the table',
    text: '\n[[guest]]\nplane = "auto"\narea = { x = 0, y = 0, width = 5 }',
    problems: [
      '2:3: guest[0].name: is missing; it must be a text of 1 to 63 letters, digits, ".", "_" and "-"',
      `4:1: guest[0].area.height: is missing; it must be ${WIDTH}`,
    ],
  },
  {
    name: 'unknown keys, with what may be meant',
    text: '[daemon]\nlog_lvel = "info"\n[[output]]\nconector = "DP-1"\nzzz = 1\nidle = { colour = 1 }',
    problems: [
      '2:1: daemon.log_lvel: unknown key; did you mean "log_level"?; known here are guest_socket, ' +
        'guest_socket_mode, guest_socket_group, bus_socket, system_bus, session, dlm_directory, wayland_socket, log_level, realtime_priority',
      '4:1: output[0].conector: unknown key; did you mean "connector"?; known here are name, connector, card, ' +
        'make, model, serial, enabled, mode, policy, writeback, idle',
      '5:1: output[0].zzz: unknown key; known here are name, connector, card, make, model, serial, enabled, mode, ' +
        'policy, writeback, idle',
      '6:10: output[0].idle.colour: unknown key; known here are background, text',
    ],
  },
  {
    name: 'a key above the header that it belongs under',
    text: 'log_level = "info"\nplane = "auto"\n"gu est" = 1',
    problems: [
      '1:1: log_level: unknown key; it belongs in [daemon]; known here are daemon, card, output, guest, lease, seat, input, policy',
      '2:1: plane: unknown key; it belongs in [[guest]]; known here are daemon, card, output, guest, lease, seat, input, policy',
      '3:1: "gu est": unknown key; did you mean "guest"?; known here are daemon, card, output, guest, lease, seat, input, policy',
    ],
  },
  {
    name: 'a table where a list of tables has to be, and the other way round',
    text: '[guest]\nname = "a"\n[[policy]]\nmax_guests = 1',
    problems: [
      '1:2: guest: found a table, allowed is a list of tables, written [[guest]]',
      '3:3: policy: found a list of 1, allowed is a table, written [policy]',
    ],
  },
  {
    name: 'choices, with the one that may be meant',
    text: '[[output]]\npolicy = "eagr"\nmode = "1920*1080"\n[[guest]]\nname = "a"\nplane = 0\nkind = "vnc"',
    problems: [
      '2:1: output[0].policy: found "eagr", allowed is "auto", "eager" or "deadline"; did you mean "eager"?',
      '3:1: output[0].mode: found "1920*1080", allowed is "preferred", or a size such as "1920x1080", or one with ' +
        'a refresh rate in Hz such as "1920x1080@59.94"; each side at most 16384',
      `6:1: guest[0].plane: found 0, allowed is ${PLANES}`,
      '7:1: guest[0].kind: found "vnc", allowed is "socket", "virtio", "qemu", "vfio" or "lease"',
    ],
  },
  {
    name: 'elements of lists',
    text: '[[guest]]\nname = "a"\npresent = [\n  "mailbox",\n  "asinc",\n]\nuid = ["qemu",\n -1]\ngid = []',
    problems: [
      '5:3: guest[0].present[1]: found "asinc", allowed is "mailbox", "fifo" or "async"; did you mean "async"?',
      '8:2: guest[0].uid[1]: found -1, allowed is the name or the number of an account',
      '9:1: guest[0].gid: found an empty list, allowed is the name or the number of a group, or a list of them',
    ],
  },
  {
    name: 'a present mode twice',
    text: '[[guest]]\nname = "a"\npresent = ["fifo", "fifo"]',
    problems: [
      '3:1: guest[0].present: found a list of 2, allowed is a list of "mailbox", "fifo" and "async", each at most ' +
        'once and one at least',
    ],
  },
  {
    name: 'socket paths that no socket can have',
    text: `[daemon]\nguest_socket = "guest.sock"\nbus_socket = "/${'é'.repeat(54)}"`,
    problems: [
      `2:1: daemon.guest_socket: found "guest.sock", allowed is ${SOCKET}`,
      `3:1: daemon.bus_socket: found "/${'é'.repeat(54)}" (109 bytes), allowed is ${SOCKET}`,
    ],
  },
  {
    name: 'one path for two sockets, one of them the default',
    text: '[daemon]\nguest_socket = "/run/scanoutd/bus"',
    problems: [
      '2:1: daemon.guest_socket: found "/run/scanoutd/bus", allowed is another path: bus_socket has this one',
    ],
  },
  {
    name: 'one path for the socket of Wayland and another',
    text: '[daemon]\nguest_socket = "/run/a"\nwayland_socket = "/run/a"',
    problems: [
      '3:1: daemon.wayland_socket: found "/run/a", allowed is another path: guest_socket has this one',
    ],
  },
  {
    name: 'two guests of one name, and more than may connect',
    text: '[[guest]]\nname = "a"\n[[guest]]\nname = "a"\n[policy]\nmax_guests = 1',
    problems: [
      '4:1: guest[1].name: found "a", allowed is a name of its own: guest[0] has this one',
      '6:1: policy.max_guests: found 1, allowed is a whole number from 2: 2 guests are configured',
    ],
  },
  {
    name: 'one hardware plane for two guests, the output once by connector and once by name',
    text:
      '[[output]]\nname = "left"\nconnector = "DP-1"\n[[guest]]\nname = "a"\noutput = "left"\nplane = 31\n' +
      '[[guest]]\nname = "b"\noutput = "DP-1"\nplane = 31\n[[guest]]\nname = "c"\noutput = "DP-2"\nplane = 31',
    problems: [
      '11:1: guest[1].plane: found 31, allowed is a plane of its own: guest[0] has this one on the same output',
    ],
  },
  {
    name: 'a plane by id without an output',
    text: '[[guest]]\nname = "a"\nplane = 31',
    problems: [
      '3:1: guest[0].plane: found 31, allowed is "auto" or a type of plane, or an id together with output: ids of ' +
        'planes are unique within a card only',
    ],
  },
  {
    name: 'an area that no output can have',
    text: '[[guest]]\nname = "a"\narea = { x = 16000, y = 0, width = 640, height = 480 }',
    problems: [
      '3:28: guest[0].area.width: found 640, allowed is a number up to 384: with x = 16000 the area reaches beyond ' +
        '16384 pixels',
    ],
  },
  {
    name: 'outputs that do not exist, or are off',
    text:
      '[[output]]\nname = "left"\nconnector = "DP-1"\nenabled = false\n[[guest]]\nname = "a"\noutput = "rihgt"\n' +
      '[[guest]]\nname = "b"\noutput = "DP-1"',
    problems: [
      '7:1: guest[0].output: found "rihgt", allowed is a connector name such as "HDMI-A-1", "left": no [[output]] ' +
        'has this name',
      '10:1: guest[1].output: found "DP-1", allowed is an output that is enabled: output[0] is not enabled, so the ' +
        'guest would never be seen',
    ],
  },
  {
    name: 'names of outputs',
    text:
      '[[output]]\nname = "left"\nmake = "ACM"\n[[output]]\nname = "left"\nmodel = "B"\n' +
      '[[output]]\nname = "DP-1"\nconnector = "DP-2"\n[[output]]\nname = "all"',
    problems: [
      '5:1: output[1].name: found "left", allowed is a name of its own: output[0] has this one',
      '8:1: output[2].name: found "DP-1", allowed is a name that is no connector name: it reads like a connector, ' +
        'but is not the one that this entry matches',
      '11:1: output[3].name: found "all", allowed is a name in an entry with a match: this entry matches every ' +
        'output, so the name would mean none',
    ],
  },
  {
    name: 'entries that can never apply',
    text:
      '[[card]]\nignore = true\n[[card]]\ndriver = "vkms"\n[[output]]\nmake = "A"\n' +
      '[[output]]\nserial = "1"\nmake = "A"',
    problems: [
      '3:3: card[1]: never applies: card[0] matches all that this entry does (driver "vkms") and the first match ' +
        'counts; put the more special entry first',
      '7:3: output[1]: never applies: output[0] matches all that this entry does (make "A", serial "1") and the ' +
        'first match counts; put the more special entry first',
    ],
  },
  {
    name: 'accounts that the machine does not have',
    text: '[daemon]\nguest_socket_group = "nope"\n[[guest]]\nname = "a"\nuid = "qemu"\ngid = [\n"kvm",\n"nix"]',
    problems: [
      '2:1: daemon.guest_socket_group: found "nope", allowed is a group of this machine: it has no group of this ' +
        'name',
      '8:1: guest[0].gid[1]: found "nix", allowed is a group of this machine: it has no group of this name',
    ],
  },
  {
    name: 'mistakes of all kinds at once, none hiding another or reported twice',
    text:
      '[daemon]\nlog_level = 3\nguest_socket_group = "nope"\n[[output]]\nname = 5\nconnector = "DP-1"\n' +
      '[[output]]\nconnector = "bad name"\n[[guest]]\nname = "a"\noutput = "left"\nz = 1000\n' +
      '[[guest]]\nname = "a"\noutput = 7\nplane = 31',
    problems: [
      '2:1: daemon.log_level: found 3, allowed is "fatal", "error", "warn", "info", "debug" or "trace"',
      '3:1: daemon.guest_socket_group: found "nope", allowed is a group of this machine: it has no group of this ' +
        'name',
      '5:1: output[0].name: found 5, allowed is a text of 1 to 128 characters',
      '8:1: output[1].connector: found "bad name", allowed is a connector name, such as "HDMI-A-1"',
      '12:1: guest[0].z: found 1000, allowed is a whole number from -100 to 100',
      '14:1: guest[1].name: found "a", allowed is a name of its own: guest[0] has this one',
      '15:1: guest[1].output: found 7, allowed is the name of a connector, such as "HDMI-A-1", or of an [[output]]',
    ],
  },
  {
    name: 'a date and a very long text',
    text: `[daemon]\nlog_level = 2026-01-01\nsystem_bus = "${'x'.repeat(99)}"`,
    problems: [
      '2:1: daemon.log_level: found the date 2026-01-01, allowed is "fatal", "error", "warn", "info", "debug" or ' +
        '"trace"',
      `3:1: daemon.system_bus: found "${'x'.repeat(57)}..." (99 bytes), allowed is "auto", "on" or "off"`,
    ],
  },
  {
    name: 'no TOML',
    text: '[daemon]\nlog_level = info\n',
    problems: [
      '2:16: no valid TOML: each key-value declaration must be followed by an end-of-line, in: log_level = info',
    ],
  },
  {
    name: 'a table twice',
    text: '[daemon]\n[policy]\n[daemon]\n',
    problems: ['3:2: no valid TOML: trying to redefine an already defined table or value, in: [daemon]'],
  },
  {
    name: 'a key that JavaScript gives a meaning',
    text: '[daemon]\n__proto__ = 1\n',
    problems: ['2:1: no valid TOML: document contains an unsafe property, in: __proto__ = 1'],
  },
];

for (const { name, text, problems } of WRONG) {
  test(`tells of ${name}`, () => {
    assert.deepEqual(
      problemsOf(text).map((problem) => formatProblem(problem).replace(/^f:/, '')),
      problems,
    );
  });
}

test('an empty text is the default configuration', () => {
  assert.deepEqual(load(''), defaultConfig());
  assert.deepEqual(load('[daemon]\n[policy]\n# nothing'), defaultConfig());
  assert.deepEqual(defaultConfig(), {
    daemon: {
      guestSocket: '/run/scanoutd/guest.sock',
      guestSocketMode: 0o660,
      guestSocketGroup: null,
      busSocket: '/run/scanoutd/bus',
      systemBus: 'auto',
      session: 'auto',
      dlmDirectory: null,
      waylandSocket: null,
      logLevel: 'info',
      realtimePriority: 10,
    },
    cards: [],
    outputs: [],
    guests: [],
    leases: [],
    seats: [],
    inputs: [],
    policy: { unknownGuests: 'auto', maxGuests: 64 },
  });
});

test('every value reaches the configuration, parsed', () => {
  const config = load(`
    daemon = { guest_socket_mode = "600", guest_socket_group = "kvm" }
    [[card]]
    device = "/dev/dri/card1"
    ignore = true
    [[output]]
    name = "left"
    serial = "42"
    mode = "1920x1080@59.94"
    idle.background = "#Ff8000"
    [[output]]
    mode = "640x480"
    [[guest]]
    name = "tv"
    output = "left"
    plane = 31
    area = { x = 1, y = 2, width = 3, height = 4 }
    present = ["fifo"]
    uid = ["qemu", 7]
    gid = 0
    command = ["qemu", "{name}"]
  `);
  assert.equal(config.daemon.guestSocketMode, 0o600);
  assert.equal(config.daemon.guestSocketGroup, 108);
  assert.deepEqual(config.cards, [{ match: { device: '/dev/dri/card1', driver: null }, ignore: true }]);
  assert.deepEqual(config.outputs[0], {
    name: 'left',
    match: { connector: null, card: null, make: null, model: null, serial: '42' },
    enabled: true,
    mode: { width: 1920, height: 1080, refreshMhz: 59940 },
    policy: 'auto',
    writeback: true,
    idle: { background: 0xff8000, text: true },
  });
  assert.deepEqual(config.outputs[1]?.mode, { width: 640, height: 480, refreshMhz: null });
  assert.deepEqual(config.guests, [
    {
      name: 'tv',
      kind: 'socket',
      output: 'left',
      plane: 31,
      area: { x: 1, y: 2, width: 3, height: 4 },
      z: 0,
      command: ['qemu', 'tv'],
      present: ['fifo'],
      uids: [64055, 7],
      gids: [0],
      maxBuffers: 64,
      input: { how: 'ring', asked: false, socket: '/run/scanoutd/tv-input-{class}.sock', classes: null },
    },
  ]);
});

test('only the default file may be missing', () => {
  const directory = mkdtempSync(join(tmpdir(), 'scanoutd-config-'));
  try {
    const missing = join(directory, 'none.toml');
    assert.throws(() => loadConfig(missing), {
      name: 'ConfigError',
      message: `${missing}: cannot be read: no such file or directory (ENOENT)`,
    });
    assert.throws(() => loadConfig(directory), { message: /illegal operation on a directory \(EISDIR\)/ });
    const file = join(directory, 'a.toml');
    writeFileSync(file, '\ufeff[policy]\r\nmax_guests = 3\r\n');
    assert.deepEqual(loadConfig(file), {
      config: { ...defaultConfig(), policy: { unknownGuests: 'auto', maxGuests: 3 } },
      path: file,
    });
    writeFileSync(file, Buffer.concat([Buffer.from('# \ufffd\n[daemon]\n# caf'), Buffer.from([0xe9, 10])]));
    assert.throws(() => loadConfig(file), { message: `${file}:3: is not UTF-8, which TOML has to be` });
  } finally {
    rmSync(directory, { recursive: true });
  }
  assert.equal(DEFAULT_CONFIG_PATH, '/etc/scanoutd/scanoutd.toml');
});

test('any document either loads or is refused with the place of every problem', () => {
  const keys = [
    'daemon',
    'card',
    'output',
    'guest',
    'policy',
    'name',
    'area',
    'x',
    'width',
    'plane',
    'uid',
    'idle',
    'command',
  ];
  const leaf = fc.constantFrom(
    '1',
    '-1',
    '"a"',
    '"DP-1"',
    'true',
    '[]',
    '[1, "a"]',
    '["{name}", "{"]',
    '{}',
    '1.5',
    '2020-01-01',
  );
  const pair = fc.tuple(fc.constantFrom(...keys), leaf).map(([key, value]) => `${key} = ${value}`);
  const header = fc.constantFrom(...keys).map((key) => `[${key}]`);
  const listHeader = fc.constantFrom(...keys).map((key) => `[[${key}]]`);
  const text = fc
    .array(fc.oneof(pair, header, listHeader), { maxLength: 12 })
    .map((lines) => lines.join('\n'));
  fc.assert(
    fc.property(text, (source) => {
      for (const problem of problemsOf(source)) {
        assert.ok(problem.line !== null && problem.line <= source.split('\n').length, formatProblem(problem));
        assert.doesNotMatch(problem.message, /undefined|\[object|something else/);
      }
    }),
    { numRuns: 3000 },
  );
});
