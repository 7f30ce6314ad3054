/** What no plane shows is copied, and the guest, the status and the picture say so. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestDaemon } from './inside/daemon.js';
import { TestGuest } from './inside/guest.js';
import { compose, drawNoise, worst } from './inside/pixels.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, writeback: true }));
});
after(() => card.destroy());

const COPIED = 2;

test('more layers than planes: they are copied together, pixel for pixel', async () => {
  const daemon = await TestDaemon.start({ config: '[[output]]\nmode = "640x480"' });
  await daemon.during(async () => {
    const guest = new TestGuest({ name: 'one', path: daemon.guestSocket, planes: ['primary', 'overlay'] });
    await guest.client.connect({ timeoutMs: 5000 });
    await daemon.until('a place', () => guest.area?.lit === true);
    const below = await guest.addBuffer(0, 640, 480, 'XRGB8888');
    const above = await guest.addBuffer(1, 160, 120, 'XRGB8888');
    drawNoise(below, 'XRGB8888', 1);
    drawNoise(above, 'XRGB8888', 2);
    const first = guest.client.submit(0, { buffer: 0 });
    await guest.client.presented(0, first.sequence);
    assert.equal((await daemon.guest('one')).planes[0]?.state, 'direct');

    // The card has a primary plane and nothing else.
    const second = guest.client.submit(1, { buffer: 1, dstX: 40, dstY: 30 });
    await guest.client.presented(1, second.sequence);
    const status = await daemon.until(
      'copies',
      ({ guests }) => guests[0]?.planes.every((p) => p.state === 'copied') ?? false,
    );
    for (const plane of status.guests[0]?.planes ?? [])
      assert.notEqual(plane.reason, '', JSON.stringify(plane));
    assert.equal(guest.states.get(1)?.state, COPIED);
    const layers = [
      { buffer: below, format: 'XRGB8888', srcX: 0, srcY: 0, x: 0, y: 0, width: 640, height: 480 },
      { buffer: above, format: 'XRGB8888', srcX: 0, srcY: 0, x: 40, y: 30, width: 160, height: 120 },
    ] as const;
    const picture = await daemon.screenshot(guest.area?.output ?? '');
    const { by, at } = worst(picture, compose(640, 480, layers));
    assert.equal(by, 0, at);

    // Without the second layer the plane takes the first directly again.
    const gone = guest.client.submit(1, { flags: 2 });
    await guest.client.presented(1, gone.sequence);
    const again = guest.client.submit(0, { buffer: 0 });
    await guest.client.presented(0, again.sequence);
    await guest.client.removeBuffer(1);
    guest.close();
    await daemon.until('the idle picture', ({ outputs }) => outputs[0]?.idle === true);
  });
});

test('a scaled picture is copied where the display does not scale', async () => {
  const daemon = await TestDaemon.start({ config: '[[output]]\nmode = "640x480"' });
  await daemon.during(async () => {
    const guest = new TestGuest({ name: 'small', path: daemon.guestSocket });
    await guest.client.connect({ timeoutMs: 5000 });
    await daemon.until('a place', () => guest.area?.lit === true);
    const buffer = await guest.addBuffer(0, 320, 240, 'XRGB8888');
    buffer.memory.fill(0x40);
    const { sequence } = guest.client.submit(0, { buffer: 0, dstW: 640, dstH: 480 });
    await guest.client.presented(0, sequence);
    const status = await daemon.guest('small');
    assert.equal(status.planes[0]?.state, 'copied');
    assert.match(status.planes[0]?.reason ?? '', /TEST_ONLY/);
    const picture = await daemon.screenshot(guest.area?.output ?? '');
    assert.ok(
      picture.data.every((value) => value === 0x40),
      'the whole output has the guest picture',
    );
    guest.close();
  });
});
