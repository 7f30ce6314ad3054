/** A daemon with a virtio guest, and a QEMU whose virtio-gpu device it is. */
import assert from 'node:assert/strict';
import type { GuestDocument } from '../../../src/api/documents.js';
import { RECORD_FLAGS } from '../../../src/native/flip.js';
import { type DaemonOptions, TestDaemon } from './daemon.js';
import type { FlipRecord } from './flip-rig.js';
import { pattern } from './pattern.js';
import type { Qemu, QemuOptions } from './qemu.js';
import { assertSeen } from './seen.js';

/** Of the outputs, and of the bare guest's picture. */
export const SIZE = { width: 640, height: 480 };
const SOCKET = '/run/scanoutd-test-vm.sock';

/** With a guest "vm"; `more` are further keys of it. */
export function startDaemon(
  more: string,
  { socket = SOCKET, ...options }: Partial<DaemonOptions> & { socket?: string } = {},
): Promise<TestDaemon> {
  const guest = `[[guest]]\nname = "vm"\nkind = "virtio"\nsocket = "${socket}"\n${more}`;
  return TestDaemon.start({ ...options, config: `[[output]]\nmode = "640x480"\n${guest}` });
}

/** `properties` of the device begin with a comma. */
export function vhost(
  more: Partial<QemuOptions> = {},
  properties = '',
  socket: string = SOCKET,
): QemuOptions {
  const device = `vhost-user-gpu-pci,chardev=gpu${properties}`;
  return { append: 'step=1', ...more, args: ['-chardev', `socket,id=gpu,path=${socket}`, '-device', device] };
}

/** Flips, and compares what is scanned out. Under load a flush may be answered by the clock, before its flip. */
export async function proveFlips(
  daemon: TestDaemon,
  qemu: Qemu,
  output: string,
  first: number,
  last: number,
): Promise<void> {
  for (let frame = first; frame <= last; frame++) {
    qemu.send('f');
    await qemu.event('flip', { frame });
    await assertSeen(daemon, output, pattern(SIZE.width, SIZE.height, frame), `frame ${frame}`);
  }
}

/** Each frame was on the screen for a vblank of its own, in the order of the guest. */
export function assertInOrder(flips: readonly FlipRecord[]): void {
  for (const [i, flip] of flips.entries()) {
    const { flags, retries, sequence, vblank, kickNs, commitEnterNs } = flip;
    assert.ok(flags & RECORD_FLAGS.vsync && flags & RECORD_FLAGS.direct, JSON.stringify(flip));
    assert.equal(retries, 0);
    assert.ok(kickNs <= commitEnterNs, JSON.stringify(flip));
    const former = flips[i - 1];
    if (former === undefined) continue;
    assert.ok(sequence > former.sequence && vblank > former.vblank, JSON.stringify([former, flip]));
  }
}

/** Frames of its first plane that were shown, or replaced by newer ones. */
export function framesTold(guest: GuestDocument | undefined): number {
  const [plane] = guest?.planes ?? [];
  return (plane?.flips ?? 0) + (plane?.superseded ?? 0);
}
