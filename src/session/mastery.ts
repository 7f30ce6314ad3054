/**
 * Whether the daemon is DRM master of a card. Seat managers say when it comes and goes, but not always (a seat manager whose
 * SET_MASTER was refused is silent), and of a descriptor that was passed nobody says anything: so the kernel is asked.
 */
import { isSystemError } from '../native/base.js';
import type { Logger } from '../service/log.js';
import type { MasterSource } from './source.js';

/** How often it is asked while all is well: where no frame is committed, no refusal tells. */
const LOOK_MS = 1000;
/** How soon it is looked for again after a loss, at first and at last. */
const SHORTEST_MS = 50;
const LONGEST_MS = 2000;
/** Lost again sooner than that, it is not taken for stable. */
const STABLE_MS = 5000;

/** A card, as far as this is concerned. */
export interface Mastered {
  readonly path: string;
  readonly paused: string | null;
  isMaster(): boolean;
  /** Throws a SystemError. */
  setMaster(): void;
  /** Nothing is committed from its return on; also says why, when it is paused already. */
  pause(reason: string): void;
  /** Notes what is on the screen now, for `resume`. */
  remember(): void;
  /** Takes the screen back. False: it was refused, and the card stays paused. */
  resume(): Promise<boolean>;
}

export class Mastery {
  private timer: NodeJS.Timeout | null = null;
  private waitMs = SHORTEST_MS;
  private resumedAt = 0;
  private busy = false;
  private closed = false;

  constructor(
    private readonly card: Mastered,
    private readonly source: Pick<MasterSource, 'own'>,
    private readonly log: Logger,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** From now on. A card that is not master yet is paused until it is. */
  start(): void {
    if (this.card.isMaster()) this.wait(LOOK_MS);
    else this.lost('DRM master has not been given yet');
  }

  stop(): void {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  /** The seat manager has taken master away. Nothing is committed from its return on. */
  disabled(): void {
    this.card.remember();
    this.card.pause('the session is not active');
    // What is master still is about to be no more.
    this.waitMs = LONGEST_MS;
    this.wait(this.waitMs);
  }

  /** The seat manager says that it has given master back, which need not have worked. */
  enabled(): void {
    if (this.card.paused === null) return;
    this.waitMs = SHORTEST_MS;
    // What is under way found out by itself.
    if (this.busy) return;
    this.card.pause('the session is active, but another program is DRM master');
    void this.look();
  }

  /** A commit was refused for lack of master, or a look at the kernel said so. */
  lost(reason: string): void {
    if (this.card.paused === null) {
      this.card.remember();
      this.card.pause(reason);
    }
    if (this.now() - this.resumedAt > STABLE_MS) this.waitMs = SHORTEST_MS;
    this.wait(this.waitMs);
  }

  private wait(ms: number): void {
    if (this.timer !== null) clearTimeout(this.timer);
    if (this.closed) return;
    this.timer = setTimeout(() => void this.look(), ms).unref();
  }

  private async look(): Promise<void> {
    if (this.closed || this.busy) return;
    if (this.card.paused === null) {
      this.lookAfter();
      return;
    }
    this.busy = true;
    try {
      if (this.mayResume() && (await this.card.resume())) {
        this.resumedAt = this.now();
        this.waitMs = Math.min(this.waitMs * 2, LONGEST_MS);
        this.wait(LOOK_MS);
        return;
      }
    } finally {
      this.busy = false;
    }
    this.wait(this.waitMs);
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_MS);
  }

  /** It is master, as far as is known. */
  private lookAfter(): void {
    if (!this.card.isMaster()) {
      this.lost('another program is DRM master');
      return;
    }
    this.card.remember();
    this.wait(LOOK_MS);
  }

  private mayResume(): boolean {
    if (this.source.own && !this.card.isMaster()) {
      try {
        this.card.setMaster();
        this.log.info({ card: this.card.path }, 'DRM master taken again');
      } catch (error) {
        // EBUSY: another program has it. EACCES: an older kernel, or somebody else's descriptor.
        if (!isSystemError(error)) throw error;
      }
    }
    return this.card.isMaster();
  }
}
