import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../src/config/config.js';
import { parseConfig } from '../../src/config/load.js';
import type { Fd } from '../../src/native/base.js';
import type {
  DeviceDescription,
  DeviceOptions,
  InputClass,
  InputEngine,
  InputNotice,
  SeatTable,
} from '../../src/native/input.js';
import { usualDescription } from '../../src/seats/describe.js';
import { SeatError } from '../../src/seats/errors.js';
import { SeatManager } from '../../src/seats/manager.js';
import type { InputNode } from '../../src/seats/nodes.js';
import type { GuestView, OutputView } from '../../src/seats/seating.js';
import type { GuestInput } from '../../src/seats/sinks.js';
import type { SeatWorld } from '../../src/seats/world.js';

const ACCOUNTS = { user: () => 0, group: () => 0 };
const SIZE = { width: 640, height: 480 };

/** The input thread as it is seen from here, with everything that it was told. */
class FakeEngine {
  readonly realtime = true;
  readonly realtimeReason = '';
  readonly open_ = new Map<number, DeviceOptions>();
  readonly tables = new Map<number, SeatTable>();
  /** Every table that was set. */
  readonly history: SeatTable[] = [];
  readonly guests = new Set<number>();
  readonly sinks = new Map<
    number,
    { guest: number; of: InputClass | null; description: DeviceDescription | null }
  >();
  idle = 0;
  watching: [number | null, boolean] | null = null;
  shutDown = false;
  refused: string[] = [];
  private last = 0;

  open(options: DeviceOptions) {
    const id = ++this.last;
    this.open_.set(id, options);
    return {
      id,
      classes: [{ class: options.class, description: usualDescription(options.class) }],
      refused: this.refused,
    };
  }
  async close(id: number) {
    this.open_.delete(id);
  }
  async addSeat() {
    return ++this.last;
  }
  async removeSeat(id: number) {
    this.tables.delete(id);
  }
  async setSeat(id: number, table: SeatTable) {
    this.tables.set(id, table);
    this.history.push(table);
  }
  async addGuest() {
    this.guests.add(++this.last);
    return this.last;
  }
  async removeGuest(id: number) {
    this.guests.delete(id);
  }
  async addUinput(guest: number, of: InputClass, description: DeviceDescription) {
    if (description.phys.includes('refused')) {
      throw Object.assign(new Error('open /dev/uinput: EACCES'), { op: 'open', errno: 13, code: 'EACCES' });
    }
    const id = ++this.last;
    this.sinks.set(id, { guest, of, description });
    return { id, path: `/dev/input/event${id}`, sysPath: '' };
  }
  async addVirtio(guest: number, of: InputClass, description: DeviceDescription, socket: Fd) {
    socket.close();
    const id = ++this.last;
    this.sinks.set(id, { guest, of, description });
    return id;
  }
  async addRing(guest: number) {
    const id = ++this.last;
    this.sinks.set(id, { guest, of: null, description: null });
    return { id, ring: {} as Fd, reply: {} as Fd };
  }
  async removeSink(id: number) {
    this.sinks.delete(id);
  }
  idleNs() {
    return this.idle;
  }
  stats() {
    return { delivered: 3, merged: 0, dropped: 0, p50Ns: 1000, p99Ns: 2000, maxNs: 3000 };
  }
  watch(seat: number | null, keys = false) {
    this.watching = [seat, keys];
  }
  watched() {
    const [device = 0] = this.open_.keys();
    const [guest = null] = this.guests;
    return [{ timeNs: 5000, device, guest, class: 'keyboard' as const, type: 1, code: -1, value: 1 }];
  }
  shut() {
    this.shutDown = true;
  }
}

function nodeOf(number: number, change: Partial<InputNode> = {}): InputNode {
  return {
    path: `/dev/input/event${number}`,
    sysPath: `/sys/devices/input${number}/event${number}`,
    name: `Keyboard ${number}`,
    phys: `port-${number}`,
    id: '0001:0001',
    udevSeat: 'seat0',
    links: [],
    ...change,
  };
}

