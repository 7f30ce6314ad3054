/** A Linux guest whose input devices are the input thread's, by vhost-user: what they are, what they send, their LEDs. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { Fd } from '../../../src/native/base.js';
import {
  classify,
  type DeviceDescription,
  describeDevice,
  type InputClass,
  InputEngine,
  type InputNotice,
} from '../../../src/native/input.js';
import { UnixListener } from '../../../src/native/unix-listener.js';
import {
  EV,
  endAll,
  FRAMES,
  type InputEvent,
  KEYBOARD,
  type MadeDevice,
  MOUSE,
  TABLET,
  TestInput,
  TOUCHSCREEN,
} from '../inside/evdev.js';
import { BOOT_MS, startLinux } from '../inside/linux-guest.js';
import type { Qemu } from '../inside/qemu.js';

const [LEFT, TAPS, MOVES] = [272, 30, 300];
const LED = { num: 0, caps: 1 } as const;

const notices: InputNotice[] = [];
let engine: InputEngine;
let directory: string;
const wires: Wire[] = [];
before(() => {
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  directory = mkdtempSync(join(tmpdir(), 'linux-input-'));
  engine = new InputEngine({ priority: 50, onNotice: (notice) => notices.push(notice) });
});
after(async () => {
  for (const wire of wires) wire.close(); // or they keep the process
  engine.shut();
  await endAll();
  rmSync(directory, { recursive: true });
});

async function noticed(what: string, found: (notice: InputNotice) => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!notices.some(found)) {
    assert.ok(performance.now() < deadline, `${what}; there were ${JSON.stringify(notices)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** One real device, its sink in the guest, and the socket where QEMU finds that. */
class Wire {
  sink = 0;
  private readonly listener;
  private connected: Promise<void> = Promise.resolve();

  private constructor(
    readonly input: TestInput,
    readonly id: number,
    readonly of: InputClass,
    readonly description: DeviceDescription,
    guest: number,
  ) {
    this.listener = new UnixListener(
      this.path,
      { type: 'stream' },
      (socket) => {
        this.connected = engine.addVirtio(guest, of, description, socket).then((sink) => {
          this.sink = sink;
        });
      },
      (error) => assert.fail(error),
    );
  }

  static async make(made: MadeDevice, guest: number): Promise<Wire> {
    const input = await TestInput.make(made);
    const fd = new Fd(openSync(input.path, 'r+'));
    const description = describeDevice(fd);
    const of = classify(description);
    assert.ok(of, `${made.name} has a class`);
    const options = { path: input.path, class: of, read: 'raw', grab: true, libinput: {} } as const;
    return new Wire(input, engine.open({ fd, ...options }).id, of, description, guest);
  }

  get path(): string {
    return join(directory, this.of);
  }
  get args(): string[] {
    const { of, path } = this;
    return [
      ...['-chardev', `socket,id=${of},path=${path}`],
      ...['-device', `vhost-user-input-pci,chardev=${of}`],
    ];
  }
  /** As the guest has it in its lines. */
  get name(): string {
    return Buffer.from(this.description.name).toString('hex');
  }
  framesIn(qemu: Qemu): string[] {
    return qemu
      .all('frame')
      .filter(({ values }) => values.name === this.name)
      .map(({ values }) => String(values.events));
  }
  async ready(): Promise<void> {
    await this.connected;
    assert.ok(this.sink > 0, `QEMU connected for ${this.of}`);
  }
  close(): void {
    this.listener.close();
  }
}

const text = (frame: readonly InputEvent[]) => frame.map((event) => event.join('.')).join(',');

