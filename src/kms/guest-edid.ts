/**
 * The EDID (VESA E-EDID 1.4) that a guest is given of its display: the real monitor's where it fits, else one with the
 * real monitor's identity whose only mode is the guest's place.
 */

/** In pixels and thousandths of a hertz. */
export interface GuestMode {
  width: number;
  height: number;
  refreshMhz: number;
}

const BLOCK = 128;
/** As many blocks as virtio-gpu and VFIO carry at least. */
const MAX_BYTES = 1024;
const HEADER = [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
const FIRST_TIMING = 54;
const NAME_DESCRIPTOR = 72;
const RANGES_DESCRIPTOR = 90;
const UNUSED_DESCRIPTOR = 108;
const DESCRIPTOR = 18;
/** "SCO": no maker has it. */
const OWN_MAKER = [0x4c, 0x6f] as const;
/** Reduced blanking of CVT 1.2. */
const H_BLANK = 160;
const H_SYNC_OFFSET = 48;
const H_SYNC_WIDTH = 32;
const V_SYNC_OFFSET = 3;
const V_SYNC_WIDTH = 6;
const MIN_V_BLANK_US = 460;
/** A detailed timing has 12 bits a side, and 16 for the clock in units of 10 kHz. */
const MAX_SIDE = 4095;
const MAX_CLOCK_10KHZ = 0xffff;
/** Refresh rates that count as the same, as in the configuration. */
const TOLERANCE_MHZ = 500;
const PIXELS_PER_MM = 96 / 25.4;

/**
 * `real` is the monitor's EDID, or null. `whole`: the place is all of the output, whose other modes the guest may use
 * then. `name` is the display's where the monitor has none; 13 characters of it are seen.
 */
export function guestEdid(
  real: Uint8Array | null,
  mode: GuestMode,
  whole: boolean,
  name: string,
): Uint8Array {
  const base = real !== null && isSound(real) ? real : null;
  if (base !== null && whole) {
    const blocks = 1 + (base[126] ?? 0);
    const bytes = base.slice(0, Math.min(blocks * BLOCK, base.length - (base.length % BLOCK), MAX_BYTES));
    bytes[126] = bytes.length / BLOCK - 1;
    if (!prefers(bytes, mode)) bytes.set(timing(mode), FIRST_TIMING);
    return sealed(bytes);
  }
  return sealed(ownBlock(base, mode, name));
}

function isSound(edid: Uint8Array): boolean {
  return (
    edid.length >= BLOCK &&
    HEADER.every((byte, i) => edid[i] === byte) &&
    edid.subarray(0, BLOCK).reduce((total, byte) => total + byte, 0) % 256 === 0
  );
}

function sealed(edid: Uint8Array): Uint8Array {
  const sum = edid.subarray(0, BLOCK - 1).reduce((total, byte) => total + byte, 0);
  edid[BLOCK - 1] = (256 - (sum % 256)) % 256;
  return edid;
}

/** Whether the first detailed timing, which is the preferred one, is this mode. */
function prefers(edid: Uint8Array, mode: GuestMode): boolean {
  const at = (index: number) => edid[FIRST_TIMING + index] ?? 0;
  const clockKhz = (at(0) | (at(1) << 8)) * 10;
  const width = at(2) | ((at(4) & 0xf0) << 4);
  const height = at(5) | ((at(7) & 0xf0) << 4);
  const total = (width + (at(3) | ((at(4) & 0x0f) << 8))) * (height + (at(6) | ((at(7) & 0x0f) << 8)));
  if (clockKhz === 0 || width !== mode.width || height !== mode.height) return false;
  return Math.abs((clockKhz * 1_000_000) / total - mode.refreshMhz) <= TOLERANCE_MHZ;
}

/** A detailed timing descriptor with reduced blanking. What does not fit one is cut: sides at 4095, the rate at the clock. */
function timing(mode: GuestMode): Uint8Array {
  const width = Math.min(mode.width, MAX_SIDE);
  const height = Math.min(mode.height, MAX_SIDE);
  const frameUs = 1e9 / mode.refreshMhz;
  const lineUs = (frameUs - MIN_V_BLANK_US) / height;
  const vBlank = Math.max(Math.ceil(MIN_V_BLANK_US / lineUs), V_SYNC_OFFSET + V_SYNC_WIDTH + 6);
  const clock = Math.round(((width + H_BLANK) * (height + vBlank) * mode.refreshMhz) / 1e7);
  const clock10kHz = Math.min(clock, MAX_CLOCK_10KHZ);
  const mm = (pixels: number) => Math.min(Math.round(pixels / PIXELS_PER_MM), MAX_SIDE);
  const [mmX, mmY] = [mm(width), mm(height)];
  return Uint8Array.from([
    clock10kHz & 0xff,
    clock10kHz >> 8,
    width & 0xff,
    H_BLANK & 0xff,
    ((width >> 8) << 4) | (H_BLANK >> 8),
    height & 0xff,
    vBlank & 0xff,
    ((height >> 8) << 4) | (vBlank >> 8),
    H_SYNC_OFFSET,
    H_SYNC_WIDTH,
    (V_SYNC_OFFSET << 4) | V_SYNC_WIDTH,
    0,
    mmX & 0xff,
    mmY & 0xff,
    ((mmX >> 8) << 4) | (mmY >> 8),
    0,
    0,
    // Separate digital sync, horizontal positive.
    0x1a,
  ]);
}

function ownBlock(base: Uint8Array | null, mode: GuestMode, name: string): Uint8Array {
  const block = new Uint8Array(BLOCK);
  block.set(HEADER);
  // Maker, product, serial number, date.
  if (base !== null) block.set(base.subarray(8, 18), 8);
  else block.set([...OWN_MAKER, 1, 0, 0, 0, 0, 0, 1, 36], 8);
  const cm = (pixels: number) => Math.min(Math.round(pixels / PIXELS_PER_MM / 10), 255);
  // EDID 1.4; digital, 8 bits a colour, no interface said; size; gamma 2.2; RGB, preferred timing is native, sRGB.
  block.set([1, 4, 0xa0, cm(mode.width), cm(mode.height), 120, 0x06], 18);
  // Chromaticities of sRGB.
  block.set([0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54], 25);
  // No established and no standard timings.
  block.fill(1, 38, 54);
  block.set(timing(mode), FIRST_TIMING);
  const given = base === null ? null : descriptor(base, 0xfc);
  block.set(given ?? nameDescriptor(name), NAME_DESCRIPTOR);
  block.set(rangesDescriptor(mode), RANGES_DESCRIPTOR);
  block.set([0, 0, 0, 0x10], UNUSED_DESCRIPTOR);
  return block;
}

function descriptor(edid: Uint8Array, tag: number): Uint8Array | null {
  for (let at = FIRST_TIMING; at < BLOCK - DESCRIPTOR; at += DESCRIPTOR) {
    if (edid[at] === 0 && edid[at + 1] === 0 && edid[at + 3] === tag) return edid.slice(at, at + DESCRIPTOR);
  }
  return null;
}

function nameDescriptor(name: string): Uint8Array {
  const bytes = new Uint8Array(DESCRIPTOR).fill(0x20);
  const text = name.replace(/[^\x20-\x7e]/g, '?').slice(0, 13);
  bytes.set([0, 0, 0, 0xfc, 0, ...Buffer.from(text, 'latin1')]);
  if (text.length < 13) bytes[5 + text.length] = 0x0a;
  return bytes;
}

/** Display range limits around the one mode; bare limits, no formula. */
function rangesDescriptor(mode: GuestMode): Uint8Array {
  const hertz = Math.min(Math.max(Math.round(mode.refreshMhz / 1000), 1), 254);
  const kilohertz = Math.min(Math.ceil((mode.height * 1.05 * hertz) / 1000), 254);
  const bytes = new Uint8Array(DESCRIPTOR).fill(0x20);
  bytes.set([0, 0, 0, 0xfd, 0, hertz, hertz + 1, 1, kilohertz + 1, 66, 1, 0x0a]);
  return bytes;
}
