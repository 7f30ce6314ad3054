/**
 * A daemon that loses DRM master to another program and gets it back, however that comes about: everything has to be on the
 * screen again. The card has four outputs: a guest's, two that are leased, one whose monitor comes meanwhile.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isSystemError } from '../../../src/native/base.js';
import { RECORD_FLAGS } from '../../../src/native/flip.js';
import { KmsDevice } from '../../../src/native/kms.js';
import type { TestDaemon } from './daemon.js';
import { TestGuest } from './guest.js';
import { dumb, light, output as outputOf, present, WRITEBACK } from './kms-rig.js';
import { Holder } from './lease-holders.js';
import { plainPicture } from './lessee.js';
import { assertSeen } from './seen.js';
import { createVkms, type VkmsDevice, vkmsShape } from './vkms.js';

const [RED, GREEN, BLUE, WHITE, BLACK] = [0xff0000, 0x00ff00, 0x0000ff, 0xffffff, 0x101010];
const PATIENCE_MS = 20_000;
const SIZE = { width: 640, height: 480 };

export function fourOutputs(): VkmsDevice {
  const status = ['connected', 'connected', 'connected', 'disconnected'] as const;
  return createVkms(vkmsShape({ outputs: 4, overlays: 1, writeback: true, status: [...status] }));
}

export function configOf({ connectors: [shown, desk, wall] }: VkmsDevice): string {
  return [
    '[[output]]\nmode = "640x480"',
    `[[lease]]\nname = "desk"\noutputs = ["${desk}"]`,
    `[[lease]]\nname = "wall"\noutputs = ["${wall}"]`,
    `[[guest]]\nname = "tv"\noutput = "${shown}"`,
  ].join('\n');
}

/** Another display server, which has the whole card: it lights every monitor with a picture of its own. */
export class OtherMaster {
  private constructor(readonly device: KmsDevice) {}

  /** As soon as nobody is master: who opens the card then is. */
  static async open(card: string): Promise<OtherMaster> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const device = KmsDevice.open(card);
      if (device.isMaster()) return new OtherMaster(device);
      device.close();
      assert.ok(performance.now() < deadline, 'the other program is master');
      await sleep(20);
    }
  }

  /** In another mode than the daemon's. */
  showEverywhere(): void {
    const { device } = this;
    const { crtcs, connectors: ids, planes: planeIds } = device.resources();
    const all = ids.map((id) => device.connector(id, { probe: true }));
    const connectors = all.filter(({ type, status }) => type !== WRITEBACK && status === 'connected');
    const planes = planeIds.map((id) => device.plane(id));
    for (const [index, connector] of connectors.entries()) {
      const modes = [...connector.modes].sort((a, b) => b.hdisplay * b.vdisplay - a.hdisplay * a.vdisplay);
      const larger = modes.filter(({ hdisplay }) => hdisplay > SIZE.width && hdisplay <= 1024);
      const rig = { device, crtcs, planes, connectors: [...connectors] };
      rig.connectors[index] = { ...connector, modes: larger.slice(0, 1) };
      const out = outputOf(rig, index);
      const { buffer, framebuffer } = dumb(device, out);
      buffer.map().fill(0x7f);
      light(device, out, framebuffer);
    }
  }

  close(): void {
    // Mapped buffers keep the file open after its descriptor.
    this.device.dropMaster();
    this.device.close();
  }
}

/** What is on the screen before master goes, and what has to be there again. */
export class Scene {
  private guest!: TestGuest;
  private desk!: Holder;
  private wall!: Holder;

  constructor(
    readonly daemon: TestDaemon,
    readonly card: VkmsDevice,
  ) {}

  private name(index: number): string {
    return present(this.card.connectors[index]);
  }

