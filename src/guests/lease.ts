/** A guest with a lease: it drives its outputs itself, so that all there is to know of it is whether it has them. */
import type { GuestDocument } from '../api/documents.js';
import type { LeaseGuestConfig } from '../config/config.js';
import type { LeaseBroker } from '../leases/broker.js';
import { LeaseError } from '../leases/errors.js';
import type { Lessee, LesseeEvents } from '../leases/held.js';
import type { GuestLeaseRequest } from './lease-request.js';
import { Code } from './protocol.js';

/** What is asked of the broker. */
export type Leases = Pick<LeaseBroker, 'take' | 'release'>;

const CODES: Readonly<Record<LeaseError['kind'], Code>> = {
  NotFound: Code.badName,
  NotAllowed: Code.notAllowed,
  Busy: Code.busy,
  Unavailable: Code.noLease,
};

export class LeaseGuest {
  private state: 'waiting' | 'leased' | 'ended' = 'waiting';
  /** Why it is over; empty before. */
  private reason = '';
  /** Connector names; none before it has the lease. */
  private outputs: string[] = [];
  /** By identity: the broker knows lessees so. */
  private readonly who: Lessee;
  private asked: Promise<void> = Promise.resolve();

  constructor(
    readonly settings: LeaseGuestConfig,
    private readonly request: GuestLeaseRequest,
    private readonly leases: Leases,
    private readonly changed: () => void,
    private readonly failed: (error: unknown) => void,
  ) {
    const { pid, uid, gid } = request.peer;
    this.who = { pid, uid, gid };
  }

  get connected(): boolean {
    return this.state !== 'ended';
  }

  get peer(): GuestLeaseRequest['peer'] {
    return this.request.peer;
  }

  /** Asks for the lease; what comes of it is told by the request. Once. */
  ask(): void {
    this.asked = this.take();
    this.changed();
  }

  private async take(): Promise<void> {
    const { lease } = this.settings;
    try {
      const events: LesseeEvents = {
        ended: (reason) => this.over(Code.leaseEnded, reason),
        notice: (reason, ms) => this.request.noticed(ms, reason),
      };
      const { fd, document } = await this.leases.take(lease, this.who, { ...events, wait: true });
      try {
        // One that has gone meanwhile has said so to the broker already.
        if (this.connected) this.granted(document.outputs, () => this.request.granted(lease, fd));
      } finally {
        fd.close();
      }
    } catch (error) {
      if (error instanceof LeaseError) {
        this.over(CODES[error.kind], error.message);
        return;
      }
      this.failed(error);
      this.over(Code.internal, error instanceof Error ? error.message : String(error));
    }
  }

  private granted(outputs: string[], tell: () => void): void {
    this.state = 'leased';
    this.outputs = outputs;
    tell();
    this.changed();
  }

  /** Not by the guest's doing. */
  private over(code: Code, reason: string): void {
    if (!this.connected) return;
    this.finish(reason);
    this.request.ended(code, reason);
    this.changed();
  }

  private finish(reason: string): void {
    this.state = 'ended';
    this.reason = reason;
  }

  /** The guest has left; `clean`: it said so. Resolves when the broker has dealt with it. */
  async leave(clean: boolean): Promise<void> {
    await this.giveBack(clean ? 'it has left' : 'it is gone without a word', !clean);
    this.changed();
  }

  /** The daemon wants it there no more. */
  async dismiss(code: Code, reason: string): Promise<void> {
    if (!this.connected) return;
    await this.giveBack(reason, false);
    this.request.ended(code, reason);
    this.changed();
  }

  private async giveBack(reason: string, crashed: boolean): Promise<void> {
    if (!this.connected) return;
    const held = this.state === 'leased';
    this.finish(reason);
    // Waiting ends by it, too.
    await this.leases.release(this.settings.lease, this.who, crashed && held);
    await this.asked;
  }

  document(): GuestDocument {
    const { state, reason, outputs, settings } = this;
    return {
      name: settings.name,
      kind: settings.kind,
      connected: this.connected,
      pid: this.connected ? this.peer.pid : null,
      uid: this.connected ? this.peer.uid : null,
      output: null,
      area: null,
      mode: null,
      buffers: 0,
      copies: 0,
      late: 0,
      planes: [],
      lease: { name: settings.lease, state, outputs: this.state === 'leased' ? outputs : [], reason },
      lastError: '',
    };
  }
}
