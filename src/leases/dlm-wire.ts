/** What a client of drm-lease-manager says: an enumeration of C, in the machine's byte order. */
import { endianness } from 'node:os';

export const GET_LEASE = 0;
export const RELEASE_LEASE = 1;
export const REQUEST_BYTES = 4;
const LITTLE_ENDIAN = endianness() === 'LE';

/** Null: a message of another length, which is no request. */
export function requestOf(data: Uint8Array): number | null {
  if (data.length !== REQUEST_BYTES) return null;
  return new DataView(data.buffer, data.byteOffset).getInt32(0, LITTLE_ENDIAN);
}

export function requestBytes(request: typeof GET_LEASE | typeof RELEASE_LEASE): Uint8Array {
  const data = new Uint8Array(REQUEST_BYTES);
  new DataView(data.buffer).setInt32(0, request, LITTLE_ENDIAN);
  return data;
}
