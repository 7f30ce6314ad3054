import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AssignRequest, StatusDocument } from '../../src/api/documents.js';
import type { BusTarget, Connection } from '../../src/cli/connection.js';
import { CliError, EXIT } from '../../src/cli/errors.js';
import type { Io } from '../../src/cli/io.js';
import { run } from '../../src/cli/program.js';
import type { Fd } from '../../src/native/base.js';
import { inputDevice, leased, seat, status, watched } from '../fixtures/documents.js';

interface World extends Io {
  stdout: string;
  stderr: string;
  calls: unknown[][];
  files: Map<string, Buffer>;
}

function world(change: { env?: NodeJS.ProcessEnv; status?: StatusDocument; fail?: CliError } = {}): World {
  const calls: unknown[][] = [];
  const files = new Map<string, Buffer>();
  const act = async <T>(result: T, ...call: unknown[]): Promise<T> => {
    calls.push(call);
    if (change.fail !== undefined) {
      throw change.fail;
    }
    return result;
  };
  let tellNotice: (lease: string, reason: string, ms: number) => void = () => {};
  const connection: Connection = {
    describe: () => act(change.status ?? status(), 'describe'),
    assign: (guest: string, request: AssignRequest) => act(undefined, 'assign', guest, request),
    unassign: (guest: string) => act(undefined, 'unassign', guest),
    attachQemu: (guest: string, socket: Fd) => act(undefined, 'attachQemu', guest, socket),
    screenshot: (output: string) => {
      const frames = [{ guest: 'tv', plane: 0, sequence: '17' }];
      const document = { output, width: 64, height: 48, how: 'writeback' as const, frames };
      return act({ png: Buffer.from('PNG'), document }, 'screenshot', output);
    },
    takeLease: (name, request) => {
      const fd = { close: () => calls.push(['closeLease']) } as unknown as Fd;
      return act({ fd, document: leased({ name }) }, 'takeLease', name, request);
    },
    onLeaseNotice: (notice) => {
      tellNotice = notice;
    },
    onLeaseEnded: () => {},
    releaseLease: (name) => act(undefined, 'releaseLease', name),
    revokeLease: (name, request) => act(undefined, 'revokeLease', name, request),
    transferLease: (name, request) => act(undefined, 'transferLease', name, request),
    switchSeat: (seat, guest) => act(undefined, 'switchSeat', seat, guest),
    attachDevice: (device, seat) => act(undefined, 'attachDevice', device, seat),
    detachDevice: (device) => act(undefined, 'detachDevice', device),
    lockSeat: (seat, locked) => act(undefined, 'lockSeat', seat, locked),
    watchInput: async (seat, keys, tell) => {
      await act(undefined, 'watchInput', seat, keys);
      tell([watched({ code: keys ? 30 : null }), watched({ type: 2, code: 0, value: -3, guest: null })]);
    },
    closed: async () => {
      throw new CliError(EXIT.unreachable, 'the daemon ended the connection', 'Start it.');
    },
    close: () => calls.push(['close']),
  };
  return {
    stdout: '',
    stderr: '',
    calls,
    files,
    env: change.env ?? {},
    color: false,
    out(data) {
      this.stdout += data;
    },
    error(text) {
      this.stderr += text;
    },
    connect: async (target: BusTarget) => {
      calls.push(['connect', target]);
      return connection;
    },
    openQemuDisplay: async (monitor) => {
      if (monitor.startsWith('/forbidden')) throw new Error(`${monitor}: no greeting`);
      calls.push(['openQemuDisplay', monitor]);
      return { close: () => calls.push(['closeSocket']) } as unknown as Fd;
    },
    runWithLease: async (start, _fd, onNotice, signal) => {
      calls.push(['runWithLease', start.argv, start.environment]);
      onNotice(() => calls.push(['told', signal]));
      tellNotice('desk', 'closing', 500);
      if (start.argv[0] === 'absent') throw new CliError(EXIT.config, 'cannot start absent', '');
      return 7;
    },
    connectReceiver: async (path) => {
      if (path.startsWith('/forbidden')) throw new Error('connect: No such file or directory (ENOENT)');
      const over = Promise.resolve(path.startsWith('/crash') ? ('crashed' as const) : ('released' as const));
      // The lease comes first.
      const later = over.then(async (how) => {
        while (!calls.some(([name]) => name === 'grant')) await new Promise(setImmediate);
        return how;
      });
      const close = () => calls.push(['hangUp']);
      return { pid: 77, uid: 5, grant: () => calls.push(['grant']), over: later, close };
    },
    readCards: async () => ({ cards: [], problems: [] }),
    programs: {} as Io['programs'],
    writeFile: (path, data) => {
      if (path.startsWith('/forbidden')) {
        throw new Error(`EACCES: permission denied, open '${path}'`);
      }
      files.set(path, data);
    },
    terminal: {
      live: false,
      size: () => ({ columns: 80, rows: 24 }),
      write() {},
      sleep: async () => {},
      untilEnded: (work) => work,
      now: () => Date.UTC(2026, 10, 21, 8, 41, 34),
    },
  };
}

