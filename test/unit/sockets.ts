/** What tests of sockets share. */
import { mkdtempSync, openSync, readdirSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Fd } from '../../src/native/base.js';

const directory = mkdtempSync(join(tmpdir(), 'scanoutd-sockets-'));
after(() => rmSync(directory, { recursive: true, force: true }));
let sockets = 0;

/** A path where nothing is, in a directory that goes when the tests are done. */
export function socketPath(): string {
  sockets += 1;
  return join(directory, `s${sockets}`);
}

/** Open descriptors of this process. */
export function countFds(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Waits until `condition` holds; fails by `what` after 30 s, since machines can be busy. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + 30_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await setTimeout(2);
  }
}

/** Descriptors that were closed asynchronously, by libuv or by the other end, take their time. */
export async function untilFds(count: number): Promise<void> {
  await until(`${count} descriptors, not ${countFds()}`, () => countFds() === count);
}

/** A file with a text, opened for reading. */
export function fileFd(text: string): Fd {
  const path = socketPath();
  writeFileSync(path, text);
  return new Fd(openSync(path, 'r'));
}

/** What a file says, by any descriptor of it. */
export function contents(fd: Fd): string {
  const buffer = Buffer.alloc(100);
  return buffer.toString('utf8', 0, readSync(fd.number, buffer, 0, 100, 0));
}
