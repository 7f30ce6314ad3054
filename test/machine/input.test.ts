/** The input thread on real devices: read, routed and handed on by uinput, and what happens when they go. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Fd } from '../../src/native/base.js';
import {
  classify,
  type DeviceDescription,
  describeDevice,
  type InputClass,
  InputEngine,
  type InputNotice,
  type SeatTable,
} from '../../src/native/input.js';
import {
  EV,
  EvdevReader,
  endAll,
  FRAMES,
  type InputEvent,
  KEYBOARD,
  type MadeDevice,
  MOUSE,
  TABLET,
  TestInput,
  TOUCHSCREEN,
} from './inside/evdev.js';

const [A, B, CTRL, RIGHT_CTRL, F2] = [30, 48, 29, 97, 60];

const notices: InputNotice[] = [];
let engine: InputEngine;
before(() => {
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  engine = new InputEngine({ priority: 50, onNotice: (notice) => notices.push(notice) });
});
after(async () => {
  engine.shut();
  await endAll();
});

async function noticed<T extends InputNotice['type']>(type: T): Promise<Extract<InputNotice, { type: T }>> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const at = notices.findIndex((notice) => notice.type === type);
    if (at >= 0) return notices.splice(at, 1)[0] as Extract<InputNotice, { type: T }>;
    assert.ok(performance.now() < deadline, `a notice ${type}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const openEvdev = (path: string) => new Fd(openSync(path, 'r+'));

/** A device that is read, and what it is. */
async function plug(made: MadeDevice) {
  const input = await TestInput.make(made);
  const fd = openEvdev(input.path);
  const description = describeDevice(fd);
  const of = classify(description);
  assert.ok(of, `${made.name} has a class`);
  const options = { path: input.path, class: of, read: 'raw', grab: true, libinput: {} } as const;
  const { id } = engine.open({ fd, ...options });
  return { input, id, class: of, description };
}
type Plugged = Awaited<ReturnType<typeof plug>>;

async function farEnd(guest: number, of: InputClass, description: DeviceDescription) {
  const sink = await engine.addUinput(guest, of, { ...description, phys: `scanoutd/${guest}/${of}` });
  execFileSync('udevadm', ['settle', '--timeout=20']);
  return { ...sink, reader: await EvdevReader.open(sink.path) };
}

function table(
  devices: readonly Pick<Plugged, 'id'>[],
  guest: number | null,
  more: Partial<SeatTable> = {},
): SeatTable {
  return {
    devices: devices.map(({ id }) => ({ id, output: null })),
    guest,
    switches: 0,
    pointer: 'seat',
    outputs: [],
    places: [],
    hotkeys: [],
    carryLocks: false,
    ...more,
  };
}

test('each class comes out at the far end as it went in, and looks the same', async () => {
  const seat = await engine.addSeat();
  const guest = await engine.addGuest();
  const plugged: Plugged[] = [];
  const ends = new Map<string, Awaited<ReturnType<typeof farEnd>>>();
  for (const made of [KEYBOARD, MOUSE, TOUCHSCREEN, TABLET]) {
    const one = await plug(made);
    plugged.push(one);
    ends.set(one.class, await farEnd(guest, one.class, one.description));
  }
  assert.deepEqual([...ends.keys()], Object.keys(FRAMES));
  await engine.setSeat(seat, table(plugged, guest));
  for (const { input, class: of, description } of plugged) {
    const end = ends.get(of);
    assert.ok(end);
    for (const frame of FRAMES[of] ?? []) {
      input.send(...frame);
      assert.deepEqual(await end.reader.take(frame.length), frame, of);
    }
    const seen = describeDevice(openEvdev(end.path));
    assert.deepEqual(
      { ...seen, phys: description.phys, absolute: ranges(seen) },
      { ...description, absolute: ranges(description) },
    );
    assert.equal(seen.phys, `scanoutd/${guest}/${of}`);
    const stats = engine.stats(end.id);
    assert.ok(stats.delivered >= 8 && stats.p50Ns > 0 && stats.maxNs >= stats.p99Ns, JSON.stringify(stats));
  }
  assert.ok(engine.idleNs(seat) < 60e9);
  for (const { reader } of ends.values()) assert.deepEqual(await reader.nothing(20), []);
  await Promise.all(plugged.map(({ id }) => engine.close(id)));
  await engine.removeGuest(guest);
  await ends.get('keyboard')?.reader.line('gone 19');
  await Promise.all(plugged.map(({ input }) => input.unplug()));
});

test('a frame that is longer than one read and one write comes out whole', async () => {
  const CONTACTS = 40;
  const seat = await engine.addSeat();
  const guest = await engine.addGuest();
  const touch = await plug({ ...TOUCHSCREEN, absolute: { ...TOUCHSCREEN.absolute, 47: [0, CONTACTS - 1] } });
  const end = await farEnd(guest, touch.class, touch.description);
  await engine.setSeat(seat, table([touch], guest));
  const frame: InputEvent[] = Array.from({ length: CONTACTS }, (_, i): InputEvent[] => [
    ...(i > 0 ? [[EV.ABS, 47, i] as const] : []), // the first is selected already
    [EV.ABS, 57, i + 1],
    [EV.ABS, 53, 10 + i],
    [EV.ABS, 54, 20 + i],
  ]).flat();
  frame.push([EV.KEY, 330, 1], [EV.ABS, 0, 10], [EV.ABS, 1, 20]);
  touch.input.send(...frame);
  assert.deepEqual(await end.reader.take(frame.length), frame);
  assert.deepEqual(await end.reader.nothing(20), []);
  await engine.close(touch.id);
  await engine.removeGuest(guest);
  await touch.input.unplug();
});

