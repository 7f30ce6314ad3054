/** Where a card and its DRM master come from. */
import type { CardDevice } from '../kms/device.js';

/**
 * - `direct`: opened by the daemon itself, who is master as the first that opens it
 * - `seatd`, `logind`, `builtin`: opened by that seat manager, who gives and takes master
 * - `fd`: passed by whoever started the daemon; master is its business
 * - `lease`: of another lease manager
 */
export type MasterKind = 'direct' | 'seatd' | 'logind' | 'builtin' | 'fd' | 'lease';

export interface MasterSource {
  readonly kind: MasterKind;
  /** "seat0", "descriptor 5", "/run/drm-lease-manager/desk"; empty for a direct open. */
  readonly detail: string;
  /** The open file is the daemon's own, so that SET_MASTER may be tried on it. */
  readonly own: boolean;
  /** A seat manager says when it has gone (`Mastery.disabled`) and when it is back. */
  readonly told: boolean;
  /** To be called when the card's device is closed. */
  close(): void;
}

/** A card that was opened. Whoever has it closes both. */
export interface OpenedCard {
  device: CardDevice;
  source: MasterSource;
}

/** Why a card or a session cannot be had; said to the user as it is. */
export class SessionError extends Error {}
