/** Waits for a picture on the screen. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestDaemon } from './daemon.js';
import { type Expected, worst } from './pixels.js';

const PATIENCE_MS = 10_000;

/** For what comes to the screen without anybody's saying when; compared in every pixel. */
export async function assertSeen(
  daemon: TestDaemon,
  output: string,
  expected: Expected,
  what: string,
): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const { by, at } = worst(await daemon.screenshot(output), expected);
    if (by === 0) return;
    if (performance.now() > deadline) assert.fail(`${what}: off by ${by} at ${at}`);
    await sleep(50);
  }
}
