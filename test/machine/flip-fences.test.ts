/** Acquire fences: real ones, which the kernel signals when it likes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flip } from '../../clients/node/index.js';
import type { Fd } from '../../src/native/base.js';
import { fenceInfo, waitFenceAsync } from '../../src/native/buffers.js';
import { ATOMIC_NONBLOCK, AtomicRequest } from '../../src/native/kms.js';
import type { RigGuest } from './inside/flip-guests.js';
import { type FlipOutput, type FlipRig, rigs } from './inside/flip-rig.js';
import { add, dumb, light, openRig, output, present, property, type Rig } from './inside/kms-rig.js';

const open = rigs();
const WAIT_MS = 20_000;

/** Out-fences of another card, whose refreshes take half a second. */
class SlowCard {
  private readonly rig: Rig = openRig({ outputs: 1 });
  private readonly out = output(this.rig);
  private readonly framebuffer = dumb(this.rig.device, this.out).framebuffer;

  constructor() {
    const { width, height } = this.out;
    const across = {
      hdisplay: width,
      hsyncStart: width + 8,
      hsyncEnd: width + 16,
      htotal: width + 24,
      hskew: 0,
    };
    const down = {
      vdisplay: height,
      vsyncStart: height + 2,
      vsyncEnd: height + 4,
      vtotal: height + 6,
      vscan: 0,
    };
    const clock = Math.ceil((2 * across.htotal * down.vtotal) / 1000);
    const modeBlob = this.rig.device.createModeBlob({ clock, ...across, ...down, flags: 0 });
    light(this.rig.device, { ...this.out, modeBlob }, this.framebuffer);
  }

  /** The fence of the next refresh, which is the whole half second away if the machine does not tarry. */
  async fence(): Promise<Fd> {
    const last = this.flip();
    assert.ok(await waitFenceAsync(last, WAIT_MS));
    last.close();
    return this.flip();
  }

  private flip(): Fd {
    const { device } = this.rig;
    const request = new AtomicRequest();
    add(device, request, this.out.plane.id, { FB_ID: this.framebuffer });
    request.addOutFence(this.out.crtc, property(device, this.out.crtc, 'OUT_FENCE_PTR').id);
    return present(device.commit(request, ATOMIC_NONBLOCK)[0]).fence;
  }

  close(): void {
    this.rig.close();
  }
}

async function fencedGuest(on: FlipRig, out: FlipOutput): Promise<RigGuest> {
  const guest = await on.guest('fenced', { crtc: out.crtc, planes: [out.plane.id] });
  for (const id of [0, 1, 2]) await guest.addBuffer(id, out.width, out.height);
  assert.ok(guest.client.fences);
  await guest.show(0, { buffer: 0 });
  return guest;
}

test('a frame is not shown before its fence has signalled', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const slow = new SlowCard();
  const guest = await fencedGuest(on, out);
  for (let round = 0; round < 3; round++) {
    const fence = await slow.fence();
    const sequence = await guest.show(0, { buffer: 1 + (round % 2), flags: Flip.fenced, fence });
    const { status, fences } = fenceInfo(fence);
    assert.equal(status, 1);
    const flip = present(on.flips(out.crtc).find((one) => one.sequence === Number(sequence)));
    assert.ok(flip.commitEnterNs >= Number(present(fences[0]).timeNs), 'committed after its fence');
    assert.ok(flip.missed < 20, `${flip.missed} vblanks missed: it was not ready before`);
    fence.close();
  }
  slow.close();
});

test('a newer frame does not wait for the fence of the one that it replaces', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const slow = new SlowCard();
  const guest = await fencedGuest(on, out);
  let overtaken = false;
  // Once is enough: a machine that stops for so long proves nothing.
  for (let round = 0; round < 5 && !overtaken; round++) {
    const fence = await slow.fence();
    guest.client.submit(0, { buffer: 1, flags: Flip.fenced, fence });
    const sequence = await guest.show(0, { buffer: 2 });
    assert.equal(guest.client.feedback(0).presented, sequence);
    overtaken = fenceInfo(fence).status === 0;
    assert.ok(await waitFenceAsync(fence, WAIT_MS));
    fence.close();
    assert.ok(guest.client.bufferFree(1), 'and the older comes back');
  }
  assert.ok(overtaken);
  slow.close();
});

test('a guest that dies while its fence is waited for is let go at once', async () => {
  const on = await open({ outputs: 1 });
  const out = on.out(0);
  const slow = new SlowCard();
  let before = false;
  for (let round = 0; round < 5 && !before; round++) {
    const guest = await fencedGuest(on, out);
    const fence = await slow.fence();
    guest.client.submit(0, { buffer: 1, flags: Flip.fenced, fence });
    guest.close();
    await on.until('it is gone', () => on.producers.size === 0);
    before = fenceInfo(fence).status === 0;
    fence.close();
  }
  assert.ok(before);
  slow.close();
});
