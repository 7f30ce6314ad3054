import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatArea,
  formatDuration,
  formatMicros,
  formatMode,
  formatTable,
  parseArea,
  plain,
} from '../../src/cli/table.js';
import {
  formatGuest,
  formatGuests,
  formatOutput,
  formatOutputs,
  formatPlacement,
  formatStatus,
} from '../../src/cli/text.js';
import { guest, output, plane, status } from '../fixtures/documents.js';

const STYLE = { color: false };

test('status tells cards, outputs and guests, and why each is not as it should be', () => {
  assert.equal(
    formatStatus(status(), STYLE),
    `scanoutd 0.1.0, process 700, up 3 h 12 min
configuration: /etc/scanoutd/scanoutd.toml
session: logind, seat0 (session 2)

Cards
CARD            DRIVER  STATE   MASTER BY      SCHEDULING  FRAMEBUFFERS
/dev/dri/card0  vkms    active  logind, seat0  ordinary    6 live, 9 imports
  /dev/dri/card0: no real-time priority: EPERM: RLIMIT_RTPRIO is 0

Outputs
OUTPUT    CARD            MONITOR         MODE             STATE      POLICY    GUESTS     FLIPS  MISSED
HDMI-A-1  /dev/dri/card0  ACM Wall 27 42  1920x1080@59.94  lit        deadline  tv, clock  1200   1
DP-1      /dev/dri/card0  ACM Wall 27 42  1920x1080@59.94  idle       eager     -          1200   1
DP-2      /dev/dri/card0  -               -                unplugged  deadline  -          0      0
  DP-2: not lit: nothing is connected
  DP-2: newest failure: modeset: EINVAL (errno 22), 3 in all

Guests
GUEST  KIND    PROCESS           OUTPUT    MODE             AREA           PLANE    ON        STATE   SIZE       FORMAT  PRESENT  FLIPS  MISSED  P50    P99
tv     socket  812 (user 64055)  HDMI-A-1  1920x1080@59.94  1920x1080+0+0  primary  plane 31  direct  1920x1080  XR24    mailbox  600    1       85 us  1.3 ms
clock  virtio  connected         HDMI-A-1  1920x1080@59.94  1920x1080+0+0  overlay  plane 35  copied  640x480    XR24    mailbox  600    1       -      -
  clock: plane 0 is copied: TEST_ONLY refused NV12 on plane 35: EINVAL
  clock: newest error: BAD_RECT: empty
`,
  );
});

test('a guest with a lease has its outputs and its state, and no flips', () => {
  const lease = { name: 'wall', outputs: [], reason: '' };
  const of = (name: string, change: Parameters<typeof guest>[0]) =>
    guest({ name, kind: 'lease', output: null, area: null, mode: null, planes: [], ...change });
  const text = formatGuests(
    [
      of('late', { lease: { ...lease, state: 'waiting' } }),
      of('player', { lease: { ...lease, state: 'leased', outputs: ['DP-1', 'DP-2'] } }),
      of('gone', { connected: false, lease: { ...lease, state: 'ended', reason: 'it has left' } }),
    ],
    STYLE,
  );
  const lines = text.split('\n').map((line) => line.trimEnd());
  assert.match(lines[1] ?? '', /^late +lease +812 \(user 64055\) +- +- +- +lease +- +waiting$/);
  assert.match(lines[2] ?? '', /^player +lease +812 \(user 64055\) +DP-1, DP-2 +- +- +lease +- +leased$/);
  assert.match(lines[3] ?? '', /^gone +lease +not connected +- +- +- +lease +- +ended$/);
  assert.deepEqual(lines.slice(4, 7), [
    '  late: waits for lease wall',
    '  player: has lease wall: its flips are its own, and not counted here',
    '  gone: has lease wall no more: it has left',
  ]);
  const one = of('player', { lease: { ...lease, state: 'leased' } });
  assert.equal(formatGuest(one, STYLE), formatGuests([one], STYLE));
});

test('nothing at all is said in words', () => {
  const text = formatStatus(status({ config: null, cards: [], outputs: [], guests: [] }), STYLE);
  assert.match(text, /configuration: none, the defaults hold\n/);
  assert.match(text, /\nNo card\. .*\n\nOutputs\nNo output\. .*\n\nGuests\nNo guest\. /);
});

test('a guest with several planes has a line for each, one without any still has one', () => {
  const planes = [
    plane(),
    plane({ index: 1, kind: 'cursor', plane: null, state: 'off', size: null, fourcc: null }),
  ];
  const text = formatGuests(
    [
      guest({ planes }),
      guest({ name: 'late', connected: false, output: null, area: null, mode: null, planes: [] }),
    ],
    STYLE,
  );
  const lines = text.split('\n').map((line) => line.split(/ {2,}/));
  assert.deepEqual(lines[1]?.slice(0, 10), [
    'tv',
    'socket',
    '812 (user 64055)',
    'HDMI-A-1',
    '1920x1080@59.94',
    '1920x1080+0+0',
    'primary',
    'plane 31',
    'direct',
    '1920x1080',
  ]);
  assert.deepEqual(lines[2]?.slice(0, 6), ['', 'cursor', '-', 'off', '-', '-']);
  assert.deepEqual(lines[3], ['late', 'socket', 'not connected', '-', '-', '-']);
});

