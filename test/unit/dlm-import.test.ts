/** Configurations of drm-lease-manager, and what becomes of them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type ImportOptions, importDlm } from '../../src/cli/lease-import.js';
import { parseDlmConfig } from '../../src/config/dlm-config.js';
import { parseConfig } from '../../src/config/load.js';
import { ConfigError } from '../../src/config/problems.js';
import type { ConnectorInfo, PlaneInfo, PlaneType } from '../../src/kms/topology.js';
import type { ImportCard } from '../../src/leases/dlm-import.js';

const PROGRAMS = fileURLToPath(new URL('../../bin/', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'dlm-import-'));
after(() => rmSync(directory, { recursive: true }));

function fileWith(text: string): string {
  const file = join(directory, 'leases.toml');
  writeFileSync(file, text);
  return file;
}

/** Connectors of both CRTCs, 50 and 51; the first is on the second. */
function cardOf(
  minor: number,
  names: string[],
  planes: [id: number, type: PlaneType, crtcs: number][],
): ImportCard {
  const properties = new Map<string, number>();
  const rest = { connected: true, modes: [], identity: null, edid: null, properties };
  const connectors = names.map(
    (name, i): ConnectorInfo => ({
      id: 70 + i,
      name,
      writeback: name.startsWith('Writeback'),
      possibleCrtcs: 3,
      crtc: i === 0 ? 51 : 0,
      ...rest,
    }),
  );
  const plane = ([id, type, possibleCrtcs]: [number, PlaneType, number]): PlaneInfo => ({
    ...{ id, type, possibleCrtcs, crtc: 0, formats: new Map(), zpos: 0, properties },
  });
  const crtcs = [0, 1].map((index) => ({ id: 50 + index, index, properties }));
  return { path: `/dev/dri/card${minor}`, minor, topology: { crtcs, connectors, planes: planes.map(plane) } };
}

const CARD = cardOf(
  0,
  ['HDMI-A-1', 'DP-1', 'SPI-1', 'Writeback-1'],
  [
    [31, 'primary', 1],
    [32, 'overlay', 1],
    [33, 'primary', 2],
    [34, 'overlay', 2],
    [35, 'overlay', 2],
    [36, 'overlay', 3],
    [37, 'cursor', 2],
    [38, 'overlay', 4],
  ],
);

async function imported(
  text: string | undefined,
  cards: ImportCard[],
  options: ImportOptions = {},
  problems: string[] = [],
): Promise<string> {
  const file = text === undefined ? undefined : fileWith(text);
  const result = await importDlm(file, options, async () => ({ cards, problems }));
  return result.text.split('\n').slice(1).join('\n');
}

/** What scanoutd makes of it. */
function leasesOf(text: string) {
  return parseConfig(text, 'imported').leases.map(({ name, outputs, overlays, cursor, onCrash }) => ({
    ...{ name, outputs, overlays, cursor, onCrash },
  }));
}

const WRONG: { what: string; text: string; says: string[] }[] = [
  { what: 'no TOML', text: '[[lease]\n', says: ['f:1:9: no valid TOML'] },
  {
    what: 'an empty file',
    text: '',
    says: ['f: lease: is missing; it must be a list of tables, written [[lease]]'],
  },
  {
    what: 'a name that scanoutd cannot have',
    text: '[[lease]]\nname = "lease 1"\nconnectors = ["DP-1"]\n',
    says: ['f:2:1: lease[0].name: found "lease 1", allowed is a text of 1 to 63 letters'],
  },
  {
    what: 'a lease of nothing',
    text: '[[lease]]\nname = "a"\n[[lease]]\nname = "b"\nconnectors = []\n',
    says: ['f:1:3: lease[0].connectors: is missing', 'f:5:1: lease[1].connectors: found an empty list'],
  },
  {
    what: 'what no connector is called',
    text: '[[lease]]\nname = "a"\nconnectors = [\n "DP-1",\n "gamma", 3]\n',
    says: ['f:5:2: lease[0].connectors[1]: found "gamma"', 'f:5:11: lease[0].connectors[2]: found 3'],
  },
  {
    what: 'twins',
    text: '[[lease]]\nname = "a"\nconnectors = ["DP-1", "DP-1"]\n[[lease]]\nname = "a"\nconnectors = ["DP-2"]\n',
    says: ['f:3:23: lease[0].connectors[1]: found "DP-1"', 'f:5:1: lease[1].name: found "a"'],
  },
  {
    what: 'keys of a lease and of a connector that there are not',
    text: '[[lease]]\nname = "a"\nconnector = ["DP-1"]\nconnectors = ["DP-1"]\n["DP-1"]\noptinal = true\nplanes = [0]\n',
    says: [
      'f:3:1: lease[0].connector: unknown key; did you mean "connectors"?',
      'f:6:1: DP-1.optinal: unknown key; did you mean "optional"?',
      'f:7:11: DP-1.planes[0]: found 0, allowed is the id of a plane',
    ],
  },
  {
    what: 'a connector that is no table, and a key that is neither',
    text: '"DP-1" = true\nverbose = true\n[[lease]]\nname = "a"\nconnectors = ["DP-1"]\n',
    says: [
      'f:1:1: DP-1: found true, allowed is a table, written ["CONNECTOR"]',
      'f:2:1: verbose: unknown key',
    ],
  },
];

