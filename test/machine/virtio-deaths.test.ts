/** Real QEMU, its virtio-gpu device the daemon's, killed at any point of its life: nothing of it stays. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestDaemon } from './inside/daemon.js';
import { Qemu } from './inside/qemu.js';
import { startDaemon, vhost } from './inside/virtio.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const PATIENCE_MS = 30_000;
let card: VkmsDevice;
let output: string;

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, writeback: true }));
  output = card.connectors[0] ?? '';
});
after(() => card.destroy());

/** What the daemon and the kernel hold: the descriptors by what they are, and the card's framebuffers. */
function held(daemon: TestDaemon): string[] {
  const directory = `/proc/${daemon.child.pid}/fd`;
  const targets = readdirSync(directory).map((fd) => {
    try {
      return readlinkSync(`${directory}/${fd}`).replace(/:\[\d+\]$/, '');
    } catch {
      return 'closed since';
    }
  });
  const text = readFileSync(`/sys/kernel/debug/dri/${card.index}/framebuffer`, 'utf8');
  return [...targets, ...(text.match(/^framebuffer\[/gm) ?? [])].sort();
}

async function untilHeld(daemon: TestDaemon, wanted: readonly string[], what: string): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; ; await sleep(50)) {
    const now = held(daemon);
    if (now.join() === wanted.join()) return;
    if (performance.now() > end) assert.deepEqual(now, wanted, what);
  }
}

/** Points of a machine's life, up to which it lives. */
const POINTS: { what: string; append: string; first?: true; reach: (qemu: Qemu) => Promise<unknown> }[] = [
  { what: 'before its guest has a driver', append: 'step=1', reach: async () => {} },
  { what: 'with buffers and no frame', append: 'step=1', reach: (qemu) => qemu.event('buffers') },
  {
    what: 'while it flips',
    append: 'band=8',
    first: true,
    reach: (qemu) => qemu.event('flip', { frame: 20 }),
  },
  {
    what: 'while it flips copies',
    append: 'band=8 pieces=3 offset=64',
    reach: (qemu) => qemu.event('flip', { frame: 10 }),
  },
  {
    what: 'while it is paused',
    append: 'band=8',
    reach: async (qemu) => {
      await qemu.event('flip', { frame: 10 });
      await qemu.qmp('stop');
    },
  },
  {
    what: 'while its guest resets the device in the middle of a flip',
    append: 'step=1',
    reach: async (qemu) => {
      await qemu.event('buffers');
      qemu.send('fX');
      await qemu.event('reset');
    },
  },
];

async function dies(daemon: TestDaemon, { what, append, reach }: (typeof POINTS)[number]): Promise<void> {
  const qemu = await Qemu.start(vhost({ append }));
  await qemu.during(async () => {
    await daemon.until('it is there', ({ guests }) => guests.length === 1);
    await reach(qemu);
    await qemu.kill();
    await daemon.until(
      `nothing of a machine that died ${what}`,
      ({ guests, cards, outputs }) =>
        guests.length === 0 && cards[0]?.framebuffers.live === 0 && outputs[0]?.idle === true,
    );
  });
}

test('killed at any point of its life, a machine leaves nothing behind', async () => {
  const daemon = await startDaemon(`output = "${output}"`);
  await daemon.during(async () => {
    // What is opened once for all (base/fd_kind.cc) is open after the first.
    for (const point of POINTS.filter(({ first }) => first)) await dies(daemon, point);
    const before = held(daemon);
    for (const point of POINTS) {
      await dies(daemon, point);
      await untilHeld(daemon, before, `of a machine that died ${point.what}`);
    }
  });
});
