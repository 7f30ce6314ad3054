/** C structures by their tables of fields: natural alignment, no unnamed padding, the host's endianness. */
import { endianness } from 'node:os';

const LITTLE = endianness() === 'LE';
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Bytes that the structure does not allow: a reserved field that is not 0, a text without an end. */
export class LayoutError extends Error {}

/** One field: its place in memory, and its value in TypeScript. `name` is for messages. */
export interface Field<T> {
  readonly size: number;
  readonly align: number;
  /** Throws a LayoutError. */
  read(view: DataView, offset: number, name: string): T;
  /** Throws a RangeError when the value does not fit. */
  write(view: DataView, offset: number, value: T, name: string): void;
}

export type Fields = Readonly<Record<string, Field<unknown>>>;

/** What a structure holds: every field but the reserved ones. */
export type Value<F extends Fields> = {
  [K in keyof F as F[K] extends Field<undefined> ? never : K]: F[K] extends Field<infer T> ? T : never;
};

export const u32: Field<number> = {
  size: 4,
  align: 4,
  read: (view, offset) => view.getUint32(offset, LITTLE),
  write: (view, offset, value, name) => {
    if (!Number.isInteger(value) || value < 0 || value > 0xffffffff)
      throw new RangeError(`${name}: integer from 0 to 4294967295 expected, got ${value}`);
    view.setUint32(offset, value, LITTLE);
  },
};

export const u64: Field<bigint> = {
  size: 8,
  align: 8,
  read: (view, offset) => view.getBigUint64(offset, LITTLE),
  write: (view, offset, value, name) => {
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn)
      throw new RangeError(`${name}: unsigned 64-bit integer expected, got ${value}`);
    view.setBigUint64(offset, value, LITTLE);
  },
};

/** 32 bits that have no meaning yet. */
export const reserved: Field<undefined> = {
  size: 4,
  align: 4,
  read: (view, offset, name) => {
    if (u32.read(view, offset, name) !== 0) throw new LayoutError(`${name} is not 0`);
    return undefined;
  },
  write: (view, offset) => view.setUint32(offset, 0, LITTLE),
};

export function array<T>(element: Field<T>, length: number): Field<T[]> {
  return {
    size: element.size * length,
    align: element.align,
    read: (view, offset, name) =>
      Array.from({ length }, (_, i) => element.read(view, offset + i * element.size, `${name}[${i}]`)),
    write: (view, offset, value, name) => {
      if (value.length !== length)
        throw new RangeError(`${name}: ${length} elements expected, got ${value.length}`);
      for (const [i, item] of value.entries())
        element.write(view, offset + i * element.size, item, `${name}[${i}]`);
    },
  };
}

/**
 * A NUL-terminated UTF-8 string. What is too long is cut between characters, for it is meant to be read; what is not
 * UTF-8 becomes U+FFFD.
 */
export function text(size: number): Field<string> {
  return {
    size,
    align: 1,
    read: (view, offset, name) => {
      const bytes = new Uint8Array(view.buffer, view.byteOffset + offset, size);
      const end = bytes.indexOf(0);
      if (end < 0) throw new LayoutError(`${name} has no NUL`);
      return decoder.decode(bytes.subarray(0, end));
    },
    write: (view, offset, value) => {
      const bytes = new Uint8Array(view.buffer, view.byteOffset + offset, size).fill(0);
      encoder.encodeInto(value.replaceAll('\0', ' '), bytes.subarray(0, size - 1));
    },
  };
}

/** A structure whose first field is `start` bytes from where a view begins. */
export class Layout<F extends Fields> {
  readonly offsets: Readonly<Record<keyof F, number>>;
  /** End of the structure, `start` included. */
  readonly size: number;

  constructor(
    readonly fields: F,
    start = 0,
  ) {
    const offsets: Record<string, number> = {};
    let end = start;
    let align = 1;
    for (const [name, field] of Object.entries(fields)) {
      end = Math.ceil(end / field.align) * field.align;
      offsets[name] = end;
      end += field.size;
      align = Math.max(align, field.align);
    }
    this.offsets = offsets as Record<keyof F, number>;
    this.size = Math.ceil(end / align) * align;
  }

  /** Throws a LayoutError. `view` holds at least `size` bytes. */
  read(view: DataView): Value<F> {
    const value: Record<string, unknown> = {};
    for (const [name, field] of Object.entries(this.fields)) {
      const read = field.read(view, this.offsets[name] ?? 0, name);
      if (read !== undefined) value[name] = read;
    }
    return value as Value<F>;
  }

  /** Throws a RangeError. */
  write(view: DataView, value: Value<F>): void {
    const values: Record<string, unknown> = value;
    for (const [name, field] of Object.entries(this.fields))
      field.write(view, this.offsets[name] ?? 0, values[name], name);
  }
}
