/** The examples of docs/guests.md, as they are printed: what their guests draw is what the display scans out. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StatusDocument } from '../../src/api/documents.js';
import { TestDaemon } from './inside/daemon.js';
import { adapt, readExamples } from './inside/examples.js';
import { GuestProcess } from './inside/guest-process.js';
import { makeMdev } from './inside/mdev.js';
import { pattern } from './inside/pattern.js';
import { worst } from './inside/pixels.js';
import { createVkms, type VkmsDevice, vkmsShape } from './inside/vkms.js';

const EXAMPLES = readExamples();
const SIZE = { width: 640, height: 480 };
/** One frame, which stays. */
const WORDS = 'frames=1 size=640x480';
/** Firmware, guest, daemon and libvirt, all emulated. */
const SLOW_MS = 150_000;
const directory = mkdtempSync(join(tmpdir(), 'docs-guests-'));
const seen = new Set<string>();
let card: VkmsDevice;

before(() => {
  execFileSync('modprobe', ['vgem']);
  card = createVkms(vkmsShape({ outputs: 2, overlays: 1, cursor: true, writeback: true }));
  const program = join(directory, 'scanoutctl');
  writeFileSync(
    program,
    `#!/bin/sh\nexec ${process.execPath} ${process.cwd()}/dist/src/cli/scanoutctl.js "$@"\n`,
  );
  chmodSync(program, 0o755);
  execFileSync('systemd-sysusers', ['systemd/scanoutd.sysusers']);
  mkdirSync('/etc/scanoutd', { recursive: true });
});
after(() => {
  rmSync(directory, { recursive: true });
  card.destroy();
});

/** The one block of an example in a language, as it runs here. */
function block(example: string, language: string, words = WORDS): string {
  const found = (EXAMPLES.get(example) ?? []).filter((one) => one.file === null && one.language === language);
  assert.equal(found.length, 1, `${language} of ${example}`);
  seen.add(example);
  return adapt(found[0]?.text ?? '', card.connectors, words);
}

/** The daemon of the TOML, whose [daemon] continues that of the test. The default configuration is the same. */
async function startDaemon(toml: string): Promise<TestDaemon> {
  const config = `${toml.replace(/^\[daemon\]\n/, '')}\n[[output]]\nmode = "640x480"`;
  const daemon = await TestDaemon.start({ config });
  rmSync('/etc/scanoutd/scanoutd.toml', { force: true });
  symlinkSync(join(daemon.directory, 'scanoutd.toml'), '/etc/scanoutd/scanoutd.toml');
  return daemon;
}

function shell(daemon: TestDaemon, script: string, path = directory): GuestProcess {
  const env = { PATH: `${path}:${process.env.PATH}`, SCANOUTD_BUS: join(daemon.directory, 'bus') };
  return new GuestProcess('the example', ['sh', '-e', '-c', script], env);
}

