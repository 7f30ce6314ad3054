/** A program that knows nothing of scanoutd: lights what a lease has, in one colour, and waits for its end. */
import { pathToFileURL } from 'node:url';
import { Fd } from '../../../src/native/base.js';
import { AtomicRequest, KmsDevice } from '../../../src/native/kms.js';
import { add, dumb, light, type Output, output, WRITEBACK } from './kms-rig.js';
import type { Expected } from './pixels.js';

export const SIZE = { width: 640, height: 480 };

/** A lease in its smallest mode; the descriptor is taken over. */
export class Lessee {
  readonly device: KmsDevice;
  private readonly out: Output;

  constructor(fd: Fd) {
    this.device = KmsDevice.adopt(fd);
    const { crtcs, connectors: ids, planes } = this.device.resources();
    const connectors = ids.map((id) => this.device.connector(id, { probe: true }));
    this.out = output({
      device: this.device,
      crtcs,
      connectors: connectors.filter(({ type }) => type !== WRITEBACK),
      planes: planes.map((id) => this.device.plane(id)),
    });
  }

  /** Throws a SystemError. */
  show(rgb: number): void {
    light(this.device, this.out, this.draw(rgb));
  }

  /** Shows another picture without setting the mode, as a program that only flips. Throws a SystemError. */
  flip(rgb: number): void {
    const request = new AtomicRequest();
    add(this.device, request, this.out.plane.id, { FB_ID: this.draw(rgb) });
    this.device.commit(request, 0);
  }

  private draw(rgb: number): number {
    const { buffer, framebuffer } = dumb(this.device, this.out);
    const bytes = buffer.map();
    new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4).fill(rgb);
    return framebuffer;
  }
}

/** What it looks like. */
export function plainPicture(rgb: number): Expected {
  const { width, height } = SIZE;
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i += 3) data.set([rgb >> 16, rgb >> 8, rgb], i);
  return { width, height, data };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , fd = '', rgb = ''] = process.argv;
  new Lessee(new Fd(Number(fd))).show(Number.parseInt(rgb, 16));
  console.log(`@drawn rgb=${rgb} lease=${process.env.SCANOUTD_LEASE} fd=${process.env.SCANOUTD_LEASE_FD}`);
  setInterval(() => {}, 60_000);
}