const USAGE: { args: string[]; says: RegExp }[] = [
  { args: ['frob'], says: /unknown command 'frob'/ },
  { args: ['status', 'more'], says: /too many arguments/ },
  { args: ['status', '--jsn'], says: /unknown option '--jsn'\s.*Did you mean --json\?/ },
  { args: ['assign'], says: /missing required argument 'guest'/ },
  { args: ['assign', 'tv', '--area', '640'], says: /'--area <WxH\+X\+Y>'.* It is WIDTHxHEIGHT\+X\+Y/ },
  {
    args: ['assign', 'tv', '--plane', '0'],
    says: /It is auto, primary, overlay, cursor, or the id of a plane/,
  },
  { args: ['assign', 'tv', '--plane', '4294967296'], says: /It is auto, primary/ },
  { args: ['top', '--interval', '0'], says: /from 0\.1 to 3600/ },
  {
    args: ['screenshot', 'DP-1', '-o', '-', '--json'],
    says: /--json and the picture cannot both go to stdout/,
  },
  { args: ['status', '--bus', '/x', '--system'], says: /--system and --bus exclude each other/ },
  { args: [], says: /Usage: scanoutctl/ },
];

for (const { args, says } of USAGE) {
  test(`"scanoutctl ${args.join(' ')}" is wrong use`, async () => {
    const io = world();
    assert.equal(await run(args, io), EXIT.usage);
    assert.match(io.stderr, says);
    assert.equal(io.stdout, '');
    assert.deepEqual(io.calls, []);
  });
}

for (const args of [['--help'], ['--version'], ['help', 'top'], ['assign', '--help']]) {
  test(`"scanoutctl ${args.join(' ')}" goes to stdout`, async () => {
    const io = world();
    assert.equal(await run(args, io), EXIT.ok);
    assert.notEqual(io.stdout, '');
    assert.equal(io.stderr, '');
  });
}

for (const name of ['status', 'outputs', 'guests', 'assign', 'unassign', 'screenshot', 'top', 'check']) {
  test(`the help of ${name} has examples and --json`, async () => {
    const io = world();
    await run([name, '--help'], io);
    assert.match(io.stdout, /--json/);
    assert.match(io.stdout, new RegExp(`\nExamples:\n  scanoutctl ${name}`));
  });
}

const DOCUMENTS: { args: string[]; document: unknown }[] = [
  { args: ['status'], document: status() },
  { args: ['outputs'], document: status().outputs },
  { args: ['outputs', 'DP-1'], document: status().outputs[1] },
  { args: ['guests'], document: status().guests },
  { args: ['guests', 'clock'], document: status().guests[1] },
  { args: ['assign', 'tv', 'HDMI-A-1'], document: status().guests[0] },
  { args: ['unassign', 'tv'], document: status().guests[0] },
  { args: ['qemu', 'attach', 'tv', '--qmp', '/run/tv.qmp'], document: status().guests[0] },
];

