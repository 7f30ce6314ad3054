/** Devices of a seat in a Linux guest under QEMU's D-Bus display: real ones of uinput here, what the guest's own kernel reads there. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestDaemon } from '../inside/daemon.js';
import {
  EV,
  endAll,
  type InputEvent,
  KEYBOARD,
  type MadeDevice,
  MOUSE,
  TestInput,
  TOUCHSCREEN,
} from '../inside/evdev.js';
import { BOOT_MS, startLinux } from '../inside/linux-guest.js';
import type { Qemu } from '../inside/qemu.js';
import { guestConfig, monitorArgs, NO_GL, SLOW_MS } from '../inside/qemu-display.js';
import { createVkms, type VkmsDevice, vkmsShape } from '../inside/vkms.js';

const WIDE: MadeDevice = { ...KEYBOARD, keys: ['1-248'] };
const POSITION: MadeDevice = {
  name: 'Test Position',
  id: [3, 0x1234, 5, 0x111],
  keys: ['272-276'],
  relative: [8, 11],
  absolute: { 0: [0, 1023], 1: [0, 767] },
};
const [NUM_LOCK, CAPS_LOCK, SCROLL_LOCK] = [69, 58, 70];
const KEYBOARD_THERE = 'QEMU_Virtio_Keyboard';
const MOUSE_THERE = 'QEMU_Virtio_Mouse';
const TABLET_THERE = 'QEMU_Virtio_Tablet';
const TOUCH_THERE = 'QEMU_Virtio_MultiTouch';
/** Of the axes of QEMU's devices. */
const RANGE = 0x7fff;

let card: VkmsDevice;
before(() => {
  execFileSync('modprobe', ['-a', 'uinput', 'evdev']);
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1 }));
});
after(async () => {
  await endAll();
  card.destroy();
});

/** What the guest's kernel has read of its devices so far. */
class FarEnds {
  private taken = new Map<string, number>();

  constructor(private readonly qemu: Qemu) {}

  private all(device: string): InputEvent[] {
    return this.qemu
      .all('input')
      .filter(({ values }) => values.device === device && values.type !== 'ready')
      .map(({ values: { type, code, value } }) => [Number(type), Number(code), Number(value)] as const)
      .filter(([type, , value]) => type !== EV.SYN && type !== EV.LED && !(type === EV.KEY && value === 2));
  }

  /** The next events of a device, which are no more than these when some time has passed. */
  async next(device: string, count: number, quietMs = 100): Promise<InputEvent[]> {
    const deadline = performance.now() + SLOW_MS;
    const from = this.taken.get(device) ?? 0;
    while (this.all(device).length < from + count) {
      assert.ok(
        performance.now() < deadline,
        `${count} events of ${device}: ${JSON.stringify(this.all(device).slice(from))}`,
      );
      await sleep(20);
    }
    await sleep(quietMs);
    return this.skip(device);
  }

  /** Those that have come since; forgets them. */
  skip(device: string): InputEvent[] {
    const events = this.all(device).slice(this.taken.get(device) ?? 0);
    this.taken.set(device, (this.taken.get(device) ?? 0) + events.length);
    return events;
  }
}

async function withGuest(
  t: TestContext,
  body: (qemu: Qemu, daemon: TestDaemon, ends: FarEnds) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'linux-input-'));
  const monitor = join(directory, 'qmp');
  // Without a seat there is no input thread, and QEMU is connected without; the seat comes later.
  const config = `[[output]]\nmode = "800x600"\n${guestConfig('vm', monitor)}`;
  const daemon = await TestDaemon.start({ config });
  await daemon.during(async () => {
    const since = performance.now();
    const devices = ['virtio-gpu', 'virtio-keyboard', 'virtio-mouse', 'virtio-tablet', 'virtio-multitouch'];
    const qemu = await startLinux({
      append: 'program=input',
      drivers: ['virtio_pci', 'virtio-gpu', 'virtio_input', 'evdev'],
      display: NO_GL,
      args: [...devices.flatMap((device) => ['-device', `${device}-pci`]), ...monitorArgs(monitor)],
    });
    await qemu.during(async () => {
      for (const device of [KEYBOARD_THERE, MOUSE_THERE, TABLET_THERE, TOUCH_THERE])
        await qemu.event('input', { device, type: 'ready' }, BOOT_MS);
      t.diagnostic(`booted: ${Math.round(performance.now() - since)} ms`);
      const { pid, connected } = await daemon.guest('vm');
      assert.ok(connected);
      appendFileSync(
        join(daemon.directory, 'scanoutd.toml'),
        '\n[[seat]]\nname = "desk"\nudev_seat = "seat0"\nguests = ["vm"]\n',
      );
      daemon.child.kill('SIGHUP');
      await daemon.until('a sink', ({ seats }) => seats[0]?.guests[0]?.sinks[0]?.open === true, SLOW_MS);
      assert.equal((await daemon.guest('vm')).pid, pid);
      assert.ok(!daemon.log.includes('QEMU closed the connection'), 'its screen stays');
      await body(qemu, daemon, new FarEnds(qemu));
      t.diagnostic(`done: ${Math.round(performance.now() - since)} ms`);
    });
  });
  rmSync(directory, { recursive: true });
}