  async begin(): Promise<void> {
    this.guest = new TestGuest({ name: 'tv', path: this.daemon.guestSocket, planes: ['primary'] });
    await this.guest.client.connect({ timeoutMs: 20_000 });
    await this.daemon.until('a place', () => this.guest.area?.lit === true);
    for (const [id, rgb] of [WHITE, BLACK, RED].entries()) {
      const { memory } = await this.guest.addBuffer(id, SIZE.width, SIZE.height, 'XRGB8888');
      new Uint32Array(memory.buffer, memory.byteOffset, memory.byteLength / 4).fill(rgb);
    }
    await this.flip(0);
    this.desk = await Holder.take(this.daemon, 'desk');
    this.desk.lessee.show(GREEN);
    this.wall = await Holder.take(this.daemon, 'wall');
    this.wall.lessee.show(BLUE);
    await this.see(0, WHITE, 'the guest');
    await this.see(1, GREEN, 'the lessee');
    await this.see(2, BLUE, 'the other lessee');
  }

  private async flip(buffer: number): Promise<void> {
    const { sequence } = this.guest.client.submit(0, { buffer });
    await this.guest.client.presented(0, sequence);
  }

  private see(index: number, rgb: number, what: string): Promise<void> {
    return assertSeen(this.daemon, this.name(index), plainPicture(rgb), what);
  }

  /** Master is another's. */
  async away(reason: RegExp): Promise<void> {
    const { daemon, guest, desk } = this;
    const { cards, leases } = await daemon.until('paused', (status) => status.cards[0]?.paused === true);
    assert.match(cards[0]?.pausedReason ?? '', reason);
    const states = leases.map(({ name, state, suspended }) => [name, state, suspended]);
    assert.deepEqual(states, [
      ['desk', 'leased', true],
      ['wall', 'leased', true],
    ]);
    assert.throws(
      () => desk.lessee.flip(RED),
      (error) => isSystemError(error, 'EACCES'),
    );
    await assert.rejects(Holder.take(daemon, 'desk'), /held by/);
    // More than it has buffers: a frame that is never released would end this.
    for (let i = 0; i < 12; i++) await this.flip(i % 3);
    await this.flip(1);
    assert.equal((await daemon.guest('tv')).planes[0]?.state, 'direct');
    // No vblank, no clock of the hardware, not on the screen: a timer completed them.
    assert.equal(guest.client.feedback(0).flags, 0);
    assert.equal((await daemon.records('tv')).at(-1)?.flags, RECORD_FLAGS.synthetic);
    // What happens meanwhile counts afterwards.
    this.card.setConnector(3, 'connected');
    await this.wall.release('wall');
    await assert.rejects(Holder.take(daemon, 'wall'), /not DRM master/);
    assert.equal((await daemon.output(this.name(3))).lit, false);
  }

  /** Master is ours again. Nobody but the daemon has done anything. */
  async back(): Promise<void> {
    const { daemon, desk } = this;
    await daemon.until('master again', (status) => status.cards[0]?.paused === false, 60_000);
    await this.see(0, BLACK, 'the newest frame of the guest');
    await this.see(1, GREEN, 'the picture of the lessee');
    desk.lessee.flip(RED);
    await this.see(1, RED, 'its next');
    await daemon.until('all lit', ({ outputs }) =>
      [2, 3].every((n) => outputs.some((one) => one.name === this.name(n) && one.lit && one.idle)),
    );
    const { leases } = await daemon.status();
    const states = leases.map(({ name, state, suspended, pid }) => [name, state, suspended, pid]);
    assert.deepEqual(states, [
      ['desk', 'leased', false, process.pid],
      ['wall', 'free', false, null],
    ]);
    await desk.told('LeaseResumed');
    assert.deepEqual(
      desk.signals.map(([member]) => member),
      ['LeaseSuspended', 'LeaseResumed'],
    );
    // As before: flips at the display's pace, nothing stuck.
    for (let i = 0; i < 5; i++) await this.flip(i % 3);
    await this.see(0, BLACK, 'the guest again');
    assert.equal((await daemon.guest('tv')).planes[0]?.state, 'direct');
    const again = await Holder.take(daemon, 'wall');
    await again.release('wall');
  }

  async end(): Promise<void> {
    await this.desk.release('desk');
    await this.guest.client.bye();
    this.guest.close();
    this.card.setConnector(3, 'disconnected');
    await this.daemon.until('as at first', ({ outputs }) =>
      outputs.some((one) => one.name === this.name(3) && !one.lit),
    );
  }
}