for (const { args, document } of DOCUMENTS) {
  test(`"scanoutctl ${args.join(' ')}" prints text, and with --json its document`, async () => {
    const text = world();
    assert.equal(await run(args, text), EXIT.ok);
    assert.match(text.stdout, /HDMI-A-1|DP-1|clock/);
    const json = world();
    assert.equal(await run([...args, '--json'], json), EXIT.ok);
    assert.deepEqual(JSON.parse(json.stdout), document);
    assert.deepEqual(json.calls.at(-1), ['close']);
  });
}

test('the bus is that of the option, else of the environment, else the default', async () => {
  const targets: unknown[] = [];
  for (const [args, env] of [
    [['--bus', '/a', 'status'], { SCANOUTD_BUS: '/b' }],
    [['status', '--bus', '/a'], {}],
    [['status'], { SCANOUTD_BUS: '/b' }],
    [['status'], { SCANOUTD_BUS: '' }],
    [['status', '--system'], { SCANOUTD_BUS: '/b' }],
  ] as const) {
    const io = world({ env });
    await run(args, io);
    targets.push(io.calls[0]?.[1]);
  }
  const socket = (path: string) => ({ kind: 'socket', path });
  assert.deepEqual(targets, [
    socket('/a'),
    socket('/a'),
    socket('/b'),
    socket('/run/scanoutd/bus'),
    { kind: 'system' },
  ]);
});

test('a display of QEMU is opened, handed over and let go', async () => {
  const io = world();
  assert.equal(await run(['qemu', 'attach', 'tv', '--qmp', '/run/tv.qmp'], io), EXIT.ok);
  const names = io.calls.map(([name]) => name);
  assert.deepEqual(names, ['connect', 'openQemuDisplay', 'attachQemu', 'closeSocket', 'describe', 'close']);
  assert.equal(io.calls[2]?.[1], 'tv');
  const refused = world();
  assert.equal(await run(['qemu', 'attach', 'tv', '--qmp', '/forbidden/qmp'], refused), EXIT.refused);
  assert.match(refused.stderr, /no display of QEMU: \/forbidden\/qmp: no greeting/);
  assert.match(refused.stderr, /-display dbus,p2p=on/);
});

test('an assignment sends what was said and nothing else', async () => {
  for (const [args, request] of [
    [['tv'], {}],
    [['tv', 'DP-1'], { output: 'DP-1' }],
    [['tv', '--plane', '31'], { plane: 31 }],
    [
      ['tv', 'DP-1', '--plane', 'overlay', '--area', '640x360+20+10'],
      { output: 'DP-1', plane: 'overlay', area: { x: 20, y: 10, width: 640, height: 360 } },
    ],
  ] as const) {
    const io = world();
    await run(['assign', ...args], io);
    assert.deepEqual(io.calls[1], ['assign', 'tv', request]);
  }
});

test('an assignment of a guest that is yet to come is told as such', async () => {
  const io = world({ status: status({ guests: [] }) });
  assert.equal(await run(['assign', 'tv', 'DP-1'], io), EXIT.ok);
  assert.equal(io.stdout, 'tv: not connected\n');
});

test('a name that is unknown is answered with those that are known', async () => {
  const io = world();
  assert.equal(await run(['outputs', 'VGA-1'], io), EXIT.refused);
  assert.equal(io.stderr, 'scanoutctl: no output "VGA-1"\n  There are HDMI-A-1, DP-1, DP-2.\n');
  const none = world({ status: status({ guests: [] }) });
  assert.equal(await run(['guests', 'tv'], none), EXIT.refused);
  assert.equal(none.stderr, 'scanoutctl: no guest "tv"\n  There is none.\n');
});

