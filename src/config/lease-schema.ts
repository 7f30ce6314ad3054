/** The [[lease]] table: parts of a card that another program may drive itself. */
import * as z from 'zod';
import { accounts, FLAG, flag, key, text } from './fields.js';

export const LEASE_NAME = /^[A-Za-z0-9._-]{1,63}$/;
/** Overlay planes and outputs of one lease, at most. */
export const MOST = 16;
const MOST_WAITING = 64;
/** Less than a caller of the bus waits for its answer, 25 s. */
const MOST_NOTICE_MS = 20_000;
export const ON_CRASH = ['clear', 'keep'] as const;

const outputName = key(
  text,
  'the name of a connector, such as "HDMI-A-1", or of an [[output]]',
  'An output.',
);

const unitName = key(
  z.string().regex(/^[A-Za-z0-9:_.\\@-]{1,255}\.(service|scope)$/),
  'the name of a service or scope of systemd, such as "player.service"',
  'A unit.',
);

export const lease = key(
  z.strictObject({
    name: key(
      z.string().regex(LEASE_NAME),
      'a text of 1 to 63 letters, digits, ".", "_" and "-"',
      'The name by which it is asked for.',
    ),
    outputs: key(
      z.array(outputName).min(1).max(MOST),
      `a list of 1 to ${MOST} names of connectors, such as "HDMI-A-1", or of [[output]] entries`,
      'Outputs that are leased together, all of one card: the connector, a CRTC and a primary plane of each.',
    ),
    overlays: key(
      z.int().min(0).max(MOST),
      `a whole number from 0 to ${MOST}`,
      'How many overlay planes are leased with each output.',
    ).default(0),
    cursor: key(flag, FLAG, 'Lease a cursor plane with each output where the card has one.').default(true),
    on_crash: key(
      z.enum(ON_CRASH),
      '"clear" or "keep"',
      "What its outputs show when its lessee is gone without a word: the daemon's own picture, or the last frame until " +
        'the lease is granted again or revoked.',
    ).default('clear'),
    queue: key(
      z.int().min(0).max(MOST_WAITING),
      `a whole number from 0 to ${MOST_WAITING}`,
      'How many may wait for it while somebody else has it, or a connector of it is not there; 0: who comes then is refused.',
    ).default(0),
    transfer: key(
      flag,
      FLAG,
      'Whoever may have it may take it over from its lessee, whose last frame stays on the screen until the first of the ' +
        'new one.',
    ).default(false),
    notice_ms: key(
      z.int().min(0).max(MOST_NOTICE_MS),
      `a whole number from 0 to ${MOST_NOTICE_MS}`,
      'Milliseconds from the notice to a lessee to the end of its lease, for one that can be told (by D-Bus).',
    ).default(2000),
    uid: key(
      accounts,
      'the name or the number of a user, or a list of them',
      'Users that may have it, of those that may use the control API. Without uid and gid: all of them.',
    ).optional(),
    gid: key(
      accounts,
      'the name or the number of a group, or a list of them',
      'Groups that may have it.',
    ).optional(),
    unit: key(
      z.union([unitName, z.array(unitName).min(1).max(MOST)]),
      'the name of a systemd unit, such as "player.service", or a list of them',
      'Units whose processes may have it.',
    ).optional(),
  }),
  'a table, written [[lease]]',
  'Parts of a card that another program may drive itself.',
);

export type LeaseEntry = z.output<typeof lease>;