/** Waits until the guest has said so many frames of the device, beyond those that it had; gives them. */
async function framesAfter(qemu: Qemu, wire: Wire, had: number, count: number): Promise<string[]> {
  const deadline = performance.now() + 60_000;
  while (wire.framesIn(qemu).length < had + count) {
    const frames = wire.framesIn(qemu).slice(had);
    assert.ok(
      qemu.alive && performance.now() < deadline,
      `${wire.of}: ${count} frames, not ${frames.join(' ')}`,
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return wire.framesIn(qemu).slice(had);
}

function setOf(codes: readonly number[], count: number): string {
  const bytes = Buffer.alloc(Math.ceil(count / 8));
  for (const code of codes) bytes.writeUInt8(bytes.readUInt8(code >> 3) | (1 << (code & 7)), code >> 3);
  return `x${bytes.toString('hex')}`;
}

/** Everything that the guest's kernel says of a device is what the real one's says. */
function assertSame(qemu: Qemu, { name, description }: Wire): void {
  const only = (word: string) => qemu.all(word).filter(({ values }) => values.name === name);
  const [device] = only('device').map(({ values }) => values);
  const { bus, vendor, product, version, properties } = description;
  assert.deepEqual(device, {
    ...{ name, bus, vendor, product, version },
    props: setOf(properties, 32),
    uniq: `x${Buffer.from(description.uniq).toString('hex')}`,
  });
  const sets = Object.fromEntries(only('bits').map(({ values }) => [values.type, values.set]));
  // Every device of the kernel has EV_SYN.
  assert.equal(sets[0], setOf([EV.SYN, ...description.types], 32));
  assert.equal(sets[EV.KEY], setOf(description.keys, 768));
  assert.equal(sets[EV.REL], setOf(description.relative, 16));
  assert.equal(sets[EV.MSC], setOf(description.misc, 8));
  assert.equal(sets[EV.LED], setOf(description.leds, 16));
  const axes = Object.fromEntries(
    only('axis').map(({ values: { name: _, code, ...range } }) => [
      code,
      Object.fromEntries(Object.entries(range).map(([key, value]) => [key, Number(value)])),
    ]),
  );
  // Their values are no part of what they are.
  const ranges = Object.entries(description.absolute).map(
    ([code, { minimum, maximum, fuzz, flat, resolution }]) => [
      code,
      { minimum, maximum, fuzz, flat, resolution },
    ],
  );
  assert.deepEqual(axes, Object.fromEntries(ranges));
}

/** Each frame, one after the other. */
async function provesFrames(qemu: Qemu, wire: Wire): Promise<void> {
  for (const frame of FRAMES[wire.of] ?? []) {
    const had = wire.framesIn(qemu).length;
    wire.input.send(...frame);
    assert.deepEqual(await framesAfter(qemu, wire, had, 1), [text(frame)], wire.of);
  }
}

/** Keys come all, and in order; not faster than the reader in the guest says its lines, or its kernel drops some. */
async function provesTyping(qemu: Qemu, keyboard: Wire): Promise<void> {
  const had = keyboard.framesIn(qemu).length;
  const typed: InputEvent[][] = Array.from({ length: 2 * TAPS }, (_, i) => [
    [EV.MSC, 4, i],
    [EV.KEY, 16 + ((i >> 1) % 10), 1 - (i % 2)],
  ]);
  await keyboard.input.play(typed, 30_000);
  assert.deepEqual(await framesAfter(qemu, keyboard, had, typed.length), typed.map(text));
}

/** A machine that stands still gets less motion afterwards, none of it lost, and each press where it was. */
async function provesPause(t: TestContext, qemu: Qemu, mouse: Wire): Promise<void> {
  const had = mouse.framesIn(qemu).length;
  await qemu.qmp('stop');
  const moves: InputEvent[][] = Array.from({ length: MOVES }, () => [[EV.REL, 0, 1]]);
  await mouse.input.play([...moves, [[EV.KEY, LEFT, 1]], ...moves, [[EV.KEY, LEFT, 0]]], 2000);
  const deadline = performance.now() + 20_000;
  while (engine.stats(mouse.sink).merged < 2 * MOVES - 20) {
    const { merged } = engine.stats(mouse.sink);
    assert.ok(performance.now() < deadline, `${merged} were merged`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await qemu.qmp('cont');
  const last = text([[EV.KEY, LEFT, 0]]);
  for (const until = performance.now() + 60_000; mouse.framesIn(qemu).slice(had).at(-1) !== last; ) {
    assert.ok(performance.now() < until, 'the release');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const frames = mouse.framesIn(qemu).slice(had);
  const press = frames.indexOf(text([[EV.KEY, LEFT, 1]]));
  const sum = (part: string[]) => part.reduce((all, frame) => all + Number(frame.split('.')[2]), 0);
  t.diagnostic(`${frames.length} frames of ${2 * MOVES + 2}`);
  assert.deepEqual([sum(frames.slice(0, press)), sum(frames.slice(press + 1, -1))], [MOVES, MOVES]);
  assert.ok(frames.length < MOVES / 10, `${frames.length} frames`);
}

async function provesLeds(qemu: Qemu, { input, sink }: Wire): Promise<void> {
  const lit = (bits: number) =>
    noticed(
      `LEDs ${bits}`,
      (notice) => notice.type === 'leds' && notice.sink === sink && notice.leds === bits,
    );
  qemu.send('c');
  await lit(1 << LED.caps);
  await input.led(LED.caps, 1);
  qemu.send('n');
  await lit((1 << LED.caps) | (1 << LED.num));
  await input.led(LED.num, 1);
  qemu.send('o');
  await lit(0);
  await input.led(LED.caps, 0);
  await input.led(LED.num, 0);
}

test('Linux has the devices of the seat: what they are, what they send, and their LEDs', async (t) => {
  const guest = await engine.addGuest();
  for (const made of [KEYBOARD, MOUSE, TOUCHSCREEN, TABLET]) wires.push(await Wire.make(made, guest));
  const [keyboard, mouse, touchscreen] = wires;
  assert.ok(keyboard && mouse && touchscreen);
  assert.deepEqual(
    wires.map(({ of }) => of),
    Object.keys(FRAMES),
  );
  const seat = await engine.addSeat();
  const since = performance.now();
  const tell = (what: string) => t.diagnostic(`${what}: ${Math.round(performance.now() - since)} ms`);
  const qemu = await startLinux({
    drivers: ['virtio_pci', 'virtio_input', 'evdev'],
    append: `input=${wires.length}`,
    args: wires.flatMap(({ args }) => args),
  });
  await qemu.during(async () => {
    await Promise.all(wires.map((wire) => wire.ready()));
    await engine.setSeat(seat, {
      devices: wires.map(({ id }) => ({ id, output: null })),
      ...{ guest, switches: 0, pointer: 'seat', outputs: [], places: [], hotkeys: [], carryLocks: false },
    });
    await qemu.event('ready', {}, BOOT_MS);
    tell('booted');
    for (const wire of wires) assertSame(qemu, wire);
    for (const wire of wires) await provesFrames(qemu, wire);
    tell('frames');
    await provesTyping(qemu, keyboard);
    tell('typing');
    await provesLeds(qemu, keyboard);
    await provesPause(t, qemu, mouse);
    tell('paused');
    for (const { of, sink } of wires) {
      const { delivered, dropped, p50Ns, p99Ns } = engine.stats(sink);
      t.diagnostic(`${of}: ${delivered} delivered, p50 ${p50Ns / 1000} us, p99 ${p99Ns / 1000} us`);
      assert.equal(dropped, 0);
    }

    // The machine survives the end of one device, and the engine that of the machine.
    await engine.removeSink(touchscreen.sink);
    await provesFrames(qemu, keyboard);
    await qemu.kill();
    for (const { of, sink } of wires) {
      if (sink === touchscreen.sink) continue;
      await noticed(`the end of ${of}`, (notice) => {
        return notice.type === 'sinkEnded' && notice.sink === sink && notice.errno === 0;
      });
      await engine.removeSink(sink);
    }
  });
});
