/** What an output scans out, as a PNG: read back from the hardware, or put together from the planes' framebuffers. */
import type { ScreenshotDocument } from '../api/documents.js';
import { isSystemError } from '../native/base.js';
import type { ShownFrame } from '../native/flip.js';
import { composePicture, encodePng } from '../native/pixels.js';
import type { Card } from './card.js';
import type { DumbPicture } from './device.js';
import type { Lit, Output } from './output.js';

const XRGB8888 = 0x34325258;

/** Names the guest and its plane for a stream; null for the daemon's own pictures. */
export type NameOfStream = (stream: number, card: Card) => { guest: string; plane: number } | null;

/** Throws a SystemError, or an Error for an output that is dark. */
export async function takeScreenshot(
  output: Output,
  nameOf: NameOfStream,
): Promise<{ png: Uint8Array; document: ScreenshotDocument }> {
  const lit = output.lit ?? output.lent?.lit ?? null;
  if (lit === null) throw new Error(`output ${output.name} is dark: ${output.reason}`);
  const { width, height } = lit.mode;
  const text = { Software: 'scanoutd', Source: output.name };
  if (lit.writeback !== null) {
    const target = output.card.device.createDumb(width, height, XRGB8888);
    try {
      const frames = await capture(output.card, lit, target);
      const png = await encodePng({ width, height, stride: target.stride, data: target.pixels, text });
      return { png, document: describe(output, width, height, 'writeback', frames, nameOf) };
    } catch (error) {
      if (!isSystemError(error)) throw error;
      if (output.lent !== null) throw new Error(`${leased(output)} cannot be read back: ${error.message}`);
      output.card.log.warn({ output: output.name, err: error }, 'writeback failed: composing instead');
    } finally {
      target.destroy();
    }
  }
  if (output.lent !== null) throw new Error(`${leased(output)} its card writes nothing back`);
  const { layers, frames, owned } = await output.pictureLayers();
  try {
    const png = await composePicture({ width, height, layers, text });
    return { png, document: describe(output, width, height, 'composed', frames, nameOf) };
  } finally {
    for (const fd of owned) fd.close();
  }
}

/** What its planes show is known to its lessee alone. */
const leased = ({ name, reason }: Output) => `output ${name} is ${reason}, and`;

/** One capture at a time a card: another one waits for its turn. */
const turns = new WeakMap<Card, Promise<unknown>>();

function capture(card: Card, lit: Lit, target: DumbPicture): Promise<ShownFrame[]> {
  const { writeback } = lit;
  const framebuffer = writeback?.properties.get('WRITEBACK_FB_ID');
  const fence = writeback?.properties.get('WRITEBACK_OUT_FENCE_PTR');
  if (writeback === null || framebuffer === undefined || fence === undefined) {
    throw new Error('the writeback connector lacks its properties');
  }
  const properties = {
    connector: writeback.id,
    WRITEBACK_FB_ID: framebuffer,
    WRITEBACK_OUT_FENCE_PTR: fence,
  };
  const start = () => card.engine.capture(lit.crtc.id, target.framebuffer, properties);
  const turn = (turns.get(card) ?? Promise.resolve()).then(start, start);
  turns.set(card, turn);
  return turn;
}

function describe(
  output: Output,
  width: number,
  height: number,
  how: ScreenshotDocument['how'],
  frames: readonly Pick<ShownFrame, 'stream' | 'sequence'>[],
  nameOf: NameOfStream,
): ScreenshotDocument {
  return {
    output: output.name,
    width,
    height,
    how,
    frames: frames.flatMap(({ stream, sequence }) => {
      const name = nameOf(stream, output.card);
      return name === null ? [] : [{ ...name, sequence: sequence.toString() }];
    }),
  };
}