/** Everything around the seats, changed by the tests. */
class Scene {
  readonly engine = new FakeEngine();
  nodes: InputNode[] = [nodeOf(1)];
  outputs: OutputView[] = [{ name: 'DP-1', names: ['DP-1'], udevSeat: 'seat0', lit: SIZE, shown: [] }];
  guests: GuestView[] = [];
  own = new Map<string, GuestInput>();
  active = true;
  closed = 0;
  rearranged = 0;
  readonly ran: string[] = [];
  readonly log: string[] = [];
  notice: (notice: InputNotice) => void = () => {};
  readonly seats: SeatManager;
  /** Of nodes by path: what they are when it is no keyboard. */
  readonly classes = new Map<string, InputClass | null>();

  constructor(config: Config | string) {
    const write = (details: object, text: string) => {
      this.log.push(`${text} ${JSON.stringify(details)}`);
    };
    const logger = { trace: write, debug: write, info: write, warn: write, error: write };
    const world: SeatWorld = {
      nodes: () => this.nodes,
      open: (node) => {
        if (!this.active) return null;
        if (node.name === 'Forbidden') {
          throw Object.assign(new Error('EACCES: permission denied'), { syscall: 'open', code: 'EACCES' });
        }
        const fd = { node, close: () => {} } as unknown as Fd;
        return { fd, direct: node.name !== 'Managed', close: () => this.closed++ };
      },
      describe: (fd) => {
        const { path } = (fd as unknown as { node: InputNode }).node;
        const of = this.classes.get(path);
        return { ...usualDescription(of ?? 'keyboard'), name: of === null ? 'useless' : path };
      },
      classify: ({ name }) => (name === 'useless' ? null : (this.classes.get(name) ?? 'keyboard')),
      makeEngine: (_, onNotice) => {
        this.notice = onNotice;
        return this.engine as unknown as InputEngine;
      },
      outputs: () => this.outputs,
      guests: () => this.guests,
      lessees: () => [],
      udevSeats: () => ['seat0'],
      ownInput: (machine) => this.own.get(machine) ?? null,
      rearrange: async () => {
        this.rearranged++;
        this.show();
      },
      changed: () => {},
      run: (command, environment) => {
        this.ran.push(`${command.join(' ')} ${environment.SCANOUTD_SEAT} ${environment.SCANOUTD_GUEST}`);
      },
    };
    this.seats = new SeatManager(world, typeof config === 'string' ? load(config) : config, logger as never);
  }

  /** What the guests' manager does. */
  show(): void {
    this.outputs = this.outputs.map((output) => ({
      ...output,
      shown: this.guests.flatMap(({ name, whole }) => {
        const where = this.seats.placement(name);
        if (where === null || !('output' in where) || where.output !== output.name) return [];
        return [{ guest: name, area: whole ? { x: 0, y: 0, ...SIZE } : { x: 5, y: 6, width: 7, height: 8 } }];
      }),
    }));
  }

  async come(name: string, change: Partial<GuestView> = {}): Promise<void> {
    this.guests = [
      ...this.guests,
      { name, machine: name, scanout: 0, request: null, whole: true, ...change },
    ];
    this.show();
    await this.seats.update();
    await this.seats.update();
  }

  async go(name: string): Promise<void> {
    this.guests = this.guests.filter((guest) => guest.name !== name);
    this.show();
    await this.seats.update();
    await this.seats.update();
  }

  table(seat = 0): SeatTable {
    const table = [...this.engine.tables.values()][seat];
    assert.ok(table, 'the seat has a table');
    return table;
  }

  get seatId(): number {
    return [...this.engine.tables.keys()][0] ?? 0;
  }

  /** Of the guest that the first seat's input goes to: the classes of its devices. */
  classesOf(guest: number | null): (InputClass | null)[] {
    return [...this.engine.sinks.values()].filter((sink) => sink.guest === guest).map(({ of }) => of);
  }

