/** What is noted of lent outputs while the daemon is DRM master, and what of it is brought back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Card } from '../../src/kms/card.js';
import {
  isDark,
  isTheirs,
  type LentState,
  noteLent,
  restoration,
  wasFaster,
} from '../../src/kms/lent-state.js';
import type { Lighting } from '../../src/kms/lighting.js';
import type { Output } from '../../src/kms/output.js';
import { Suspension } from '../../src/kms/suspension.js';

const [CRTC, CONNECTOR, WRITEBACK, PLANE] = [10, 20, 21, 30];
const [GRANTED, LESSEES, STRANGERS] = [100, 101, 102];
const IDS = { ACTIVE: 1, MODE_ID: 2, CRTC_ID: 3, FB_ID: 4, zpos: 5 } as const;
type Name = keyof typeof IDS;

/** One lent output on a kernel of which only properties and blobs are played. */
class PlayedCard {
  readonly objects = new Map<number, Partial<Record<Name, bigint>>>([
    [CRTC, { ACTIVE: 1n, MODE_ID: 7n }],
    [CONNECTOR, { CRTC_ID: BigInt(CRTC) }],
    [WRITEBACK, { CRTC_ID: BigInt(CRTC) }],
    [PLANE, { FB_ID: BigInt(LESSEES), CRTC_ID: BigInt(CRTC), zpos: 0n }],
  ]);
  readonly blobs = new Map([[7n, Buffer.from('640x480')]]);
  readonly warnings: unknown[] = [];
  master = true;
  makeBlob = () => ({ id: 1000, destroy: () => {} });
  readonly output = {
    name: 'A',
    connector: { id: CONNECTOR },
    lentPlaneIds: [PLANE],
    lent: {
      lease: 'desk',
      lit: { crtc: { id: CRTC }, writeback: { id: WRITEBACK }, idle: { framebuffer: GRANTED } },
    },
  } as unknown as Output;
  readonly card = {
    path: '/dev/dri/card0',
    engine: { pause: () => true },
    outputs: new Map([['A', this.output]]),
    log: { warn: (about: unknown) => this.warnings.push(about) },
    device: {
      native: {
        properties: (object: number) => this.properties(object),
        readBlob: (id: number) => this.blobs.get(BigInt(id)),
      },
      modeBlob: () => this.makeBlob(),
      isMaster: () => this.master,
    },
  } as unknown as Card;

  private properties(object: number) {
    const values = this.objects.get(object);
    if (values === undefined)
      throw Object.assign(new Error('ENOENT'), {
        code: 'ENOENT',
        errno: 2,
        op: 'DRM_IOCTL_MODE_OBJ_GETPROPERTIES',
      });
    return Object.entries(values).map(([name, value]) => ({
      id: IDS[name as Name],
      name,
      value,
      type: name === 'MODE_ID' ? 'blob' : 'range',
      // A plane with a fixed place in the stack: to set it is refused.
      immutable: name === 'zpos',
    }));
  }

  set(object: number, values: Partial<Record<Name, bigint>>): void {
    this.objects.set(object, { ...this.objects.get(object), ...values });
  }

  note(): LentState {
    const [state] = noteLent(this.card);
    assert.ok(state !== undefined);
    return state;
  }
}

test('all that is not immutable is noted, and nothing is to be done where nothing has changed', () => {
  const played = new PlayedCard();
  const state = played.note();
  assert.deepEqual(
    state.noted.map(({ object, name }) => [object, name]),
    [
      [CRTC, 'ACTIVE'],
      [CRTC, 'MODE_ID'],
      [CONNECTOR, 'CRTC_ID'],
      [WRITEBACK, 'CRTC_ID'],
      [PLANE, 'FB_ID'],
      [PLANE, 'CRTC_ID'],
    ],
  );
  assert.equal(restoration(played.card, state), null);
});

