import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withDescriptor } from '../../src/config/command.js';
import { parseConfig } from '../../src/config/load.js';
import { ConfigError, formatProblem } from '../../src/config/problems.js';

const ACCOUNTS = { user: () => 0, group: () => 0 };

function guestsOf(text: string) {
  return parseConfig(text, 'f', ACCOUNTS).guests;
}

function inputOf(name: string, how: string) {
  return { how, asked: false, socket: `/run/scanoutd/${name}-input-{class}.sock`, classes: null };
}

function problemsOf(text: string): string[] {
  try {
    guestsOf(text);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems.map(formatProblem);
  }
  return [];
}

const WRONG: { name: string; text: string; problems: string[] }[] = [
  {
    name: 'a key of another kind',
    text: '[[guest]]\nname = "vm"\nkind = "virtio"\nmax_buffers = 3\naddress = "unix:path=/x"',
    problems: [
      'f:4:1: guest[0].max_buffers: is a key of a guest of kind "socket"; this one is of kind "virtio"',
      'f:5:1: guest[0].address: is a key of a guest of kind "qemu"; this one is of kind "virtio"',
    ],
  },
  {
    name: 'a key of two other kinds, in a guest whose kind is not written',
    text: '[[guest]]\nname = "vm"\nsocket = "/run/x"',
    problems: [
      'f:3:1: guest[0].socket: is a key of a guest of kind "virtio" or "qemu"; this one is of kind "socket"',
    ],
  },
  {
    name: 'a kind that there is not: its keys are not judged',
    text: '[[guest]]\nname = "vm"\nkind = "virtoi"\noutputs = ["DP-1"]',
    problems: [
      'f:3:1: guest[0].kind: found "virtoi", allowed is "socket", "virtio", "qemu", "vfio" or "lease"; did you mean "virtio"?',
    ],
  },
  {
    name: 'a VFIO guest without a device',
    text: '[[guest]]\nname = "vm"\nkind = "vfio"',
    problems: ['f:1:3: guest[0].device: is missing; a guest of kind "vfio" needs a device'],
  },
  {
    name: 'VFIO guests whose device comes from two places, or whose offer nobody makes',
    text: '[[guest]]\nname = "a"\nkind = "vfio"\nowner = "socket"\ndevice = "/sys/a"\n[[guest]]\nname = "b"\nkind = "vfio"\ndevice = "/sys/b"\nuid = 7',
    problems: [
      'f:5:1: guest[0].device: found "/sys/a", allowed is no device: owner = "socket": the device is what is offered',
      'f:10:1: guest[1].uid: found 7, allowed is no uid, or owner = "socket": owner = "vmm": nobody offers the device',
    ],
  },
  {
    name: 'a QEMU guest with no way to it, and one with two',
    text: '[[guest]]\nname = "a"\nkind = "qemu"\n[[guest]]\nname = "b"\nkind = "qemu"\nsocket = "/s"\naddress = "unix:path=/x"',
    problems: [
      'f:1:3: guest[0].socket: is missing; a guest of kind "qemu" needs a socket or an address',
      'f:8:1: guest[1].address: found "unix:path=/x", allowed is one of socket and address: socket says already how the virtual machine is reached',
    ],
  },
  {
    name: 'output beside outputs, and an output that is none',
    text: '[[guest]]\nname = "a"\nkind = "virtio"\noutput = "DP-1"\noutputs = ["DP-2", "wall"]',
    problems: [
      'f:4:1: guest[0].output: found "DP-1", allowed is one of output and outputs: outputs says already where the device is shown',
      'f:5:20: guest[0].outputs[1]: found "wall", allowed is a connector name such as "HDMI-A-1": no [[output]] has this name',
    ],
  },
  {
    name: 'a guest with a lease that there is not, with none, and one of another kind that names one',
    text: '[[lease]]\nname = "wall"\noutputs = ["DP-1"]\n[[guest]]\nname = "a"\nkind = "lease"\nlease = "wal"\n[[guest]]\nname = "b"\nkind = "lease"\n[[guest]]\nname = "c"\nlease = "wall"',
    problems: [
      'f:7:1: guest[0].lease: found "wal", allowed is "wall": no [[lease]] has this name',
      'f:8:3: guest[1].lease: is missing; a guest of kind "lease" needs the name of a [[lease]]',
      'f:13:1: guest[2].lease: is a key of a guest of kind "lease"; this one is of kind "socket"',
    ],
  },
  {
    name: 'a guest with a lease where there is none, and a name that none can have',
    text: '[[guest]]\nname = "a"\nkind = "lease"\nlease = "wall"\n[[guest]]\nname = "b"\nkind = "lease"\nlease = "a/b"',
    problems: [
      'f:4:1: guest[0].lease: found "wall", allowed is the name of a [[lease]], of which there is none: no [[lease]] has this name',
      'f:8:1: guest[1].lease: found "a/b", allowed is the name of a [[lease]]',
    ],
  },
  {
    name: 'a guest with a lease that is to be shown as others are',
    text: '[[lease]]\nname = "wall"\noutputs = ["DP-1"]\n[[guest]]\nname = "a"\nkind = "lease"\nlease = "wall"\noutput = "DP-1"\nplane = "overlay"\narea = { x = 0, y = 0, width = 1, height = 1 }\nz = 1\nmax_buffers = 2',
    problems: [
      ...['output', 'plane', 'area', 'z'].map(
        (key, i) =>
          `f:${8 + i}:1: guest[0].${key}: says where a guest is shown; this one has a lease, whose outputs are in its [[lease]]`,
      ),
      'f:12:1: guest[0].max_buffers: is a key of a guest of kind "socket"; this one is of kind "lease"',
    ],
  },
  {
    name: 'words of leases in the command of a guest that has none',
    text: '[[guest]]\nname = "a"\ncommand = ["q", "{fd}", "{lease}"]',
    problems: ['fd', 'lease'].map(
      (word, i) =>
        `f:3:${17 + 8 * i}: guest[0].command[${i + 1}]: found "{${word}}", allowed is a word that the guest has: this guest has no ${word}`,
    ),
  },
  {
    name: 'sockets that are not apart',
    text: '[[guest]]\nname = "guest"\nkind = "virtio"\n[[guest]]\nname = "a"\nkind = "virtio"\nsocket = "/run/scanoutd/b.sock"\n[[guest]]\nname = "b"\nkind = "virtio"',
    problems: [
      'f:2:1: guest[0].name: found "/run/scanoutd/guest.sock", allowed is a socket of its own: daemon.guest_socket has this one',
      'f:9:1: guest[2].name: found "/run/scanoutd/b.sock", allowed is a socket of its own: guest[1].socket has this one',
    ],
  },
  {
    name: 'a command with words that there are not, that mean nothing here, and with a brace',
    text: '[[guest]]\nname = "a"\nkind = "qemu"\nsocket = "/s"\ncommand = ["q", "{sock}", "x{device}", "{\\"a\\":1}", "}", "{address}"]',
    problems: [
      'f:5:17: guest[0].command[1]: found "{sock}", allowed is {name}, {socket}, {address}, {device}, {output}, {lease}, {fd}, or {{ and }} for braces: there is no {sock}',
      'f:5:27: guest[0].command[2]: found "x{device}", allowed is a word that the guest has: this guest has no device',
      'f:5:40: guest[0].command[3]: found "{\\"a\\":1}", allowed is {name}, {socket}, {address}, {device}, {output}, {lease}, {fd}, or {{ and }} for braces: a lone {',
      'f:5:53: guest[0].command[4]: found "}", allowed is {name}, {socket}, {address}, {device}, {output}, {lease}, {fd}, or {{ and }} for braces: a lone }',
      'f:5:58: guest[0].command[5]: found "{address}", allowed is a word that the guest has: this guest has no address',
    ],
  },
  {
    name: 'a command that is empty, no list, not all texts, or has a NUL',
    text: '[[guest]]\nname = "a"\ncommand = []\n[[guest]]\nname = "b"\ncommand = "qemu -m 4G"\n[[guest]]\nname = "c"\ncommand = ["q", 4, "a\\u0000b"]',
    problems: [
      'f:3:1: guest[0].command: found an empty list, allowed is a list of 1 to 1024 texts: a program and its arguments',
      'f:6:1: guest[1].command: found "qemu -m 4G", allowed is a list of 1 to 1024 texts: a program and its arguments',
      'f:9:17: guest[2].command[1]: found 4, allowed is a text without NUL',
      'f:9:20: guest[2].command[2]: found "a\\u0000b", allowed is a text without NUL',
    ],
  },
  {
    name: 'a program that depends on where the caller stands',
    text: '[[guest]]\nname = "a"\ncommand = ["./qemu"]\n[[guest]]\nname = "b"\ncommand = [""]',
    problems: ['./qemu', ''].map(
      (found, index) =>
        `f:${3 * index + 3}:12: guest[${index}].command[0]: found "${found}", allowed is an absolute path, or a name that is looked for in PATH: the program cannot be found by it`,
    ),
  },
];