  document(name = 'desk') {
    const found = this.seats.documents().find((seat) => seat.name === name);
    assert.ok(found);
    return found;
  }
}

function load(text: string): Config {
  return parseConfig(text, 'f', ACCOUNTS);
}

const SEAT = '[[seat]]\nname = "desk"\nudev_seat = "seat0"\noutputs = ["DP-1"]\nguests = ["a", "b"]\n';
const UINPUT = '[[guest]]\nname = "a"\ninput = "uinput"\n[[guest]]\nname = "b"\ninput = "uinput"\n';

async function started(text: string, change: (scene: Scene) => void = () => {}): Promise<Scene> {
  const scene = new Scene(text);
  change(scene);
  await scene.seats.start();
  return scene;
}

test('no thread and no device without anything that asks for input; a reload brings them', async () => {
  const scene = await started('');
  assert.equal(scene.seats.engine, null);
  assert.deepEqual(scene.seats.documents(), []);
  assert.equal(scene.seats.how('x', 'socket'), 'none');
  await scene.seats.configure(load(SEAT));
  assert.notEqual(scene.seats.engine, null);
  assert.equal(scene.engine.open_.size, 1);
  assert.equal(scene.seats.how('x', 'socket'), 'ring');
  assert.equal(scene.seats.how('x', 'qemu'), 'qemu');
});

test('devices are read, guests have theirs before they come, and input goes nowhere until then', async () => {
  const scene = await started(SEAT + UINPUT);
  const [[id, options] = []] = scene.engine.open_;
  assert.deepEqual([options?.class, options?.read, options?.grab], ['keyboard', 'raw', true]);
  const { devices, guest, hotkeys, outputs, places } = scene.table();
  assert.deepEqual(devices, [{ id, output: null }]);
  assert.deepEqual([guest, places, outputs], [null, [], [SIZE]]);
  assert.equal(hotkeys.length, 12);
  assert.deepEqual(hotkeys[0], { held: [[29], [97]], key: 59, id: 0, guest: null });
  assert.deepEqual(
    [...scene.engine.sinks.values()].map(({ of }) => of),
    ['keyboard', 'pointer', 'keyboard', 'pointer'],
  );
  const [sink] = scene.engine.sinks.values();
  assert.equal(sink?.description?.phys, 'scanoutd/a/keyboard');
  assert.equal(sink?.description?.name, 'scanoutd keyboard');
  assert.match(scene.log.join('\n'), /seat is ready.*"guest":null/);
});

test('a guest that comes gets the input, with its place; hotkeys know who is there', async () => {
  const scene = await started(SEAT + UINPUT);
  await scene.come('b');
  const { guest, places, hotkeys } = scene.table();
  assert.deepEqual(places, [{ guest, output: 0, x: 0, y: 0, ...SIZE }]);
  assert.deepEqual([hotkeys[0]?.guest, hotkeys[1]?.guest], [null, guest]);
  await scene.come('a');
  // The first of the list, which was never switched from.
  assert.equal(scene.document().guest, 'b');
  await scene.seats.switchTo('desk', 'a');
  assert.equal(scene.document().guest, 'a');
  assert.deepEqual(
    scene.document().guests.map(({ name, output, present }) => [name, output, present]),
    [
      ['a', 'DP-1', true],
      ['b', null, true],
    ],
  );
});

