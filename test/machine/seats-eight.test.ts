/**
 * One card, eight outputs, eight seats with two devices each, eight guests: what the kernel sends on each device comes out at
 * its guest's device event by event, nothing of it anywhere else, and flips go on meanwhile.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import type { InputClass } from '../../src/native/input.js';
import { TestDaemon } from './inside/daemon.js';
import { endAll, Recorder, TestInput } from './inside/evdev.js';
import { Example } from './inside/example.js';
import { TestGuest } from './inside/guest.js';
import { DEVICES, framesOf } from './inside/input-streams.js';
import { present } from './inside/kms-rig.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

/** The devices of each seat: every class is among them. */
const SEATS: readonly (readonly [InputClass, InputClass])[] = [
  ['keyboard', 'pointer'],
  ['keyboard', 'touchscreen'],
  ['keyboard', 'tablet'],
  ['pointer', 'touchpad'],
  ['keyboard', 'absolute'],
  ['pointer', 'joystick'],
  ['switch', 'pointer'],
  ['pad', 'touchscreen'],
];
const FLIPPING = 2;
const FRAMES = 1700;
/** Between frames of a device: an emulated machine has sixteen players, a daemon and a recorder to run. */
const EVERY_US = 15_000;
const EVENT_BYTES = 8;

let card: VkmsDevice;
before(() => {
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  card = createVkms(vkmsShape({ outputs: SEATS.length }));
});
after(async () => {
  await endAll();
  card.destroy();
});

interface Player {
  seat: number;
  class: InputClass;
  input: TestInput;
}

async function players(): Promise<Player[]> {
  const made: Player[] = [];
  for (const [seat, classes] of SEATS.entries()) {
    for (const of of classes) {
      const device = DEVICES[of];
      const input = await TestInput.make({
        ...device,
        name: `${device.name} ${seat}`,
        phys: `seat-${seat}/${of}`,
      });
      made.push({ seat, class: of, input });
    }
  }
  return made;
}

function config(): string {
  const outputs = card.connectors.map(present);
  return [
    '[[output]]\nmode = "640x480"',
    ...SEATS.flatMap((classes, i) => [
      `[[seat]]\nname = "s${i}"\noutputs = ["${outputs[i]}"]\nguests = ["g${i}"]`,
      // Not grabbed, so that the test sees what the kernel sends.
      `[[input]]\nphys = "seat-${i}/*"\nseat = "s${i}"\nread = "raw"\ngrab = "no"`,
      `[[guest]]\nname = "g${i}"\noutput = "${outputs[i]}"\ninput = "uinput"`,
      `input_devices = [${[...new Set(['keyboard', 'pointer', ...classes])].map((of) => `"${of}"`).join(', ')}]`,
    ]),
  ].join('\n');
}

test('eight seats: each guest gets what its devices send, exactly, and no other guest anything of it', async () => {
  const all = await players();
  const daemon = await TestDaemon.start({ config: config() });
  await daemon.during(async () => {
    const flipping = SEATS.slice(0, FLIPPING).map(
      (_, i) => new Example(daemon.guestSocket, `g${i}`, ['--format', 'RG16', '--check', '--seconds', '200']),
    );
    for (let i = FLIPPING; i < SEATS.length; i++) {
      const guest = new TestGuest({ name: `g${i}`, path: daemon.guestSocket, planes: ['primary'] });
      await guest.client.connect({ timeoutMs: 20_000 });
    }
    await daemon.until('everybody sits', ({ seats }) =>
      SEATS.every((_, i) => {
        const seat = seats.find(({ name }) => name === `s${i}`);
        return seat?.guest === `g${i}` && seat.devices.filter(({ open }) => open).length === 2;
      }),
    );
    const ends = (await daemon.status()).seats.flatMap(({ guests }) =>
      guests.flatMap(({ name, sinks }) =>
        sinks.map(({ class: of, path }) => ({ guest: name, class: of, path })),
      ),
    );
    const before = flipsOf(await daemon.status());
    const recorder = await Recorder.start([
      ...all.map(({ input }) => input.path),
      ...ends.map(({ path }) => path),
    ]);
    await Promise.all(
      all.map(({ class: of, input }, i) => input.play(framesOf(of, FRAMES, i + 1), EVERY_US)),
    );
    await settled(daemon);
    const after = flipsOf(await daemon.status());
    await recorder.stop();

    assert.ok(total(recorder, all.length) > 100_000, `${total(recorder, all.length)} events`);
    for (const [i, { guest, class: of, path }] of ends.entries()) {
      const source = all.findIndex((player) => `g${player.seat}` === guest && player.class === of);
      const came = recorder.bytes(all.length + i);
      const wanted = source < 0 ? Buffer.alloc(0) : recorder.bytes(source);
      assert.equal(firstDifference(came, wanted), '', `${guest}'s ${of} (${path})`);
    }
    for (let i = 0; i < FLIPPING; i++) {
      const flips = (after[`g${i}`] ?? 0) - (before[`g${i}`] ?? 0);
      assert.ok(flips > 60, `g${i} flipped ${flips} times meanwhile`);
    }
    for (const example of flipping) {
      await example.kill('SIGTERM');
      const { violations, planes } = await example.stats();
      assert.equal(violations, 0);
      assert.equal(planes[0]?.early_releases, 0);
    }
  });
});

/** Waits until nothing more is delivered. */
async function settled(daemon: TestDaemon): Promise<void> {
  let before = -1;
  await daemon.until('all came out', ({ seats }) => {
    const sinks = seats.flatMap(({ guests }) => guests.flatMap((guest) => guest.sinks));
    const now = sinks.reduce((sum, { delivered }) => sum + delivered, 0);
    const same = now === before;
    before = now;
    return same;
  });
}

function flipsOf({ guests }: Awaited<ReturnType<TestDaemon['status']>>): Record<string, number> {
  return Object.fromEntries(guests.map(({ name, planes }) => [name, planes[0]?.flips ?? 0]));
}

/** Events that the kernel has sent on the first `devices` devices. */
function total(recorder: Recorder, devices: number): number {
  return Array.from({ length: devices }, (_, i) => recorder.bytes(i).length / EVENT_BYTES).reduce(
    (a, b) => a + b,
    0,
  );
}

/** Empty when there is none. */
function firstDifference(came: Buffer, wanted: Buffer): string {
  const events = (bytes: Buffer) =>
    Array.from({ length: bytes.length / EVENT_BYTES }, (_, i) => {
      const at = i * EVENT_BYTES;
      return `${bytes.readUInt16LE(at)} ${bytes.readUInt16LE(at + 2)} ${bytes.readInt32LE(at + 4)}`;
    });
  if (came.equals(wanted)) return '';
  const [a, b] = [events(came), events(wanted)];
  const at = a.findIndex((event, i) => event !== b[i]);
  const around = (list: string[]) => list.slice(Math.max(0, at - 6), at + 6).join(', ');
  return `event ${at} of ${b.length}: came ${around(a)}; wanted ${around(b)}`;
}
