/** A daemon for guests of tests: one guest at a time, whose flips are the real flip thread's on a CRTC without output. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { BufferLayout } from '../../clients/node/index.js';
import {
  type DaemonMessage,
  decodeFromGuest,
  encode,
  type GuestMessage,
  VERSION,
} from '../../src/guests/protocol.js';
import { Fd } from '../../src/native/base.js';
import { FIRST_VIRTUAL_CRTC, FlipEngine } from '../../src/native/flip.js';
import { SocketGuest } from '../../src/native/guests.js';
import { type SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';

export const PERIOD_NS = 4_000_000;
export const LAYOUT: BufferLayout = {
  width: 64,
  height: 48,
  fourcc: 0x34325258,
  modifier: 0n,
  strides: [256],
  offsets: [0],
};

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'scanoutd-client-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

/** A flip thread without a card: it waits on a pipe in place of one. */
export function engineWithoutCard(directory: string): FlipEngine {
  const pipe = join(directory, 'card');
  execFileSync('mkfifo', [pipe]);
  const fd = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
  const engine = new FlipEngine(new Fd(fd), { realtimePriority: 0, onNotice: () => {} });
  return engine;
}

/** Answers as the daemon does, one guest at a time. */
export class SmallDaemon {
  readonly requests: GuestMessage[] = [];
  /** Requests of this type are refused. */
  refuse: { request: GuestMessage['type']; code: number; text: string; fatal: number } | null = null;
  /** Answers TAKE_INPUT by what it sends; takes the descriptors over. */
  takeInput: ((serial: number, fds: Fd[]) => void) | null = null;
  #connection: SeqPacket | null = null;
  #guest: SocketGuest | null = null;
  #streams = 1;
  readonly #leaving: Promise<void>[] = [];
  readonly #server: SeqPacketServer;

  constructor(
    path: string,
    private readonly engine: FlipEngine,
  ) {
    this.#server = SeqPacketServer.listen(path, {
      onConnection: (connection) => {
        this.#connection = connection;
        connection.onClose = () => this.hangUp();
        connection.onMessage = (data, fds) => void this.#serve(decodeFromGuest(data, fds.length), fds);
      },
    });
  }

  send(message: DaemonMessage, fds: Fd[] = []): void {
    this.#connection?.send(encode(message), fds);
  }

  /** Dies, as far as the guest can tell. */
  hangUp(): void {
    this.#connection?.close();
    this.#connection = null;
    if (this.#guest !== null) this.#leaving.push(this.#guest.leave());
    this.#guest = null;
  }

  async close(): Promise<void> {
    this.hangUp();
    this.#server.close();
    await Promise.all(this.#leaving);
  }

  async #serve(message: GuestMessage, fds: Fd[]): Promise<void> {
    this.requests.push(message);
    const { type, serial } = message;
    if (this.refuse?.request === type) {
      const { code, text, fatal } = this.refuse;
      for (const fd of fds) fd.close();
      this.send({ type: 'error', serial, errnum: 0, code, text, fatal });
      return;
    }
    if (message.type === 'hello') {
      await this.#welcome(message.planeCount, serial, fds);
      return;
    }
    if (message.type === 'takeInput' && this.takeInput !== null) {
      this.takeInput(serial, fds);
      return;
    }
    if (message.type === 'addBuffer')
      await this.#guest?.addBuffer(message.buffer, 1, message.width, message.height);
    if (message.type === 'removeBuffer') await this.#guest?.retireBuffer(message.buffer);
    if (message.type === 'renewBuffer') await this.#guest?.renewBuffer(message.buffer, 2);
    if (message.type === 'setPresent') await this.#guest?.setMode(message.plane, message.mode);
    for (const fd of fds) fd.close();
    this.send({ type: 'done', serial });
    if (type === 'bye') this.hangUp();
  }

  async #welcome(planeCount: number, serial: number, [kick, release]: Fd[]): Promise<void> {
    assert.ok(kick && release);
    const firstStream = this.#streams;
    this.#streams += planeCount;
    const guest = new SocketGuest(this.engine, { planeCount, firstStream, kick, release, fences: false });
    this.#guest = guest;
    await guest.setArea(0, 0, 64, 48);
    for (let i = 0; i < planeCount; i++) await this.engine.attach(guest, i, FIRST_VIRTUAL_CRTC, i + 1);
    const page = guest.pageFd();
    const version = { versionMajor: VERSION.major, versionMinor: VERSION.minor };
    this.send({ type: 'welcome', serial, ...version, capabilities: 0n, pageSize: 4096 }, [page]);
    page.close();
    this.send({
      type: 'configure',
      serial: 0,
      width: 64,
      height: 48,
      refreshMhz: 250_000,
      lit: 1,
      output: 'HDMI-A-1',
    });
    this.send({ type: 'formats', serial: 0, plane: 0, formats: [{ fourcc: LAYOUT.fourcc, modifier: 0n }] });
    this.send({ type: 'state', serial: 0, plane: 0, state: 2, errnum: 22, text: 'TEST_ONLY refused it' });
  }
}
