/**
 * The guest protocol: encodes and decodes its messages, and checks all that a message alone can tell. What needs the
 * guest's state (is the name known, is the id in use) is the business of its owner. docs/guest-protocol.md has the rules.
 */
import { type Fields, type Layout, LayoutError } from './layout.js';
import {
  type AddBuffer,
  Code,
  type DaemonMessage,
  type Format,
  formatLayout,
  type GuestMessage,
  type Hello,
  headerLayout,
  layouts,
  MAX,
  Message,
  PlaneKind,
  PlaneState,
  PresentMode,
  ProtocolError,
  VERSION,
} from './wire.js';

export * from './wire.js';

type Name = keyof typeof layouts;

const fromGuest = namesOf([
  'hello',
  'addBuffer',
  'removeBuffer',
  'setPresent',
  'bye',
  'renewBuffer',
  'offerDevice',
  'takeLease',
  'takeInput',
]);
const fromDaemon = namesOf([
  'welcome',
  'configure',
  'formats',
  'state',
  'lease',
  'leaseNotice',
  'input',
  'done',
  'error',
]);

function namesOf(names: Name[]): Map<number, Name> {
  return new Map(names.map((name) => [Message[name], name]));
}

/**
 * Decodes a message of a guest that came with `fds` descriptors. Throws a ProtocolError and nothing else, whatever the
 * bytes are.
 */
export function decodeFromGuest(bytes: Uint8Array, fds: number): GuestMessage {
  return decode(bytes, fromGuest, (message) => checkFromGuest(message, fds));
}

/** The same for a message of the daemon. */
export function decodeFromDaemon(bytes: Uint8Array, fds: number): DaemonMessage {
  return decode(bytes, fromDaemon, (message) => checkFromDaemon(message, fds));
}

