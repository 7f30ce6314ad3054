/** The last frame of a former lessee, which stays on the screen until its successor has shown one. */
import { type Fd, isSystemError } from '../native/base.js';
import type { KmsDevice } from '../native/kms.js';

const LOOK_MS = 50;
/** For a successor that takes longer than a minute. */
const RARE_LOOK_MS = 1000;
const FREQUENT_LOOKS = 1200;

export class Remains {
  private timer: NodeJS.Timeout | null = null;
  private readonly before: string[];
  private looks = 0;

  /** Takes over `fds`, of the former lessees' files: closing one takes its framebuffers along. `primaries` are plane ids. */
  constructor(
    private readonly device: KmsDevice,
    private readonly primaries: readonly number[],
    private fds: Fd[],
  ) {
    this.before = this.shown();
    this.wait();
  }

  private wait(): void {
    const ms = ++this.looks < FREQUENT_LOOKS ? LOOK_MS : RARE_LOOK_MS;
    this.timer = setTimeout(() => this.look(), ms).unref();
  }

  /** Every primary plane: a CRTC goes dark when the framebuffer of that is removed. */
  private look(): void {
    const now = this.shown();
    if (now.every((framebuffer, i) => framebuffer !== this.before[i])) this.close();
    else this.wait();
  }

  private shown(): string[] {
    try {
      return this.primaries.map((plane) => String(this.device.plane(plane).framebuffer));
    } catch (error) {
      // The card is gone, and the picture with it.
      if (isSystemError(error)) return this.primaries.map(() => 'gone');
      throw error;
    }
  }

  /** Open until all that is shown is the successor's. */
  get files(): readonly Fd[] {
    return this.fds;
  }

  /** Hands over what is still on the screen; nothing is watched any more. */
  release(): Fd[] {
    if (this.timer !== null) clearTimeout(this.timer);
    return this.fds.splice(0);
  }

  close(): void {
    for (const fd of this.release()) fd.close();
  }
}