/** Which of its mice QEMU gives the pointer to. */
async function point(qemu: Qemu, absolute: boolean): Promise<void> {
  const mice = (await qemu.qmp('query-mice')) as { index: number; absolute: boolean; name: string }[];
  // There is a PS/2 mouse as well, which the guest does not look for.
  const mouse = mice.find((one) => one.absolute === absolute && one.name.includes('Virtio'));
  assert.ok(mouse, JSON.stringify(mice));
  await qemu.qmp('human-monitor-command', { 'command-line': `mouse_set ${mouse.index}` });
}

const near = (value: number | undefined, wanted: number, by: number) =>
  assert.ok(Math.abs((value ?? -1) - wanted) <= by, `${value} is ${wanted}, more or less`);

test('what a seat has comes to the guest as its own devices, and its lock keys light up', async (t) => {
  const keyboard = await TestInput.make(WIDE);
  const mouse = await TestInput.make(MOUSE);
  const position = await TestInput.make(POSITION);
  const touch = await TestInput.make(TOUCHSCREEN);
  const inputs = [keyboard, mouse, position, touch];
  await withGuest(t, async (qemu, daemon, ends) => {
    await daemon.until(
      'the seat has its guest and devices',
      ({ seats }) =>
        seats[0]?.guest === 'vm' &&
        inputs.every(({ path }) => seats[0]?.devices.some((one) => one.device === path && one.open)),
      SLOW_MS,
    );

    await t.test('keys', async () => {
      const numbers = Array.from({ length: 248 }, (_, i) => i + 1);
      const locks = [NUM_LOCK, CAPS_LOCK, SCROLL_LOCK];
      // A key that is known to come marks the end of each few: some never come, and QEMU's device holds no more.
      const MARK = 57;
      const taps = numbers.filter((code) => code !== MARK && !locks.includes(code));
      const pressed: number[] = [];
      for (let at = 0; at < taps.length; at += 12) {
        for (const code of [...taps.slice(at, at + 12), MARK]) keyboard.tap(code);
        const events: InputEvent[] = [];
        while (!events.some(([, code, value]) => code === MARK && value === 0))
          events.push(...(await ends.next(KEYBOARD_THERE, 1, 0)));
        const down = events.filter(([, , value]) => value === 1).map(([, code]) => code);
        const up = events.filter(([, , value]) => value === 0).map(([, code]) => code);
        assert.deepEqual(down, up, 'each is released before the next');
        pressed.push(...down.filter((code) => code !== MARK));
      }
      const missing = numbers.filter(
        (code) => !pressed.includes(code) && code !== MARK && !locks.includes(code),
      );
      t.diagnostic(`keys that do not come: ${missing.join(' ')}`);
      assert.deepEqual(
        pressed,
        taps.filter((code) => !missing.includes(code)),
        'each comes as itself, once and in order',
      );
      assert.ok(pressed.length > 150, `${pressed.length} keys`);
    });

    await t.test('LEDs', async () => {
      for (const [key, led] of [
        [NUM_LOCK, 0],
        [CAPS_LOCK, 1],
        [SCROLL_LOCK, 2],
      ] as const) {
        keyboard.tap(key);
        await keyboard.led(led, 1);
        keyboard.tap(key);
        await keyboard.led(led, 0);
      }
      ends.skip(KEYBOARD_THERE);
    });

    await t.test('a relative mouse', async () => {
      await point(qemu, false);
      await sleep(500); // the daemon hears of it by a signal
      mouse.send([EV.REL, 0, 5], [EV.REL, 1, -7]);
      mouse.send([EV.KEY, 272, 1]);
      mouse.send([EV.REL, 0, 1], [EV.KEY, 272, 0], [EV.KEY, 274, 1]);
      mouse.send([EV.KEY, 274, 0], [EV.KEY, 275, 1]);
      mouse.send([EV.KEY, 275, 0]);
      assert.deepEqual(await ends.next(MOUSE_THERE, 9), [
        [EV.REL, 0, 5],
        [EV.REL, 1, -7],
        [EV.KEY, 272, 1],
        [EV.REL, 0, 1],
        [EV.KEY, 272, 0],
        [EV.KEY, 274, 1],
        [EV.KEY, 274, 0],
        [EV.KEY, 275, 1],
        [EV.KEY, 275, 0],
      ]);
      // A wheel by whole clicks, and finely.
      mouse.send([EV.REL, 8, 1], [EV.REL, 11, 120]);
      mouse.send([EV.REL, 11, -60]);
      mouse.send([EV.REL, 11, -60], [EV.REL, 8, -1]);
      assert.deepEqual(await ends.next(MOUSE_THERE, 2), [
        [EV.REL, 8, 1],
        [EV.REL, 8, -1],
      ]);
      // What has a position moves it by the difference.
      position.send([EV.ABS, 0, 256], [EV.ABS, 1, 384]);
      position.send([EV.ABS, 0, 512]);
      const [[type, code, by] = []] = await ends.next(MOUSE_THERE, 1);
      assert.deepEqual([type, code], [EV.REL, 0]);
      near(by, 200, 1); // a quarter of 800 pixels
      assert.deepEqual(ends.skip(TABLET_THERE), []);
    });

    await t.test('a pointer with a position', async () => {
      await point(qemu, true);
      await sleep(500);
      position.send([EV.ABS, 0, 768], [EV.ABS, 1, 192]);
      const first = await ends.next(TABLET_THERE, 2);
      near(first.find(([, code]) => code === 0)?.[2], RANGE * 0.75, RANGE / 600);
      near(first.find(([, code]) => code === 1)?.[2], RANGE * 0.25, RANGE / 600);
      position.send([EV.KEY, 273, 1]);
      position.send([EV.KEY, 273, 0]);
      assert.deepEqual(await ends.next(TABLET_THERE, 2), [
        [EV.KEY, 273, 1],
        [EV.KEY, 273, 0],
      ]);
      // A mouse moves it on from there.
      mouse.send([EV.REL, 0, -200], [EV.REL, 1, 150]);
      const second = await ends.next(TABLET_THERE, 2);
      near(second.find(([, code]) => code === 0)?.[2], RANGE * 0.5, RANGE / 300);
      near(second.find(([, code]) => code === 1)?.[2], RANGE * 0.5, RANGE / 300);
      assert.deepEqual(ends.skip(MOUSE_THERE), []);
    });

    await t.test('a touchscreen', async () => {
      touch.send([EV.ABS, 47, 0], [EV.ABS, 57, 1], [EV.ABS, 53, 1024], [EV.ABS, 54, 2048], [EV.KEY, 330, 1]);
      touch.send([EV.ABS, 47, 1], [EV.ABS, 57, 2], [EV.ABS, 53, 3072], [EV.ABS, 54, 1024]);
      touch.send([EV.ABS, 47, 0], [EV.ABS, 53, 2048]);
      touch.send([EV.ABS, 57, -1], [EV.ABS, 47, 1], [EV.ABS, 57, -1], [EV.KEY, 330, 0]);
      const contacts = new Map<number, { x: number; y: number }[]>();
      const ended = new Set<number>();
      let slot = 0;
      const deadline = performance.now() + SLOW_MS;
      const seen: InputEvent[] = [];
      while (ended.size < 2) {
        assert.ok(performance.now() < deadline, JSON.stringify(seen));
        for (const event of ends.skip(TOUCH_THERE)) {
          seen.push(event);
          const [type, code, value] = event;
          if (type !== EV.ABS) continue;
          const places = contacts.get(slot) ?? [];
          const { x, y } = places.at(-1) ?? { x: 0, y: 0 };
          if (code === 47) slot = value;
          if (code === 57 && value < 0) ended.add(slot);
          if (code === 53) contacts.set(slot, [...places, { x: value, y }]);
          if (code === 54) contacts.set(slot, [...places, { x, y: value }]);
        }
        await sleep(20);
      }
      near(contacts.get(0)?.at(-1)?.x, RANGE * 0.5, RANGE / 300);
      near(contacts.get(0)?.at(-1)?.y, RANGE * 0.5, RANGE / 300);
      near(contacts.get(1)?.at(-1)?.x, RANGE * 0.75, RANGE / 300);
      near(contacts.get(1)?.at(-1)?.y, RANGE * 0.25, RANGE / 300);
      assert.deepEqual([...contacts.keys()].sort(), [0, 1]);
    });

    const { seats } = await daemon.status();
    t.diagnostic(JSON.stringify(seats[0]));
  });
});
