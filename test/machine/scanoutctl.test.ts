/** scanoutctl against a real daemon: what it prints, what it writes, and how it ends. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseConfig } from '../../src/config/load.js';
import { KmsDevice } from '../../src/native/kms.js';
import { ctl as ctlOf } from './inside/ctl.js';
import { TestDaemon } from './inside/daemon.js';
import { Example } from './inside/example.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

let card: VkmsDevice;
let daemon: TestDaemon;

before(async () => {
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true }));
  daemon = await TestDaemon.start({ config: '[[output]]\nmode = "640x480"' });
});
after(async () => {
  await daemon.dispose();
  card.destroy();
});

const ctl = (...args: string[]) => ctlOf(daemon, ...args);

test('status, outputs and guests: tables, and the same as JSON', async () => {
  const guest = new Example(daemon.guestSocket, 'kiosk', ['--format', 'RG16', '--seconds', '120']);
  await daemon.until('flips', ({ guests }) => (guests[0]?.planes[0]?.flips ?? 0) > 5);
  const [first = '', second = ''] = card.connectors;
  const text = await ctl('status');
  assert.equal(text.code, 0, text.err);
  for (const word of [first, second, 'kiosk', 'vkms'])
    assert.ok(text.out.includes(word), `${word} in ${text.out}`);
  const document = JSON.parse((await ctl('status', '--json')).out) as { guests: { name: string }[] };
  assert.equal(document.guests[0]?.name, 'kiosk');
  assert.ok((await ctl('outputs')).out.includes(first));
  assert.ok((await ctl('guests')).out.includes('kiosk'));
  assert.equal((await ctl('top', '--once')).code, 0);

  const moved = await ctl('assign', 'kiosk', second);
  assert.equal(moved.code, 0, moved.err);
  assert.equal((await daemon.guest('kiosk')).output, second);
  await daemon.until('direct there', ({ guests }) => guests[0]?.planes[0]?.state === 'direct');

  // A card without writeback: the picture is composed, and the answer says so.
  const file = join(daemon.directory, 'shot.png');
  const shot = await ctl('screenshot', second, '-o', file);
  assert.equal(shot.code, 0, shot.err);
  assert.match(shot.out + shot.err, /composed/);
  assert.deepEqual([...readFileSync(file).subarray(1, 4)], [...Buffer.from('PNG')]);
  await guest.kill('SIGTERM');
});

test('what is refused is said, with exit code 1', async () => {
  const wrong = await ctl('assign', 'nobody', 'Virtual-1');
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /nobody/);
  const nowhere = await ctl('screenshot', 'HDMI-A-9');
  assert.equal(nowhere.code, 1);
  assert.match(nowhere.err, /HDMI-A-9/);
});

test('as a program', () => {
  const { status, stdout } = spawnSync(process.execPath, ['dist/bin/scanoutctl.js', 'outputs', '--json'], {
    encoding: 'utf8',
    env: { ...process.env, SCANOUTD_BUS: join(daemon.directory, 'bus') },
  });
  assert.equal(status, 0);
  const outputs = JSON.parse(stdout) as { name: string }[];
  assert.deepEqual(outputs.map(({ name }) => name).sort(), [...card.connectors].sort());
});

test('a composed picture of an idle output shows its name', async () => {
  const [first = ''] = card.connectors;
  const picture = await daemon.screenshot(first);
  assert.equal(picture.document.how, 'composed');
  assert.ok(new Set(picture.data).size > 3, 'more than the background');
});

test('lease import: planes of a real card, by id and without, while the daemon is its master', async () => {
  const [first = '', second = ''] = card.connectors;
  // Two outputs with a primary plane, an overlay and a cursor plane each.
  const standard = await ctl('lease', 'import', '--device', card.card, '-k');
  assert.equal(standard.code, 0, standard.err);
  const minor = card.card.replace(/^.*card/, '');
  const leases = parseConfig(standard.out, 'imported').leases;
  assert.deepEqual(
    leases.map(({ name, outputs, overlays, cursor, onCrash }) => ({
      name,
      outputs,
      overlays,
      cursor,
      onCrash,
    })),
    [first, second].map((name) => ({
      ...{ name: `card${minor}-${name}`, outputs: [name], overlays: 1, cursor: true, onCrash: 'keep' },
    })),
  );
  const device = KmsDevice.open(card.card);
  const planes = device.resources().planes.map((id) => device.plane(id));
  device.close();
  const [overlay] = planes.filter(({ type }) => type === 'overlay');
  assert.ok(overlay !== undefined);
  const output = card.connectors[Math.log2(overlay.possibleCrtcs)] ?? assert.fail();
  const file = join(daemon.directory, 'dlm.toml');
  writeFileSync(
    file,
    `[[lease]]\nname = "desk"\nconnectors = ["${output}"]\n["${output}"]\nplanes = [${overlay.id}]\n`,
  );
  const listed = await ctl('lease', 'import', file);
  assert.equal(listed.code, 0, listed.err);
  assert.match(listed.out, new RegExp(`# ${output} had plane ${overlay.id} \\(overlay\\)\\.`));
  const [desk] = parseConfig(listed.out, 'imported').leases;
  assert.deepEqual([desk?.outputs, desk?.overlays, desk?.cursor], [[output], 1, false]);
  // Looking has taken nothing from the daemon.
  assert.equal((await ctl('status')).code, 0);
  assert.ok((await daemon.status()).outputs.every(({ lit }) => lit));
});
