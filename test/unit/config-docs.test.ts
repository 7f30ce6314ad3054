import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { jsonSchemaText } from '../../src/config/json-schema.js';
import { parseConfig } from '../../src/config/load.js';

interface Schema {
  properties?: Record<string, Schema>;
  items?: Schema;
  default?: unknown;
}

const MANUAL = readFileSync('docs/configuration.md', 'utf8');
const MAN_PAGE = readFileSync('docs/man/scanoutd.toml.5.scd', 'utf8');
const SECTIONS = JSON.parse(jsonSchemaText()).properties as Record<string, Schema>;
const ACCOUNTS = { user: () => 0, group: () => 0 };

/** Keys of a table as the documents name them, with those of tables inside as `idle.text`. */
function keysOf(table: Schema, prefix: string): [key: string, schema: Schema][] {
  return Object.entries(table.properties ?? {}).flatMap(([name, schema]) =>
    schema.properties === undefined
      ? [[`${prefix}${name}`, schema] as [string, Schema]]
      : keysOf(schema, `${prefix}${name}.`),
  );
}

for (const [section, schema] of Object.entries(SECTIONS)) {
  const header = schema.items === undefined ? `[${section}]` : `[[${section}]]`;
  const chapter = MANUAL.split(/^## /m).find((text) => text.startsWith(`\`${header}\``)) ?? '';

  for (const [key, { default: value }] of keysOf(schema.items ?? schema, '')) {
    test(`the manual has ${key} of ${header}, with its default`, () => {
      const row = chapter.split('\n').find((line) => line.startsWith(`| \`${key}\` |`));
      assert.ok(row !== undefined, `no row for ${key}`);
      const [, , range, shown, effect] = row.split('|').map((cell) => cell.trim());
      assert.ok(range !== '' && effect !== '', row);
      if (value !== undefined) {
        assert.equal(shown, `\`${JSON.stringify(value)}\``);
      }
    });
  }

  test(`the man page has the keys of ${header}`, () => {
    const part = MAN_PAGE.split(/^# /m).find((text) => text.includes(`${header}\n`)) ?? '';
    for (const [key] of keysOf(schema.items ?? schema, '')) {
      const name = key.startsWith('area.') ? key.slice(5) : key;
      assert.match(part, new RegExp(`\\*${name.replace('.', '\\.')}\\* = `));
    }
  });
}

test('the example is right, and has an entry of each kind', () => {
  const example = readFileSync('docs/scanoutd.toml.example', 'utf8');
  const config = parseConfig(example, 'docs/scanoutd.toml.example', ACCOUNTS);
  assert.ok(config.cards.length > 0 && config.outputs.length > 0 && config.guests.length > 0);
});

test('what is commented out in the example is right too', () => {
  const example = readFileSync('docs/scanoutd.toml.example', 'utf8').replace(/^# (?=[a-z_]+ = )/gm, '');
  assert.ok(parseConfig(example, 'f', ACCOUNTS).daemon.guestSocketGroup !== null);
});

test('the examples of the manual are right', () => {
  const blocks = [...MANUAL.matchAll(/```toml\n(.*?)```/gs)].map(([, text]) => text ?? '');
  assert.ok(blocks.length >= 3);
  for (const text of blocks) {
    // The guest of one example is on the output of another.
    parseConfig(
      text.includes('"left"') && !text.includes('[[output]]') ? `${blocks[1]}${text}` : text,
      'f',
      ACCOUNTS,
    );
  }
});

test('the examples of seats are right', () => {
  const seats = readFileSync('docs/seats.md', 'utf8').replace(/^ {2}/gm, '');
  const blocks = [...seats.matchAll(/```toml\n(.*?)```/gs)].map(([, text]) => text ?? '');
  assert.ok(blocks.length >= 4);
  for (const text of blocks) assert.ok(parseConfig(text, 'f', ACCOUNTS).seats.length > 0, text);
});

const hasScdoc = spawnSync('scdoc', ['-v']).error === undefined;

for (const page of readdirSync('docs/man')) {
  test(`${page} is a man page`, { skip: hasScdoc ? false : 'there is no scdoc here' }, () => {
    const { status, stderr } = spawnSync('scdoc', {
      input: readFileSync(`docs/man/${page}`),
      encoding: 'utf8',
    });
    assert.equal(stderr, '');
    assert.equal(status, 0);
  });
}
