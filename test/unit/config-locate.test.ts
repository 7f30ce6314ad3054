import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'smol-toml';
import { locate, type Path } from '../../src/config/locate.js';

/** A TOML text under construction, and the line of every path in it, counted while it is written. */
interface Draft {
  text: string;
  lines: Map<string, number>;
}

type Value =
  | { kind: 'scalar'; text: string }
  | { kind: 'list'; items: Value[]; gap: string }
  | { kind: 'inline'; pairs: Pair[]; gap: string };

/** `head` is a dotted key's first part; pairs with the same one lie in one table. */
interface Pair {
  head: string | null;
  quote: Quote;
  space: string;
  value: Value;
}

interface Section {
  kind: 'table' | 'list';
  quote: Quote;
  space: string;
  pairs: Pair[];
  children: Section[];
  void: string;
}

type Quote = 'bare' | 'basic' | 'literal' | 'escaped';

const QUOTES: Quote[] = ['bare', 'basic', 'literal', 'escaped'];
const GAPS = ['', ' ', '\n', ' # , ] } "x = 1\n  ', '\n\n\t'];
const VOIDS = ['', '\n', '# [[guest]]\n', '   \n# a = "', '\r\n'];
const SCALARS = [
  '1',
  '0x1f',
  '+1.5e3',
  'true',
  'inf',
  '1979-05-27T07:32:00Z',
  '1979-05-27 07:32:00',
  '"plain"',
  "'literal \\'",
  '"esc \\" ] } # \\\\"',
  '""',
  "''",
  '"""\n[[guest]]\nname = "x"\n"""',
  '"""a \\\n   b "" c\\""""""',
  "'''\n[daemon]\r\n# '' x = 1'''",
  "'''quoted'''''",
];

const scalar = fc.constantFrom(...SCALARS).map((text): Value => ({ kind: 'scalar', text }));
const { pair } = fc.letrec<{ value: Value; pair: Pair }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalar,
    fc.record({
      kind: fc.constant('list' as const),
      items: fc.array(tie('value'), { maxLength: 3 }),
      gap: fc.constantFrom(...GAPS),
    }),
    fc.record({
      kind: fc.constant('inline' as const),
      pairs: fc.array(tie('pair'), { maxLength: 3 }),
      gap: fc.constantFrom(...GAPS),
    }),
  ),
  pair: fc.record({
    head: fc.constantFrom(null, null, 'head', 'other'),
    quote: fc.constantFrom(...QUOTES),
    space: fc.constantFrom('', ' ', '\t '),
    value: tie('value'),
  }),
}));
const pairs = fc.array(pair, { maxLength: 4 });
const { section } = fc.letrec<{ section: Section }>((tie) => ({
  section: fc.record({
    kind: fc.constantFrom<'table' | 'list'>('table', 'list'),
    quote: fc.constantFrom(...QUOTES),
    space: fc.constantFrom('', ' ', '\t'),
    pairs,
    children: fc.oneof(
      { maxDepth: 2 },
      fc.constant<Section[]>([]),
      fc.array(tie('section'), { maxLength: 2 }),
    ),
    void: fc.constantFrom(...VOIDS),
  }),
}));

test('every path of a generated document has the line on which it was written', () => {
  const document = fc.record({ pairs, sections: fc.array(section, { maxLength: 3 }), bom: fc.boolean() });
  fc.assert(
    fc.property(document, ({ pairs, sections, bom }) => {
      const draft: Draft = { text: bom ? '\ufeff' : '', lines: new Map() };
      writePairs(draft, pairs, []);
      writeSections(draft, sections, [], []);
      const locations = locate(draft.text);
      for (const path of pathsOf(parse(draft.text), [])) {
        const key = JSON.stringify(path);
        assert.equal(locations.at(path)?.line, draft.lines.get(key), `${key} in\n${draft.text}`);
      }
    }),
    { numRuns: 2000 },
  );
});

test('positions never fail and never stall on text that is no TOML', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'[]{}=.,"\'#\\\n\r ab1'), maxLength: 80 }), (text) => {
      assert.equal(locate(text).at(['no such key']), null);
    }),
    { numRuns: 5000 },
  );
});

test('a missing key has the position of the nearest enclosing one', () => {
  const locations = locate('a = 1\n\n[[guest]]\n[[guest]]\n  area = {x = 1}\n');
  assert.deepEqual(locations.nearest(['guest', 1, 'name']), { line: 4, column: 3 });
  assert.deepEqual(locations.nearest(['guest', 1, 'area', 'width']), { line: 5, column: 3 });
  assert.deepEqual(locations.nearest(['guest', 1, 'area', 'x']), { line: 5, column: 11 });
  assert.equal(locations.nearest(['nothing']), null);
});