test('a hotkey that was switched by natively is followed by the outputs', async () => {
  const scene = await started(SEAT + UINPUT);
  await scene.come('a');
  await scene.come('b');
  const before = scene.rearranged;
  const { hotkeys } = scene.table();
  scene.notice({ type: 'hotkey', seat: scene.seatId, id: 1, guest: hotkeys[1]?.guest ?? null, switches: 1 });
  await scene.seats.update();
  assert.equal(scene.document().guest, 'b');
  assert.equal(scene.table().guest, hotkeys[1]?.guest);
  assert.equal(scene.table().switches, 1);
  assert.equal(scene.rearranged, before + 1);
  // One that came after the table was made is switched to here.
  scene.notice({ type: 'hotkey', seat: scene.seatId, id: 0, guest: null, switches: 1 });
  await scene.seats.update();
  assert.equal(scene.document().guest, 'a');
  await scene.go('b');
  scene.notice({ type: 'hotkey', seat: scene.seatId, id: 1, guest: null, switches: 0 });
  scene.notice({ type: 'hotkey', seat: scene.seatId, id: 7, guest: null, switches: 0 });
  assert.match(scene.log.join('\n'), /without effect.*guest b is not there/);
  assert.match(scene.log.join('\n'), /without effect.*the seat has no such guest/);
});

test('a hotkey in the middle of a turn: no table takes it into account that was viewed before it', async () => {
  const scene = await started(SEAT + UINPUT, (one) => one.nodes.push(nodeOf(2)));
  await scene.come('a');
  await scene.come('b');
  const { hotkeys, guest: former } = scene.table();
  const wanted = hotkeys[1]?.guest ?? null;
  const { engine } = scene;
  const close = engine.close.bind(engine);
  engine.close = async (id) => {
    scene.notice({ type: 'hotkey', seat: scene.seatId, id: 1, guest: wanted, switches: 1 });
    await close(id);
  };
  const before = engine.history.length;
  scene.nodes = [nodeOf(1)];
  await scene.seats.rescan();
  await scene.seats.update();
  const set = engine.history.slice(before).map(({ guest, switches }) => [guest, switches]);
  assert.deepEqual(set, [
    [former, 0],
    [wanted, 1],
  ]);
});

test('next, previous and lock by hotkey', async () => {
  const keys = [
    '{ keys = "ctrl+n", action = "next" }',
    '{ keys = "ctrl+p", action = "previous" }',
    '{ keys = "ctrl+l", action = "lock" }',
  ];
  const scene = await started(`${SEAT}hotkeys = [${keys}]\nlock_command = ["/lock"]\n${UINPUT}`);
  await scene.come('a');
  await scene.come('b');
  const { hotkeys, guest } = scene.table();
  assert.notEqual(hotkeys[0]?.guest, guest);
  assert.equal(hotkeys[0]?.guest, hotkeys[1]?.guest);
  assert.equal(hotkeys[2]?.guest, null);
  scene.notice({ type: 'hotkey', seat: scene.seatId, id: 2, guest: null, switches: 0 });
  await scene.seats.update();
  const { locked, guest: now } = scene.document();
  assert.deepEqual([locked, now, scene.table().guest, scene.table().hotkeys], [true, null, null, []]);
  assert.deepEqual(scene.ran, ['/lock desk a']);
  await scene.seats.lock('desk', true);
  await scene.seats.lock('desk', false);
  assert.equal(scene.table().guest, guest);
  assert.equal(scene.ran.length, 1);
});

test('guests beside the one with the input have their places, the topmost first', async () => {
  const scene = await started(`${SEAT}pointer = "under"\n${UINPUT}`);
  await scene.come('a');
  await scene.come('b', { whole: false });
  const { places, pointer, guest } = scene.table();
  assert.equal(pointer, 'under');
  assert.deepEqual(
    places.map(({ width }) => width),
    [7, SIZE.width],
  );
  assert.equal(places[1]?.guest, guest);
  // Pointers under guests have a position.
  assert.ok(scene.classesOf(guest).includes('absolute'));
});

