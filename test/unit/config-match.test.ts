import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Config, defaultConfig, parseMode } from '../../src/config/config.js';
import { diffConfig, formatChange } from '../../src/config/diff.js';
import { parseConfig } from '../../src/config/load.js';
import {
  allowsPeer,
  guestSettings,
  isOutputNamed,
  type OutputIdentity,
  outputSettings,
  pickMode,
  takesCard,
} from '../../src/config/match.js';

function load(text: string): Config {
  return parseConfig(text, 'f', { user: () => null, group: () => null });
}

function output(change: Partial<OutputIdentity>): OutputIdentity {
  return { connector: 'DP-1', card: '/dev/dri/card0', make: null, model: null, serial: null, ...change };
}

function guest(config: Config, name: string) {
  const found = guestSettings(config, name);
  assert.ok(found?.kind === 'socket');
  return found;
}

test('an output that no entry matches has the settings that an empty entry gives', () => {
  assert.deepEqual(outputSettings(defaultConfig(), output({})), load('[[output]]').outputs[0]);
});

test('the first entry whose every match fits counts', () => {
  const config = load(`
    [[output]]
    make = "ACM"
    serial = "1"
    mode = "640x480"
    [[output]]
    name = "wall"
    make = "ACM"
    [[output]]
    card = "/dev/dri/by-path/pci-0"
    enabled = false
  `);
  const settingsOf = (change: Partial<OutputIdentity>) =>
    config.outputs.indexOf(outputSettings(config, output(change)));
  assert.equal(settingsOf({ make: 'ACM', serial: '1' }), 0);
  assert.equal(settingsOf({ make: 'ACM', serial: '2' }), 1);
  assert.equal(settingsOf({ make: 'ACM' }), 1);
  assert.equal(settingsOf({ cardAliases: ['/dev/dri/by-path/pci-0'] }), 2);
  assert.equal(settingsOf({ serial: '1' }), -1);
  assert.ok(isOutputNamed(config, output({ make: 'ACM' }), 'wall'));
  assert.ok(isOutputNamed(config, output({ make: 'ACM' }), 'DP-1'));
  assert.ok(!isOutputNamed(config, output({}), 'wall'));
});

test('cards are taken unless the first entry that matches says otherwise', () => {
  const config = load(`
    [[card]]
    device = "/dev/dri/card1"
    [[card]]
    driver = "vkms"
    ignore = true
  `);
  assert.ok(takesCard(config, { device: '/dev/dri/card0', driver: 'i915' }));
  assert.ok(takesCard(config, { device: '/dev/dri/card1', driver: 'vkms' }));
  assert.ok(!takesCard(config, { device: '/dev/dri/card2', driver: 'vkms' }));
  assert.ok(takesCard(config, { device: '/dev/dri/card2', driver: 'vkms', aliases: ['/dev/dri/card1'] }));
});

test('a peer is let in by either list, and by none when there is none', () => {
  const config = load(
    '[[guest]]\nname = "a"\n[[guest]]\nname = "b"\nuid = 7\n[[guest]]\nname = "c"\nuid = [7, 8]\ngid = 9\n',
  );
  assert.ok(allowsPeer(guest(config, 'a'), 1, 1));
  assert.ok(allowsPeer(guest(config, 'b'), 7, 1));
  assert.ok(!allowsPeer(guest(config, 'b'), 1, 7));
  assert.ok(allowsPeer(guest(config, 'c'), 1, 9));
  assert.ok(allowsPeer(guest(config, 'c'), 8, 1));
  assert.ok(!allowsPeer(guest(config, 'c'), 1, 1));
  assert.equal(guestSettings(config, 'd'), null);
});

const MODES = [
  { width: 1920, height: 1080, refreshMhz: 60000, preferred: false },
  { width: 1920, height: 1080, refreshMhz: 59940, preferred: true },
  { width: 1920, height: 1080, refreshMhz: 74973, preferred: false },
  { width: 640, height: 480, refreshMhz: 59940, preferred: false },
];

const PICKS: [request: string, index: number][] = [
  ['preferred', 1],
  ['1920x1080', 2],
  ['1920x1080@60', 0],
  ['1920x1080@59.94', 1],
  ['1920x1080@59.5', 1],
  ['1920x1080@75', 2],
  ['1920x1080@50', -1],
  ['640x480@60', 3],
  ['800x600', -1],
];

for (const [request, index] of PICKS) {
  test(`the mode ${request} is ${index < 0 ? 'not there' : `number ${index}`}`, () => {
    assert.equal(pickMode(MODES, parseMode(request)), MODES[index] ?? null);
  });
}

test('without a preferred mode the first is taken', () => {
  assert.equal(pickMode(MODES.slice(2), 'preferred'), MODES[2]);
  assert.equal(pickMode([], 'preferred'), null);
});

test('two loads of one text differ in nothing', () => {
  const text =
    '[[output]]\nmake = "A"\n[[guest]]\nname = "a"\narea = { x = 0, y = 0, width = 1, height = 1 }';
  assert.deepEqual(diffConfig(load(text), load(text)), []);
});

test('a reload is told as a list of changes', () => {
  const from = load(`
    [daemon]
    log_level = "info"
    [[card]]
    driver = "vkms"
    [[output]]
    make = "A"
    [[output]]
    make = "B"
    [[guest]]
    name = "a"
    [[guest]]
    name = "gone"
  `);
  const to = load(`
    [daemon]
    log_level = "debug"
    bus_socket = "/run/other"
    [[output]]
    make = "B"
    mode = "640x480"
    [[output]]
    make = "A"
    [[guest]]
    name = "new"
    [[guest]]
    name = "a"
    z = 3
    [policy]
    max_guests = 8
  `);
  assert.deepEqual(diffConfig(from, to).map(formatChange), [
    'daemon: busSocket changed from "/run/scanoutd/bus" to "/run/other" (needs a restart)',
    'daemon: logLevel changed from "info" to "debug"',
    'card driver="vkms": removed',
    'output make="B": mode changed from "preferred" to {"width":640,"height":480,"refreshMhz":null}',
    'output: order changed from ["make=\\"A\\"","make=\\"B\\""] to ["make=\\"B\\"","make=\\"A\\""]',
    'guest gone: removed',
    'guest new: added',
    'guest a: z changed from 0 to 3',
    'policy: maxGuests changed from 64 to 8',
  ]);
});