test('a mode is the same by what is in its blob, and is brought back as a blob of its own', () => {
  const played = new PlayedCard();
  const state = played.note();
  played.blobs.set(8n, Buffer.from('640x480'));
  played.set(CRTC, { MODE_ID: 8n });
  assert.equal(restoration(played.card, state), null);
  played.blobs.set(8n, Buffer.from('1024x768'));
  const back = restoration(played.card, state);
  assert.deepEqual(back?.properties, [
    [CRTC, IDS.ACTIVE, 1n],
    [CRTC, IDS.MODE_ID, 1000],
    [CONNECTOR, IDS.CRTC_ID, BigInt(CRTC)],
    [WRITEBACK, IDS.CRTC_ID, BigInt(CRTC)],
    [PLANE, IDS.FB_ID, BigInt(LESSEES)],
    [PLANE, IDS.CRTC_ID, BigInt(CRTC)],
  ]);
  assert.equal(back?.blobs.length, 1);
});

test('of one object alone, what is its own', () => {
  const played = new PlayedCard();
  const state = played.note();
  played.set(WRITEBACK, { CRTC_ID: 0n });
  played.set(CRTC, { ACTIVE: 0n });
  assert.deepEqual(restoration(played.card, state, WRITEBACK)?.properties, [
    [WRITEBACK, IDS.CRTC_ID, BigInt(CRTC)],
  ]);
});

test("it is the lessee's with its framebuffers and the granted one, and not with a stranger's, which may have the same number by now", () => {
  const played = new PlayedCard();
  const theirs = new Set([LESSEES]);
  assert.equal(isTheirs(played.note(), theirs), true);
  assert.equal(isTheirs(played.note(), new Set()), false);
  played.set(PLANE, { FB_ID: BigInt(GRANTED) });
  assert.equal(isTheirs(played.note(), new Set()), true);
  played.set(PLANE, { FB_ID: BigInt(STRANGERS) });
  assert.equal(isTheirs(played.note(), theirs), false);
  assert.equal(isTheirs({ output: played.output, noted: [] }, theirs), false);
});

test('a dark one counts as dark', () => {
  const played = new PlayedCard();
  assert.equal(isDark(played.note()), false);
  played.set(PLANE, { FB_ID: 0n });
  assert.equal(isDark(played.note()), true);
});

test('a lessee was faster when it shows something of its own by now; the picture it got is none', () => {
  const played = new PlayedCard();
  const state = played.note();
  const theirs = new Set([LESSEES]);
  assert.equal(wasFaster(played.card, state, theirs), true);
  for (const framebuffer of [GRANTED, STRANGERS, 0]) {
    played.set(PLANE, { FB_ID: BigInt(framebuffer) });
    assert.equal(wasFaster(played.card, state, theirs), false);
  }
});

test('where the framebuffers of lessees cannot be read, the pause comes all the same', () => {
  const played = new PlayedCard();
  const suspension = new Suspension(played.card, {} as Lighting, {
    lesseesFramebuffers: () => {
      throw Object.assign(new Error('ENODEV'), {
        code: 'ENODEV',
        errno: 19,
        op: 'DRM_IOCTL_MODE_GETRESOURCES',
      });
    },
    paused: () => {},
    resumed: () => {},
  });
  played.master = false;
  suspension.remember();
  suspension.pause('gone');
  assert.equal(suspension.paused, 'gone');
  assert.equal(played.warnings.length, 2);
});

test('a blob that cannot be made leaves no other behind', () => {
  const played = new PlayedCard();
  const made: { destroyed: boolean }[] = [];
  played.makeBlob = () => {
    if (made.length === 1) throw new Error('ENOMEM');
    const blob = { destroyed: false };
    made.push(blob);
    return { id: 1000, destroy: () => Object.assign(blob, { destroyed: true }) };
  };
  const state = played.note();
  const mode = state.noted.find(({ name }) => name === 'MODE_ID');
  assert.ok(mode !== undefined);
  state.noted.push(mode);
  played.set(CRTC, { ACTIVE: 0n });
  assert.throws(() => restoration(played.card, state), /ENOMEM/);
  assert.deepEqual(made, [{ destroyed: true }]);
});

test('what cannot be read is told and left out', () => {
  const played = new PlayedCard();
  played.objects.delete(PLANE);
  assert.deepEqual(noteLent(played.card), []);
  assert.equal(played.warnings.length, 1);
});
