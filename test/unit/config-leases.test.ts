import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/load.js';
import { ConfigError, formatProblem } from '../../src/config/problems.js';

const ACCOUNTS = { user: (name: string) => (name === 'kim' ? 1000 : null), group: () => null };

test('a lease has its defaults', () => {
  const { leases } = parseConfig('[[lease]]\nname = "desk"\noutputs = ["DP-1"]\nuid = "kim"', 'f', ACCOUNTS);
  assert.deepEqual(leases, [
    {
      name: 'desk',
      outputs: ['DP-1'],
      overlays: 0,
      cursor: true,
      queue: 0,
      transfer: false,
      units: null,
      noticeMs: 2000,
      onCrash: 'clear',
      uids: [1000],
      gids: null,
    },
  ]);
});

const DESK = '[[lease]]\nname = "desk"\noutputs = ["DP-1"]\n';
const WRONG: [what: string, text: string, says: RegExp][] = [
  ['two of one name', DESK + DESK, /lease\[0\] has this one/],
  ['an output twice', '[[lease]]\nname = "a"\noutputs = ["DP-1", "DP-1"]', /it is in the list already/],
  [
    'an output that nothing names',
    '[[lease]]\nname = "a"\noutputs = ["left"]',
    /no \[\[output\]\] has this name/,
  ],
  ['a user that is not there', `${DESK}uid = ["nobody-here"]`, /it has no user of this name/],
  ['a unit that can be none', `${DESK}unit = "player"`, /a list of them/],
  ['a notice that callers would not wait for', `${DESK}notice_ms = 30000`, /from 0 to 20000/],
  ['no outputs', '[[lease]]\nname = "a"\noutputs = []', /a list of 1 to 16 names/],
];

for (const [what, text, says] of WRONG) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => parseConfig(text, 'f', ACCOUNTS),
      (error) =>
        error instanceof ConfigError &&
        error.problems.length === 1 &&
        says.test(error.problems.map(formatProblem).join()),
    );
  });
}
