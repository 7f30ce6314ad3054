/** Peers whose messages break the rules. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import fc from 'fast-check';
import { OBJECT } from './bus-pair.js';
import { encode, field, RawPeer, u32 } from './bus-raw.js';
import { call, calls, ended, ends, forgetEnds, othersAreFine, path, server } from './bus-victim.js';
import { countFds, until, untilFds } from './sockets.js';

test('messages in pieces, in one piece, and of the other byte order', async () => {
  const peer = await RawPeer.connectAuthenticated(path);
  for (const byte of call('Ping')) {
    peer.write(Buffer.from([byte]));
    await new Promise(setImmediate);
  }
  await until('the call', () => calls === 1);
  peer.write(Buffer.concat(Array(20).fill(call('Ping'))));
  await until('the calls', () => calls === 21);
  const big = (code: number, type: string, value: string) => field(code, type, value, true);
  const fields = [big(1, 'o', OBJECT.path), big(2, 's', OBJECT.interface), big(3, 's', 'Ping')];
  peer.write(encode({ bigEndian: true, serial: 7, fields }));
  await until('the call', () => calls === 22);
  const unknown = [...fields, big(10, 'o', '/container'), field(77, 'u', 3, true)];
  peer.write(encode({ bigEndian: true, serial: 8, fields: unknown }));
  await until('the call with fields that nobody knows', () => calls === 23);
  peer.close();
});

const o = field(1, 'o', OBJECT.path);
const s = field(2, 's', OBJECT.interface);
const m = field(3, 's', 'Ping');
const MALFORMED: Record<string, Buffer> = {
  'neither byte order': Buffer.concat([Buffer.from('x'), call('Ping').subarray(1)]),
  'version 2': encode({ version: 2, fields: [o, s, m] }),
  'type 0': encode({ type: 0, fields: [o, s, m] }),
  'type 5': encode({ type: 5, fields: [o, s, m] }),
  'serial 0': encode({ serial: 0, fields: [o, s, m] }),
  'no fields': encode({ fields: [] }),
  'no path': encode({ fields: [s, m] }),
  'no member': encode({ fields: [o, s] }),
  'a path twice': encode({ fields: [o, o, s, m] }),
  'a path that is none': encode({ fields: [field(1, 'o', 'x'), s, m] }),
  'a path that is a string': encode({ fields: [field(1, 's', '/x'), s, m] }),
  'an interface that is none': encode({ fields: [o, field(2, 's', 'x'), m] }),
  'a member that is none': encode({ fields: [o, s, field(3, 's', 'x.y')] }),
  'a destination that is none': encode({ fields: [o, s, m, field(6, 's', '..')] }),
  'the local path': encode({ fields: [field(1, 'o', '/org/freedesktop/DBus/Local'), s, m] }),
  'the local interface': encode({ fields: [o, field(2, 's', 'org.freedesktop.DBus.Local'), m] }),
  'the local sender': encode({ fields: [o, s, m, field(7, 's', 'org.freedesktop.DBus.Local')] }),
  'a call that answers': encode({ fields: [o, s, m, field(5, 'u', 1)] }),
  'an answer to nothing': encode({ type: 2, fields: [field(5, 'u', 0)] }),
  'an error without a name': encode({ type: 3, fields: [field(5, 'u', 1)] }),
  'a signal without an interface': encode({ type: 4, fields: [o, m] }),
  'descriptors that are not there': encode({ fields: [o, s, m, field(9, 'u', 1)] }),
  'a signature that is none': encode({ fields: [o, s, m, field(8, 'g', '(')] }),
  'field 0': encode({ fields: [o, s, m, field(0, 's', 'x')] }),
  'a field that ends late': encode({
    fields: [o, s, m],
    fieldsLength: 20,
    bodyLength: 200,
    body: Buffer.alloc(200),
  }),
  'a field without NUL': encode({ fields: [o, s, Buffer.from([3, 1, 115, 0, 1, 0, 0, 0, 65, 66])] }),
  'padding that is not zero': encode({
    fields: [Buffer.concat([m, Buffer.alloc(8 - (m.length % 8), 1)]), o, s],
  }),
  'a body that ends too early': encode({
    fields: [o, s, field(3, 's', 'Text'), field(8, 'g', 's')],
    body: Buffer.concat([u32(100), Buffer.from('x\0')]),
  }),
  'a text that is no UTF-8': encode({
    fields: [o, s, field(3, 's', 'Text'), field(8, 'g', 's')],
    body: Buffer.from([1, 0, 0, 0, 0xff, 0]),
  }),
  'a variant of no type': encode({
    fields: [o, s, field(3, 's', 'Any'), field(8, 'g', 'a{sv}')],
    body: Buffer.concat([u32(8), u32(0), u32(0), Buffer.from([0, 1, 40, 0])]),
  }),
};
for (const [what, bytes] of Object.entries(MALFORMED)) {
  test(`malformed: ${what}`, async () => {
    const peer = await RawPeer.connectAuthenticated(path);
    peer.write(bytes);
    await ended(peer, 'EBADMSG');
    assert.equal(calls, 0);
  });
}

test('a message that says it is too long is not waited for', async () => {
  for (const [fieldsLength, bodyLength] of [
    [24, 0x7fffffff],
    [0xffffffff, 0],
    [24, (4 << 20) + 1],
  ] as const) {
    forgetEnds();
    const peer = await RawPeer.connectAuthenticated(path);
    peer.write(encode({ fields: [o, s, m], fieldsLength, bodyLength }).subarray(0, 16));
    await ended(peer, 'EMSGSIZE');
  }
});

test('whatever comes, nobody else notices', async () => {
  const before = countFds();
  const valid = [...Object.values(MALFORMED), call('Ping'), call('Fill')];
  const valids = fc.constantFrom(
    ...valid,
    encode({
      fields: [o, s, field(3, 's', 'Text'), field(8, 'g', 's')],
      body: Buffer.concat([u32(2), Buffer.from('hi\0')]),
    }),
  );
  const mutation = fc.record({ at: fc.nat(200), byte: fc.nat(255) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(valids, fc.array(mutation, { maxLength: 3 })), { minLength: 1, maxLength: 4 }),
      async (messages) => {
        const peer = await RawPeer.connectAuthenticated(path);
        for (const [bytes, mutations] of messages) {
          const mutated = Buffer.from(bytes);
          for (const { at, byte } of mutations) mutated[at % mutated.length] = byte;
          peer.write(mutated);
        }
        await othersAreFine();
        peer.close();
      },
    ),
    { numRuns: 120 },
  );
  await until('all of them to be gone', () => server.connections === 1);
  await untilFds(before);
});

/** Sends messages with descriptors, by Python. Gives what came back after the handshake. */
async function sendWithFds(messages: [Buffer, number][], negotiate = true): Promise<Buffer> {
  const script = `import array, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b'\\0AUTH EXTERNAL\\r\\nDATA\\r\\n' + (b'NEGOTIATE_UNIX_FD\\r\\n' if sys.argv[2] == 'true' else b''))
got = b''
want = 4 if sys.argv[2] == 'true' else 3
while got.count(b'\\n') < want - 1: got += s.recv(999)
s.sendall(b'BEGIN\\r\\n')
try:
  for arg in sys.argv[3:]:
    data, count = arg.split(':')
    s.sendmsg([bytes.fromhex(data)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * int(count)))])
  s.settimeout(0.3)
  while True:
    more = s.recv(9999)
    if not more: break
    sys.stdout.buffer.write(more)
except (socket.timeout, BrokenPipeError, ConnectionResetError): pass`;
  const args = messages.map(([data, count]) => `${data.toString('hex')}:${count}`);
  const child = spawn('python3', ['-c', script, path, `${negotiate}`, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let got = Buffer.alloc(0);
  child.stdout.on('data', (data) => {
    got = Buffer.concat([got, data]);
  });
  await once(child, 'close');
  return got;
}

test('descriptors of malformed messages are closed', async () => {
  const before = countFds();
  const one = encode({ fields: [field(9, 'u', 10), field(1, 'o', 'no path'), m] });
  for (let i = 0; i < 3; i++) await sendWithFds([[one, 10]]);
  const claims = encode({ fields: [o, s, m, field(9, 'u', 2)] });
  await sendWithFds([[claims, 3]]);
  await until('the ends', () => ends.length === 4);
  assert.deepEqual(ends, Array(4).fill('EBADMSG'));
  await untilFds(before);
});

test('descriptors that a call does not want are closed, and so are too many', async () => {
  const before = countFds();
  const withFds = (count: number) => encode({ fields: [o, s, m, field(9, 'u', count)] });
  await sendWithFds([
    [withFds(16), 16],
    [withFds(1), 1],
  ]);
  assert.equal(calls, 2);
  await sendWithFds([[withFds(17), 17]]);
  await until('the ends', () => ends.length === 2);
  assert.deepEqual(ends, ['ECONNRESET', 'EMSGSIZE']);
  forgetEnds();
  await sendWithFds([[withFds(1), 1]], false); // without having asked for it
  await until('the end', () => ends.length === 1);
  assert.equal(calls, 2);
  await untilFds(before);
  await othersAreFine();
});
