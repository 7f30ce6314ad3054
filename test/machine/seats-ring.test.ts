/** The input ring in earnest: what real devices send reaches programs that speak the guest protocol, in C and TypeScript. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { InputDevices, InputFrame } from '../../clients/node/index.js';
import type { InputClass } from '../../src/native/input.js';
import { ctl } from './inside/ctl.js';
import { TestDaemon } from './inside/daemon.js';
import { EV, endAll, type InputEvent, Recorder, TestInput } from './inside/evdev.js';
import { Example } from './inside/example.js';
import { TestGuest } from './inside/guest.js';
import { DEVICES, framesOf } from './inside/input-streams.js';
import { present } from './inside/kms-rig.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const CLASSES = ['keyboard', 'pointer', 'touchscreen', 'tablet'] as const satisfies InputClass[];
const FRAMES = 500;
/** An emulated machine has four players and a daemon to run. */
const EVERY_US = 20_000;
/** KEY_1 and those after it. */
const KEYS = Array.from({ length: 12 }, (_, i) => 2 + i);
const LED_CAPSL = 1;

let card: VkmsDevice;
before(() => {
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  card = createVkms(vkmsShape({ outputs: 1 }));
});
after(async () => {
  await endAll();
  card.destroy();
});

function config(): string {
  const output = card.connectors.map(present)[0];
  const guest = (name: string, input: string) =>
    `[[guest]]\nname = "${name}"\noutput = "${output}"\ninput = "${input}"`;
  return [
    '[[output]]\nmode = "640x480"',
    `[[seat]]\nname = "desk"\noutputs = ["${output}"]\nguests = ["c", "ts", "deaf"]`,
    // Not grabbed, so that the test sees what the kernel sends.
    '[[input]]\nphys = "ring/*"\nseat = "desk"\nread = "raw"\ngrab = "no"',
    guest('c', 'ring'),
    guest('ts', 'auto'),
    guest('deaf', 'none'),
  ].join('\n');
}

/** Events by the class of the device, SYN_REPORTs included, as lines. */
function recorded(recorder: Recorder, device: number): string[] {
  const bytes = recorder.bytes(device);
  return Array.from({ length: bytes.length / 8 }, (_, i) =>
    [bytes.readUInt16LE(i * 8), bytes.readUInt16LE(i * 8 + 2), bytes.readInt32LE(i * 8 + 4)].join(' '),
  );
}

/** What the C example has written. */
class Written {
  readonly path = join(mkdtempSync(join(tmpdir(), 'ring-')), 'events');

  get lines(): string[] {
    const text = readFileSync(this.path, 'utf8');
    return text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  }
  /** Of a class, without times. */
  of(name: string): string[] {
    return this.lines
      .filter((line) => line.startsWith(`${name} `))
      .map((line) => line.split(' ').slice(2).join(' '));
  }
  /** Keys that are held, by what was written. */
  held(name: string): Set<number> {
    const held = new Set<number>();
    for (const line of this.of(name)) {
      const [type, code = 0, value] = line.split(' ').map(Number);
      if (type === EV.KEY && value !== 0) held.add(code);
      if (type === EV.KEY && value === 0) held.delete(code);
    }
    return held;
  }
  /** That they never go back within a class. */
  inOrder(name: string): boolean {
    const times = this.lines
      .filter((line) => line.startsWith(`${name} `))
      .map((line) => BigInt(line.split(' ')[1] ?? 0));
    return times.every((time, i) => i === 0 || time >= (times[i - 1] ?? 0n));
  }
}

async function until(daemon: TestDaemon, what: string, holds: () => boolean): Promise<void> {
  await daemon.until(what, () => holds());
}

/** Empty when there is none. */
function firstDifference(came: string[], wanted: string[]): string {
  const at = Array.from({ length: Math.max(came.length, wanted.length) }, (_, i) => i).find(
    (i) => came[i] !== wanted[i],
  );
  if (at === undefined) return '';
  const around = (lines: string[]) => lines.slice(Math.max(0, at - 6), at + 6).join(', ');
  return `event ${at} of ${wanted.length}: came ${around(came)}; wanted ${around(wanted)}`;
}

test('programs of the guest protocol get the input of their seat', async () => {
  const inputs = new Map<InputClass, TestInput>();
  for (const of of CLASSES) inputs.set(of, await TestInput.make({ ...DEVICES[of], phys: `ring/${of}` }));
  const keyboard = inputs.get('keyboard');
  assert.ok(keyboard);
  const daemon = await TestDaemon.start({ config: config() });
  await daemon.during(async () => {
    const written = new Written();
    const example = new Example(daemon.guestSocket, 'c', [
      ...['--format', 'RG16', '--check', '--seconds', '200', '--input', written.path],
    ]);
    await daemon.until('the guest sits', ({ seats }) => {
      const seat = seats.find(({ name }) => name === 'desk');
      const guest = seat?.guests.find(({ name }) => name === 'c');
      const ring = guest?.sinks.some(({ how }) => how === 'ring');
      return (
        seat?.guest === 'c' &&
        ring === true &&
        seat.devices.filter(({ open }) => open).length === CLASSES.length
      );
    });
    await until(daemon, 'devices', () =>
      CLASSES.every((of) => written.lines.includes(`device ${of} ${DEVICES[of].name}`)),
    );
    await exactly(daemon, written, inputs);
    await switched(daemon, written, keyboard);
    await plugged(daemon, written);
    await refused(daemon);
    await example.kill('SIGTERM');
    const { violations } = await example.stats();
    assert.equal(violations, 0);
  });
});

