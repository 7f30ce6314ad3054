/**
 * Who made a monitor, from its EDID (VESA E-EDID 1.4): names that survive a reboot and another socket.
 *
 * libdisplay-info would be the library for this; Debian 12, on which the daemon must build, does not have it.
 */

export interface EdidIdentity {
  /** Three-letter PNP id of the maker, e.g. "DEL". */
  make: string;
  /** The monitor's name, or its product code as four hexadecimal digits. */
  model: string;
  /** The serial number as text, or as a number; null where there is none. */
  serial: string | null;
}

const HEADER = [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
const BLOCK = 128;
const DESCRIPTORS = [54, 72, 90, 108];
const TAG_SERIAL = 0xff;
const TAG_NAME = 0xfc;

/** Null for what is no EDID: too short, wrong header or checksum. Monitors with such exist; they have no name then. */
export function parseEdid(edid: Uint8Array): EdidIdentity | null {
  if (edid.length < BLOCK || !HEADER.every((byte, i) => edid[i] === byte)) return null;
  const sum = edid.subarray(0, BLOCK).reduce((total, byte) => total + byte, 0);
  if (sum % 256 !== 0) return null;
  const view = new DataView(edid.buffer, edid.byteOffset, BLOCK);
  const number = view.getUint32(12, true);
  return {
    make: pnpId(view.getUint16(8)),
    model: descriptorText(edid, TAG_NAME) ?? view.getUint16(10, true).toString(16).padStart(4, '0'),
    serial: descriptorText(edid, TAG_SERIAL) ?? (number !== 0 ? String(number) : null),
  };
}

/** Three letters of five bits each, 1 is A. */
function pnpId(word: number): string {
  return [10, 5, 0].map((shift) => String.fromCharCode(64 + ((word >> shift) & 31))).join('');
}

function descriptorText(edid: Uint8Array, tag: number): string | null {
  const at = DESCRIPTORS.find(
    (start) => edid[start] === 0 && edid[start + 1] === 0 && edid[start + 3] === tag,
  );
  if (at === undefined) return null;
  const bytes = edid.subarray(at + 5, at + 18);
  const end = bytes.indexOf(0x0a);
  const text = String.fromCharCode(...bytes.subarray(0, end < 0 ? bytes.length : end))
    .replace(/[^\x20-\x7e]/g, '')
    .trim();
  return text === '' ? null : text;
}
