/** A Linux guest whose virtio-gpu device is the daemon's: its console, its flips, its cursor, and the EDID that it sees. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestDaemon } from '../inside/daemon.js';
import { BOOT_MS, startLinux } from '../inside/linux-guest.js';
import { overlayCursor, pattern } from '../inside/pattern.js';
import { assertSeen } from '../inside/seen.js';
import { assertInOrder, framesTold, SIZE, startDaemon, vhost } from '../inside/virtio.js';
import { createVkms, type VkmsDevice, vkmsShape } from '../inside/vkms.js';

let card: VkmsDevice;
let output: string;

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
  output = card.connectors[0] ?? '';
});
after(() => card.destroy());

/** Flips in a row, each asked for before the former was shown. */
const STREAM = 40;
const PATIENCE_MS = 10_000;

/** As the guest's /dev/fb0 has it: blue, green, red, nothing. */
async function hashOfScreen(daemon: TestDaemon): Promise<string> {
  const { data } = await daemon.screenshot(output);
  const pixels = Buffer.alloc((data.length / 3) * 4);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    pixels[to] = data[from + 2] ?? 0;
    pixels[to + 1] = data[from + 1] ?? 0;
    pixels[to + 2] = data[from] ?? 0;
  }
  return createHash('md5').update(pixels).digest('hex');
}

async function assertConsole(daemon: TestDaemon, hash: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while ((await hashOfScreen(daemon)) !== hash) {
    assert.ok(performance.now() < deadline, 'the console is not what the guest has in its framebuffer');
    await sleep(50);
  }
}

test('Linux is on a plane: console, page flips, cursor, EDID', async (t) => {
  const daemon = await startDaemon(`output = "${output}"`);
  await daemon.during(async () => {
    const { args = [] } = vhost();
    const qemu = await startLinux({ append: 'step=1 text=1 size=640x480', args });
    await qemu.during(async () => {
      const { values: text } = await qemu.event('console', {}, BOOT_MS);
      assert.equal(text.size, SIZE.width * SIZE.height * 4);
      await assertConsole(daemon, String(text.hash));
      const [console] = (await daemon.guest('vm')).planes;
      assert.deepEqual([console?.state, console?.kind], ['direct', 'primary'], console?.reason);

      qemu.send('\n');
      await qemu.event('buffers', {}, BOOT_MS);
      for (let frame = 0; frame < 3; frame++) {
        qemu.send('f');
        await qemu.event('flip', { frame });
        await assertSeen(daemon, output, pattern(SIZE.width, SIZE.height, frame), `frame ${frame}`);
      }
      // The monitor that it is on: our maker's name ("SCO") and the output's.
      const edid = Buffer.from(String(qemu.all('edid')[0]?.values.bytes), 'hex');
      assert.equal(edid.readUInt16BE(8), 0x4c6f);
      assert.ok(edid.toString('latin1').includes(output));

      const shown = (await daemon.records('vm')).length;
      const before = framesTold(await daemon.guest('vm'));
      qemu.send('f'.repeat(STREAM));
      await qemu.event('flip', { frame: 3 + STREAM - 1 });
      const last = pattern(SIZE.width, SIZE.height, 3 + STREAM - 1);
      await assertSeen(daemon, output, last, 'the last frame of a stream');
      await daemon.until('all of them', ({ guests }) => framesTold(guests[0]) >= before + STREAM);
      const guest = await daemon.guest('vm');
      const stream = (await daemon.records('vm')).slice(shown);
      t.diagnostic(`${stream.length} of ${STREAM} shown, ${guest.late} answered before they were`);
      assertInOrder(stream);
      // Only what was answered by the clock may be replaced before it is shown.
      assert.ok(stream.length >= STREAM - guest.late, `${stream.length} shown, ${guest.late} late`);
      assert.ok(guest.late < STREAM / 2, `${guest.late} answered by the clock`);

      for (let move = 0; move < 3; move++) {
        qemu.send('m');
        const { values } = await qemu.event('cursor', { move });
        const picture = pattern(SIZE.width, SIZE.height, 3 + STREAM - 1);
        overlayCursor(picture, Number(values.image), Number(values.x), Number(values.y));
        await assertSeen(daemon, output, picture, `cursor ${move}`);
      }
      const { planes, copies, lastError } = await daemon.guest('vm');
      assert.deepEqual(
        planes.map(({ kind, state }) => [kind, state]),
        [
          ['primary', 'direct'],
          ['cursor', 'direct'],
        ],
      );
      assert.deepEqual([copies, lastError], [0, '']);
    });
  });
});
