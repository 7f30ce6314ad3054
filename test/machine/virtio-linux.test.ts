/** A Linux guest whose virtio-gpu device is the daemon's: its console, its flips, its cursor, and the EDID that it sees. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestDaemon } from './inside/daemon.js';
import { BOOT_MS, startLinux } from './inside/linux-guest.js';
import { overlayCursor, pattern } from './inside/pattern.js';
import { assertSeen } from './inside/seen.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
});
after(() => card.destroy());

const SOCKET = '/run/scanoutd-test-linux.sock';

test('Linux is on a plane: console, page flips, cursor, EDID', async (t) => {
  const guest = `[[guest]]\nname = "linux"\nkind = "virtio"\nsocket = "${SOCKET}"`;
  const daemon = await TestDaemon.start({ config: `[[output]]\nmode = "640x480"\n${guest}` });
  await daemon.during(async () => {
    const qemu = await startLinux({
      append: 'step=1 size=640x480',
      args: ['-chardev', `socket,id=gpu,path=${SOCKET}`, '-device', 'vhost-user-gpu-pci,chardev=gpu'],
    });
    await qemu.during(async () => {
      const [output] = card.connectors;
      // The console comes with the driver, before any program.
      await daemon.until('the console', ({ outputs }) => outputs[0]?.idle === false, BOOT_MS);
      await qemu.event('buffers', {}, BOOT_MS);
      for (let frame = 0; frame < 4; frame++) {
        qemu.send('f');
        const { values } = await qemu.event('flip', { frame });
        t.diagnostic(`flip ${frame}: ${values.flip_us} us`);
        await assertSeen(daemon, output ?? '', pattern(640, 480, frame), `frame ${frame}`);
      }
      const { planes, copies, lastError } = await daemon.guest('linux');
      assert.equal(planes[0]?.state, 'direct', planes[0]?.reason);
      assert.deepEqual([copies, lastError], [0, '']);
      // Our maker's name ("SCO") and the output's: the guest sees the monitor that it is on.
      const edid = Buffer.from(String(qemu.all('edid')[0]?.values.bytes), 'hex');
      assert.equal(edid.readUInt16BE(8), 0x4c6f);
      assert.ok(edid.toString('latin1').includes(output ?? ''));
      for (let move = 0; move < 3; move++) {
        qemu.send('m');
        const { values } = await qemu.event('cursor', { move });
        const picture = pattern(640, 480, 3);
        overlayCursor(picture, Number(values.image), Number(values.x), Number(values.y));
        await assertSeen(daemon, output ?? '', picture, `cursor ${move}`);
      }
      const [, cursor] = (await daemon.guest('linux')).planes;
      assert.equal(cursor?.state, 'direct', cursor?.reason);
    });
  });
});