test('a device that goes is closed, one that comes is opened, and one that is refused is told once', async () => {
  const scene = await started(SEAT);
  const [first = 0] = scene.engine.open_.keys();
  scene.notice({ type: 'deviceGone', device: first, errno: 19, code: 'ENODEV' });
  scene.nodes = [nodeOf(2), nodeOf(3, { name: 'Forbidden' }), nodeOf(4)];
  scene.classes.set('/dev/input/event4', null);
  await scene.seats.rescan();
  await scene.seats.rescan();
  assert.deepEqual(
    [...scene.engine.open_.values()].map(({ path }) => path),
    ['/dev/input/event2'],
  );
  assert.equal(scene.closed, 3); // the first, and twice the one that nobody could make use of
  assert.equal(scene.log.filter((line) => /permission denied/.test(line)).length, 1);
  const reasons = scene.document().devices.map(({ open, reason }) => [open, reason]);
  assert.deepEqual(reasons, [
    [true, ''],
    [false, 'EACCES: permission denied'],
    [false, 'nothing that a guest could make use of'],
  ]);
  assert.equal(scene.table().devices.length, 1);
});

test('a session that is not active has no devices of the seat manager, and they are opened anew', async () => {
  const scene = await started(SEAT, (it) => {
    it.nodes = [nodeOf(1, { name: 'Managed' }), nodeOf(2)];
  });
  assert.deepEqual(
    [...scene.engine.open_.values()].map(({ grab }) => grab),
    [false, true],
  );
  scene.active = false;
  scene.seats.sessionDisabled();
  await scene.seats.rescan();
  assert.deepEqual(
    [...scene.engine.open_.values()].map(({ path }) => path),
    ['/dev/input/event2'],
  );
  assert.equal(scene.document().devices[0]?.reason, 'the session is not active');
  assert.equal(scene.closed, 1);
  scene.active = true;
  await scene.seats.rescan();
  assert.equal(scene.engine.open_.size, 2);
  assert.equal(scene.table().devices.length, 2);
});

test('devices that are revoked one after the other are all opened anew, or told to be away', async () => {
  const scene = await started(SEAT, (it) => {
    it.nodes = [nodeOf(1, { name: 'Managed' }), nodeOf(2, { name: 'Managed' })];
  });
  const revoke = () => {
    for (const device of [...scene.engine.open_.keys()]) {
      scene.notice({ type: 'deviceGone', device, errno: 19, code: 'ENODEV' });
    }
  };
  revoke();
  await scene.seats.update();
  assert.equal(scene.engine.open_.size, 2);
  assert.equal(scene.closed, 2);
  revoke();
  scene.active = false;
  scene.seats.sessionDisabled();
  await scene.seats.update();
  assert.deepEqual(
    scene.document().devices.map(({ reason }) => reason),
    ['the session is not active', 'the session is not active'],
  );
});

test('a device that udev has at another seat from now on is opened anew', async () => {
  const scene = await started(`${SEAT}[[seat]]\nname = "two"\n`, (it) => {
    it.nodes = [nodeOf(1, { name: 'Managed' })];
  });
  assert.deepEqual(
    [...scene.engine.open_.values()].map(({ grab }) => grab),
    [false],
  );
  scene.nodes = [nodeOf(1, { udevSeat: 'two' })];
  await scene.seats.rescan();
  assert.deepEqual(
    [...scene.engine.open_.values()].map(({ grab }) => grab),
    [true],
  );
  assert.equal(scene.closed, 1);
  assert.deepEqual(
    scene.document('two').devices.map(({ by, udevSeat }) => [by, udevSeat]),
    [['udev', 'two']],
  );
});

test('a device that goes through libinput is opened anew where it moves: each seat has a context of its own', async () => {
  const scene = await started(`${SEAT}[[seat]]\nname = "two"\n[[input]]\nread = "libinput"\n`);
  const opened = () => [...scene.engine.open_].map(([id, { group, read }]) => ({ id, group, read }));
  const [before] = opened();
  assert.deepEqual([before?.group, before?.read], ['desk', 'libinput']);
  await scene.seats.attach('event1', 'two');
  const [after] = opened();
  assert.deepEqual([after?.group, after?.id !== before?.id, opened().length], ['two', true, 1]);
});

