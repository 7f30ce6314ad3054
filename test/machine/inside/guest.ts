/** A guest under test's control: buffers it draws into itself, frames it submits one by one. */
import { GuestClient, type GuestClientOptions } from '../../../clients/node/index.js';
import type { Fd } from '../../../src/native/base.js';
import { createUdmabuf, type DmabufMapping, mapDmabuf } from '../../../src/native/buffers.js';

export const FOURCC = {
  XRGB8888: 0x34325258,
  ARGB8888: 0x34325241,
  RGB565: 0x36314752,
  NV12: 0x3231564e,
} as const;
export type FormatName = keyof typeof FOURCC;

/** Memory planes: bytes a sample, and how many pixels across and down share one. */
const PLANES: Record<FormatName, readonly { bytes: number; sub: number }[]> = {
  XRGB8888: [{ bytes: 4, sub: 1 }],
  ARGB8888: [{ bytes: 4, sub: 1 }],
  RGB565: [{ bytes: 2, sub: 1 }],
  NV12: [
    { bytes: 1, sub: 1 },
    { bytes: 2, sub: 2 },
  ],
};

export interface TestBuffer {
  id: number;
  width: number;
  height: number;
  strides: number[];
  offsets: number[];
  memory: Uint8Array;
  close(): void;
}

export class TestGuest {
  readonly client: GuestClient;
  readonly buffers = new Map<number, TestBuffer>();
  readonly areas: { width: number; height: number; lit: boolean; output: string }[] = [];
  readonly states = new Map<number, { state: number; errnum: number; text: string }>();

  constructor(options: GuestClientOptions) {
    this.client = new GuestClient(options);
    this.client.on('configure', (area) => this.areas.push(area));
    this.client.on('state', (plane, state) => this.states.set(plane, state));
    this.client.on('error', () => {});
  }

  get area(): { width: number; height: number; lit: boolean; output: string } | undefined {
    return this.areas.at(-1);
  }

  /** A udmabuf of the format, registered under `id`. */
  async addBuffer(id: number, width: number, height: number, format: FormatName): Promise<TestBuffer> {
    const made = makeBuffer(id, width, height, format);
    const layout = {
      width,
      height,
      fourcc: FOURCC[format],
      modifier: 0n,
      strides: made.buffer.strides,
      offsets: made.buffer.offsets,
    };
    await this.client.addBuffer(id, layout, [made.dmabuf]);
    made.dmabuf.close();
    this.buffers.set(id, made.buffer);
    return made.buffer;
  }

  close(): void {
    this.client.close();
    for (const buffer of this.buffers.values()) buffer.close();
  }
}

export function makeBuffer(
  id: number,
  width: number,
  height: number,
  format: FormatName,
): { buffer: TestBuffer; dmabuf: Fd } {
  const strides: number[] = [];
  const offsets: number[] = [];
  let size = 0;
  for (const { bytes, sub } of PLANES[format]) {
    const stride = (Math.ceil(width / sub) * bytes + 63) & ~63;
    offsets.push(size);
    strides.push(stride);
    size += stride * Math.ceil(height / sub);
  }
  const { memfd, dmabuf } = createUdmabuf(size, 'test');
  const mapping: DmabufMapping = mapDmabuf(dmabuf);
  memfd.close();
  const buffer = { id, width, height, strides, offsets, memory: mapping.data, close: () => mapping.close() };
  return { buffer, dmabuf };
}
