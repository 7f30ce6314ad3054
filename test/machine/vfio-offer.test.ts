/** A device that its owner hands over on the guest socket: no right over the owner's process is needed for that. */
import assert from 'node:assert/strict';
import { openSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { offerDevice } from '../../clients/node/index.js';
import { Code } from '../../src/guests/protocol.js';
import { Fd } from '../../src/native/base.js';
import { createUdmabuf } from '../../src/native/buffers.js';
import { TestDaemon } from './inside/daemon.js';
import type { GuestProcess } from './inside/guest-process.js';
import { type Mdev, makeMdev, released, startVgpu } from './inside/mdev.js';
import { pattern } from './inside/pattern.js';
import { assertSeen } from './inside/seen.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const SIZE = { width: 640, height: 480 };
const GUESTS = `
[[output]]
mode = "640x480"
[[guest]]
name = "vgpu"
kind = "vfio"
owner = "socket"
[[guest]]
name = "other"
kind = "vfio"
owner = "socket"
uid = 4711
[[guest]]
name = "named"
kind = "vfio"
device = "/sys/bus/mdev/devices/none"
[[guest]]
name = "program"
`;
let card: VkmsDevice;

/** The names of both outputs. */
async function outputNames(daemon: TestDaemon): Promise<[string, string]> {
  const [first, second] = (await daemon.status()).outputs.map(({ name }) => name);
  assert.ok(first !== undefined && second !== undefined);
  return [first, second];
}

function seen(daemon: TestDaemon, output: string, frame: number): Promise<void> {
  return assertSeen(daemon, output, pattern(SIZE.width, SIZE.height, frame), `frame ${frame}`);
}

before(() => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
});
after(() => card.destroy());

/** The daemon reads another configuration. */
function reload(daemon: TestDaemon, guests: string): void {
  const file = join(daemon.directory, 'scanoutd.toml');
  const sockets = `guest_socket = "${daemon.directory}/guest.sock"\nbus_socket = "${daemon.directory}/bus"\nsystem_bus = "off"`;
  writeFileSync(file, `[daemon]\n${sockets}\nlog_level = "debug"\n${guests}\n`);
  daemon.child.kill('SIGHUP');
}

/** Offers the device, and gives the daemon's answer. */
async function offer(vgpu: GuestProcess): Promise<unknown> {
  const before = vgpu.all('offer').length;
  vgpu.send('o');
  return (await vgpu.eventAfter(before, 'offer')).values.code;
}

const ofVgpu = (daemon: TestDaemon, mdev: Mdev) =>
  startVgpu(mdev, { offer: { socket: daemon.guestSocket, name: 'vgpu' } });

test('what is no device, or comes under a wrong name, is refused and closed', async () => {
  const daemon = await TestDaemon.start({ config: GUESTS });
  await daemon.during(async () => {
    const { memfd, dmabuf } = createUdmabuf(4096);
    const nothing = new Fd(openSync('/dev/null', 'r'));
    const path = daemon.guestSocket;
    const refused: [name: string, device: Fd, code: Code, text: RegExp][] = [
      ['vgpu', nothing, Code.badFd, /no device of VFIO/],
      ['vgpu', memfd, Code.badFd, /no device of VFIO/],
      ['vgpu', dmabuf, Code.badFd, /no device of VFIO/],
      ['other', nothing, Code.notAllowed, /uid 0 gid 0 may not offer a device as guest other/],
      ['named', nothing, Code.badName, /takes no device from the guest socket: owner = "vmm"/],
      ['program', nothing, Code.badName, /of kind "socket"/],
      ['nobody', nothing, Code.badName, /knows no guest nobody/],
    ];
    for (const [name, device, code, text] of refused) {
      await assert.rejects(offerDevice({ name, device, path }), {
        name: 'RefusedError',
        code,
        message: text,
      });
    }
    for (const fd of [nothing, memfd, dmabuf]) fd.close();
    assert.deepEqual((await daemon.status()).guests, []);
    assert.match(daemon.log, /uid 0 gid 0 may not offer/);
  });
});

