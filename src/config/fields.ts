/** What the tables of the configuration are put together from: kinds of values, each with the sentence that an error says. */
import * as z from 'zod';

/** Bytes of a socket path: sun_path has 108, the last is NUL. */
export const MAX_SOCKET_PATH = 107;
/** Pixels, as in the guest protocol (SCANOUTD_MAX_SIZE). */
export const MAX_SIZE = 16384;
/** Connector names as the kernel makes them: type, dash, number. */
export const CONNECTOR_NAME = /^[A-Za-z][A-Za-z0-9-]*-[0-9]+$/;
const allowedTexts = z.registry<{ allowed: string }>();

/** What an error says is allowed at a schema; undefined where the schema itself says nothing. */
export function allowedText(schema: z.core.$ZodType): string | undefined {
  return allowedTexts.get(schema)?.allowed;
}

/** A schema with what an error says is allowed, and what the documents say of it. */
export function key<S extends z.ZodType>(schema: S, allowed: string, description: string): S {
  const described = schema.meta({ description });
  allowedTexts.add(described, { allowed });
  return described;
}

export const absolutePath = z.string().regex(/^\/[^\0]*$/);
export const socketPath = absolutePath.refine((path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH);
export const SOCKET_PATH = `an absolute path of at most ${MAX_SOCKET_PATH} bytes`;
export const text = z.string().regex(/^[^\p{Cc}]{1,128}$/u);
export const TEXT = 'a text of 1 to 128 characters';
export const flag = z.boolean();
export const FLAG = 'true or false';
export const account = key(
  z.union([z.string().regex(/^[A-Za-z_][A-Za-z0-9_.-]*\$?$/), z.int().min(0).max(0xfffffffe)]),
  'the name or the number of an account',
  'A user or a group.',
);
export const accounts = z.union([account, z.array(account).min(1)]);