async function exactly(
  daemon: TestDaemon,
  written: Written,
  inputs: ReadonlyMap<InputClass, TestInput>,
): Promise<void> {
  const recorder = await Recorder.start([...inputs.values()].map(({ path }) => path));
  await Promise.all([...inputs].map(([of, input], i) => input.play(framesOf(of, FRAMES, i + 1), EVERY_US)));
  await recorder.stop();
  for (const [i, of] of CLASSES.entries()) {
    const wanted = recorded(recorder, i);
    assert.ok(wanted.length > FRAMES, `${wanted.length} events of the ${of}`);
    await until(daemon, `all of the ${of}`, () => written.of(of).length >= wanted.length);
    assert.equal(firstDifference(written.of(of), wanted), '', of);
    assert.ok(written.inOrder(of));
  }
  const sink = (await daemon.status()).seats[0]?.guests.flatMap(({ sinks }) => sinks)[0];
  assert.deepEqual([sink?.merged, sink?.dropped], [0, 0]);
}

/** To a guest in TypeScript: keys that are held are released, LEDs come back, and the former guest hears nothing more. */
async function switched(daemon: TestDaemon, written: Written, keyboard: TestInput): Promise<void> {
  const guest = new TestGuest({ name: 'ts', path: daemon.guestSocket, planes: ['primary'] });
  const frames: InputFrame[] = [];
  const devices: InputDevices[] = [];
  guest.client.on('input', (frame) => frames.push(frame));
  guest.client.on('devices', (all) => devices.push(all));
  await guest.client.connect({ timeoutMs: 20_000 });
  await guest.client.takeInput();
  await until(daemon, 'devices of the second', () => devices.length > 0);
  assert.equal(devices[0]?.keyboard?.name, DEVICES.keyboard.name);
  // What was played has left some keys down.
  const [key = 0, other = 0] = KEYS.filter((code) => !written.held('keyboard').has(code));
  keyboard.send([EV.KEY, key, 1]);
  await until(daemon, 'a key', () => written.held('keyboard').has(key));
  const { code, err } = await ctl(daemon, 'seat', 'switch', 'desk', 'ts');
  assert.equal(code, 0, err);
  await until(daemon, 'the release of all', () => written.held('keyboard').size === 0);
  const keysOfC = written.of('keyboard').length;
  keyboard.send([EV.KEY, key, 0]);
  keyboard.tap(other);
  // Nothing else is pressed: a tool of the tablet that is near is told to the guest besides.
  const pressed = () =>
    frames
      .filter(({ device }) => device === 'keyboard')
      .flatMap(({ events }) => events.map(({ type, code, value }): InputEvent => [type, code, value]))
      .filter(([type]) => type === EV.KEY);
  await until(daemon, 'a tap', () => pressed().length >= 2);
  assert.deepEqual(pressed(), [
    [EV.KEY, other, 1],
    [EV.KEY, other, 0],
  ]);
  guest.client.setLeds(1 << LED_CAPSL);
  await keyboard.led(LED_CAPSL, 1);
  assert.equal(written.of('keyboard').length, keysOfC);
  await ctl(daemon, 'seat', 'switch', 'desk', 'c');
  guest.close();
}

/** A device that comes is described, and its class goes with it. */
async function plugged(daemon: TestDaemon, written: Written): Promise<void> {
  const joystick = await TestInput.make({ ...DEVICES.joystick, phys: 'ring/joystick' });
  const named = `device joystick ${DEVICES.joystick.name}`;
  await until(daemon, 'a joystick', () => written.lines.includes(named));
  const [button = 0] = DEVICES.joystick.keys ?? [];
  const code = Number(String(button).split('-')[0]);
  joystick.send([EV.KEY, code, 1]);
  await until(daemon, 'its button', () => written.of('joystick').length === 2);
  await joystick.unplug();
  await until(daemon, 'the release', () => written.of('joystick').length === 4);
  assert.deepEqual(written.of('joystick'), [`1 ${code} 1`, '0 0 0', `1 ${code} 0`, '0 0 0']);
  await until(daemon, 'no joystick', () => {
    const { lines } = written;
    const end = lines.lastIndexOf('devices');
    return !lines.slice(lines.lastIndexOf('devices', end - 1), end).includes(named);
  });
}

async function refused(daemon: TestDaemon): Promise<void> {
  const guest = new TestGuest({ name: 'deaf', path: daemon.guestSocket, planes: ['primary'] });
  await guest.client.connect({ timeoutMs: 20_000 });
  await assert.rejects(guest.client.takeInput(), /guest deaf gets no input by a ring.*input = "none"/);
  guest.close();
}