for (const { what, text, says } of WRONG) {
  test(`${what} is told with its place`, () => {
    assert.throws(
      () => parseDlmConfig(text, 'f'),
      (error) => {
        assert.ok(error instanceof ConfigError);
        const lines = error.message.split('\n');
        assert.deepEqual(
          lines.map((line, i) => line.slice(0, says[i]?.length)),
          says,
        );
        return true;
      },
    );
  });
}

test('planes that were listed by id are asked for by what they can do', async () => {
  const text = await imported(
    '[[lease]]\nname = "desk"\nconnectors = ["HDMI-A-1"]\n["HDMI-A-1"]\nplanes = [33, 34, 36, 38, 99]\n',
    [CARD],
  );
  assert.equal(
    text,
    [
      '',
      '# HDMI-A-1 had plane 33 (primary), plane 34 (overlay), plane 36 (overlay).',
      '# /dev/dri/card0 has no plane 99.',
      '# Plane 38 cannot be used with HDMI-A-1.',
      '[[lease]]',
      'name = "desk"',
      'outputs = ["HDMI-A-1"]',
      'overlays = 2',
      'cursor = false',
      '',
    ].join('\n'),
  );
  const rest = { onCrash: 'clear' };
  assert.deepEqual(leasesOf(text), [
    { name: 'desk', outputs: ['HDMI-A-1'], overlays: 2, cursor: false, ...rest },
  ]);
});