test('a paused card says so', () => {
  const change = {
    paused: true,
    pausedReason: 'the session is not active',
    realtime: true,
    realtimeReason: '',
  };
  const cards = status().cards.map((card) => ({ ...card, ...change }));
  const text = formatStatus(status({ cards }), STYLE);
  assert.match(text, /vkms +paused: not master +logind, seat0 +real-time /);
  assert.match(text, /card0: paused: the session is not active\n/);
});

test('one output has its modes, as the configuration reads them', () => {
  assert.match(
    formatOutput(output({ writeback: false }), STYLE),
    /crtc: 51\nscreenshots: composed from the planes\nmodes:\n {2}1920x1080@59.94 \(preferred\)\n {2}640x480@60\n$/,
  );
  assert.match(formatOutput(output({ modes: [], crtc: null }), STYLE), /crtc: none\n.*\nmodes: none\n$/);
});

test('one guest has all its counters', () => {
  assert.match(
    formatGuest(guest(), STYLE),
    /\n3 buffers registered, 0 frames copied, 0 answered before shown\nplane 0: 2 frames superseded, 0 refused; latency of 600 flips: p50 85 us, p99 1.3 ms, max 2.6 s\n$/,
  );
});

test('a placement is one line', () => {
  assert.equal(formatPlacement(guest()), 'tv: on HDMI-A-1, 1920x1080+0+0 (primary plane 31 direct)\n');
  assert.equal(formatPlacement(guest({ output: null })), 'tv: shown nowhere\n');
  assert.equal(formatPlacement(guest({ area: null, planes: [] })), 'tv: on HDMI-A-1\n');
});

test('what comes from outside cannot move the cursor', () => {
  const text = formatOutputs([output({ make: 'A\x1b[2J\n', reason: 'x\r', lit: false })], STYLE);
  assert.doesNotMatch(text.replaceAll('\n', ''), /\p{Cc}/u);
  assert.match(text, /A\?\[2J\? Wall/);
  assert.equal(plain('é 日本 \u009b1m'), 'é 日本 ?1m');
});

test('colours are for terminals', () => {
  assert.ok(!formatStatus(status(), { color: false }).includes('\x1b'));
  assert.ok(formatStatus(status(), { color: true }).includes('\x1b[1mCards\x1b[22m'));
});

test('columns of a table stand under each other', () => {
  const cell = fc
    .string({ unit: fc.constantFrom(...'abc -'), minLength: 1, maxLength: 8 })
    .map((text) => `${text}|`);
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 5 }), (rows) => {
      const lines = formatTable(['A', 'B'], rows, STYLE).trimEnd().split('\n');
      const width = Math.max(1, ...rows.map(([first]) => first.length)) + 2;
      assert.equal(lines.length, rows.length + 1);
      for (const [index, [first, second]] of rows.entries()) {
        assert.equal(lines[index + 1], first.padEnd(width) + second);
      }
    }),
  );
});

test('an area reads as it is written', () => {
  const side = fc.integer({ min: 1, max: 16384 });
  const start = fc.integer({ min: 0, max: 16383 });
  fc.assert(
    fc.property(
      fc.record({ x: start, y: start, width: side, height: side }, { noNullPrototype: true }),
      (area) => {
        assert.deepEqual(parseArea(formatArea(area)), area);
      },
    ),
  );
  assert.deepEqual(parseArea('640x480'), { x: 0, y: 0, width: 640, height: 480 });
  for (const wrong of ['', '640', '0x1', '1x0', '1x1+1', '1x1+-1+0', '1x1+1+1 ', '999999x1', '1X1']) {
    assert.equal(parseArea(wrong), null, wrong);
  }
});

test('quantities have units that fit', () => {
  assert.deepEqual([0, 0.4, 999, 1000, 999_949, 1_000_000].map(formatMicros), [
    '0 us',
    '0 us',
    '999 us',
    '1.0 ms',
    '999.9 ms',
    '1.0 s',
  ]);
  assert.deepEqual([0, 999, 61_000, 3_600_000, 90_061_000].map(formatDuration), [
    '0 s',
    '0 s',
    '1 min 1 s',
    '1 h',
    '1 d 1 h',
  ]);
  assert.equal(formatMode({ width: 640, height: 480, refreshMhz: 59951 }), '640x480@59.951');
});
