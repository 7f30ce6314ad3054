/** Requests of the API that come as JSON, checked as strictly as the configuration. */
import * as z from 'zod';
import type { AssignRequest } from './documents.js';
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

/** Throws an ApiError that says what is wrong. */
export function parseAssignRequest(json: string): AssignRequest {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new ApiError('InvalidArgument', `the assignment is no JSON: ${(error as Error).message}`);
  }
  const result = assignRequest.safeParse(value);
  if (!result.success) throw new ApiError('InvalidArgument', z.prettifyError(result.error));
  const { output, area, plane } = result.data;
  return {
    ...(output === undefined ? {} : { output }),
    ...(area === undefined ? {} : { area }),
    ...(plane === undefined ? {} : { plane }),
  };
}
