/** Wayland clients that know nothing of the daemon: they lease its outputs with no compositor running, and draw. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ctl } from './inside/ctl.js';
import { TestDaemon } from './inside/daemon.js';
import { GuestProcess } from './inside/guest-process.js';
import { Holder } from './inside/lease-holders.js';
import { plainPicture } from './inside/lessee.js';
import { assertSeen } from './inside/seen.js';
import { createVkms, vkmsShape } from './inside/vkms.js';

const HERE = new URL('.', import.meta.url).pathname;
const CLIENT = ['build-machine/wayland_client', 'build/Release/wayland_client'].find(existsSync) ?? '';
const [RED, GREEN] = [0xff0000, 0x00ff00];

test('a Wayland client leases an output and draws, and is told of the end', async () => {
  const card = createVkms(vkmsShape({ outputs: 3, overlays: 1, cursor: true, writeback: true }));
  const [, desk = '', wall = ''] = card.connectors;
  // Absolute, as WAYLAND_DISPLAY may be.
  const socket = join(mkdtempSync(join(tmpdir(), 'wayland-')), 'wayland-0');
  const daemon = await TestDaemon.start({
    config: [
      `wayland_socket = "${socket}"`,
      '[[output]]\nmode = "640x480"',
      `[[lease]]\nname = "desk"\noutputs = ["${desk}"]\noverlays = 1`,
      `[[lease]]\nname = "wall"\noutputs = ["${wall}"]`,
    ].join('\n'),
  });
  await daemon.during(async () => {
    const env = { WAYLAND_DISPLAY: socket };
    const info = execFileSync('wayland-info', { env: { ...process.env, ...env }, encoding: 'utf8' });
    const interfaces = [...info.matchAll(/interface: '(\w+)'/g)].map(([, name]) => name);
    assert.deepEqual(interfaces, ['wp_drm_lease_device_v1'], info);

    const client = new GuestProcess('wayland_client', [CLIENT], env);
    await client.during(async () => {
      const lease = async (name: string) => (await daemon.status()).leases.find((one) => one.name === name);
      await client.event('ready');
      client.send('bind\n');
      await client.event('drmfd', { device: 0, master: 0, auth: 0 });
      await client.event('done', { device: 0 });
      const offered = client.all('connector').map(({ values }) => values);
      assert.deepEqual(
        offered.map(({ name }) => name),
        [desk, wall],
      );
      const id = offered[0]?.id ?? assert.fail();

      // A connector, a CRTC, a primary, an overlay and a cursor plane.
      client.send(`request 0 ${id}\n`);
      await client.event('leasefd', { lease: 0, objects: 5 });
      await client.event('withdrawn', { id });
      client.send(`run 0 ${process.execPath} ${HERE}inside/lessee.js {fd} ${RED.toString(16)}\n`);
      await client.event('drawn', { rgb: 'ff0000' });
      await assertSeen(daemon, desk, plainPicture(RED), 'the client');
      const shown = await ctl(daemon, 'leases', '--json');
      assert.equal(shown.code, 0, shown.err);
      const [document] = (JSON.parse(shown.out) as { name: string; state: string; pid: number }[]).filter(
        ({ name }) => name === 'desk',
      );
      assert.deepEqual([document?.state, document?.pid], ['leased', client.pid]);

      // Beside one of another front end, which takes what was offered.
      const holder = await Holder.take(daemon, 'wall');
      await client.event('withdrawn', { id: offered[1]?.id ?? '' });
      holder.lessee.show(GREEN);
      await assertSeen(daemon, wall, plainPicture(GREEN), 'the other');
      await assertSeen(daemon, desk, plainPicture(RED), 'the client still');

      assert.equal((await ctl(daemon, 'lease', 'revoke', 'desk')).code, 0);
      await client.event('finished', { lease: 0 });
      await daemon.until('idle', ({ outputs }) => outputs.some((one) => one.name === desk && one.idle));
      await client.eventAfter(2, 'connector');

      // Offered anew, it is leased once more, and is free when its client is gone.
      client.send(`request 0 ${id}\n`);
      await client.event('leasefd', { lease: 1 });
      assert.equal((await lease('desk'))?.state, 'leased');
      await client.kill();
      await daemon.until('free', ({ leases }) =>
        leases.some(({ name, state }) => name === 'desk' && state === 'free'),
      );
      assert.match(daemon.log, /"lease":"desk",[^\n]*"result":"lessee is gone"/);
      await holder.release('wall');
    });
  });
  card.destroy();
});
