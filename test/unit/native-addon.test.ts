/** Finding and loading the add-on. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { addon, addonPaths, loadAddon } from '../../src/native/addon.js';

const directory = mkdtempSync(join(tmpdir(), 'scanoutd-addon-'));
after(() => rmSync(directory, { recursive: true }));
const missing = join(directory, 'missing.node');
const broken = join(directory, 'broken.node');
writeFileSync(broken, 'no library');

test('the built add-on comes before that of the test machine', () => {
  const [first, second, ...rest] = addonPaths({});
  assert.match(first ?? '', /\/build\/Release\/scanoutd\.node$/);
  assert.match(second ?? '', /\/build-machine\/scanoutd\.node$/);
  assert.deepEqual(rest, []);
});

test('SCANOUTD_NATIVE names one and no other', () => {
  assert.deepEqual(addonPaths({ SCANOUTD_NATIVE: missing }), [missing]);
});

test('a missing add-on says where it was looked for and how to build it', () => {
  assert.throws(() => loadAddon([missing, `${missing}2`]), {
    code: 'ERR_MODULE_NOT_FOUND',
    message: new RegExp(`npm run build:native.*${missing}: not there.*${missing}2: not there`, 's'),
  });
});

test('one that does not load is told apart, and the next is tried', () => {
  assert.throws(() => loadAddon([broken, missing]), {
    code: 'ERR_DLOPEN_FAILED',
    message: new RegExp(`${broken}: .*${missing}: not there`, 's'),
  });
  const works = addonPaths();
  assert.equal(loadAddon([missing, broken, ...works]), addon);
});
