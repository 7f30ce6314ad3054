/** When a seat is not used, and is used again. */

/** How soon somebody who comes back is noticed. */
const LOOK_MS = 200;

export class IdleWatch {
  private timer: NodeJS.Timeout | null = null;
  private seconds = 0;
  private idle = false;

  /** `idleMs`: since the last event of a device of the seat. */
  constructor(
    private readonly idleMs: () => number,
    private readonly changed: (idle: boolean) => void,
  ) {}

  get isIdle(): boolean {
    return this.idle;
  }

  /** 0: it is never idle. */
  configure(seconds: number): void {
    if (seconds === this.seconds) return;
    this.seconds = seconds;
    this.look();
  }

  private look(): void {
    this.stop();
    if (this.seconds === 0) {
      this.set(false);
      return;
    }
    const left = this.seconds * 1000 - this.idleMs();
    this.set(left <= 0);
    this.timer = setTimeout(() => this.look(), this.idle ? LOOK_MS : Math.max(left, 1)).unref();
  }

  private set(idle: boolean): void {
    if (idle === this.idle) return;
    this.idle = idle;
    this.changed(idle);
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}