test('a device that was offered is scanned out, and let go when its driver is unbound', async (t) => {
  const mdev = makeMdev('mbochs', { vmap: true });
  t.after(() => mdev.remove());
  const daemon = await TestDaemon.start({ config: GUESTS });
  await daemon.during(async () => {
    const [first] = await outputNames(daemon);
    const vgpu = await ofVgpu(daemon, mdev);
    await vgpu.during(async () => {
      assert.equal(await offer(vgpu), Code.ok);
      for (let frame = 0; frame < 3; frame++) {
        vgpu.send('f');
        await vgpu.event('flip', { frame });
        await daemon.until('the picture', ({ outputs }) => outputs.some(({ idle }) => !idle));
        await seen(daemon, first, frame);
      }
      const guest = await daemon.guest('vgpu');
      assert.equal(guest.pid, vgpu.pid);
      assert.equal(guest.uid, 0);
      assert.equal(guest.planes[0]?.state, 'direct', guest.planes[0]?.reason);

      const nothing = new Fd(openSync('/dev/null', 'r'));
      await assert.rejects(offerDevice({ name: 'vgpu', device: nothing, path: daemon.guestSocket }), {
        name: 'RefusedError',
        code: Code.busy,
        message: 'guest vgpu has a device already',
      });
      nothing.close();

      const unbound = writeFile(`${mdev.path}/driver/unbind`, basename(mdev.path));
      const { values } = await vgpu.event('ended');
      assert.equal(values.code, Code.badFd);
      assert.match(vgpu.log, /the device was removed, or its driver unbound/);
      await daemon.until('no guest', ({ guests }) => guests.length === 0);
      await vgpu.kill();
      await unbound;
    });
  });
});

// By mdpy: mbochs frees the pages of a dma-buf twice when it is exported again after its release.
test('the owner hangs up and comes again, the configuration changes, and it is killed', async (t) => {
  const mdev = makeMdev('mdpy');
  t.after(() => mdev.remove());
  const daemon = await TestDaemon.start({ config: GUESTS });
  const gone = () => daemon.until('no guest', ({ guests }) => guests.length === 0);
  await daemon.during(async () => {
    const [first, second] = await outputNames(daemon);
    const vgpu = await ofVgpu(daemon, mdev);
    const shown = async (output: string, frame: number) => {
      vgpu.send('f');
      await vgpu.event('flip', { frame });
      await daemon.until('the guest', ({ guests }) => guests[0]?.output === output);
      await seen(daemon, output, frame);
    };
    await vgpu.during(async () => {
      assert.equal(await offer(vgpu), Code.ok);
      await shown(first, 0);

      await t.test('another configuration moves it, and its owner need do nothing', async () => {
        reload(daemon, GUESTS.replace('owner = "socket"', `owner = "socket"\noutput = "${second}"`));
        await daemon.until('the move', ({ guests }) => guests[0]?.output === second);
        await seen(daemon, second, 0);
        await shown(second, 1);
        assert.deepEqual(vgpu.all('ended'), []);
      });

      await t.test('its owner hangs up: the guest leaves, and the device can be offered again', async () => {
        vgpu.send('h');
        await gone();
        await daemon.until('both idle', ({ outputs }) => outputs.every(({ idle }) => idle));
        assert.equal(await offer(vgpu), Code.ok);
        await shown(second, 2);
      });

      await t.test('a configuration without it: its owner is told', async () => {
        reload(daemon, GUESTS.replace('name = "vgpu"', 'name = "vgpu2"'));
        const { values } = await vgpu.event('ended');
        assert.equal(values.code, Code.notAllowed);
        assert.match(vgpu.log, /the configuration was changed, and takes this device no more/);
        await gone();
      });

      await t.test('its owner is killed: the device is free for the next', async () => {
        reload(daemon, GUESTS);
        // Until the daemon has read it.
        for (let code = await offer(vgpu); code !== Code.ok; code = await offer(vgpu)) {
          assert.equal(code, Code.badName);
        }
        await shown(first, 3);
        await vgpu.kill();
        await gone();
        await released(mdev);
      });
    });
  });
});
