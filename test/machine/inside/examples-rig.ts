/** What the tests of docs/guests.md share: the examples as they run here, and a daemon with their configuration. */
import assert from 'node:assert/strict';
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestDaemon } from './daemon.js';
import { adapt, readExamples } from './examples.js';
import type { GuestProcess } from './guest-process.js';
import { pattern } from './pattern.js';
import { worst } from './pixels.js';

export const EXAMPLES = readExamples();
/** Firmware, guest, daemon and libvirt, all emulated. */
export const SLOW_MS = 150_000;
const SIZE = { width: 640, height: 480 };
/** One frame, which stays. */
export const WORDS = 'frames=1 size=640x480';

/** The one block of an example in a language, as it runs here. */
export function block(
  example: string,
  language: string,
  outputs: readonly string[],
  words: string = WORDS,
): string {
  const found = (EXAMPLES.get(example) ?? []).filter((one) => one.file === null && one.language === language);
  assert.equal(found.length, 1, `${language} of ${example}`);
  return adapt(found[0]?.text ?? '', outputs, words);
}

/** The daemon of the TOML, whose [daemon] continues that of the test. The default configuration is the same. */
export async function startDaemon(toml: string): Promise<TestDaemon> {
  const config = `${toml.replace(/^\[daemon\]\n/, '')}\n[[output]]\nmode = "640x480"`;
  const daemon = await TestDaemon.start({ config });
  rmSync('/etc/scanoutd/scanoutd.toml', { force: true });
  symlinkSync(join(daemon.directory, 'scanoutd.toml'), '/etc/scanoutd/scanoutd.toml');
  return daemon;
}

/** The output shows the guest's frame, in every pixel. */
export async function shows(daemon: TestDaemon, guest: GuestProcess, output: string): Promise<void> {
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
