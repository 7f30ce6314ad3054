import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type AddBuffer,
  Code,
  type DaemonMessage,
  decodeFromDaemon,
  decodeFromGuest,
  encode,
  type GuestMessage,
  type Hello,
  layouts,
  MAX,
  ProtocolError,
} from '../../src/guests/protocol.js';

const u32 = fc.nat({ max: 0xffffffff });
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const serial = u32;
const guestName = fc.stringMatching(/^[A-Za-z0-9._-]{1,63}$/);
const shortText = fc.string({ maxLength: 40 }).map((text) => text.replaceAll('\0', ''));

const hello: fc.Arbitrary<Hello> = fc
  .tuple(
    fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 4 }),
    guestName,
    u64,
    u32,
    serial,
  )
  .map(([kinds, name, capabilities, versionMinor, serial]) => ({
    type: 'hello',
    serial,
    versionMajor: 1,
    versionMinor,
    capabilities,
    name,
    planeCount: kinds.length,
    planeKinds: [...kinds, 0, 0, 0, 0].slice(0, 4),
  }));

const side = fc.integer({ min: 1, max: MAX.size });
const addBuffer: fc.Arbitrary<AddBuffer> = fc
  .tuple(
    fc.nat({ max: 63 }),
    side,
    side,
    u32,
    u64,
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 1 }),
    u32,
    serial,
  )
  .map(([buffer, width, height, fourcc, modifier, planeCount, stride, offset, serial]) => ({
    type: 'addBuffer',
    serial,
    buffer,
    width,
    height,
    fourcc,
    modifier,
    planeCount,
    strides: [0, 1, 2, 3].map((i) => (i < planeCount ? stride : 0)),
    offsets: [0, 1, 2, 3].map((i) => (i < planeCount ? offset : 0)),
  }));

/** A message whose fields can have any value independently. */
function plain<T extends string, F extends object>(type: T, fields: { [K in keyof F]: fc.Arbitrary<F[K]> }) {
  return fc
    .tuple(serial, fc.record(fields, { noNullPrototype: true }))
    .map(([serial, values]) => ({ type, serial, ...(values as F) }));
}

const plane = fc.nat({ max: 3 });
const guestMessage: fc.Arbitrary<GuestMessage> = fc.oneof(
  hello,
  addBuffer,
  plain('removeBuffer', { buffer: fc.nat({ max: 63 }) }),
  plain('setPresent', { plane, mode: fc.nat({ max: 2 }) }),
  plain('bye', {}),
  plain('renewBuffer', { buffer: fc.nat({ max: 63 }) }),
  plain('offerDevice', { versionMajor: fc.constant(1), versionMinor: u32, name: guestName }),
  plain('takeLease', { versionMajor: fc.constant(1), versionMinor: u32, name: guestName }),
  plain('takeInput', {}),
);

const format = fc.record({ fourcc: u32, modifier: u64 }, { noNullPrototype: true });
const daemonMessage: fc.Arbitrary<DaemonMessage> = fc.oneof(
  plain('welcome', { versionMajor: u32, versionMinor: u32, capabilities: u64, pageSize: u32 }),
  plain('configure', { width: u32, height: u32, refreshMhz: u32, lit: u32, output: guestName }),
  plain('formats', { plane, formats: fc.array(format, { maxLength: MAX.formats }) }),
  plain('state', { plane, state: fc.nat({ max: 3 }), errnum: u32, text: shortText }),
  plain('lease', { lease: guestName }),
  plain('leaseNotice', { milliseconds: u32, text: shortText }),
  plain('input', { ringSize: u32, replySize: u32 }),
  plain('done', {}),
  plain('error', { code: u32, errnum: u32, fatal: u32, text: shortText }),
);

function fdsOf(message: GuestMessage): number {
  if (message.type === 'hello' || message.type === 'takeInput') return 2;
  if (message.type === 'offerDevice') return 1;
  return message.type === 'addBuffer' ? message.planeCount : 0;
}

