/** The benchmark's guests with the real daemon, for a second each: that what is measured is what it says. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Guests } from '../../src/bench/guests.js';
import { ScanoutdServer } from '../../src/bench/scanoutd-server.js';
import { type GuestLayout, layoutOf, PERIOD_NS, PRINTED } from '../../src/bench/scenarios.js';
import { matchFlips, readKicks, readStamps } from '../../src/bench/stamps.js';
import { createVkms, vkmsShape } from './inside/vkms.js';

const KINDS = ['socket', 'virtio', 'qemu'] as const;
const PRINTINGS = ['map', 'pixels'] as const;
/** Each has an output for itself. */
const FLIPPING: GuestLayout[] = KINDS.flatMap((kind, crtc) =>
  layoutOf(1).map((one) => ({ ...one, name: kind, kind, crtc })),
);
const PRINTERS: GuestLayout[] = PRINTINGS.flatMap((printing, i) =>
  layoutOf(1).map((one) => ({ ...one, name: printing, kind: 'qemu', printing, crtc: KINDS.length + i })),
);

const directory = mkdtempSync(join(tmpdir(), 'bench-guests-'));
const card = createVkms(vkmsShape({ outputs: KINDS.length + PRINTINGS.length, overlays: 1 }));
const server = new ScanoutdServer('scanoutd', [card], [...FLIPPING, ...PRINTERS], join(directory, 'daemon'));
after(async () => {
  await server.end();
  card.destroy();
  rmSync(directory, { recursive: true });
});

async function guestOf(layout: GuestLayout): Promise<Guests> {
  const sockets = await server.open([layout]);
  const guests = new Guests([layout], sockets, 0, join(directory, layout.name));
  await guests.connected();
  return guests;
}

for (const layout of FLIPPING) {
  test(`each flip of a guest of kind ${layout.kind} is found as a commit, without import or copy`, async () => {
    const guests = await guestOf(layout);
    const places = await server.places([layout], async () => void (await guests.run(1)));
    const before = await server.counts();
    const { flips, lost } = await guests.run(1);
    const counts = await server.counts();
    await guests.leave();
    assert.ok(flips > 0);
    assert.equal(lost, 0);
    assert.equal(counts.imports - before.imports, 0);
    assert.equal(counts.copies[layout.name], before.copies[layout.name]);
    const kicks = readKicks(guests.file).slice(-flips);
    const stamps = server.stamps().flatMap((file) => readStamps(file));
    const matched = matchFlips(kicks, stamps, places, PERIOD_NS);
    assert.equal(matched.length, flips);
    assert.ok(matched.every(({ kickNs, presentedNs, latencyNs }) => latencyNs > 0 && presentedNs > kickNs));
  });
}

for (const layout of PRINTERS) {
  test(`a machine that prints in ${layout.name} is copied by what it prints, once a refresh`, async () => {
    const guests = await guestOf(layout);
    await guests.run(1); // planned, and drawn as a whole
    const before = await server.counts();
    const began = process.hrtime.bigint();
    const { flips: lines } = await guests.run(1);
    const counts = await server.counts();
    const refreshes = Number(process.hrtime.bigint() - began) / PERIOD_NS;
    await guests.leave();
    const copies = (counts.copies[layout.name] ?? 0) - (before.copies[layout.name] ?? 0);
    assert.ok(lines > 0 && copies > 0);
    assert.ok(copies <= refreshes + 2, `${copies} copies in ${refreshes} refreshes`);
    const pixels = (counts.copiedPixels[layout.crtc] ?? 0) - (before.copiedPixels[layout.crtc] ?? 0);
    assert.ok(
      pixels > 0 && pixels <= (copies + 1) * PRINTED.rows * layout.width,
      `${pixels} in ${copies} copies`,
    );
  });
}
