/** Compares the TypeScript view of the guest protocol with native/guests/protocol.h, by the C compiler's own word. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Fields, Layout } from '../../src/guests/layout.js';
import {
  Capability,
  Code,
  FLIP_PAGE_SIZE,
  Flip,
  formatLayout,
  headerLayout,
  INPUT_REPLY_SIZE,
  INPUT_RING_SIZE,
  InputClass,
  layouts,
  MAX,
  Message,
  NAME_SIZE,
  PlaneKind,
  PlaneState,
  Presented,
  PresentMode,
  SOCKET_PATH,
  TEXT_SIZE,
  VERSION,
} from '../../src/guests/protocol.js';
import { INPUT_CLASSES } from '../../src/native/input.js';

const HEADER = 'native/guests/protocol.h';

const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const upper = (name: string) => snake(name).toUpperCase();

/** Prints `expressions` as JSON, evaluated by the C compiler. */
function evaluate(expressions: Map<string, string>): Record<string, string> {
  const directory = mkdtempSync(join(tmpdir(), 'scanoutd-protocol-'));
  try {
    const lines = [...expressions].map(
      ([key, value]) => `printf("${key}=%llu\\n", (unsigned long long)(${value}));`,
    );
    writeFileSync(
      join(directory, 'table.c'),
      `#include <stddef.h>\n#include <stdio.h>\n#include "guests/protocol.h"\nint main(void){${lines.join('\n')}}`,
    );
    const program = join(directory, 'table');
    execFileSync('cc', ['-std=c11', '-Inative', '-o', program, join(directory, 'table.c')]);
    const output = execFileSync(program, { encoding: 'utf8' });
    return Object.fromEntries(
      output
        .trim()
        .split('\n')
        .map((line) => line.split('=')),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Every numeric constant of the TypeScript side by its name in C. */
function constants(): Map<string, number | bigint> {
  const all = new Map<string, number | bigint>([
    ['VERSION_MAJOR', VERSION.major],
    ['VERSION_MINOR', VERSION.minor],
    ['NAME_SIZE', NAME_SIZE],
    ['TEXT_SIZE', TEXT_SIZE],
    ['FLIP_PAGE_SIZE', FLIP_PAGE_SIZE],
    ['INPUT_RING_SIZE', INPUT_RING_SIZE],
    ['INPUT_REPLY_SIZE', INPUT_REPLY_SIZE],
  ]);
  const groups: [string, Record<string, number | bigint>][] = [
    ['MAX_', MAX],
    ['', Message],
    ['CAP_', Capability],
    ['PLANE_', PlaneKind],
    ['STATE_', PlaneState],
    ['PRESENT_', PresentMode],
    ['INPUT_', InputClass],
    ['FLIP_', Flip],
    ['PRESENTED_', Presented],
    ['', Code],
  ];
  for (const [prefix, group] of groups)
    for (const [name, value] of Object.entries(group)) all.set(prefix + upper(name), value);
  return all;
}

/** What only native code touches: the inside of the flip page and of the input ring. */
const NATIVE_ONLY = [
  ...['FLIP_PAGE_MAGIC', 'FLIP_ENTRIES', 'SOCKET_PATH', 'PROTOCOL_H'],
  ...['INPUT_MAGIC', 'INPUT_EVENTS', 'INPUT_DEVICES', 'INPUT_MAX_FRAME', 'INPUT_LEDS_SET'],
];

test('every constant of the header is here, with its value', () => {
  const text = readFileSync(HEADER, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  const names = [...text.matchAll(/^\s*(?:#define )?SCANOUTD_([A-Z0-9_]+)\b(?= |,|\n)/gm)].map(
    (match) => match[1] ?? '',
  );
  const known = constants();
  const wanted = new Set(names.filter((name) => !NATIVE_ONLY.includes(name)));
  assert.deepEqual([...known.keys()].sort(), [...wanted].sort());
  const values = evaluate(new Map([...known.keys()].map((name) => [name, `SCANOUTD_${name}`])));
  for (const [name, value] of known) assert.equal(value.toString(), values[name], name);
  assert.ok(text.includes(`#define SCANOUTD_SOCKET_PATH "${SOCKET_PATH}"`));
});

test('the classes of input are those of the input thread', () => {
  assert.deepEqual(Object.keys(InputClass), [...INPUT_CLASSES]);
  assert.deepEqual(Object.values(InputClass), [...INPUT_CLASSES.keys()]);
});

test('every field lies where the C compiler puts it', () => {
  const structures: Record<string, Layout<Fields>> = {
    header: headerLayout,
    format: formatLayout,
    ...layouts,
  };
  const expressions = new Map<string, string>();
  const expected: Record<string, string> = {};
  for (const [name, layout] of Object.entries(structures)) {
    const structure = `struct scanoutd_${snake(name)}`;
    // The list at the end of `formats` is no part of the layout.
    expressions.set(name, name === 'formats' ? `offsetof(${structure}, formats)` : `sizeof(${structure})`);
    expected[name] = String(layout.size);
    for (const [field, { size }] of Object.entries(layout.fields)) {
      expressions.set(`${name}.${field}`, `offsetof(${structure}, ${snake(field)})`);
      expressions.set(`${name}.${field} size`, `sizeof(((${structure}*)0)->${snake(field)})`);
      expected[`${name}.${field}`] = String(layout.offsets[field]);
      expected[`${name}.${field} size`] = String(size);
    }
  }
  assert.deepEqual(evaluate(expressions), expected);
});

test('the minimal guest of the documentation compiles', () => {
  const page = readFileSync('docs/guest-protocol.md', 'utf8');
  const program = /```c\n([\s\S]*?)```/.exec(page)?.[1];
  assert.ok(program);
  const warnings = ['-Wall', '-Wextra', '-Wpedantic', '-Werror'];
  const options = ['-std=c11', '-D_GNU_SOURCE', ...warnings, '-fsyntax-only', '-Inative', '-Iclients/c'];
  execFileSync('cc', [...options, '-x', 'c', '-'], { input: program });
});
