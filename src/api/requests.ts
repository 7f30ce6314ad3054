/** Requests of the API that come as JSON, checked as strictly as the configuration. */
import * as z from 'zod';
import type { AssignRequest, EndLeaseRequest, TakeLeaseRequest, TransferLeaseRequest } from './documents.js';
import { ApiError } from './errors.js';

const size = z.int().min(1).max(16384);
const position = z.int().min(0).max(16383);

const assignRequest = z.strictObject({
  output: z.string().min(1).max(128).optional(),
  area: z.strictObject({ x: position, y: position, width: size, height: size }).optional(),
  plane: z
    .union([z.enum(['auto', 'primary', 'overlay', 'cursor']), z.int().min(1).max(0xffffffff)])
    .optional(),
});

const reason = z.string().max(256).optional();
/** A day: nobody waits longer for an answer. */
const timeoutMs = z.int().min(0).max(86_400_000).optional();
const noticeMs = z.int().min(0).max(20_000).optional();
const takeLease = z.strictObject({
  wait: z.boolean().optional(),
  timeoutMs,
  transfer: z.boolean().optional(),
  reason,
});
const endLease = z.strictObject({ reason, noticeMs });
const transferLease = z.strictObject({ reason, noticeMs, to: z.int().min(1).max(0x7fffffff).optional() });

/** Without the members that are not there. */
type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };

function parse<T extends object>(json: string, schema: z.ZodType<T>, what: string): Given<T> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new ApiError('InvalidArgument', `${what} is no JSON: ${(error as Error).message}`);
  }
  const result = schema.safeParse(value);
  if (!result.success) throw new ApiError('InvalidArgument', z.prettifyError(result.error));
  return Object.fromEntries(Object.entries(result.data).filter(([, one]) => one !== undefined)) as Given<T>;
}

/** Each throws an ApiError that says what is wrong. */
export const parseAssignRequest = (json: string): AssignRequest =>
  parse(json, assignRequest, 'the assignment');
export const parseTakeLease = (json: string): TakeLeaseRequest => parse(json, takeLease, 'the request');
export const parseEndLease = (json: string): EndLeaseRequest => parse(json, endLease, 'the request');
export const parseTransferLease = (json: string): TransferLeaseRequest =>
  parse(json, transferLease, 'the request');