test('a call gives a device to another seat until it is unplugged', async () => {
  const scene = await started(`${SEAT}[[seat]]\nname = "two"\ninput = { grab = "no" }\n`);
  await scene.seats.attach('event1', 'two');
  assert.deepEqual([scene.table(0).devices.length, scene.table(1).devices.length], [0, 1]);
  assert.deepEqual(
    [...scene.engine.open_.values()].map(({ grab }) => grab),
    [false],
  );
  assert.equal(scene.document('two').devices[0]?.by, 'attached');
  await scene.seats.detach('/dev/input/event1');
  assert.deepEqual([scene.table(0).devices.length, scene.table(1).devices.length], [1, 0]);
  const refusals = {
    NotFound: scene.seats.attach('event9', 'two'),
    InvalidArgument: scene.seats.detach('event1'),
  };
  for (const [kind, call] of Object.entries(refusals)) {
    await assert.rejects(call, (error) => error instanceof SeatError && error.kind === kind);
  }
  await assert.rejects(scene.seats.attach('event1', 'three'), /there is no seat three; known are: desk, two/);
  await scene.seats.attach('event1', 'two');
  scene.nodes = [];
  await scene.seats.rescan();
  scene.nodes = [nodeOf(1)];
  await scene.seats.rescan();
  assert.equal(scene.document('desk').devices.length, 1);
});

test('a seat is not switched to who is not there, nor to a stranger', async () => {
  const scene = await started(SEAT + UINPUT);
  await assert.rejects(scene.seats.switchTo('desk', 'a'), /guest a is not there/);
  await assert.rejects(scene.seats.switchTo('desk', 'c'), /seat desk has no guest c; its guests are: a, b/);
  await assert.rejects(scene.seats.switchTo('x', 'a'), /there is no seat x; known are: desk/);
});

test('what libinput reads is read together with its seat, and what it says is told', async () => {
  const scene = new Scene(
    `${SEAT}[[seat]]\nname = "two"\n[[input]]\nid = "0001:0001"\ntap = true\nread = "libinput"`,
  );
  scene.classes.set('/dev/input/event1', 'touchpad');
  scene.engine.refused = ['tap: the device has no such setting', 'rotation: libinput takes no such value'];
  await scene.seats.start();
  const opened = () => [...scene.engine.open_.entries()].map(([id, { read, group }]) => [id, read, group]);
  const [[first] = []] = opened();
  assert.deepEqual(opened(), [[first, 'libinput', 'desk']]);
  assert.equal(
    scene.log.filter((line) => /an option of libinput is not set.*tap: the device/.test(line)).length,
    1,
  );
  scene.notice({ type: 'nonsense', device: Number(first), why: 'a touch jumped' });
  assert.ok(scene.log.some((line) => /libinput has something to say.*event1.*a touch jumped/.test(line)));
  // Of another seat, it has nothing to do with the devices of the first.
  await scene.seats.attach('event1', 'two');
  const [[second] = []] = opened();
  assert.notEqual(second, first);
  assert.deepEqual(opened(), [[second, 'libinput', 'two']]);
});