test('without a list there are the planes that the CRTC has to itself', async () => {
  // HDMI-A-1 is on the second CRTC, which has two; DP-1 is on none, and may get the one that has one.
  const both = ['HDMI-A-1', 'DP-1']
    .map((name) => `[[lease]]\nname = "${name}"\nconnectors = ["${name}"]\n`)
    .join('');
  const leases = leasesOf(await imported(both, [CARD]));
  assert.deepEqual(
    leases.map(({ overlays, cursor }) => [overlays, cursor]),
    [
      [2, true],
      [1, true],
    ],
  );
  const together = await imported('[[lease]]\nname = "a"\nconnectors = ["HDMI-A-1", "DP-1"]\n', [CARD]);
  assert.match(together, /# Each of its outputs gets 2 overlay planes, which not each had\.\n/);
  assert.equal(leasesOf(together)[0]?.overlays, 2);
});

test('without a card to ask, it is said what has to be set', async () => {
  const text = await imported(
    '[[lease]]\nname = "a"\nconnectors = ["DP-1", "DP-2"]\n["DP-1"]\nplanes = [31, 32]\n["DP-2"]\noptional = true\n["DP-3"]\n',
    [],
    {},
    ['/dev/dri/card0: Permission denied'],
  );
  for (const note of [
    '# No card could be read, so planes are as many as scanoutd leases by default.',
    '# ["DP-3"] is left out: no lease has this connector.',
    '# Not read: /dev/dri/card0: Permission denied.',
    '# DP-1 had planes 31, 32: set overlays to how many of them are overlays.',
    '# DP-2 was optional; here it is not: without it there is no lease.',
  ]) {
    assert.ok(text.includes(`${note}\n`), `${note} in ${text}`);
  }
  assert.deepEqual(leasesOf(text)[0]?.outputs, ['DP-1', 'DP-2']);
});

test('optional connectors that no card has are left out, and a lease of nothing else', async () => {
  const tables = '["DP-8"]\noptional = true\n["DP-9"]\noptional = true\n';
  const text = await imported(
    `[[lease]]\nname = "a"\nconnectors = ["DP-1", "DP-9"]\n[[lease]]\nname = "b"\nconnectors = ["DP-8"]\n${tables}` +
      '[[lease]]\nname = "c"\nconnectors = ["DP-7"]\n',
    [CARD],
  );
  const names = leasesOf(text).map(({ name, outputs }) => [name, ...outputs]);
  assert.deepEqual(names, [
    ['a', 'DP-1'],
    ['c', 'DP-7'],
  ]);
  assert.match(text, /# DP-9 was optional, and is left out: no card here has it\.\n/);
  assert.match(text, /# Lease "b" is left out, as there is nothing left of it\.\n/);
  assert.match(text, /# No card here has DP-7: without it there is no lease\.\n/);
});

test('a connector that it has no name for is found by its id', async () => {
  const text = await imported('[[lease]]\nname = "a"\nconnectors = ["Unknown-72"]\n', [CARD]);
  assert.deepEqual(leasesOf(text)[0]?.outputs, ['SPI-1']);
});

test('a connector name of two cards becomes an output of the one that is meant', async () => {
  const cards = [CARD, cardOf(1, ['DP-1', 'DP-2'], [[40, 'primary', 1]])];
  const file = '[[lease]]\nname = "a"\nconnectors = ["DP-1"]\n[[lease]]\nname = "b"\nconnectors = ["DP-2"]\n';
  const text = await imported(file, cards);
  assert.match(
    text,
    /\[\[output\]\]\nname = "DP-1 of card0"\nconnector = "DP-1"\ncard = "\/dev\/dri\/card0"\n/,
  );
  assert.deepEqual(
    leasesOf(text).map(({ outputs }) => outputs),
    [['DP-1 of card0'], ['DP-2']],
  );
});

test('its options are those of its command line', async () => {
  const file = '[[lease]]\nname = "a"\nconnectors = ["DP-1"]\n';
  const kept = await imported(file, [CARD], { keepOnCrash: true });
  assert.equal(leasesOf(kept)[0]?.onCrash, 'keep');
  const [taken] = parseConfig(await imported(file, [CARD], { leaseTransfer: true }), 'imported').leases;
  assert.deepEqual([taken?.transfer, taken?.onCrash], [true, 'clear']);
});

test('what is printed is right for scanoutd, and what is wrong ends with 1', () => {
  const run = (program: string, ...args: string[]) =>
    spawnSync(process.execPath, [`${PROGRAMS}${program}.js`, ...args], { encoding: 'utf8' });
  const file = fileWith(
    '[[lease]]\nname = "card0-HDMI-A-1"\nconnectors = ["HDMI-A-1"]\n["HDMI-A-1"]\nplanes = [31]\n',
  );
  const { status, stdout, stderr } = run('scanoutctl', 'lease', 'import', '-k', file);
  assert.deepEqual([status, stderr], [0, '']);
  const config = join(directory, 'scanoutd.toml');
  writeFileSync(config, stdout);
  const checked = run('scanoutd', '--check', '-c', config);
  assert.equal(checked.status, 0, checked.stdout);
  const document = JSON.parse(run('scanoutctl', 'lease', 'import', file, '--json').stdout);
  assert.equal(document.leases[0].name, 'card0-HDMI-A-1');
  writeFileSync(file, '[[lease]]\nname = "a"\n');
  const wrong = run('scanoutctl', 'lease', 'import', file);
  assert.equal(wrong.status, 1);
  assert.equal(wrong.stdout, '');
  assert.match(
    wrong.stderr,
    /this cannot be imported:\n {2}.*leases\.toml:1:3: lease\[0\]\.connectors: is missing/,
  );
});