function descriptorsWith({ type }: DaemonMessage): number {
  return type === 'input' ? 2 : type === 'welcome' || type === 'lease' ? 1 : 0;
}

test('what a guest encodes, the daemon decodes', () => {
  fc.assert(
    fc.property(guestMessage, (message) => {
      assert.deepEqual(decodeFromGuest(encode(message), fdsOf(message)), message);
    }),
  );
});

test('what the daemon encodes, a guest decodes', () => {
  fc.assert(
    fc.property(daemonMessage, (message) => {
      assert.deepEqual(decodeFromDaemon(encode(message), descriptorsWith(message)), message);
    }),
  );
});

/** The code with which a call is refused; any other exception fails the test. */
function refusal(decode: () => unknown): number {
  try {
    decode();
    return Code.ok;
  } catch (error) {
    assert.ok(error instanceof ProtocolError, String(error));
    return error.code;
  }
}

test('random bytes are refused by a ProtocolError and nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.nat({ max: 5 }), (bytes, fds) => {
      assert.notEqual(
        refusal(() => decodeFromGuest(bytes, fds)),
        Code.ok,
      );
      assert.notEqual(
        refusal(() => decodeFromDaemon(bytes, fds)),
        Code.ok,
      );
    }),
  );
});

test('a damaged message is decoded or refused, and decodes as what it encodes', () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(guestMessage, damage, (message, changes) => {
      const bytes = encode(message);
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      const fds = fdsOf(message);
      if (refusal(() => decodeFromGuest(bytes, fds)) !== Code.ok) return;
      const decoded = decodeFromGuest(bytes, fds);
      assert.deepEqual(decodeFromGuest(encode(decoded), fds), decoded);
    }),
    { numRuns: 1000 },
  );
});

test('every length but the right one is refused', () => {
  fc.assert(
    fc.property(guestMessage, fc.nat({ max: 400 }), (message, length) => {
      const bytes = encode(message);
      fc.pre(length !== bytes.length);
      const other = new Uint8Array(length);
      other.set(bytes.subarray(0, length));
      if (length >= 8) new DataView(other.buffer).setUint32(4, length, true);
      assert.equal(
        refusal(() => decodeFromGuest(other, fdsOf(message))),
        Code.badMessage,
      );
    }),
  );
});

const goodHello = () =>
  encode({ ...(fc.sample(hello, 1)[0] as Hello), planeCount: 1, planeKinds: [1, 0, 0, 0] });
const goodBuffer: AddBuffer = {
  type: 'addBuffer',
  serial: 77,
  buffer: 0,
  width: 64,
  height: 48,
  fourcc: 0x34325258,
  modifier: 0n,
  planeCount: 1,
  strides: [256, 0, 0, 0],
  offsets: [0, 0, 0, 0],
};

const helloWith = (change: (view: DataView, bytes: Uint8Array) => void) => {
  const bytes = goodHello();
  change(new DataView(bytes.buffer), bytes);
  return bytes;
};
const at = layouts.hello.offsets;