test("a guest's own way is attached once, and let go with the guest", async () => {
  const scene = await started(`${SEAT}[[guest]]\nname = "a"\n`);
  const told: (string | number | null)[] = [];
  const described: InputClass[][] = [];
  const own: GuestInput = {
    how: 'ring',
    attach: async (engine, guest, devices) => {
      told.push('attach');
      described.push(devices.map((device) => device.class));
      return (await engine.addRing(guest, { event: {} as Fd, room: {} as Fd, devices })).id;
    },
    describe: async (devices) => {
      described.push(devices.map((device) => device.class));
    },
    detached: (why) => told.push(why),
  };
  await scene.come('a');
  assert.deepEqual(told, []);
  scene.own.set('a', own);
  scene.seats.changed();
  await scene.seats.update();
  const { guest } = scene.table();
  assert.deepEqual([told, scene.classesOf(guest)], [['attach'], [null]]);
  assert.deepEqual(scene.document().guests[0]?.sinks[0]?.latencyUs, { p50: 1, p99: 2, max: 3 });
  // It hears of other devices, and only of those.
  scene.classes.set('/dev/input/event2', 'touchscreen');
  scene.nodes = [nodeOf(1), nodeOf(2)];
  await scene.seats.rescan();
  await scene.seats.update();
  assert.deepEqual(described, [
    ['keyboard', 'pointer'],
    ['keyboard', 'pointer', 'touchscreen'],
  ]);
  // It ends by itself: that is not asked again, another one is.
  const [sink = 0] = scene.engine.sinks.keys();
  scene.notice({ type: 'sinkEnded', sink, errno: 0, code: '', why: 'it broke the rules' });
  await scene.seats.update();
  assert.deepEqual([told, scene.engine.sinks.size], [['attach', 'it broke the rules'], 0]);
  scene.own.set('a', { ...own });
  await scene.seats.update();
  assert.equal(told.filter((one) => one === 'attach').length, 2);
  scene.own.delete('a');
  await scene.go('a');
  assert.deepEqual([told.at(-1), scene.engine.guests.has(guest ?? 0)], [null, false]);
});

test('a way that cannot be is told, and the guest goes without', async () => {
  const scene = await started(`${SEAT}[[guest]]\nname = "a"\n`);
  scene.own.set('a', {
    how: 'ring',
    attach: () => Promise.reject(new Error('no eventfd')),
    detached: () => assert.fail('nothing was attached'),
  });
  await scene.come('a');
  await scene.seats.update();
  assert.equal(scene.log.filter((line) => /no input: no eventfd/.test(line)).length, 1);
  assert.equal(scene.document().guest, 'a');
});

test('devices of uinput stay while their guest is there, and learn what is new when it is gone', async () => {
  const scene = await started(SEAT + UINPUT);
  await scene.come('a');
  const before = [...scene.engine.sinks.keys()];
  scene.classes.set('/dev/input/event2', 'tablet');
  scene.nodes = [nodeOf(1), nodeOf(2)];
  await scene.seats.rescan();
  const guest = scene.table().guest;
  // A new class is a device more.
  assert.deepEqual(scene.classesOf(guest), ['keyboard', 'pointer', 'tablet']);
  assert.ok(before.every((id) => scene.engine.sinks.has(id)));
  scene.nodes = [nodeOf(1)];
  await scene.seats.rescan();
  assert.deepEqual(scene.classesOf(guest), ['keyboard', 'pointer', 'tablet']);
  await scene.go('a');
  assert.deepEqual(scene.classesOf(guest), ['keyboard', 'pointer']);
});

test('a guest without /dev/uinput is told once, and the others have theirs', async () => {
  const scene = await started(
    `${SEAT.replace('"b"', '"refused"')}[[guest]]\nname = "refused"\ninput = "uinput"\n${UINPUT}`,
  );
  await scene.seats.rescan();
  assert.equal(
    scene.log.filter((line) => /no input device: open \/dev\/uinput: EACCES/.test(line)).length,
    4,
  );
  assert.equal(scene.engine.sinks.size, 4);
});

test('a guest that only watches has nothing, and hotkeys switch to it all the same', async () => {
  const scene = await started(`${SEAT}[[guest]]\nname = "a"\ninput = "watch"\n`);
  await scene.come('a');
  const { guest, hotkeys } = scene.table();
  assert.notEqual(guest, null);
  assert.equal(hotkeys[0]?.guest, guest);
  assert.deepEqual(scene.classesOf(guest), []);
});

