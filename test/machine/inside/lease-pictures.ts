/** What lessees show, of memory that is mapped no more then: that would keep a lease open after its descriptor. */
import type { DumbBuffer, KmsDevice, Mode } from '../../../src/native/kms.js';
import { dumb, light, type Output, output, present, XRGB8888 } from './kms-rig.js';
import { SIZE } from './lessee.js';
import type { Expected } from './pixels.js';

export const CURSOR = 64;

/** A lease's output. */
export function outputOf(device: KmsDevice): Output {
  const { crtcs, connectors, planes } = device.resources();
  return output({
    device,
    crtcs,
    connectors: connectors.map((id) => device.connector(id, { probe: true })),
    planes: planes.map((id) => device.plane(id)),
  });
}

/** The mode that it has then. */
export function modeOf({ connector }: Output): Mode {
  return present(
    connector.modes.find(({ hdisplay, vdisplay }) => hdisplay === SIZE.width && vdisplay === SIZE.height),
  );
}

/** A framebuffer of its size. */
export function pictureOf(device: KmsDevice, rgb: number): number {
  const { buffer, framebuffer } = dumb(device, outputOf(device));
  const bytes = buffer.map();
  new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4).fill(rgb);
  buffer.destroy();
  return framebuffer;
}

/** As a display server does that knows atomic commits. */
export function show({ device }: { device: KmsDevice }, rgb: number): void {
  light(device, outputOf(device), pictureOf(device, rgb));
}

/** The pointer of a display server: white, at the upper left. */
export function withPointer(picture: Expected): Expected {
  for (let y = 0; y < CURSOR; y++) picture.data.fill(0xff, y * SIZE.width * 3, (y * SIZE.width + CURSOR) * 3);
  return picture;
}

export function pointerOf(device: KmsDevice): { buffer: DumbBuffer; framebuffer: number } {
  const buffer = device.createDumb(CURSOR, CURSOR);
  buffer.map().fill(0xff);
  const planes = [{ buffer, pitch: buffer.pitch }];
  const framebuffer = device.addFramebuffer({ width: CURSOR, height: CURSOR, format: XRGB8888, planes });
  return { buffer, framebuffer };
}