/** Encodes a message of either side. Throws a RangeError when a number does not fit; a text too long is cut. */
export function encode(message: GuestMessage | DaemonMessage): Uint8Array {
  const layout: Layout<Fields> = layouts[message.type];
  const formats = message.type === 'formats' ? message.formats : [];
  if (formats.length > MAX.formats)
    throw new RangeError(`formats: at most ${MAX.formats}, got ${formats.length}`);
  const bytes = new Uint8Array(layout.size + formats.length * formatLayout.size);
  const view = viewOf(bytes);
  headerLayout.write(view, { type: Message[message.type], size: bytes.length, serial: message.serial });
  layout.write(
    view,
    message.type === 'formats' ? { plane: message.plane, count: formats.length } : { ...message },
  );
  for (const [i, format] of formats.entries()) formatLayout.write(formatAt(bytes, i), format);
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function formatAt(bytes: Uint8Array, index: number): DataView {
  const start = layouts.formats.size + index * formatLayout.size;
  return viewOf(bytes.subarray(start, start + formatLayout.size));
}

function decode<M extends GuestMessage | DaemonMessage>(
  bytes: Uint8Array,
  names: Map<number, Name>,
  check: (message: M) => void,
): M {
  if (bytes.length < headerLayout.size)
    throw new ProtocolError(Code.badMessage, `a message of ${bytes.length} bytes has no header`);
  const serial = headerLayout.fields.serial.read(viewOf(bytes), headerLayout.offsets.serial, 'serial');
  try {
    const message = decodeBody(bytes, names) as M;
    check(message);
    return message;
  } catch (error) {
    if (error instanceof LayoutError) throw new ProtocolError(Code.badMessage, error.message, serial);
    if (error instanceof ProtocolError) throw new ProtocolError(error.code, error.text, serial);
    throw error;
  }
}

function decodeBody(bytes: Uint8Array, names: Map<number, Name>): unknown {
  const { type, size, serial } = headerLayout.read(viewOf(bytes));
  const name = names.get(type);
  if (name === undefined) refuse(Code.badMessage, `no message of type 0x${type.toString(16)} is taken here`);
  if (name === 'hello' || name === 'offerDevice' || name === 'takeLease') checkVersion(bytes);
  const layout: Layout<Fields> = layouts[name];
  if (size !== bytes.length) refuse(Code.badMessage, `${name} of ${bytes.length} bytes calls itself ${size}`);
  if (name === 'formats') return { type: name, serial, ...decodeFormats(bytes) };
  checkSize(name, bytes.length, layout.size);
  return { type: name, serial, ...layout.read(viewOf(bytes)) };
}

function decodeFormats(bytes: Uint8Array): { plane: number; formats: Format[] } {
  if (bytes.length < layouts.formats.size) checkSize('formats', bytes.length, layouts.formats.size);
  const { plane, count } = layouts.formats.read(viewOf(bytes));
  if (count > MAX.formats) refuse(Code.badMessage, `formats: at most ${MAX.formats}, got ${count}`);
  checkSize('formats', bytes.length, layouts.formats.size + count * formatLayout.size);
  return { plane, formats: Array.from({ length: count }, (_, i) => formatLayout.read(formatAt(bytes, i))) };
}

function refuse(code: Code, text: string): never {
  throw new ProtocolError(code, text);
}

function checkSize(name: Name, size: number, wanted: number): void {
  if (size !== wanted) refuse(Code.badMessage, `${name} has ${wanted} bytes, got ${size}`);
}

/** Before the size: another major version may have another hello. First messages have the version in one place. */
function checkVersion(bytes: Uint8Array): void {
  const { offsets, fields } = layouts.hello;
  if (bytes.length < offsets.versionMinor) return;
  const major = fields.versionMajor.read(viewOf(bytes), offsets.versionMajor, 'versionMajor');
  if (major !== VERSION.major)
    refuse(Code.badVersion, `version ${major} is spoken, ${VERSION.major} is understood`);
}

function checkFds(name: Name, fds: number, allowed: number[]): void {
  if (!allowed.includes(fds))
    refuse(Code.badFd, `${name} comes with ${allowed.join(' or ')} descriptors, got ${fds}`);
}

function checkFromGuest(message: GuestMessage, fds: number): void {
  let allowed = [0];
  switch (message.type) {
    case 'hello':
      checkHello(message);
      allowed = [2];
      break;
    case 'addBuffer':
      checkAddBuffer(message);
      allowed = message.planeCount === 1 ? [1] : [1, message.planeCount];
      break;
    case 'removeBuffer':
      checkBuffer(message.buffer);
      break;
    case 'setPresent':
      checkPlane(message.plane);
      if (message.mode > PresentMode.async)
        refuse(Code.badMessage, `there is no present mode ${message.mode}`);
      break;
    case 'bye':
      break;
    case 'renewBuffer':
      checkBuffer(message.buffer);
      allowed = [0, 1, 2, 3, 4]; // as many as the buffer was registered with, which its owner knows
      break;
    case 'offerDevice':
      checkName(message.name);
      allowed = [1];
      break;
    case 'takeLease':
      checkName(message.name);
      break;
    case 'takeInput':
      allowed = [2];
      break;
  }
  checkFds(message.type, fds, allowed);
}

function checkPlane(plane: number): void {
  if (plane >= MAX.planes) refuse(Code.badPlane, `there is no plane ${plane}`);
}

function checkName(name: string): void {
  if (!/^[A-Za-z0-9._-]+$/.test(name)) refuse(Code.badName, `${JSON.stringify(name)} is no name`);
}

function checkHello({ name, planeCount, planeKinds }: Hello): void {
  checkName(name);
  if (planeCount < 1 || planeCount > MAX.planes)
    refuse(Code.badPlane, `a guest has 1 to ${MAX.planes} planes, got ${planeCount}`);
  for (const [i, kind] of planeKinds.entries()) {
    const good =
      i < planeCount ? kind >= PlaneKind.primary && kind <= PlaneKind.cursor : kind === PlaneKind.none;
    if (!good) refuse(Code.badPlane, `plane ${i} of ${planeCount} cannot be of kind ${kind}`);
  }
}

function checkBuffer(buffer: number): void {
  if (buffer >= MAX.buffers) refuse(Code.badBuffer, `buffer ids end at ${MAX.buffers - 1}, got ${buffer}`);
}

function checkAddBuffer({ buffer, width, height, planeCount, strides, offsets }: AddBuffer): void {
  checkBuffer(buffer);
  for (const [what, size] of Object.entries({ width, height })) {
    if (size < 1 || size > MAX.size) refuse(Code.badLayout, `${what} is 1 to ${MAX.size}, got ${size}`);
  }
  if (planeCount < 1 || planeCount > strides.length)
    refuse(Code.badFormat, `a buffer has 1 to ${strides.length} planes, got ${planeCount}`);
  for (const [i, stride] of strides.entries()) {
    if (i < planeCount ? stride === 0 : stride !== 0 || offsets[i] !== 0)
      refuse(Code.badLayout, `plane ${i} of ${planeCount}: stride ${stride}, offset ${offsets[i]}`);
  }
}

/** How many descriptors come with a message of the daemon, where any do. */
const FDS_FROM_DAEMON: Partial<Record<Name, number[]>> = { welcome: [1, 2], lease: [1], input: [2] };

function checkFromDaemon(message: DaemonMessage, fds: number): void {
  if (message.type === 'formats' || message.type === 'state') checkPlane(message.plane);
  if (message.type === 'state' && message.state > PlaneState.unseen)
    refuse(Code.badMessage, `there is no plane state ${message.state}`);
  if (message.type === 'lease') checkName(message.lease);
  checkFds(message.type, fds, FDS_FROM_DAEMON[message.type] ?? [0]);
}