for (const [situation, bytes, code, fds] of [
  ['empty', new Uint8Array(), Code.badMessage, 0],
  ['a daemon message', encode({ type: 'done', serial: 1 }), Code.badMessage, 0],
  ['a reserved field of the header', helloWith((view) => view.setUint32(12, 1)), Code.badMessage, 2],
  ['a reserved field of the body', helloWith((view) => view.setUint32(at.reserved, 1)), Code.badMessage, 2],
  ['a size that lies', helloWith((view) => view.setUint32(4, 1, true)), Code.badMessage, 2],
  ['a name without end', helloWith((_, b) => b.fill(0x61, at.name, at.name + 64)), Code.badMessage, 2],
  ['an empty name', helloWith((_, b) => b.fill(0, at.name, at.name + 64)), Code.badName, 2],
  ['a path for a name', helloWith((_, b) => b.set(Buffer.from('../x\0'), at.name)), Code.badName, 2],
  [
    'a later major version',
    helloWith((view) => view.setUint32(at.versionMajor, 2, true)),
    Code.badVersion,
    2,
  ],
  [
    'a later, longer hello',
    helloWith((view) => view.setUint32(16, 2, true)).subarray(0, 24),
    Code.badVersion,
    2,
  ],
  ['no planes', helloWith((view) => view.setUint32(at.planeCount, 0, true)), Code.badPlane, 2],
  ['five planes', helloWith((view) => view.setUint32(at.planeCount, 5, true)), Code.badPlane, 2],
  ['a plane of no kind', helloWith((view) => view.setUint32(at.planeKinds, 0, true)), Code.badPlane, 2],
  [
    'a plane beyond the count',
    helloWith((view) => view.setUint32(at.planeKinds + 4, 1, true)),
    Code.badPlane,
    2,
  ],
  ['a hello with one eventfd', goodHello(), Code.badFd, 1],
  ['buffer 64', encode({ ...goodBuffer, buffer: 64 }), Code.badBuffer, 1],
  ['no width', encode({ ...goodBuffer, width: 0 }), Code.badLayout, 1],
  ['a height of 16385', encode({ ...goodBuffer, height: 16385 }), Code.badLayout, 1],
  ['five memory planes', encode({ ...goodBuffer, planeCount: 5 }), Code.badFormat, 1],
  ['no stride', encode({ ...goodBuffer, strides: [0, 0, 0, 0] }), Code.badLayout, 1],
  ['a stride too many', encode({ ...goodBuffer, strides: [256, 1, 0, 0] }), Code.badLayout, 1],
  ['an offset too many', encode({ ...goodBuffer, offsets: [0, 0, 0, 9] }), Code.badLayout, 1],
  ['a buffer without dma-buf', encode(goodBuffer), Code.badFd, 0],
  ['a buffer with two dma-bufs for one plane', encode(goodBuffer), Code.badFd, 2],
  ['mode 3', encode({ type: 'setPresent', serial: 1, plane: 0, mode: 3 }), Code.badMessage, 0],
  ['plane 4', encode({ type: 'setPresent', serial: 1, plane: 4, mode: 0 }), Code.badPlane, 0],
  ['a take input with one eventfd', encode({ type: 'takeInput', serial: 1 }), Code.badFd, 1],
  ['a bye with a descriptor', encode({ type: 'bye', serial: 1 }), Code.badFd, 1],
] as const) {
  test(`refused: ${situation}`, () =>
    assert.equal(
      refusal(() => decodeFromGuest(bytes, fds)),
      code,
    ));
}

test('a refusal names the message that it is about', () => {
  assert.throws(
    () => decodeFromGuest(encode({ ...goodBuffer, buffer: 99 }), 1),
    (error: ProtocolError) => error.serial === 77 && error.text === 'buffer ids end at 63, got 99',
  );
});

test('a text too long is cut between characters, and numbers that do not fit are refused', () => {
  const error = {
    type: 'error',
    serial: 1,
    code: 17,
    errnum: 0,
    fatal: 0,
    text: `${'a'.repeat(206)}é`,
  } as const;
  const decoded = decodeFromDaemon(encode(error), 0);
  assert.equal(decoded.type === 'error' && decoded.text, 'a'.repeat(206));
  assert.throws(() => encode({ ...error, code: -1 }), RangeError);
  assert.throws(() => encode({ ...goodBuffer, modifier: -1n }), RangeError);
  assert.throws(() => encode({ ...goodBuffer, strides: [1] }), RangeError);
  const formats = Array.from({ length: 129 }, () => ({ fourcc: 1, modifier: 0n }));
  assert.throws(() => encode({ type: 'formats', serial: 0, plane: 0, formats }), RangeError);
});