for (const { name, text, problems } of WRONG) {
  test(name, () => assert.deepEqual(problemsOf(text), problems));
}

test('each kind has its own settings', () => {
  const common = { output: null, plane: 'auto', area: null, z: 0, command: null };
  assert.deepEqual(guestsOf('[[guest]]\nname = "vm"\nkind = "virtio"\noutputs = ["DP-1", "DP-2"]\nuid = 7'), [
    {
      ...common,
      name: 'vm',
      kind: 'virtio',
      input: inputOf('vm', 'virtio'),
      output: 'DP-1',
      outputs: ['DP-1', 'DP-2'],
      socket: '/run/scanoutd/vm.sock',
      uids: [7],
      gids: null,
    },
  ]);
  assert.deepEqual(
    guestsOf('[[guest]]\nname = "q"\nkind = "qemu"\naddress = "unix:path=/run/vm/bus"\nconsole = 1'),
    [
      {
        ...common,
        name: 'q',
        kind: 'qemu',
        input: inputOf('q', 'qemu'),
        socket: null,
        address: 'unix:path=/run/vm/bus',
        console: 1,
        scale: 'fit',
      },
    ],
  );
  assert.deepEqual(guestsOf('[[guest]]\nname = "g"\nkind = "vfio"\ndevice = "/dev/vfio/1"'), [
    {
      ...common,
      input: inputOf('g', 'uinput'),
      name: 'g',
      kind: 'vfio',
      device: '/dev/vfio/1',
      owner: 'vmm',
      uids: null,
      gids: null,
    },
  ]);
  assert.deepEqual(guestsOf('[[guest]]\nname = "g"\nkind = "vfio"\nowner = "socket"\ngid = 7'), [
    {
      ...common,
      input: inputOf('g', 'uinput'),
      name: 'g',
      kind: 'vfio',
      device: null,
      owner: 'socket',
      uids: null,
      gids: [7],
    },
  ]);
});

