/** What a card does while another program is DRM master, and how it takes the screen back. */
import { isSystemError } from '../native/base.js';
import type { Mastered } from '../session/mastery.js';
import type { Card } from './card.js';
import { isDark, isTheirs, type LentState, noteLent } from './lent-state.js';
import type { Lighting } from './lighting.js';
import { Retake } from './retake.js';

/** A blocking commit that is under way when master goes is waited for so long. */
const PAUSE_MS = 1000;

export interface SuspensionEvents {
  /** Framebuffers that lessees have made, or have left on the screen. */
  lesseesFramebuffers(): ReadonlySet<number>;
  /** DRM master is lost, or about to be. */
  paused(): void;
  /** Everything is on the screen again. */
  resumed(): void;
}

export class Suspension implements Mastered {
  /** Why nothing is committed, or null. */
  private reason: string | null = null;
  private lentStates: LentState[] = [];
  private readonly retake: Retake;

  constructor(
    private readonly card: Card,
    lighting: Lighting,
    private readonly events: SuspensionEvents,
  ) {
    this.retake = new Retake(card, lighting);
  }

  get path(): string {
    return this.card.path;
  }

  get paused(): string | null {
    return this.reason;
  }

  isMaster(): boolean {
    return this.card.device.isMaster();
  }

  setMaster(): void {
    this.card.device.setMaster();
  }

  /**
   * Notes what lessees show, to be brought back by `resume`. Seat managers tell that the session is inactive when master is gone
   * already, and the kernel's console draws as soon as it is: what is not a lessee's then, counts as it was noted before.
   */
  remember(): void {
    if (this.reason !== null) return;
    const states = noteLent(this.card);
    if (this.isMaster()) {
      this.lentStates = states;
      return;
    }
    const former = new Map(this.lentStates.map((state) => [state.output, state]));
    try {
      const theirs = this.events.lesseesFramebuffers();
      this.lentStates = states.flatMap((state) =>
        isTheirs(state, theirs) && !isDark(state) ? [state] : (former.get(state.output) ?? []),
      );
    } catch (error) {
      // Whoever asks is about to pause, which has to be done all the same.
      if (!isSystemError(error)) throw error;
      this.card.log.warn({ card: this.path, err: error }, 'framebuffers of lessees cannot be read');
    }
  }

  pause(reason: string): void {
    const { engine, log, path } = this.card;
    const before = this.reason;
    this.reason = reason;
    const quiet = engine.pause(PAUSE_MS);
    if (before !== null) return;
    if (!quiet) {
      log.warn({ card: path }, `a commit takes longer than ${PAUSE_MS} ms: it goes on without DRM master`);
    }
    log.warn({ card: path, reason }, 'not DRM master: nothing is committed until it is again');
    this.events.paused();
  }

  /** Takes the screen back as a whole. Nothing else is done to the card meanwhile. */
  async resume(): Promise<boolean> {
    if (!(await this.card.exclusively(() => this.takeBack()))) return false;
    // Monitors may have come, gone or changed, whether somebody said so or not.
    await this.card.rescan();
    return true;
  }

  private async takeBack(): Promise<boolean> {
    const { card, reason } = this;
    if (reason === null) return true;
    try {
      card.lessor.revokeWaiting();
      card.topology = card.device.readTopology();
      const taken = await this.retake.everything(this.lentStates, this.events.lesseesFramebuffers());
      // It may have gone again in the meantime.
      if (!taken || !this.isMaster() || this.reason !== reason) return false;
      this.reason = null;
      await card.engine.resume();
      if (this.paused !== null) return false;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      card.log.warn({ card: card.path, err: error }, 'the screen cannot be taken back yet');
      return false;
    }
    card.log.info({ card: card.path }, 'DRM master again: everything is shown again');
    for (const output of card.outputs.values()) await output.relit();
    this.events.resumed();
    return true;
  }
}