/** The values of axes are no part of what a device is. */
function ranges({ absolute }: DeviceDescription) {
  return Object.fromEntries(
    Object.entries(absolute).map(([code, { minimum, maximum, resolution }]) => [
      code,
      [minimum, maximum, resolution],
    ]),
  );
}

test('a hotkey switches, LEDs follow the guest, and a device that is unplugged releases its keys', async () => {
  const seat = await engine.addSeat();
  const guests = [await engine.addGuest(), await engine.addGuest()] as const;
  const keyboard = await plug(KEYBOARD);
  const [a, b] = [
    await farEnd(guests[0], 'keyboard', keyboard.description),
    await farEnd(guests[1], 'keyboard', keyboard.description),
  ];
  const hotkeys = [{ held: [[CTRL], [RIGHT_CTRL]], key: F2, id: 7, guest: guests[1] }];
  await engine.setSeat(seat, table([keyboard], guests[0], { hotkeys }));
  execFileSync('build-machine/evdev', ['led', a.path, '1', '1']);
  await keyboard.input.led(1, 1);
  keyboard.input.send([EV.KEY, CTRL, 1]);
  keyboard.input.send([EV.KEY, RIGHT_CTRL, 1]);
  keyboard.input.send([EV.KEY, F2, 1]);
  assert.deepEqual(await noticed('hotkey'), { type: 'hotkey', seat, id: 7, guest: guests[1], switches: 1 });
  assert.deepEqual(await a.reader.take(4), [
    [EV.KEY, CTRL, 1],
    [EV.KEY, RIGHT_CTRL, 1],
    [EV.KEY, CTRL, 0],
    [EV.KEY, RIGHT_CTRL, 0],
  ]);
  keyboard.input.send([EV.KEY, F2, 0]);
  keyboard.input.send([EV.KEY, A, 1]);
  assert.deepEqual(await b.reader.take(1), [[EV.KEY, A, 1]]);
  // Another guest, another LED.
  execFileSync('build-machine/evdev', ['led', b.path, '2', '1']);
  await keyboard.input.led(2, 1);
  await keyboard.input.led(1, 0);

  await keyboard.input.unplug();
  assert.deepEqual(await b.reader.take(1), [[EV.KEY, A, 0]]);
  const gone = await noticed('deviceGone');
  assert.deepEqual([gone.device, gone.code], [keyboard.id, 'ENODEV']);
  await engine.close(keyboard.id);
  assert.deepEqual(await a.reader.nothing(50), []);
  for (const guest of guests) await engine.removeGuest(guest);
  await engine.removeSeat(seat);
});

test('a device whose events the kernel had to drop is read anew', async () => {
  const seat = await engine.addSeat();
  const guest = await engine.addGuest();
  const input = await TestInput.make(KEYBOARD);
  const fd = openEvdev(input.path);
  const end = await farEnd(guest, 'keyboard', describeDevice(fd));
  // Another clock for a queue that is not empty: the kernel drops what is in it, and says so (evdev_set_clk_type).
  input.send([EV.KEY, A, 1]);
  await input.play([], 0);
  const options = { path: input.path, class: 'keyboard', read: 'raw', grab: true, libinput: {} } as const;
  const { id } = engine.open({ fd, ...options });
  await engine.setSeat(seat, table([{ id }], guest));
  // Events up to the next report are of no use; what B is now is asked.
  input.send([EV.KEY, B, 1]);
  assert.deepEqual(await end.reader.take(1), [[EV.KEY, B, 1]]);
  assert.equal((await noticed('dropped')).device, id);
  input.send([EV.KEY, A, 0]);
  input.send([EV.KEY, B, 0]);
  assert.deepEqual(await end.reader.take(1), [[EV.KEY, B, 0]]);
  await engine.close(id);
  await engine.removeGuest(guest);
  await engine.removeSeat(seat);
  await input.end();
});

test('what cannot be a device is refused', async () => {
  assert.throws(() => describeDevice(openEvdev('/dev/null')), { code: 'ENOTTY' });
  const absurd = await TestInput.make({
    ...TOUCHSCREEN,
    name: 'Absurd',
    absolute: { 0: [-2147483648, 2147483647], 1: [0, 100] },
  });
  assert.throws(
    () => describeDevice(openEvdev(absurd.path)),
    /axis 0 of Absurd from -2147483648 to 2147483647\): ERANGE/,
  );
  await absurd.end();
  const held = await TestInput.make(KEYBOARD);
  const holder = await EvdevReader.open(held.path, true);
  const options = { path: held.path, class: 'keyboard', read: 'raw', grab: true, libinput: {} } as const;
  assert.throws(() => engine.open({ fd: openEvdev(held.path), ...options }), { code: 'EBUSY' });
  await holder.end();
  await held.end();
});