test('sockets wait for a virtual machine, one connection each, and for the next one after it', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'seats-'));
  const virtio = `[[guest]]\nname = "a"\nkind = "virtio"\ninput_socket = "${directory}/{class}"\ninput_devices = ["keyboard", "tablet"]\n`;
  const scene = await started(SEAT + virtio);
  const waiting = () =>
    scene
      .document()
      .guests[0]?.sinks.filter(({ open }) => !open)
      .map(({ class: of }) => of);
  const until = async (holds: () => boolean) => {
    for (let i = 0; !holds(); i++) {
      assert.ok(i < 500, 'in time');
      await sleep(5);
    }
  };
  assert.deepEqual(waiting(), ['keyboard', 'tablet']);
  const first = connect(join(directory, 'keyboard')).on('error', () => {});
  await until(() => scene.engine.sinks.size === 1);
  assert.deepEqual(waiting(), ['tablet']);
  const second = connect(join(directory, 'keyboard')).on('error', () => {});
  await until(() => /input device refused: another one is connected/.test(scene.log.join('\n')));
  const [[id, sink] = []] = scene.engine.sinks;
  assert.deepEqual([sink?.of, sink?.description?.phys], ['keyboard', 'scanoutd/a/keyboard']);
  scene.notice({ type: 'sinkEnded', sink: id ?? 0, errno: 0, code: '', why: 'the far end is gone' });
  await scene.seats.update();
  assert.deepEqual(waiting(), ['keyboard', 'tablet']);
  const third = connect(join(directory, 'keyboard')).on('error', () => {});
  await until(() => scene.engine.sinks.size === 1);
  await scene.seats.configure(load(SEAT));
  assert.equal(scene.engine.sinks.size, 0);
  assert.rejects(
    new Promise((_, reject) => connect(join(directory, 'keyboard')).on('error', reject)),
    /ENOENT|ECONNREFUSED/,
  );
  for (const one of [first, second, third]) one.destroy();
  await scene.seats.stop();
  assert.equal(scene.engine.shutDown, true);
  rmSync(directory, { recursive: true });
});

test('a seat that is not used becomes idle, and is locked if it is to be', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const idle =
    'idle_seconds = 10\nlock_on_idle = true\nidle_command = ["/idle"]\nactive_command = ["/active"]\n';
  const scene = await started(SEAT + idle);
  t.mock.timers.tick(9_999);
  assert.equal(scene.document().idle, false);
  scene.engine.idle = 4e9; // somebody was there 4 s ago
  t.mock.timers.tick(1);
  assert.equal(scene.document().idle, false);
  scene.engine.idle = 10e9;
  t.mock.timers.tick(6_000);
  await scene.seats.update();
  assert.deepEqual([scene.document().idle, scene.document().locked], [true, true]);
  scene.engine.idle = 0;
  t.mock.timers.tick(200);
  assert.deepEqual([scene.document().idle, scene.document().locked], [false, true]);
  assert.deepEqual(scene.ran, ['/idle desk ', '/active desk ']);
  await scene.seats.stop();
});

test('one watches at a time, and sees whose device and guest it was', async () => {
  const scene = await started(SEAT + UINPUT);
  assert.throws(() => scene.seats.watch('x', false), /there is no seat x/);
  const watch = scene.seats.watch('desk', true);
  assert.deepEqual(scene.engine.watching, [scene.seatId, true]);
  assert.throws(() => scene.seats.watch('desk', false), /seat desk is watched already/);
  assert.deepEqual(scene.seats.watched(watch), [
    { timeUs: 5, device: '/dev/input/event1', guest: 'a', class: 'keyboard', type: 1, code: null, value: 1 },
  ]);
  scene.seats.unwatch(watch);
  assert.deepEqual(scene.engine.watching, [null, false]);
  assert.deepEqual(scene.seats.watched(watch), []);
});

test('a seat that a reload takes away gives its devices to the one that stands for seat0', async () => {
  const scene = await started(`${SEAT}[[seat]]\nname = "two"\n[[input]]\nphys = "port-1"\nseat = "two"\n`);
  assert.deepEqual([scene.table(0).devices.length, scene.table(1).devices.length], [0, 1]);
  await scene.seats.configure(load(SEAT));
  assert.equal(scene.engine.tables.size, 1);
  assert.equal(scene.table().devices.length, 1);
  assert.match(scene.log.join('\n'), /seat is gone {"seat":"two"}/);
});
