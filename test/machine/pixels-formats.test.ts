/**
 * Every format that VKMS shows is read as VKMS reads it, so that a copied picture is the picture that would have been
 * scanned out. Runs in the test machine: `test/machine/run -- node --test dist/test/machine/pixels-formats.test.js`.
 */
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { after, before, test } from 'node:test';
import { decode } from 'fast-png';
import { createUdmabuf, mapDmabuf, waitFence } from '../../src/native/buffers.js';
import { ATOMIC_ALLOW_MODESET, AtomicRequest, type Plane } from '../../src/native/kms.js';
import { composePicture, type PixelFormat, pixelFormats, planeNeeds } from '../../src/native/pixels.js';
import {
  add,
  dumb,
  light,
  type Output,
  openRig,
  output,
  present,
  property,
  type Rig,
} from './inside/kms-rig.js';

const WIDTH = 96;
const HEIGHT = 64;
const [X, Y] = [32, 16];

let rig: Rig;
let out: Output;
let overlay: Plane;
let black: ReturnType<typeof dumb>;
let written: ReturnType<typeof dumb>;

before(() => {
  rig = openRig({ outputs: 1, overlays: 1, writeback: true });
  out = output(rig);
  overlay = present(rig.planes.find(({ type }) => type === 'overlay'));
  black = dumb(rig.device, out);
  written = dumb(rig.device, out);
  light(rig.device, out, black.framebuffer);
});
after(() => rig.close());

/** A buffer of noise, as a guest's. */
function noise(format: PixelFormat) {
  const strides: number[] = [];
  const offsets: number[] = [];
  let end = 0;
  for (let plane = 0; plane < format.planeCount; plane++) {
    // Rows and planes that begin where no alignment is.
    const stride = planeNeeds(format.fourcc, plane, WIDTH, HEIGHT, 0, 0).stride + 24;
    const { bytes } = planeNeeds(format.fourcc, plane, WIDTH, HEIGHT, stride, end);
    strides.push(stride);
    offsets.push(end);
    end = Math.ceil(bytes / 8) * 8;
  }
  const { memfd, dmabuf } = createUdmabuf(end);
  const mapping = mapDmabuf(dmabuf);
  randomFillSync(mapping.data);
  mapping.close();
  memfd.close();
  return { dmabuf, strides, offsets };
}

/** Shows a buffer on the overlay and gives red, green and blue of what was written back there. */
function scanout(format: PixelFormat, buffer: ReturnType<typeof noise>): Uint8Array {
  const { device } = rig;
  const imported = device.importDmabuf(buffer.dmabuf);
  const planes = buffer.strides.map((pitch, i) => ({
    buffer: imported,
    pitch,
    offset: buffer.offsets[i] ?? 0,
  }));
  const framebuffer = device.addFramebuffer({ width: WIDTH, height: HEIGHT, format: format.fourcc, planes });
  imported.destroy();
  const writeback = present(rig.writebacks[0]).id;
  const request = new AtomicRequest();
  add(device, request, overlay.id, {
    ...{
      FB_ID: framebuffer,
      CRTC_ID: out.crtc,
      SRC_X: 0,
      SRC_Y: 0,
      SRC_W: WIDTH * 65536,
      SRC_H: HEIGHT * 65536,
    },
    ...{ CRTC_X: X, CRTC_Y: Y, CRTC_W: WIDTH, CRTC_H: HEIGHT },
    // VKMS starts with the full range; what a display is expected to do is the limited one.
    ...{
      COLOR_ENCODING: enumValue('COLOR_ENCODING', /601/),
      COLOR_RANGE: enumValue('COLOR_RANGE', /limited/),
    },
  });
  add(device, request, writeback, { CRTC_ID: out.crtc, WRITEBACK_FB_ID: written.framebuffer });
  request.addOutFence(writeback, property(device, writeback, 'WRITEBACK_OUT_FENCE_PTR').id);
  const [done] = device.commit(request, ATOMIC_ALLOW_MODESET);
  assert.ok(waitFence(present(done).fence, 5000));
  present(done).fence.close();
  device.removeFramebuffer(framebuffer);
  const pixels = written.buffer.map();
  const rgb = new Uint8Array(WIDTH * HEIGHT * 3);
  for (let y = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++) {
      const from = (y + Y) * written.buffer.pitch + (x + X) * 4;
      for (let c = 0; c < 3; c++) rgb[(y * WIDTH + x) * 3 + c] = pixels[from + 2 - c] ?? 0;
    }
  }
  return rgb;
}

function enumValue(name: string, wanted: RegExp): bigint {
  const found = property(rig.device, overlay.id, name);
  assert.equal(found.type, 'enum');
  return present(found.choices.find((one) => wanted.test(one.name))).value;
}

async function composed(format: PixelFormat, buffer: ReturnType<typeof noise>): Promise<Uint8Array> {
  const { strides, offsets, dmabuf } = buffer;
  const layer = {
    ...{ width: WIDTH, height: HEIGHT, fourcc: format.fourcc, modifier: 0n, strides, offsets, fds: [dmabuf] },
    ...{ srcX: 0, srcY: 0, srcW: WIDTH * 65536, srcH: HEIGHT * 65536, x: 0, y: 0, w: WIDTH, h: HEIGHT },
  };
  const png = decode(await composePicture({ width: WIDTH, height: HEIGHT, layers: [layer], text: {} }));
  return Uint8Array.from(png.data);
}

test('every format is read as the display reads it', async (t) => {
  const shown = new Set(overlay.formats.map(({ format }) => format));
  const formats = pixelFormats().filter(({ fourcc, convertible }) => convertible && shown.has(fourcc));
  assert.ok(formats.length >= 25, `only ${formats.map(({ name }) => name)}`);
  for (const format of formats) {
    await t.test(format.name, async () => {
      const buffer = noise(format);
      const wanted = scanout(format, buffer);
      const got = await composed(format, buffer);
      buffer.dmabuf.close();
      let different = 0;
      for (let i = 0; i < wanted.length; i++) {
        const by = Math.abs((wanted[i] ?? 0) - (got[i] ?? 0));
        assert.ok(by <= 1, `byte ${i}: ${got[i]}, VKMS has ${wanted[i]}`);
        different += by;
      }
      // The kernel's arithmetic rounds a few YUV colours the other way; of RGB there is nothing to round.
      const isYuv = /^(NV|YUV|YVU|P0)/.test(format.name);
      assert.ok(different <= (isYuv ? wanted.length / 1000 : 0), `${different} of ${wanted.length} differ`);
    });
  }
});
