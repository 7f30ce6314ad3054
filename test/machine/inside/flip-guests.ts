/** Guests of a flip rig: their own side of the protocol, and the daemon's without its checks, as they are ours. */
import assert from 'node:assert/strict';
import type { GuestClient } from '../../../clients/node/index.js';
import { fencedBy } from '../../../src/guests/fences.js';
import {
  Capability,
  decodeFromGuest,
  encode,
  FLIP_PAGE_SIZE,
  type GuestMessage,
  type Hello,
  VERSION,
} from '../../../src/guests/protocol.js';
import type { Fd } from '../../../src/native/base.js';
import { SocketGuest, type SocketGuest as SocketGuestType } from '../../../src/native/guests.js';
import type { SeqPacket } from '../../../src/native/seqpacket.js';
import { Example, type ExampleStats } from './example.js';
import type { FlipRig, Place } from './flip-rig.js';
import { FOURCC, type FormatName, makeBuffer, type TestBuffer } from './guest.js';
import { present } from './kms-rig.js';
import type { ForeignBuffer } from './vgem.js';

/** An example guest in a process of its own, on as many kinds of planes as there are planes. */
export function startExample(
  on: FlipRig,
  name: string,
  place: Place,
  args: readonly string[] = ['--fifo'],
): Example {
  on.expect(name, place);
  const kinds = ['primary', 'overlay', 'cursor'].slice(0, place.planes.length);
  const planes = kinds.flatMap((kind) => ['--plane', kind]);
  // Small, so that drawing takes less than a refresh even where the processor is emulated.
  const common = ['--format', 'XR24', '--size', '64x64', '--check', '--seconds', '120'];
  return new Example(on.socket, name, [...planes, ...common, ...args]);
}

/** Ends it. It has seen no buffer that came back early or changed, and no frame of it was refused. */
export async function endExample(guest: Example): Promise<ExampleStats> {
  guest.child.kill('SIGTERM');
  const stats = await guest.stats();
  assert.equal(stats.violations, 0, JSON.stringify(stats));
  for (const plane of stats.planes) assert.equal(plane.refused, 0, JSON.stringify(plane));
  return stats;
}

/** A guest of this process, with the engine's half of it. */
export class RigGuest {
  readonly buffers = new Map<number, TestBuffer>();

  constructor(
    readonly client: GuestClient,
    readonly producer: SocketGuestType,
  ) {}

  async addBuffer(
    id: number,
    width: number,
    height: number,
    format: FormatName = 'XRGB8888',
  ): Promise<TestBuffer> {
    const { buffer, dmabuf } = makeBuffer(id, width, height, format);
    const { strides, offsets } = buffer;
    const layout = { width, height, fourcc: FOURCC[format], modifier: 0n, strides, offsets };
    await this.client.addBuffer(id, layout, [dmabuf]);
    dmabuf.close();
    this.buffers.set(id, buffer);
    return buffer;
  }

  /** Registers a buffer of another device, which stays its maker's. */
  async addForeign({ id, width, height, strides, offsets, dmabuf }: ForeignBuffer): Promise<void> {
    const layout = { width, height, fourcc: FOURCC.XRGB8888, modifier: 0n, strides, offsets };
    await this.client.addBuffer(id, layout, [dmabuf]);
  }

  /** Shows a buffer and waits for it; gives the frame's sequence. */
  async show(plane: number, frame: Parameters<GuestClient['submit']>[1]): Promise<bigint> {
    const { sequence } = this.client.submit(plane, frame);
    await this.client.presented(plane, sequence);
    return sequence;
  }

  close(): void {
    this.client.close();
    for (const buffer of this.buffers.values()) buffer.close();
    this.buffers.clear();
  }
}

/** The daemon's side of one connection. */
export class Session {
  private name = '';
  private guest: SocketGuestType | null = null;
  private readonly framebuffers = new Map<number, number>();
  private turn: Promise<void> = Promise.resolve();

  constructor(
    private readonly rig: FlipRig,
    private readonly connection: SeqPacket,
  ) {
    connection.onClose = () => void this.end();
    connection.onMessage = (data, fds) => {
      const message = decodeFromGuest(data, fds.length);
      void this.after(() => this.handle(message, fds));
    };
  }