test('a refusal is told on stderr, and the connection closed', async () => {
  const io = world({ fail: new CliError(EXIT.refused, 'the daemon refused: no such output', 'Do this.') });
  assert.equal(await run(['assign', 'tv', 'X-1'], io), EXIT.refused);
  assert.equal(io.stderr, 'scanoutctl: the daemon refused: no such output\n  Do this.\n');
  assert.equal(io.stdout, '');
  assert.deepEqual(io.calls.at(-1), ['close']);
});

test('top --once asks twice', async () => {
  const io = world();
  assert.equal(await run(['top', '--once'], io), EXIT.ok);
  const names = io.calls.map(([name]) => name);
  assert.deepEqual(names, ['connect', 'describe', 'describe', 'close']);
});

test('a screenshot goes to the file, and says how it was taken', async () => {
  const io = world();
  assert.equal(await run(['screenshot', 'HDMI-A-1', '-o', 'a.png'], io), EXIT.ok);
  assert.equal(io.stdout, 'a.png: HDMI-A-1, 64x48, by writeback\n');
  assert.equal(String(io.files.get('a.png')), 'PNG');
});

test('a screenshot without a file name gets one that does not overwrite the former', async () => {
  const io = world();
  await run(['screenshot', 'HDMI-A-1', '--json'], io);
  assert.equal(JSON.parse(io.stdout).file, 'HDMI-A-1-20261121-084134.png');
  assert.deepEqual([...io.files.keys()], ['HDMI-A-1-20261121-084134.png']);
});

test('a screenshot to stdout is nothing but the picture', async () => {
  const io = world();
  assert.equal(await run(['screenshot', 'HDMI-A-1', '-o', '-'], io), EXIT.ok);
  assert.equal(io.stdout, 'PNG');
});

test('a file that cannot be written is an error', async () => {
  const io = world();
  assert.equal(await run(['screenshot', 'HDMI-A-1', '-o', '/forbidden/a.png'], io), EXIT.refused);
  assert.match(
    io.stderr,
    /^scanoutctl: cannot write \/forbidden\/a.png: EACCES: .*\n {2}Name another file with -o\.\n$/,
  );
});

test('a program is run with a lease, and its status is that of scanoutctl', async () => {
  const io = world();
  const words = ['--fd-env', 'FD', '--wait', '50', 'desk', '--', 'Xorg', '-masterfd={fd}', '--json'];
  assert.equal(await run(['lease', 'run', ...words], io), 7);
  assert.deepEqual(io.calls.slice(1), [
    ['takeLease', 'desk', { wait: true, timeoutMs: 50 }],
    ['runWithLease', ['Xorg', '-masterfd=3', '--json'], { FD: '3', SCANOUTD_LEASE: 'desk' }],
    ['told', 'SIGTERM'],
    ['closeLease'],
    ['releaseLease', 'desk'],
    ['close'],
  ]);
  assert.match(io.stderr, /^scanoutctl: lease desk ends in 500 ms: closing$/m);
  assert.equal(await run(['lease', 'run', '--notice-signal', 'NONSENSE', 'desk', '--', 'x'], io), EXIT.usage);
});

test('leases: a table, a document, and one that is revoked', async () => {
  const waiting = [{ pid: 99, uid: 5, waitedMs: 2000, why: 'it is held' }];
  const ending = { reason: 'closed', inMs: 700 };
  const leases = [
    leased({ waiting, ending }),
    leased({ name: 'wall', state: 'free', pid: null, uid: null, planes: [] }),
  ];
  const io = world({ status: { ...status(), leases } });
  assert.equal(await run(['leases'], io), EXIT.ok);
  assert.match(io.stdout, /^desk +leased +DP-2 +\/dev\/dri\/card0 +812 +1000 +1 min +34 38$/m);
  assert.match(io.stdout, /^wall +free /m);
  assert.match(io.stdout, /^desk: ends in 700 ms: closed$/m);
  assert.match(io.stdout, /^desk: process 99, uid 5, waits since 2 s: it is held$/m);
  io.stdout = '';
  assert.equal(await run(['lease', 'revoke', 'desk', '--reason', 'closed', '--json'], io), EXIT.ok);
  assert.deepEqual(io.calls.at(-3), ['revokeLease', 'desk', { reason: 'closed' }]);
  assert.deepEqual(JSON.parse(io.stdout), leases[0]);
  const transfer = ['lease', 'transfer', 'desk', '--to', '99', '--notice', '0', '--reason', 'shift'];
  assert.equal(await run(transfer, io), EXIT.ok);
  assert.deepEqual(io.calls.at(-3), ['transferLease', 'desk', { reason: 'shift', noticeMs: 0, to: 99 }]);
  assert.equal(await run(['lease', 'transfer', 'desk', '--to', 'me'], io), EXIT.usage);
});

