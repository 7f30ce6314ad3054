/**
 * What is on lent outputs, noted before DRM master goes and brought back when it returns: the lessee is master of its
 * objects again then, but another master may have used them, and a lessee that only flips would flip in vain.
 */
import { isSystemError } from '../native/base.js';
import type { Property } from '../native/kms.js';
import type { Card } from './card.js';
import type { KernelBlob, PropertyValue } from './device.js';
import type { Lent, Output } from './output.js';

/** What a lessee may have set, and what others may have changed. */
const NAMES: ReadonlySet<string> = new Set([
  // CRTCs
  ...['ACTIVE', 'MODE_ID', 'GAMMA_LUT', 'DEGAMMA_LUT', 'CTM', 'VRR_ENABLED', 'BACKGROUND_COLOR'],
  // Connectors
  ...['CRTC_ID', 'HDR_OUTPUT_METADATA', 'max bpc', 'Colorspace', 'content type'],
  // Planes
  ...['FB_ID', 'SRC_X', 'SRC_Y', 'SRC_W', 'SRC_H', 'CRTC_X', 'CRTC_Y', 'CRTC_W', 'CRTC_H'],
  ...['rotation', 'alpha', 'pixel blend mode', 'zpos', 'COLOR_ENCODING', 'COLOR_RANGE', 'SCALING_FILTER'],
]);

interface Noted {
  object: number;
  property: number;
  name: string;
  value: bigint;
  /** What a blob held: its id may mean something else by then. */
  bytes: Uint8Array | null;
}

/** Of one lent output. */
export interface LentState {
  output: Output;
  noted: Noted[];
}

/** Reads what is on the card's lent outputs now. */
export function noteLent(card: Card): LentState[] {
  return [...card.outputs.values()].flatMap((output) => {
    const { lent } = output;
    if (lent === null) return [];
    try {
      return [{ output, noted: lentObjects(output, lent).flatMap((object) => note(card, object)) }];
    } catch (error) {
      if (!isSystemError(error)) throw error;
      card.log.warn({ output: output.name, err: error }, 'what is lent cannot be read');
      return [];
    }
  });
}

/** CRTC, connectors and planes; the writeback connector is the daemon's, and stays with the CRTC. */
function lentObjects(output: Output, { lit }: Lent): number[] {
  const writeback = lit.writeback === null ? [] : [lit.writeback.id];
  return [lit.crtc.id, output.connector.id, ...writeback, ...output.lentPlaneIds];
}

function note({ device }: Card, object: number): Noted[] {
  return device.native
    .properties(object)
    .filter(({ name, immutable }) => !immutable && NAMES.has(name))
    .map(({ id, name, type, value }: Property) => ({
      object,
      property: id,
      name,
      value,
      bytes: type === 'blob' && value !== 0n ? device.native.readBlob(Number(value)) : null,
    }));
}

/** What brings a noted state back. `blobs` are to be destroyed when it was committed. */
export interface Restoration {
  properties: PropertyValue[];
  blobs: KernelBlob[];
}

/** Null where nothing is to be done. Of `only` that object; without, of all. Throws a SystemError; no blob is left then. */
export function restoration(card: Card, { noted }: LentState, only?: number): Restoration | null {
  const wanted = only === undefined ? noted : noted.filter(({ object }) => object === only);
  const objects = new Set(wanted.map(({ object }) => object));
  const current = [...objects].flatMap((object) => note(card, object));
  const now = new Map(current.map((one) => [`${one.object}.${one.property}`, one]));
  if (wanted.every((one) => same(one, now.get(`${one.object}.${one.property}`)))) return null;
  const blobs: KernelBlob[] = [];
  try {
    const properties = wanted.map(({ object, property, value, bytes }): PropertyValue => {
      if (bytes === null) return [object, property, value];
      const blob = card.device.modeBlob(bytes);
      blobs.push(blob);
      return [object, property, blob.id];
    });
    return { properties, blobs };
  } catch (error) {
    for (const blob of blobs) blob.destroy();
    throw error;
  }
}

function same(noted: Noted, now: Noted | undefined): boolean {
  if (now === undefined) return false;
  if (noted.bytes === null || now.bytes === null)
    return noted.value === now.value && noted.bytes === now.bytes;
  return Buffer.compare(noted.bytes, now.bytes) === 0;
}

/** Whether a lessee that got its lease back before the daemon came to it has shown something of its own. */
export function wasFaster(card: Card, { output }: LentState, theirs: ReadonlySet<number>): boolean {
  const { lent } = output;
  if (lent === null) return false;
  const shown = framebuffers(lentObjects(output, lent).flatMap((object) => note(card, object)));
  return shown.length > 0 && shown.every((one) => theirs.has(one));
}

/**
 * Whether all that was shown was of its lessee's making (`theirs` are the framebuffers of lessees now), or what it got the output
 * with. The kernel gives the number of one that is gone to another, of whoever.
 */
export function isTheirs({ output, noted }: LentState, theirs: ReadonlySet<number>): boolean {
  const granted = output.lent?.lit.idle.framebuffer;
  return noted.length > 0 && framebuffers(noted).every((one) => one === granted || theirs.has(one));
}

export function isDark({ noted }: LentState): boolean {
  return framebuffers(noted).length === 0;
}

function framebuffers(noted: readonly Noted[]): number[] {
  return noted.flatMap(({ name, value }) => (name === 'FB_ID' && value !== 0n ? [Number(value)] : []));
}
