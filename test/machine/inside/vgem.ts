/** Buffers of another device, with fences that signal when the test says so; see ../vgem/vgem.c. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Fd } from '../../../src/native/base.js';
import { mapDmabuf } from '../../../src/native/buffers.js';
import { type SeqPacket, SeqPacketServer } from '../../../src/native/seqpacket.js';
import type { TestBuffer } from './guest.js';

const PROGRAM = 'build-machine/vgem';
const WORD = { make: 1, fence: 2, signal: 3, heap: 4 } as const;

/** A buffer of XRGB8888. */
export interface ForeignBuffer extends TestBuffer {
  dmabuf: Fd;
  /** Of vgem; 0 for one of the heap. */
  handle: number;
}

export class Vgem {
  private waiting: ((answer: { word: number; argument: number; fds: Fd[] }) => void) | null = null;
  private readonly buffers: ForeignBuffer[] = [];

  private constructor(
    private readonly child: ChildProcess,
    private readonly socket: SeqPacket,
  ) {
    socket.onMessage = (data, fds) => {
      const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
      this.waiting?.({ word: view.getInt32(0, true), argument: view.getInt32(4, true), fds });
    };
  }

  static async start(): Promise<Vgem> {
    execFileSync('modprobe', ['vgem']);
    execFileSync('udevadm', ['settle']);
    const directory = mkdtempSync(join(tmpdir(), 'vgem-'));
    const path = join(directory, 'socket');
    let child: ChildProcess | undefined;
    const socket = await new Promise<SeqPacket>((resolve, reject) => {
      const server = SeqPacketServer.listen(path, {
        onConnection: (connection) => {
          server.close();
          resolve(connection);
        },
      });
      child = spawn('setpriv', ['--pdeathsig', 'KILL', PROGRAM, path], { stdio: 'inherit' });
      child.once('exit', (code) => reject(new Error(`vgem ended with ${code}`)));
    });
    rmSync(directory, { recursive: true, force: true });
    assert.ok(child !== undefined);
    return new Vgem(child, socket);
  }

  private async ask(word: number, argument: number): Promise<{ argument: number; fds: Fd[] }> {
    const answered = new Promise<{ word: number; argument: number; fds: Fd[] }>((resolve) => {
      this.waiting = resolve;
    });
    const data = new DataView(new ArrayBuffer(8));
    data.setInt32(0, word, true);
    data.setInt32(4, argument, true);
    this.socket.send(new Uint8Array(data.buffer));
    const answer = await answered;
    assert.equal(answer.word, 0, `vgem: request ${word} was refused with errno ${-answer.word}`);
    return answer;
  }

  /** A buffer of the device, or of the system's heap; mapped, and closed with the rest. */
  async make(
    id: number,
    width: number,
    height: number,
    of: 'make' | 'heap' = 'make',
  ): Promise<ForeignBuffer> {
    const stride = width * 4;
    const { argument: handle, fds } = await this.ask(WORD[of], stride * height);
    const [dmabuf] = fds;
    assert.ok(dmabuf !== undefined);
    const mapping = mapDmabuf(dmabuf);
    const close = () => {
      mapping.close();
      if (!dmabuf.closed) dmabuf.close();
    };
    const shape = { id, width, height, strides: [stride], offsets: [0] };
    const buffer = { ...shape, memory: mapping.data, dmabuf, handle, close };
    this.buffers.push(buffer);
    return buffer;
  }

  /** The device begins to draw into the buffer: gives the fence. vgem itself signals it after 10 s. */
  async fence({ handle }: ForeignBuffer): Promise<number> {
    return (await this.ask(WORD.fence, handle)).argument;
  }

  /** It has drawn. */
  async signal(fence: number): Promise<void> {
    await this.ask(WORD.signal, fence);
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.socket.close();
    await ended;
    for (const buffer of this.buffers) buffer.close();
  }
}