test('a lease is given back when the program cannot be started', async () => {
  const io = world();
  assert.equal(await run(['lease', 'run', 'desk', '--', 'absent'], io), EXIT.config);
  assert.deepEqual(io.calls.slice(-3), [['closeLease'], ['releaseLease', 'desk'], ['close']]);
});

test('a lease is granted to a program that listens, until it is done with it', async () => {
  const io = world();
  assert.equal(await run(['lease', 'grant', 'desk', '--to', '/run/x', '--transfer'], io), EXIT.ok);
  assert.equal(io.stdout, 'desk: DP-2, granted to process 77, uid 5\ndesk: given back\n');
  const names = io.calls.map(([name]) => name);
  const wanted = ['connect', 'takeLease', 'grant', 'closeLease', 'hangUp', 'releaseLease', 'hangUp', 'close'];
  assert.deepEqual(names, wanted);
  assert.deepEqual(io.calls[1], ['takeLease', 'desk', { transfer: true }]);
});

test('a program that goes without a word has crashed: the lease is not given back in order', async () => {
  const io = world();
  assert.equal(await run(['lease', 'grant', 'desk', '--to', '/crash', '--json'], io), EXIT.refused);
  const documents = io.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual([documents[0].event, documents[0].lease.name, documents[0].pid], ['granted', 'desk', 77]);
  assert.deepEqual(documents[1], { event: 'ended', how: 'crashed', reason: null });
  assert.equal(io.stderr, 'scanoutctl: the program that had lease desk is gone without a word\n');
  assert.ok(!io.calls.some(([name]) => name === 'releaseLease'));
});

test('no lease is taken for a program that is not there', async () => {
  const io = world();
  assert.equal(await run(['lease', 'grant', 'desk', '--to', '/forbidden'], io), EXIT.unreachable);
  assert.match(
    io.stderr,
    /nobody to grant a lease to: connect: No such file .*\n {2}A program has to listen there/,
  );
  assert.deepEqual(
    io.calls.map(([name]) => name),
    ['connect', 'close'],
  );
});

test('seats: a table, one of them, a document', async () => {
  const other = inputDevice({
    device: '/dev/input/event5',
    class: null,
    udevSeat: 'seat-x',
    by: 'udev',
    open: false,
    reason: 'udev has it at seat-x, which is no seat here',
    read: null,
  });
  const waits = seat({
    name: 'back',
    ready: false,
    reason: 'it has no device',
    guest: null,
    guests: [],
    devices: [],
  });
  const io = world({ status: status({ seats: [seat(), waits], inputDevices: [other] }) });
  assert.equal(await run(['seats'], io), EXIT.ok);
  assert.match(io.stdout, /^desk +ready +HDMI-A-1 +tv +tv, mail +1 device +4 s$/m);
  assert.match(io.stdout, /^back +waits +HDMI-A-1 +- +- +0 devices/m);
  assert.match(
    io.stdout,
    /^\/dev\/input\/event3 +desk +rest +keyboard +046d:c31c +raw, grabbed +ACME Keyboard +usb-0000:00:14.0-2\/input0$/m,
  );
  assert.match(io.stdout, /^\/dev\/input\/event5 +- +udev +- +046d:c31c +not open /m);
  assert.match(io.stdout, /^ {2}back: waits: it has no device$/m);
  assert.match(
    io.stdout,
    /^ {2}\/dev\/input\/event5: not open: udev has it at seat-x, which is no seat here$/m,
  );
  io.stdout = '';
  assert.equal(await run(['seats', 'desk'], io), EXIT.ok);
  assert.match(io.stdout, /^desk: ready, seat0 of udev; pointer by seat; outputs: HDMI-A-1$/m);
  assert.match(
    io.stdout,
    /^1 +tv +has the input +HDMI-A-1 +uinput +keyboard +\/dev\/input\/event9 +4000 +21 us +48 us$/m,
  );
  assert.match(io.stdout, /^2 +mail +not there +- +ring +- /m);
  io.stdout = '';
  assert.equal(await run(['seats', '--json'], io), EXIT.ok);
  assert.equal(JSON.parse(io.stdout)[0].guest, 'tv');
  assert.equal(await run(['seats', 'nobody'], io), EXIT.refused);
  assert.match(io.stderr, /no seat "nobody"\n {2}There are desk, back\./);
});