test('a guest with a lease has nothing of those that are shown; two may wait for one', () => {
  const text = (name: string) => `[[guest]]\nname = "${name}"\nkind = "lease"\nlease = "wall"\n`;
  const lease = '[[lease]]\nname = "wall"\noutputs = ["DP-1"]\n';
  const command = 'uid = 7\ncommand = ["p", "{fd}", "{{fd}}={fd}", "{lease} {name} {socket}"]\n';
  const [first, second] = guestsOf(`${text('a')}${command}${text('b')}${lease}`);
  const common = { kind: 'lease', lease: 'wall', gids: null };
  assert.deepEqual(second, { ...common, input: inputOf('b', 'none'), name: 'b', uids: null, command: null });
  assert.deepEqual(
    { ...first, command: null },
    { ...common, input: inputOf('a', 'none'), name: 'a', uids: [7], command: null },
  );
  // The number is not known before the lease is there.
  assert.deepEqual(withDescriptor(first?.command ?? [], '9'), [
    'p',
    '9',
    '{fd}=9',
    'wall a /run/scanoutd/guest.sock',
  ]);
});

test('the words of a command are what the guest has', () => {
  const all = 'command = ["q", "{name}={socket},{output}", "{{{name}}}", "a b"]';
  const commandOf = (more: string) =>
    guestsOf(`[daemon]\nguest_socket = "/run/g"\n[[guest]]\nname = "vm"\n${more}`)[0]?.command;
  assert.deepEqual(commandOf(`output = "DP-1"\n${all}`), ['q', 'vm=/run/g,DP-1', '{vm}', 'a b']);
  assert.deepEqual(
    commandOf(`kind = "virtio"\noutputs = ["DP-2", "DP-1"]\n${all}`)?.[1],
    'vm=/run/scanoutd/vm.sock,DP-2',
  );
  assert.deepEqual(
    commandOf(`kind = "qemu"\nsocket = "/run/q"\noutput = "DP-1"\n${all}`)?.[1],
    'vm=/run/q,DP-1',
  );
  assert.deepEqual(commandOf('kind = "qemu"\naddress = "unix:path=/b"\ncommand = ["q", "{address}"]'), [
    'q',
    'unix:path=/b',
  ]);
  assert.deepEqual(commandOf('kind = "vfio"\ndevice = "/sys/d"\ncommand = ["/q", "{device}"]'), [
    '/q',
    '/sys/d',
  ]);
  // What comes from the entry is not looked at again.
  assert.deepEqual(
    commandOf('output = "{name}"\ncommand = ["{output}"]\n[[output]]\nname = "{name}"\nconnector = "DP-1"'),
    ['{name}'],
  );
});

test('a wrong key is not told again as a word without a value', () => {
  const [problem, ...more] = problemsOf(
    '[[guest]]\nname = "a"\nkind = "vfio"\ndevice = "d"\ncommand = ["q", "{device}"]',
  );
  assert.match(problem ?? '', /guest\[0\]\.device/);
  assert.deepEqual(more, []);
});
