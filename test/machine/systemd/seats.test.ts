/**
 * Seats beside logind: what `loginctl attach` says of a device, what a VT switch does to devices that logind gives, and
 * what this machine makes of the devices of guests.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SeatDocument, StatusDocument } from '../../../src/api/documents.js';
import { TestDaemon } from '../inside/daemon.js';
import { EV, EvdevReader, endAll, type InputEvent, KEYBOARD, TestInput } from '../inside/evdev.js';
import { TestGuest } from '../inside/guest.js';
import { present } from '../inside/kms-rig.js';
import { createVkms, type VkmsDevice, vkmsShape } from '../inside/vkms.js';

const [A, B] = [30, 48];
const UNIT = 'scanoutd-seats';
const [OURS, THEIRS] = [7, 8];
const RULES = '/run/udev/rules.d';
const FILES = [`${RULES}/70-test-seats.rules`, `${RULES}/72-scanoutd.rules`] as const;
let card: VkmsDevice;

const run = (...command: [string, ...string[]]) =>
  execFileSync(command[0], command.slice(1), { encoding: 'utf8' });

before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1 }));
  run('modprobe', '-a', 'uinput', 'evdev');
  mkdirSync(RULES, { recursive: true });
  // A device of uinput is in no port that it could be attached by.
  writeFileSync(
    FILES[0],
    'SUBSYSTEM=="input", ATTR{name}=="Right Keyboard", ENV{ID_FOR_SEAT}="input-test-right"\n',
  );
  copyFileSync('systemd/72-scanoutd.rules', FILES[1]);
  run('udevadm', 'control', '--reload');
});
after(async () => {
  await endAll();
  run('loginctl', 'flush-devices');
  for (const file of FILES) rmSync(file);
  run('udevadm', 'control', '--reload');
  card.destroy();
});

function seatOf(status: StatusDocument, name: string): SeatDocument {
  const seat = status.seats.find((one) => one.name === name);
  assert.ok(seat, `there is a seat ${name}`);
  return seat;
}

function deviceOf(status: StatusDocument, { path }: TestInput) {
  const all = status.seats.flatMap(({ name, devices }) =>
    devices.map((device) => ({ ...device, seat: name })),
  );
  return all.find(({ device }) => device === path);
}

const key = (code: number, value: number): InputEvent => [EV.KEY, code, value];

/** The next events but for repetitions, which the kernel adds to whatever is held. */
async function next(end: EvdevReader, count: number): Promise<InputEvent[]> {
  const events: InputEvent[] = [];
  while (events.length < count) {
    events.push(...(await end.take(1)).filter(([, , value]) => value !== 2));
  }
  return events;
}

test('under logind: devices that it attaches, and takes away while another VT is active', async () => {
  const left = await TestInput.make({ ...KEYBOARD, name: 'Left Keyboard' });
  const right = await TestInput.make({ ...KEYBOARD, name: 'Right Keyboard' });
  run('chvt', String(OURS));
  const [one, two] = card.connectors.map(present);
  const guest = (name: string) => `[[guest]]\nname = "${name}"\ninput = "uinput"`;
  const properties = ['PAMName=login', `TTYPath=/dev/tty${OURS}`, `WorkingDirectory=${process.cwd()}`];
  const through = ['systemd-run', '--quiet', '--pipe', '--wait', '--collect', `--unit=${UNIT}`];
  const daemon = await TestDaemon.start({
    config: [
      '[[output]]\nmode = "640x480"',
      `[[seat]]\nname = "left"\nudev_seat = "seat0"\noutputs = ["${one}"]\nguests = ["work"]`,
      `[[seat]]\nname = "right"\nudev_seat = "seat-right"\noutputs = ["${two}"]\nguests = ["desk"]`,
      guest('work'),
      guest('desk'),
    ].join('\n'),
    through: [...through, ...properties.flatMap((property) => ['--property', property])],
  });
  try {
    await daemon.during(async () => {
      assert.deepEqual((await daemon.status()).session.kind, 'logind');
      await attach(daemon, left, right);
      const guests = await Promise.all(
        ['work', 'desk'].map(async (name) => {
          const found = new TestGuest({ name, path: daemon.guestSocket, planes: ['primary'] });
          await found.client.connect({ timeoutMs: 20_000 });
          return found;
        }),
      );
      await daemon.until('guests at their seats', (status) => {
        return seatOf(status, 'left').guest === 'work' && seatOf(status, 'right').guest === 'desk';
      });
      guestsDevices();
      const ends = {
        work: await EvdevReader.open('/dev/input/scanoutd/work/keyboard'),
        desk: await EvdevReader.open('/dev/input/scanoutd/desk/keyboard'),
      };
      await awayAndBack(daemon, left, right, ends);
      for (const one of guests) one.close();
    });
  } finally {
    run('systemctl', 'stop', UNIT);
  }
});

