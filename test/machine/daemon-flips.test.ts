/** Ten thousand flips over two outputs and three planes: nothing lost, nothing released early, nothing leaked. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { TestDaemon } from './inside/daemon.js';
import { Example, type ExampleStats } from './inside/example.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;

before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true }));
});
after(() => card.destroy());

const FLIPS = 10_000;
const PLANES = 3;
const FRAMES = Math.ceil(FLIPS / PLANES);

interface Held {
  fds: number;
  framebuffers: number;
}

/** What the daemon and the kernel hold: descriptors, and framebuffers of the card by debugfs. */
function held(daemon: TestDaemon): Held {
  const fds = readdirSync(`/proc/${daemon.child.pid}/fd`).length;
  const text = readFileSync(`/sys/kernel/debug/dri/${card.index}/framebuffer`, 'utf8');
  return { fds, framebuffers: text.match(/^framebuffer\[/gm)?.length ?? 0 };
}

test(`${FLIPS} flips over two outputs and three planes`, async () => {
  const [first, second] = card.connectors;
  const config = [
    '[[output]]',
    'mode = "640x480"',
    `[[guest]]\nname = "two"\noutput = "${first}"`,
    `[[guest]]\nname = "one"\noutput = "${second}"`,
  ].join('\n');
  const daemon = await TestDaemon.start({ config });
  await daemon.during(async () => {
    const before = held(daemon);
    assert.ok(before.framebuffers >= 2, 'the idle pictures are there');
    const common = ['--format', 'RG16', '--fifo', '--check', '--frames', String(FRAMES)];
    const guests = [
      new Example(daemon.guestSocket, 'two', ['--plane', 'primary', '--plane', 'overlay', ...common]),
      new Example(daemon.guestSocket, 'one', common),
    ];
    const all = await Promise.all(guests.map((guest) => guest.stats()));
    let flips = 0;
    for (const stats of all) flips += checkGuest(stats);
    assert.ok(flips >= FLIPS, `${flips} flips`);
    await daemon.until('no guest', ({ guests: left }) => left.length === 0);
    await daemon.until('the idle pictures', ({ outputs }) => outputs.every(({ idle }) => idle));
    const after = held(daemon);
    assert.deepEqual(after, before, 'descriptors and framebuffers');
    const [document] = (await daemon.status()).cards;
    assert.equal(document?.framebuffers.live, 0, 'framebuffers of guests');
    // Three buffers a plane, imported once each: none in the steady state.
    assert.ok((document?.framebuffers.imports ?? 0) <= PLANES * 4, JSON.stringify(document?.framebuffers));
  });
});

/** Every frame was shown (fifo), and none was released early. */
function checkGuest(stats: ExampleStats): number {
  assert.equal(stats.violations, 0, JSON.stringify(stats));
  assert.equal(stats.frames, FRAMES);
  for (const plane of stats.planes) {
    assert.equal(plane.state, 'direct', JSON.stringify(plane));
    assert.equal(plane.refused, 0, JSON.stringify(plane));
    assert.equal(plane.presented, plane.submitted, JSON.stringify(plane));
  }
  return stats.planes.reduce((sum, { presented }) => sum + presented, 0);
}