/** The output shows the guest's frame, in every pixel. */
async function shows(daemon: TestDaemon, guest: GuestProcess, output: string): Promise<void> {
  const wanted = pattern(SIZE.width, SIZE.height, 0);
  for (const deadline = performance.now() + SLOW_MS; ; await sleep(200)) {
    const picture = await daemon.screenshot(output);
    const { by, at } = worst(picture, wanted);
    if (by === 0) {
      assert.equal(picture.document.how, 'writeback');
      return;
    }
    assert.ok(guest.alive, 'the example ended');
    if (performance.now() > deadline) assert.fail(`${at}\n${JSON.stringify(await daemon.status(), null, 1)}`);
  }
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

async function isDirect({ daemon, guest }: Run, name: string): Promise<void> {
  const { planes, pid } = await daemon.guest(name);
  assert.equal(planes[0]?.state, 'direct', planes[0]?.reason);
  assert.equal(pid, guest.pid);
}

test('a virtual machine by vhost-user-gpu', async () => {
  await proves('virtio', { name: 'desk' }, (run) => isDirect(run, 'desk'));
});

test('one that scanoutctl starts', async () => {
  await proves('started', { name: 'desk' }, (run) => isDirect(run, 'desk'));
});

test('one with two monitors', async () => {
  await proves('virtio-monitors', { name: 'desk' });
  await proves('virtio-monitors', { name: 'desk.1', output: 1, words: `${WORDS} output=1` });
});

test('a VFIO device of a machine', async () => {
  const toml = block('vfio', 'toml');
  const id = /devices\/([0-9a-f-]{36})"/.exec(toml)?.[1] ?? '';
  const mdev = makeMdev('mbochs', { vmap: true, id });
  await proves('vfio', { name: 'vgpu', words: `${WORDS} device=bochs` }, (run) => isDirect(run, 'vgpu'));
  await mdev.remove();
});

test("QEMU's display by its monitor, with blobs", async () => {
  // Blobs want a newer QEMU than Debian's, as the text says.
  const path = join(directory, 'newer');
  mkdirSync(path);
  symlinkSync('/usr/local/bin/qemu-system-x86_64-backports', join(path, 'qemu-system-x86_64'));
  await proves('qemu', { name: 'tv', words: `${WORDS} mode=blob`, path }, async ({ daemon }) => {
    const [plane] = (await daemon.guest('tv')).planes;
    assert.equal(plane?.state, 'direct', plane?.reason);
  });
});

test('two consoles', async () => {
  await proves('qemu-consoles', { name: 'tv-left' });
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

/** Runs a domain of libvirt's as root of the machine does, without its daemon. */
async function provesDomain(example: string, name: string, more = () => {}): Promise<number> {
  const file = join(directory, `${example}.xml`);
  writeFileSync(file, EXAMPLES.get(example)?.find(({ language }) => language === 'xml')?.text ?? '');
  execFileSync('virt-xml-validate', [file, 'domain']);
  writeFileSync(file, block(example, 'xml'));
  const daemon = await startDaemon(block(example, 'toml'));
  let uid = -1;
  await daemon.during(async () => {
    const libvirt = new GuestProcess('libvirt', [
      'virt-qemu-run',
      '--verbose',
      '--root',
      join(directory, example),
      file,
    ]);
    let pid = 0;
    await libvirt.during(async () => {
      await shows(daemon, libvirt, card.connectors[0] ?? '');
      const guest = await daemon.guest(name);
      pid = guest.pid ?? 0;
      uid = guest.uid ?? -1;
      more();
    });
    if (pid !== 0) process.kill(pid);
    await daemon.until('no guest', ({ guests }) => guests.length === 0, SLOW_MS);
  });
  return uid;
}

function idOf(user: string): number {
  return Number(execFileSync('id', ['-u', user], { encoding: 'utf8' }));
}

test("libvirt's machine by vhost-user-gpu, as libvirt's user", async () => {
  assert.equal(await provesDomain('virtio-libvirt', 'desk'), idOf('libvirt-qemu'));
});

test("libvirt's machine by its display, with a monitor in a directory of its own", async () => {
  writeFileSync(join(directory, 'tv.conf'), block('qemu-libvirt', 'tmpfiles'));
  execFileSync('systemd-tmpfiles', ['--create', join(directory, 'tv.conf')]);
  await provesDomain('qemu-libvirt', 'tv', () => {
    // The daemon here is root; that of the unit may open the monitor as well, whatever QEMU's umask.
    const base = `${process.cwd()}/dist/src/native/base.js`;
    const probe = `const { probeSocket } = await import('${base}'); probeSocket('/run/tv/qmp');`;
    const user = (name: string) => ['setpriv', `--reuid=${name}`, `--regid=${name}`, '--clear-groups'];
    const as = (name: string) =>
      spawnSync('env', [...user(name), process.execPath, '--input-type=module', '-e', probe]);
    assert.equal(as('scanoutd').status, 0);
    assert.match(as('scanoutd-guest').stderr.toString(), /EACCES/);
  });
});

test('all examples were run', () => {
  assert.deepEqual([...seen].sort(), [...EXAMPLES.keys()].sort());
});
