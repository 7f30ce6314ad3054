/** Real QEMU, its virtio-gpu device the daemon's: what the guest draws is what the display scans out. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestDaemon } from './inside/daemon.js';
import { pattern } from './inside/pattern.js';
import { worst } from './inside/pixels.js';
import { Qemu, type QemuOptions, type QemuVersion, VERSIONS } from './inside/qemu.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;

before(() => {
  card = createVkms(vkmsShape({ outputs: 1, overlays: 1, cursor: true, writeback: true }));
});
after(() => card.destroy());

const SIZE = { width: 640, height: 480 };

async function startDaemon(guest: string): Promise<{ daemon: TestDaemon; socket: string }> {
  const daemon = await TestDaemon.start({
    config: `[[output]]\nmode = "640x480"\n[[guest]]\nname = "vm"\nkind = "virtio"\nsocket = "/run/vm.sock"\n${guest}`,
  });
  return { daemon, socket: '/run/vm.sock' };
}

function vhost(socket: string, device = 'vhost-user-gpu-pci,chardev=gpu'): QemuOptions {
  return { args: ['-chardev', `socket,id=gpu,path=${socket}`, '-device', device] };
}

for (const version of Object.keys(VERSIONS) as QemuVersion[]) {
  test(`QEMU ${version}: pages flip on a plane`, async () => {
    const { daemon, socket } = await startDaemon('');
    await daemon.during(async () => {
      const qemu = await Qemu.start({ ...vhost(socket), version, append: 'step=1' });
      await qemu.during(async () => {
        await qemu.event('buffers');
        for (let frame = 0; frame < 4; frame++) {
          qemu.send('f');
          await qemu.event('flip', { frame });
          const { outputs } = await daemon.status();
          const picture = await daemon.screenshot(outputs[0]?.name ?? '');
          const { by, at } = worst(picture, pattern(SIZE.width, SIZE.height, frame));
          assert.equal(by, 0, `frame ${frame}: ${at}`);
        }
        const guest = await daemon.guest('vm');
        assert.equal(guest.planes[0]?.state, 'direct');
        assert.equal(guest.copies, 0);
      });
      await daemon.until('the idle picture', ({ outputs }) => outputs.every(({ idle }) => idle));
    });
  });
}
