/** Values on their way over a real connection and back. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import type { Fd } from '../../src/native/base.js';
import type { BusValue } from '../../src/native/bus.js';
import { connectPair, OBJECT, type Pair } from './bus-pair.js';
import { contents, countFds, fileFd, untilFds } from './sockets.js';

let pair: Pair;
before(async () => {
  pair = await connectPair();
});
after(() => pair.close());

/** Sends values of a signature there and back: through a method of just that signature. */
async function echo(signature: string, body: readonly BusValue[]): Promise<BusValue[]> {
  const slot = pair.served.addInterface(OBJECT.path, OBJECT.interface, {
    methods: { Echo: { in: signature, out: signature, handler: (args) => args } },
  });
  try {
    return await pair.client.call({ ...OBJECT, member: 'Echo', signature, body });
  } finally {
    slot.remove();
  }
}

interface Typed {
  signature: string;
  value: BusValue;
}

const text = fc.string({ unit: 'grapheme', maxLength: 12 }).filter((string) => !string.includes('\0'));
const path = fc
  .array(fc.stringMatching(/^[A-Za-z0-9_]{1,8}$/), { maxLength: 4 })
  .map((parts) => `/${parts.join('/')}`);
const SIGNATURES = ['', 's', 'a{sv}', '(i(ay)v)', 'aaa{oa(xt)}', 'ybnqiuxtdsogv'];
const double = fc.oneof(fc.double(), fc.constantFrom(0, -0, Number.NaN, 5e-324, Number.POSITIVE_INFINITY));

/** Arbitrary values of every basic type, by signature. */
const BASIC: Record<string, fc.Arbitrary<BusValue>> = {
  y: fc.integer({ min: 0, max: 255 }),
  b: fc.boolean(),
  n: fc.integer({ min: -32768, max: 32767 }),
  q: fc.integer({ min: 0, max: 65535 }),
  i: fc.integer(),
  u: fc.integer({ min: 0, max: 4294967295 }),
  x: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  t: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  d: double,
  s: text,
  o: path,
  g: fc.constantFrom(...SIGNATURES),
};
const KEYS = Object.keys(BASIC).filter((type) => type !== 'd'); // 0 and -0 are one key to a Map

function arbitraryOf(signature: string): fc.Arbitrary<BusValue> {
  const [head = '', ...rest] = types(signature);
  assert.equal(rest.length, 0, signature);
  if (head === 'ay') return fc.uint8Array({ maxLength: 20 });
  if (head === 'v') return variant.map(({ signature: type, value }) => ({ signature: type, value }));
  if (head.startsWith('a{')) return dictionaryOf(head.charAt(2), head.slice(3, -1));
  if (head.startsWith('a')) return fc.array(arbitraryOf(head.slice(1)), { maxLength: 4 });
  if (head.startsWith('(')) return fc.tuple(...types(head.slice(1, -1)).map(arbitraryOf));
  return BASIC[head] as fc.Arbitrary<BusValue>;
}

function dictionaryOf(key: string, value: string): fc.Arbitrary<BusValue> {
  const names = key === 's' ? fc.oneof(text, fc.constantFrom('__proto__', 'constructor', '0')) : BASIC[key];
  const pairs = fc.array(fc.tuple(names as fc.Arbitrary<string>, arbitraryOf(value)), { maxLength: 4 });
  return pairs.map((entries) => ('sog'.includes(key) ? Object.fromEntries(entries) : new Map(entries)));
}

/** Splits a signature into its complete types. */
function types(signature: string): string[] {
  const found: string[] = [];
  let rest = signature;
  while (rest !== '') {
    const length = typeLength(rest);
    found.push(rest.slice(0, length));
    rest = rest.slice(length);
  }
  return found;
}

function typeLength(signature: string): number {
  const [first] = signature;
  if (first === 'a') return 1 + typeLength(signature.slice(1));
  if (first !== '(' && first !== '{') return 1;
  let depth = 0;
  for (let i = 0; i < signature.length; i++) {
    if ('({'.includes(signature.charAt(i))) depth += 1;
    if (')}'.includes(signature.charAt(i))) depth -= 1;
    if (depth === 0) return i + 1;
  }
  return signature.length;
}

const { type } = fc.letrec<{ type: string; members: string[] }>((tie) => ({
  type: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom(...Object.keys(BASIC), 'v', 'ay'),
    tie('type').map((element) => `a${element}`),
    tie('members').map((members) => `(${members.join('')})`),
    fc.tuple(fc.constantFrom(...KEYS), tie('type')).map(([key, value]) => `a{${key}${value}}`),
  ),
  members: fc.array(tie('type'), { minLength: 1, maxLength: 3 }),
}));
const variant: fc.Arbitrary<Typed> = fc
  .constantFrom('s', 'x', 'a{ss}', '(ybnqiu)', 'aad', 'a{ta(sg)}', 'v', 'ay', 'a{sv}')
  .chain((signature) =>
    signature.includes('v')
      ? fc.constant({ signature, value: signature === 'v' ? { signature: 'u', value: 7 } : {} })
      : arbitraryOf(signature).map((value) => ({ signature, value })),
  );