  /** One after the other; what fails is told when the rig is closed. */
  private after(step: () => Promise<void>): Promise<void> {
    this.turn = this.turn.then(step).catch((error: unknown) => {
      this.rig.failures.push(error);
    });
    return this.turn;
  }

  /** Resolves when nothing of the guest is left. */
  end(): Promise<void> {
    this.connection.close();
    return this.after(() => this.leave());
  }

  private done(serial: number): void {
    if (!this.connection.closed) this.connection.send(encode({ type: 'done', serial }));
  }

  private async handle(message: GuestMessage, fds: Fd[]): Promise<void> {
    if (message.type === 'hello') return this.hello(message, fds);
    const guest = present(this.guest);
    if (message.type === 'addBuffer') {
      const { device } = this.rig.kms;
      const gems = fds.map((fd) => device.importDmabuf(fd));
      const framebuffer = device.addFramebuffer({
        width: message.width,
        height: message.height,
        format: message.fourcc,
        planes: Array.from({ length: message.planeCount }, (_, i) => ({
          buffer: present(gems[i] ?? gems[0]),
          pitch: present(message.strides[i]),
          offset: present(message.offsets[i]),
        })),
      });
      for (const gem of gems) gem.destroy();
      const fenced = fencedBy(fds, { warn: (...what: unknown[]) => this.rig.failures.push(what) });
      this.framebuffers.set(message.buffer, framebuffer);
      await guest.addBuffer(message.buffer, framebuffer, message.width, message.height, fenced);
      for (const fd of fds) fd.close();
    }
    if (message.type === 'removeBuffer') {
      await guest.retireBuffer(message.buffer);
      this.rig.kms.device.removeFramebuffer(present(this.framebuffers.get(message.buffer)));
      this.framebuffers.delete(message.buffer);
    }
    if (message.type === 'setPresent') await guest.setMode(message.plane, message.mode);
    if (message.type === 'bye') await this.leave();
    this.done(message.serial);
    if (message.type === 'bye') this.connection.close();
  }

  private async hello(hello: Hello, fds: Fd[]): Promise<void> {
    const { rig } = this;
    this.name = hello.name;
    const place = rig.place(hello.name);
    const [kick, release] = fds;
    const firstStream = rig.newStream();
    for (let i = 1; i < hello.planeCount; i++) rig.newStream();
    const fences = (hello.capabilities & Capability.fence) !== 0n;
    const guest = new SocketGuest(rig.engine, {
      planeCount: hello.planeCount,
      firstStream,
      kick: present(kick),
      release: present(release),
      fences,
    });
    this.guest = guest;
    rig.producers.set(hello.name, guest);
    const out = rig.outputs.find(({ crtc }) => crtc === place.crtc);
    const area = place.area ?? [0, 0, out?.width ?? 640, out?.height ?? 480];
    await guest.setArea(...area);
    for (let i = 0; i < hello.planeCount; i++) await rig.attach(guest, i, place.crtc, place.planes[i] ?? 0);
    const fence = guest.fenceFd();
    const page = guest.pageFd();
    const welcome = encode({
      type: 'welcome',
      serial: hello.serial,
      versionMajor: VERSION.major,
      versionMinor: VERSION.minor,
      capabilities: fence === null ? 0n : Capability.fence,
      pageSize: FLIP_PAGE_SIZE,
    });
    this.connection.send(welcome, fence === null ? [page] : [page, fence]);
    page.close();
    fence?.close();
    const [width, height] = [area[2] - area[0], area[3] - area[1]];
    const configure = { width, height, refreshMhz: 60_000, lit: 1, output: 'test' } as const;
    this.connection.send(encode({ type: 'configure', serial: 0, ...configure }));
  }

  /** The idle picture takes the primary plane back; then the guest's framebuffers can go. */
  private async leave(): Promise<void> {
    const { guest, rig } = this;
    this.guest = null;
    if (guest === null) return;
    rig.leaving++;
    const place = rig.place(this.name);
    const out = rig.outputs.find(({ plane }) => place.planes.includes(plane.id));
    if (out !== undefined) await rig.attach(out.idle, 0, out.crtc, out.plane.id);
    await guest.leave();
    for (const framebuffer of this.framebuffers.values()) rig.kms.device.removeFramebuffer(framebuffer);
    this.framebuffers.clear();
    rig.producers.delete(this.name);
  }
}
