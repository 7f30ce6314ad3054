/** Leases outlive the daemon where a service manager keeps its descriptors: killed, ended in order, and with lessees that end meanwhile. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { LeaseDocument } from '../../src/api/documents.js';
import { TestDaemon } from './inside/daemon.js';
import { StoreServer } from './inside/fd-store.js';
import { GuestProcess } from './inside/guest-process.js';
import { Holder } from './inside/lease-holders.js';
import { plainPicture } from './inside/lessee.js';
import { assertSeen } from './inside/seen.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const HERE = new URL('.', import.meta.url).pathname;
/** Dies with who started it, whatever ends that. */
const LESSEE = ['setpriv', '--pdeathsig', 'KILL', process.execPath, `${HERE}inside/lessee.js`];
const [RED, GREEN, BLUE, WHITE] = [0xff0000, 0x00ff00, 0x0000ff, 0xffffff];
let card: VkmsDevice;
let store: StoreServer;
let [desk, wall, kiosk]: [string, string, string] = ['', '', ''];

before(async () => {
  card = createVkms(vkmsShape({ outputs: 3, overlays: 1, cursor: true, writeback: true }));
  [desk, wall, kiosk] = card.connectors as typeof card.connectors & [string, string, string];
  store = await StoreServer.start();
});
after(async () => {
  await store.dispose();
  card.destroy();
});

function start(former?: TestDaemon): Promise<TestDaemon> {
  const config = [
    '[[output]]\nmode = "640x480"',
    `[[lease]]\nname = "desk"\noutputs = ["${desk}"]\noverlays = 1\nnotice_ms = 0`,
    `[[lease]]\nname = "wall"\noutputs = ["${wall}"]\non_crash = "keep"`,
    `[[lease]]\nname = "kiosk"\noutputs = ["${kiosk}"]`,
  ].join('\n');
  const directory = former === undefined ? {} : { directory: former.directory };
  return TestDaemon.start({ config, ...directory, through: store.through });
}

async function leases(daemon: TestDaemon): Promise<Record<string, LeaseDocument>> {
  return Object.fromEntries((await daemon.status()).leases.map((one) => [one.name, one]));
}

const untilFree = (daemon: TestDaemon, lease: string) =>
  daemon.until(`${lease} is free`, (status) =>
    status.leases.some(({ name, state }) => name === lease && state === 'free'),
  );

test('lessees draw on while there is no daemon, and the next one has them as its own', async () => {
  let daemon = await start();
  const holder = await Holder.take(daemon, 'desk');
  const { lessee, document } = holder;
  lessee.show(RED);
  const crashed = await Holder.take(daemon, 'wall');
  crashed.lessee.show(BLUE);
  crashed.vanish();
  await daemon.until('kept', (status) => status.leases.some(({ state }) => state === 'kept'));
  const program = [...LESSEE, '{fd}', WHITE.toString(16)];
  const ctl = [process.execPath, `${HERE}../../bin/scanoutctl.js`];
  const third = new GuestProcess('lease run', [...ctl, 'lease', 'run', 'kiosk', '--', ...program], {
    SCANOUTD_BUS: join(daemon.directory, 'bus'),
  });
  await third.during(async () => {
    await third.event('drawn', { lease: 'kiosk' });
    await daemon.stop('SIGKILL');
    lessee.show(GREEN);
    daemon = await start(daemon);
    const found = await leases(daemon);
    assert.deepEqual(
      [found.desk?.state, found.desk?.pid, found.wall?.state, found.wall?.pid, found.kiosk?.state],
      ['leased', process.pid, 'kept', null, 'leased'],
    );
    assert.deepEqual(found.desk?.planes, document.planes);
    assert.match(daemon.log, /adopted from the former daemon/);
    await assertSeen(daemon, desk, plainPicture(GREEN), 'what the lessee drew without a daemon');
    await assertSeen(daemon, wall, plainPicture(BLUE), 'what was kept');
    await assertSeen(daemon, kiosk, plainPicture(WHITE), 'the program');
    lessee.show(RED);
    await assertSeen(daemon, desk, plainPicture(RED), 'what it drew under the next');
    await daemon.stop('SIGTERM');
  });
  // The program has ended while there was no daemon.
  daemon = await start(daemon);
  await daemon.during(async () => {
    await untilFree(daemon, 'kiosk');
    await daemon.until('lit', ({ outputs }) => outputs.some(({ name, idle }) => name === kiosk && idle));
    assert.equal((await leases(daemon)).desk?.state, 'leased');
    // The lessee has a connection again, and the same lease.
    const again = await Holder.take(daemon, 'desk');
    assert.deepEqual(again.document.planes, document.planes);
    again.lessee.show(BLUE);
    await assertSeen(daemon, desk, plainPicture(BLUE), 'by the descriptor that it got again');
    lessee.device.close();
    await again.release('desk');
    await untilFree(daemon, 'desk');
    const successor = await Holder.take(daemon, 'wall');
    await assertSeen(daemon, wall, plainPicture(BLUE), 'still');
    successor.lessee.show(GREEN);
    await assertSeen(daemon, wall, plainPicture(GREEN), 'the successor');
    await successor.release('wall');
    await untilFree(daemon, 'wall');
  });
});