/** One is at the daemon's seat, the other at one that logind knows by its devices only. */
async function attach(daemon: TestDaemon, left: TestInput, right: TestInput): Promise<void> {
  await daemon.until('both are at seat0', (status) =>
    [left, right].every((input) => deviceOf(status, input)?.seat === 'left' && deviceOf(status, input)?.open),
  );
  // udevd looks for new rules once in three seconds at most, and its events are over before it would.
  await sleep(3500);
  run('loginctl', 'attach', 'seat-right', `/sys/devices/virtual/input/${right.sysName}`);
  const status = await daemon.until('it is at its own seat', (now) => {
    const device = deviceOf(now, right);
    return device?.seat === 'right' && device.open;
  });
  const of = (input: TestInput) => {
    const device = deviceOf(status, input);
    return [device?.by, device?.udevSeat, device?.grab];
  };
  // logind keeps the console away from its own; the other one is opened without it.
  assert.deepEqual(of(left), ['rest', 'seat0', false]);
  assert.deepEqual(of(right), ['udev', 'seat-right', true]);
}

/** They have links, and neither logind nor display servers take them for devices of this machine. */
function guestsDevices(): void {
  run('udevadm', 'settle');
  for (const name of ['work', 'desk']) {
    const link = `/dev/input/scanoutd/${name}/keyboard`;
    const info = run('udevadm', 'info', link);
    assert.match(info, /^E: ID_SEAT=seat-scanoutd$/m);
    assert.match(info, /^E: LIBINPUT_IGNORE_DEVICE=1$/m);
    assert.doesNotMatch(info, /^E: CURRENT_TAGS=.*power-switch/m);
    const [, device = ''] = /^P: (.*)\/event\d+$/m.exec(info) ?? [];
    assert.ok(
      !run('loginctl', 'seat-status', 'seat0', '--no-pager').includes(device),
      `${link} is not at seat0`,
    );
  }
}

async function awayAndBack(
  daemon: TestDaemon,
  left: TestInput,
  right: TestInput,
  { work, desk }: { work: EvdevReader; desk: EvdevReader },
): Promise<void> {
  left.send(key(A, 1));
  assert.deepEqual(await next(work, 1), [key(A, 1)]);
  run('chvt', String(THEIRS));
  // What is held goes up, since its end would never be heard of.
  assert.deepEqual(await next(work, 1), [key(A, 0)]);
  await daemon.until('it is closed, and said to be', (status) => {
    const device = deviceOf(status, left);
    return device?.open === false && device.reason === 'the session is not active';
  });
  left.send(key(A, 0));
  left.tap(B);
  right.tap(A);
  assert.deepEqual(await next(desk, 2), [key(A, 1), key(A, 0)]);
  assert.deepEqual(await work.nothing(), []);
  run('chvt', String(OURS));
  await daemon.until('it is open again', (status) => deviceOf(status, left)?.open === true);
  left.tap(B);
  assert.deepEqual(await next(work, 2), [key(B, 1), key(B, 0)]);
  assert.deepEqual(await desk.nothing(), []);
}