test('the status has the seats where there are any', async () => {
  const io = world({ status: status({ seats: [seat()] }) });
  assert.equal(await run(['status'], io), EXIT.ok);
  assert.match(io.stdout, /^Seats\nSEAT .*\ndesk +ready +HDMI-A-1 +tv /m);
  const none = world();
  await run(['status'], none);
  assert.doesNotMatch(none.stdout, /Seats/);
});

test('no seat is told as what it is: not asked for', async () => {
  const io = world();
  assert.equal(await run(['seats'], io), EXIT.ok);
  assert.match(io.stdout, /^No seat\. The configuration asks for no input/);
});

test('a seat is switched and locked, and devices are given to it; it is shown as it is then', async () => {
  const io = world({ status: status({ seats: [seat({ locked: true, guest: null })] }) });
  for (const line of [
    'seat switch desk tv',
    'seat attach event3 desk',
    'seat detach event3',
    'seat lock desk',
    'seat unlock desk',
  ]) {
    assert.equal(await run(line.split(' '), io), EXIT.ok, line);
  }
  assert.deepEqual(
    io.calls.filter(([name]) => !['connect', 'describe', 'close'].includes(String(name))),
    [
      ['switchSeat', 'desk', 'tv'],
      ['attachDevice', 'event3', 'desk'],
      ['detachDevice', 'event3'],
      ['lockSeat', 'desk', true],
      ['lockSeat', 'desk', false],
    ],
  );
  assert.match(io.stdout, /^desk: locked, /m);
  assert.equal(await run(['seat', 'switch', 'desk'], io), EXIT.usage);
});

test('top has the input of guests, with rates', async () => {
  const io = world({ status: status({ seats: [seat()] }) });
  let out = '';
  io.terminal.write = (text) => {
    out += text;
  };
  assert.equal(await run(['top', '--once'], io), EXIT.ok);
  assert.match(out, /^GUEST +SEAT +INPUT +EVENTS\/S +DROPPED\/S +P50 +P99 +MAX$/m);
  assert.match(out, /^tv +desk +keyboard, uinput +0 +0 +21 us +48 us +130 us$/m);
});

test('events of a seat: without keys unless asked', async () => {
  const io = world();
  assert.equal(await run(['input', 'watch', 'desk'], io), EXIT.unreachable);
  assert.match(io.stderr, /the daemon ended the connection/);
  assert.equal(
    io.stdout,
    '12.345678 event3 keyboard tv: KEY (hidden) 1\n12.345678 event3 keyboard -: REL 0 -3\n',
  );
  io.stdout = '';
  assert.equal(await run(['input', 'watch', 'desk', '--keys', '--json'], io), EXIT.unreachable);
  assert.equal(JSON.parse(io.stdout.split('\n')[0] ?? '').code, 30);
  assert.deepEqual(
    io.calls.filter(([name]) => name === 'watchInput'),
    [
      ['watchInput', 'desk', false],
      ['watchInput', 'desk', true],
    ],
  );
});
