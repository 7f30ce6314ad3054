/** Waits for a picture on the screen. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestDaemon } from './daemon.js';
import { type Expected, worst } from './pixels.js';

const PATIENCE_MS = 10_000;

/** For what comes to the screen without anybody's saying when; compared in every pixel. `place`: where on the output, or all of it. */
export async function assertSeen(
  daemon: TestDaemon,
  output: string,
  expected: Expected,
  what: string,
  place: { x: number; y: number } | null = null,
): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const picture = await daemon.screenshot(output);
    const { by, at } = worst(place === null ? picture : part(picture, place, expected), expected);
    if (by === 0) return;
    if (performance.now() > deadline) assert.fail(`${what}: off by ${by} at ${at}`);
    await sleep(50);
  }
}

function part(picture: Expected, { x, y }: { x: number; y: number }, { width, height }: Expected): Expected {
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const at = ((y + row) * picture.width + x) * 3;
    data.set(picture.data.subarray(at, at + width * 3), row * width * 3);
  }
  return { width, height, data };
}
