import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseEdid } from '../../src/kms/edid.js';

/** A base block with the given descriptors, and a checksum that is right. */
function edid(parts: { name?: string; serialText?: string; serial?: number; product?: number }): Uint8Array {
  const block = new Uint8Array(128);
  block.set([0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]);
  block.set([0x10, 0xac], 8); // DEL
  const view = new DataView(block.buffer);
  view.setUint16(10, parts.product ?? 0xa0b1, true);
  view.setUint32(12, parts.serial ?? 0, true);
  const descriptor = (at: number, tag: number, text: string) => {
    block.set([0, 0, 0, tag, 0], at);
    block.fill(0x20, at + 5, at + 18);
    block.set([...Buffer.from(`${text}\n`.slice(0, 13), 'latin1')], at + 5);
  };
  if (parts.name !== undefined) descriptor(72, 0xfc, parts.name);
  if (parts.serialText !== undefined) descriptor(90, 0xff, parts.serialText);
  block[127] = (256 - (block.reduce((sum, byte) => sum + byte, 0) % 256)) % 256;
  return block;
}

test('maker, name and serial text', () => {
  assert.deepEqual(parseEdid(edid({ name: 'U2720Q', serialText: 'ABC123' })), {
    make: 'DEL',
    model: 'U2720Q',
    serial: 'ABC123',
  });
});

test('numbers stand in for texts that are missing', () => {
  assert.deepEqual(parseEdid(edid({ serial: 77 })), { make: 'DEL', model: 'a0b1', serial: '77' });
  assert.equal(parseEdid(edid({}))?.serial, null);
});

test('what is damaged is no EDID', () => {
  const good = edid({ name: 'X' });
  assert.equal(parseEdid(good.subarray(0, 127)), null);
  const wrong = Uint8Array.from(good);
  wrong[40] = (wrong[40] ?? 0) ^ 1;
  assert.equal(parseEdid(wrong), null);
});

test('any bytes give an identity of printable text, or none', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 108, maxLength: 120 }), (tail) => {
      const block = edid({});
      block.set(tail.subarray(0, 119), 8);
      block[127] = (256 - (block.subarray(0, 127).reduce((sum, byte) => sum + byte, 0) % 256)) % 256;
      const identity = parseEdid(block);
      assert.match(identity?.model ?? '', /^[\x20-\x7e]+$/);
      assert.match(identity?.serial ?? 'none', /^[\x20-\x7e]+$/);
    }),
  );
});