const body = fc
  .array(type, { minLength: 1, maxLength: 4 })
  .filter((signatures) => signatures.join('').length < 256)
  .chain((signatures) =>
    fc.tuple(...signatures.map(arbitraryOf)).map((values) => ({ signature: signatures.join(''), values })),
  );

test('values of any signature come back as they went', async () => {
  await fc.assert(
    fc.asyncProperty(body, async ({ signature, values }) => {
      assert.deepStrictEqual(await echo(signature, values), values);
    }),
    { numRuns: 400 },
  );
});

test('the same in signals, properties and variants', async () => {
  await fc.assert(
    fc.asyncProperty(type, async (signature) => {
      const [value] = fc.sample(arbitraryOf(signature), 1);
      const slot = pair.served.addInterface(OBJECT.path, OBJECT.interface, {
        properties: { Value: { signature, emits: 'change', get: () => value } },
        signals: { Told: { signature } },
      });
      const told = new Promise<BusValue[]>((resolve) => {
        const subscription = pair.client.subscribe({ member: 'Told' }, (signal) => {
          subscription.remove();
          assert.equal(signal.signature, signature);
          resolve(signal.body);
        });
      });
      pair.served.emitSignal({ ...OBJECT, member: 'Told', body: [value] });
      assert.deepStrictEqual(await told, [value]);
      const properties = { path: OBJECT.path, interface: 'org.freedesktop.DBus.Properties' };
      const got = pair.client.call({
        ...properties,
        member: 'Get',
        signature: 'ss',
        body: [OBJECT.interface, 'Value'],
      });
      assert.deepStrictEqual(await got, [{ signature, value }]);
      slot.remove();
    }),
    { numRuns: 100 },
  );
});

test('what is taken beside the canonical form', async () => {
  assert.deepStrictEqual(await echo('xt', [-5, 5]), [-5n, 5n]);
  assert.deepStrictEqual(await echo('a{si}', [new Map([['a', 1]])]), [{ a: 1 }]);
  assert.deepStrictEqual(await echo('ay', [Buffer.from('hi')]), [new Uint8Array([104, 105])]);
  assert.deepStrictEqual(await echo('', []), []);
});

test('a key of a dictionary cannot reach what objects inherit', async () => {
  const hostile = Object.fromEntries([['__proto__', { signature: 's', value: 'mine' }]]);
  const [received] = (await echo('a{sv}', [hostile])) as [Record<string, unknown>];
  assert.deepEqual(Object.keys(received), ['__proto__']);
  assert.equal(Object.getPrototypeOf(received), Object.prototype);
});

test('a value that does not fit is an error that says where', async () => {
  const cases: [string, BusValue[], RegExp][] = [
    ['y', [256], /^body\[0\]: integer from 0 to 255 expected$/],
    ['y', [-1], /integer from 0 to 255/],
    ['n', [32768], /integer from -32768 to 32767/],
    ['q', [1.5], /integer from 0 to 65535/],
    ['i', ['1'], /integer from -2147483648 to 2147483647/],
    ['u', [Number.NaN], /integer from 0 to 4294967295/],
    ['x', [2n ** 63n], /body\[0\]: signed 64-bit integer/],
    ['t', [-1n], /body\[0\]: unsigned 64-bit integer/],
    ['t', ['1'], /bigint expected/],
    ['b', [1], /boolean expected/],
    ['d', ['1'], /number expected/],
    ['s', [null], /string expected/],
    ['s', ['a\0b'], /string without NUL/],
    ['o', ['no/path'], /object path/],
    ['g', ['a'], /signature expected/],
    ['h', [0], /body\[0\]: Fd expected/],
    ['ay', [[1, 2]], /Uint8Array expected/],
    ['ai', [{}], /array expected/],
    ['(ii)', [[1]], /array of 2 expected/],
    ['v', ['text'], /\{ signature, value \} expected/],
    ['v', [{ signature: 'ii', value: 1 }], /body\[0\]\.signature: one complete type/],
    ['a{si}', [[]], /object or Map expected/],
    ['a{is}', [{}], /Map expected/],
    ['a{is}', [new Map([['x', 'y']])], /body\[0\] key 'x': integer/],
    [
      'sa{sv}',
      [
        '',
        {
          width: {
            signature: 'a(yy)',
            value: [
              [1, 2],
              [3, 400],
            ],
          },
        },
      ],
      /^body\[1\]\['width'\]\.value\[1\]\[1\]: integer from 0 to 255 expected$/,
    ],
    ['ss', ['only one'], /body: 2 values expected for 'ss', not 1/],
    ['(', [], /'\(' is no signature/],
    ['a{vs}', [{}], /is no signature/],
    ['()', [[]], /is no signature/],
    [`${'a'.repeat(33)}i`, [[]], /is no signature/],
  ];
  for (const [signature, values, message] of cases) {
    const failing = pair.client.call({ ...OBJECT, member: 'Echo', signature, body: values });
    await assert.rejects(failing, (error: Error) => {
      assert.match(error.message, message, `${signature}: ${error.message}`);
      return true;
    });
  }
  const cyclic: { signature: string; value: unknown } = { signature: 'v', value: null };
  cyclic.value = cyclic;
  const endless = pair.client.call({ ...OBJECT, member: 'Echo', signature: 'v', body: [cyclic] });
  await assert.rejects(endless, /nested too deep/);
  const getter = {
    get a() {
      throw new RangeError('from the getter');
    },
  };
  const thrown = pair.client.call({ ...OBJECT, member: 'Echo', signature: 'a{ss}', body: [getter] });
  await assert.rejects(thrown, /from the getter/);
});

