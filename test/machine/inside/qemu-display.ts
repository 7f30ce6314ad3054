/** A daemon that shows QEMU's D-Bus display, and the proof by writeback of what it shows. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { TestDaemon } from './daemon.js';
import { pattern } from './pattern.js';
import { type Expected, worst } from './pixels.js';
import { Qemu, type QemuOptions } from './qemu.js';

/** QEMU, its guest and the daemon, all emulated. */
export const SLOW_MS = 120_000;
export const GL = 'dbus,p2p=on,gl=on,rendernode=/dev/dri/renderD128';
export const NO_GL = 'dbus,p2p=on';

/** Only vgem has a render node in the test machine, on which Mesa's software OpenGL works. */
export function makeRenderNode(): void {
  execFileSync('modprobe', ['vgem']);
}

/** Arguments for a monitor of QEMU's that the daemon is given. */
export function monitorArgs(path: string): string[] {
  return ['-qmp', `unix:${path},server=on,wait=off`];
}

/** Starts a QEMU whose monitor for the daemon is at `monitor`. */
export function startDisplay(monitor: string, options: QemuOptions): Promise<Qemu> {
  return Qemu.start({
    display: NO_GL,
    ...options,
    args: [...(options.args ?? []), ...monitorArgs(monitor)],
  });
}

/** Lines of a `[[guest]]`. */
export function guestConfig(name: string, monitor: string, more = ''): string {
  return `[[guest]]\nname = "${name}"\nkind = "qemu"\nscale = "none"\nsocket = "${monitor}"\n${more}\n`;
}

/** The output that shows the guest, waited for. */
export async function outputOf(daemon: TestDaemon, guest: string, ms = SLOW_MS): Promise<string> {
  const status = await daemon.until(
    `guest ${guest} on an output`,
    ({ guests }) => guests.find(({ name }) => name === guest)?.output != null,
    ms,
  );
  return status.guests.find(({ name }) => name === guest)?.output ?? '';
}

/** The part of a picture where one of this size is that stands in its middle. */
export function middle(picture: Expected, { width, height }: { width: number; height: number }): Expected {
  const data = new Uint8Array(width * height * 3);
  const left = Math.floor((picture.width - width) / 2);
  const top = Math.floor((picture.height - height) / 2);
  for (let row = 0; row < height; row++) {
    const from = ((top + row) * picture.width + left) * 3;
    data.set(picture.data.subarray(from, from + width * 3), row * width * 3);
  }
  return { width, height, data };
}

/** What is expected in the middle of an output now; null: there is nothing to compare yet. */
export type Wanted = () => Promise<Expected | null> | Expected | null;

/** Compares what is scanned out with what ought to be, in every pixel, until it is that. */
export async function proves(
  daemon: TestDaemon,
  output: string,
  what: string,
  wanted: Wanted,
  ms = SLOW_MS,
): Promise<void> {
  const deadline = performance.now() + ms;
  for (;;) {
    const expected = await wanted();
    const found =
      expected === null
        ? { by: 256, at: 'nothing to be seen' }
        : worst(middle(await daemon.screenshot(output), expected), expected);
    if (found.by === 0) return;
    if (performance.now() > deadline) {
      const { guests } = await daemon.status();
      assert.fail(`${what}: off by ${found.by} at ${found.at}; ${JSON.stringify(guests)}`);
    }
  }
}

/** Lets the guest flip, and proves each frame. */
export async function provesFlips(
  daemon: TestDaemon,
  qemu: Qemu,
  output: string,
  { width, height }: { width: number; height: number },
  first: number,
  last: number,
): Promise<void> {
  for (let frame = first; frame <= last; frame++) {
    qemu.send('f');
    await qemu.event('flip', { frame });
    const expected = pattern(width, height, frame);
    await proves(daemon, output, `frame ${frame}`, () => expected);
  }
}
