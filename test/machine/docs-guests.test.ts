/** The examples of docs/guests.md, as they are printed: what their guests draw is what the display scans out. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import type { StatusDocument } from '../../src/api/documents.js';
import type { TestDaemon } from './inside/daemon.js';
import * as rig from './inside/examples-rig.js';
import { EXAMPLES, SLOW_MS, shows, startDaemon, WORDS } from './inside/examples-rig.js';
import { GuestProcess } from './inside/guest-process.js';
import { plainPicture } from './inside/lessee.js';
import { makeMdev } from './inside/mdev.js';
import { assertSeen } from './inside/seen.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const directory = mkdtempSync(join(tmpdir(), 'docs-guests-'));
const seen = new Set<string>();
let card: VkmsDevice;

before(() => {
  execFileSync('modprobe', ['vgem']);
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
  const program = join(directory, 'scanoutctl');
  writeFileSync(
    program,
    `#!/bin/sh\nexec ${process.execPath} ${process.cwd()}/dist/bin/scanoutctl.js "$@"\n`,
  );
  chmodSync(program, 0o755);
  execFileSync('systemd-sysusers', ['systemd/scanoutd.sysusers']);
  mkdirSync('/etc/scanoutd', { recursive: true });
});
after(() => {
  rmSync(directory, { recursive: true });
  card.destroy();
});

function block(example: string, language: string, words = WORDS): string {
  seen.add(example);
  return rig.block(example, language, card.connectors, words);
}

function shell(daemon: TestDaemon, script: string, path = directory): GuestProcess {
  const env = { PATH: `${path}:${process.env.PATH}`, SCANOUTD_BUS: join(daemon.directory, 'bus') };
  return new GuestProcess('the example', ['sh', '-e', '-c', script], env);
}

interface Run {
  daemon: TestDaemon;
  guest: GuestProcess;
}

/** Runs an example; its picture is on output `output`, where the guest `name` is. */
async function proves(
  example: string,
  {
    name,
    output = 0,
    words = WORDS,
    path = directory,
  }: { name: string; output?: number; words?: string; path?: string },
  more: (run: Run) => Promise<void> = async () => {},
): Promise<void> {
  const daemon = await startDaemon(block(example, 'toml'));
  await daemon.during(async () => {
    const guest = shell(daemon, block(example, 'sh', words), path);
    await guest.during(async () => {
      await shows(daemon, guest, card.connectors[output] ?? '');
      assert.equal((await daemon.guest(name)).output, card.connectors[output]);
      await more({ daemon, guest });
    });
    await daemon.until('no guest', ({ guests }) => guests.length === 0, SLOW_MS);
  });
}

/** A picture that was copied since the firmware's was is planned anew, within half a second or so. */
async function isDirect({ daemon }: Run, name: string): Promise<void> {
  const holds = ({ guests }: StatusDocument) =>
    guests.find((guest) => guest.name === name)?.planes[0]?.state === 'direct';
  await daemon.until(`${name} is shown directly`, holds, SLOW_MS);
}

async function isDirectOf(run: Run, name: string): Promise<void> {
  await isDirect(run, name);
  assert.equal((await run.daemon.guest(name)).pid, run.guest.pid);
}

test('a virtual machine by vhost-user-gpu', async () => {
  await proves('virtio', { name: 'desk' }, (run) => isDirectOf(run, 'desk'));
});

test('one that scanoutctl starts', async () => {
  await proves('started', { name: 'desk' }, (run) => isDirectOf(run, 'desk'));
});

test('one with two monitors: the second', async () => {
  await proves('virtio-monitors', { name: 'desk.1', output: 1, words: `${WORDS} output=1` });
});

test('a VFIO device of a machine', async () => {
  const toml = block('vfio', 'toml');
  const id = /devices\/([0-9a-f-]{36})"/.exec(toml)?.[1] ?? '';
  const mdev = makeMdev('mbochs', { vmap: true, id });
  await proves('vfio', { name: 'vgpu', words: `${WORDS} device=bochs` }, (run) => isDirectOf(run, 'vgpu'));
  await mdev.remove();
});

test('a program that drives its output itself', async () => {
  const daemon = await startDaemon(block('lease', 'toml'));
  await daemon.during(async () => {
    const guest = shell(daemon, block('lease', 'sh'));
    await guest.during(async () => {
      await guest.event('drawn', { rgb: 'ff0000', lease: 'stage' });
      await assertSeen(daemon, card.connectors[0] ?? '', plainPicture(0xff0000), 'the player');
      const { pid, lease } = await daemon.guest('player');
      assert.deepEqual([pid, lease?.state, lease?.outputs], [guest.pid, 'leased', [card.connectors[0]]]);
    });
    await daemon.until('it has ended', ({ guests }) => guests.some(({ lease }) => lease?.state === 'ended'));
  });
});

test("QEMU's display by its monitor, with blobs", async () => {
  // Blobs want a newer QEMU than Debian's, as the text says.
  const path = join(directory, 'newer');
  mkdirSync(path);
  symlinkSync('/usr/local/bin/qemu-system-x86_64-backports', join(path, 'qemu-system-x86_64'));
  await proves('qemu', { name: 'tv', words: `${WORDS} mode=blob`, path }, (run) => isDirect(run, 'tv'));
});

test('two consoles: the second', async () => {
  await proves('qemu-consoles', { name: 'tv-right', output: 1, words: `${WORDS} output=1` });
});

test('QEMU on a bus', async () => {
  for (const { file, text } of EXAMPLES.get('qemu-bus') ?? []) {
    if (file === null) continue;
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
  await proves('qemu-bus', { name: 'tv' });
});

test('a running QEMU is attached', async () => {
  const daemon = await startDaemon('');
  await daemon.during(async () => {
    const guest = shell(daemon, block('qemu-consoles', 'sh'));
    await guest.during(async () => {
      const attach = `until [ -S /run/tv.qmp ]; do sleep 0.1; done\n${block('qemu-attach', 'sh')}`;
      const scanoutctl = shell(daemon, attach);
      await scanoutctl.end(SLOW_MS);
      assert.equal(scanoutctl.child.exitCode, 0, scanoutctl.log);
      const both = ({ guests }: StatusDocument) =>
        guests.length === 2 && guests.every(({ output }) => output !== null);
      const { guests } = await daemon.until('two consoles', both, SLOW_MS);
      assert.deepEqual(guests.map(({ name }) => name).sort(), ['tv', 'tv.1']);
      await shows(daemon, guest, guests.find(({ name }) => name === 'tv')?.output ?? '');
    });
  });
});

test('all examples were run', () => {
  const here = [...EXAMPLES.keys()].filter((name) => !name.endsWith('libvirt'));
  assert.deepEqual([...seen].sort(), here.sort());
});