test('thirty-two arrays within each other pass', async () => {
  const signature = `${'a'.repeat(32)}u`;
  let value: BusValue = 3;
  for (let i = 0; i < 32; i++) value = [value];
  assert.deepStrictEqual(await echo(signature, [value]), [value]);
});

test('a message that is too long is refused before it is sent', async () => {
  const long = pair.client.call({ ...OBJECT, member: 'Echo', signature: 's', body: ['x'.repeat(5 << 20)] });
  await assert.rejects(long, { code: 'EMSGSIZE', subject: 'body[0]' });
  assert.deepEqual(await echo('s', ['still there']), ['still there']);
  const almost = new Uint8Array(4_000_000).fill(1);
  assert.deepEqual(await echo('ay', [almost]), [almost]);
});

test('many small values are refused, since objects are many times larger', async () => {
  const many = new Array(300_000).fill('');
  await assert.rejects(echo('as', [many]), { dbusName: 'org.freedesktop.DBus.Error.LimitsExceeded' });
  assert.deepEqual(await echo('s', ['still there']), ['still there']);
});

test('descriptors go both ways, lent by who calls, given by who answers', async () => {
  const before = countFds();
  const [one, two] = [fileFd('one'), fileFd('two')];
  const seen: string[] = [];
  let argument: Fd | undefined;
  let result: Fd | undefined;
  const slot = pair.served.addInterface(OBJECT.path, OBJECT.interface, {
    methods: {
      Swap: {
        in: 'ha{sv}',
        out: 'vh',
        handler: ([first, options]) => {
          argument = first as Fd;
          const { extra } = options as Record<string, { value: Fd }>;
          seen.push(contents(argument), contents((extra as { value: Fd }).value));
          result = argument.dup();
          return [{ signature: 'h', value: extra?.value.dup() }, result];
        },
      },
    },
  });
  const options = { extra: { signature: 'h', value: two } };
  const answer = await pair.client.call({
    ...OBJECT,
    member: 'Swap',
    signature: 'ha{sv}',
    body: [one, options],
  });
  const [first, second] = answer as [{ signature: string; value: Fd }, Fd];
  assert.deepEqual(seen, ['one', 'two']);
  assert.deepEqual([contents(first.value), contents(second)], ['two', 'one']);
  assert.ok(!one.closed && !two.closed, 'the caller keeps its own');
  assert.ok(argument?.closed && result?.closed, 'the call keeps none');
  const flags = readFileSync(`/proc/self/fdinfo/${second.number}`, 'utf8').match(/flags:\s+(\d+)/)?.[1];
  assert.equal(Number.parseInt(flags ?? '0', 8) & 0o2000000, 0o2000000, 'closed on exec');
  for (const fd of [one, two, first.value, second]) fd.close();
  slot.remove();
  await untilFds(before);
});

test('a handler keeps what it takes', async () => {
  const kept: Fd[] = [];
  const slot = pair.served.addInterface(OBJECT.path, OBJECT.interface, {
    methods: {
      Keep: {
        in: 'h',
        handler: async ([fd]) => {
          await new Promise(setImmediate);
          kept.push((fd as Fd).dup());
        },
      },
    },
  });
  const file = fileFd('kept');
  await pair.client.call({ ...OBJECT, member: 'Keep', signature: 'h', body: [file] });
  file.close();
  assert.deepEqual(kept.map(contents), ['kept']);
  kept[0]?.close();
  slot.remove();
});

test('closed descriptors are refused, and none is lost on the way', async () => {
  const before = countFds();
  const file = fileFd('x');
  const body = [file, 'no object path'];
  await assert.rejects(pair.client.call({ ...OBJECT, member: 'M', signature: 'ho', body }), /object path/);
  file.close();
  await assert.rejects(
    pair.client.call({ ...OBJECT, member: 'M', signature: 'h', body: [file] }),
    /Fd is closed/,
  );
  await untilFds(before);
});