test('a table that is reopened by a child stands where it first appears', () => {
  const locations = locate('[a.b]\nx = 1\n[a]\ny = 2\n[a.c]\n');
  assert.equal(locations.at(['a'])?.line, 1);
  assert.equal(locations.at(['a', 'y'])?.line, 4);
  assert.equal(locations.at(['a', 'c'])?.line, 5);
});

function writePairs(draft: Draft, pairs: Pair[], base: Path): void {
  for (const [index, pair] of pairs.entries()) {
    writePair(draft, pair, index, base);
    draft.text += index % 2 === 0 ? '\n' : ' # x = "\r\n';
  }
}

function writePair(draft: Draft, pair: Pair, index: number, base: Path): void {
  const path = [...base];
  if (pair.head !== null) {
    path.push(pair.head);
    note(draft, path);
    draft.text += `${pair.head}${pair.space}.${pair.space}`;
  }
  path.push(writeKey(draft, pair.quote, index, [...path]));
  draft.text += `${pair.space}=${pair.space}`;
  writeValue(draft, pair.value, path);
}

function writeKey(draft: Draft, quote: Quote, index: number, base: Path): string {
  const [name, text] = {
    bare: [`k-${index}_`, `k-${index}_`],
    basic: [`k "${index}" = [`, `"k \\"${index}\\" = ["`],
    literal: [`k.${index}]\\`, `'k.${index}]\\'`],
    escaped: [`é\t${index}`, `"\\u00e9\\t${index}"`],
  }[quote] as [string, string];
  note(draft, [...base, name]);
  draft.text += text;
  return name;
}

function writeValue(draft: Draft, value: Value, path: Path): void {
  if (value.kind === 'scalar') {
    draft.text += value.text;
  } else if (value.kind === 'list') {
    draft.text += `[${value.gap}`;
    for (const [index, item] of value.items.entries()) {
      note(draft, [...path, index]);
      writeValue(draft, item, [...path, index]);
      draft.text += `${value.gap},${value.gap}`;
    }
    draft.text += ']';
  } else {
    draft.text += `{${value.gap}`;
    for (const [index, pair] of value.pairs.entries()) {
      draft.text += index > 0 ? `${value.gap},${value.gap}` : '';
      writePair(draft, pair, index, path);
    }
    draft.text += `${value.gap}}`;
  }
}

/** `parents` are the keys of the header as written, `base` the path that they mean. */
function writeSections(draft: Draft, sections: Section[], base: Path, parents: string[]): void {
  for (const [index, section] of sections.entries()) {
    for (let entry = 0; entry < (section.kind === 'list' ? 2 : 1); entry++) {
      writeSection(draft, section, `s${index}`, entry, base, parents);
    }
  }
}

function writeSection(
  draft: Draft,
  section: Section,
  id: string,
  entry: number,
  base: Path,
  parents: string[],
) {
  const [open, close] = section.kind === 'list' ? ['[[', ']]'] : ['[', ']'];
  draft.text += section.void;
  draft.text += draft.text === '' || /[\n\ufeff]$/.test(draft.text) ? '' : '\n';
  const name = { bare: id, basic: `${id} ]`, literal: `${id}.`, escaped: `é${id}` }[section.quote];
  const written = { bare: id, basic: `"${name}"`, literal: `'${name}'`, escaped: `"\\u00e9${id}"` }[
    section.quote
  ];
  const keys = [...parents, written];
  const path: (string | number)[] = [...base, name];
  note(draft, path);
  if (section.kind === 'list') {
    path.push(entry);
    note(draft, path);
  }
  const { space } = section;
  draft.text += `${open}${space}${keys.join(`${space}.${space}`)}${space}${close}\n`;
  writePairs(draft, section.pairs, path);
  writeSections(draft, section.children, path, keys);
}

function note(draft: Draft, path: Path): void {
  const key = JSON.stringify(path);
  if (!draft.lines.has(key)) {
    draft.lines.set(key, draft.text.split('\n').length);
  }
}

function* pathsOf(node: unknown, path: Path): Generator<Path> {
  if (path.length > 0) {
    yield path;
  }
  if (Array.isArray(node)) {
    for (const [index, item] of node.entries()) {
      yield* pathsOf(item, [...path, index]);
    }
  } else if (typeof node === 'object' && node !== null && !(node instanceof Date)) {
    for (const [key, item] of Object.entries(node)) {
      yield* pathsOf(item, [...path, key]);
    }
  }
}
