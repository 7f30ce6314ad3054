import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/load.js';
import { ConfigError, formatProblem } from '../../src/config/problems.js';

const ACCOUNTS = { user: () => 0, group: () => 0 };

function guestsOf(text: string) {
  return parseConfig(text, 'f', ACCOUNTS).guests;
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
      'f:3:1: guest[0].kind: found "virtoi", allowed is "socket", "virtio", "qemu" or "vfio"; did you mean "virtio"?',
    ],
  },
  {
    name: 'a VFIO guest without a device',
    text: '[[guest]]\nname = "vm"\nkind = "vfio"',
    problems: ['f:1:3: guest[0].device: is missing; a guest of kind "vfio" needs a device'],
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
    name: 'sockets that are not apart',
    text: '[[guest]]\nname = "guest"\nkind = "virtio"\n[[guest]]\nname = "a"\nkind = "virtio"\nsocket = "/run/scanoutd/b.sock"\n[[guest]]\nname = "b"\nkind = "virtio"',
    problems: [
      'f:2:1: guest[0].name: found "/run/scanoutd/guest.sock", allowed is a socket of its own: daemon.guest_socket has this one',
      'f:9:1: guest[2].name: found "/run/scanoutd/b.sock", allowed is a socket of its own: guest[1].socket has this one',
    ],
  },
];

for (const { name, text, problems } of WRONG) {
  test(name, () => assert.deepEqual(problemsOf(text), problems));
}

test('each kind has its own settings', () => {
  const common = { output: null, plane: 'auto', area: null, z: 0 };
  assert.deepEqual(guestsOf('[[guest]]\nname = "vm"\nkind = "virtio"\noutputs = ["DP-1", "DP-2"]\nuid = 7'), [
    {
      ...common,
      name: 'vm',
      kind: 'virtio',
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
        socket: null,
        address: 'unix:path=/run/vm/bus',
        console: 1,
        scale: 'fit',
      },
    ],
  );
  assert.deepEqual(guestsOf('[[guest]]\nname = "g"\nkind = "vfio"\ndevice = "/dev/vfio/1"'), [
    { ...common, name: 'g', kind: 'vfio', device: '/dev/vfio/1', owner: 'vmm' },
  ]);
});
