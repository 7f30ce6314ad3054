/** A card's part in leases: what the kernel is asked, and what waits until it may be asked. */
import { type Fd, isSystemError } from '../native/base.js';
import type { Card } from './card.js';

export class Lessor {
  /** Lessees that the kernel would not let go without DRM master. */
  private revocations: number[] = [];
  /** Null until it is known. */
  private sublease: { reason: string | null } | null = null;

  constructor(private readonly card: Card) {}

  /** Why nothing of the card can be leased now, or null. */
  refusal(): string | null {
    const { path, paused } = this.card;
    if (paused !== null) return `${path}: not DRM master: ${paused}`;
    this.sublease ??= this.findSublease();
    return this.sublease?.reason ?? null;
  }

  /** The kernel leases nothing that is leased already. It says so at a lease of nothing, too. Null: it cannot be told now. */
  private findSublease(): { reason: string | null } | null {
    const { path, source, device } = this.card;
    const reason = `${path} is itself a lease, of which nothing can be leased further`;
    if (source.kind === 'lease') return { reason };
    if (source.kind !== 'fd') return { reason: null };
    try {
      device.native.createLease([]).fd.close();
      return { reason: null };
    } catch (error) {
      if (isSystemError(error, 'EINVAL')) return { reason };
      // Such as EACCES, where master has just gone: the lease that is asked for is refused with it.
      if (isSystemError(error)) return null;
      throw error;
    }
  }

  /** See KmsDevice.createLease. Throws a SystemError. */
  create(objects: readonly number[]): { lessee: number; fd: Fd } {
    return this.card.device.native.createLease(objects);
  }

  /** Where the kernel refuses, its lessee keeps what it has until it closes it; for lack of DRM master, until that is back. */
  revoke(lessee: number): void {
    const { device, log, path } = this.card;
    try {
      device.native.revokeLease(lessee);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      if (error.code === 'EACCES') this.revocations.push(lessee);
      // ENOENT: gone already.
      else if (error.code !== 'ENOENT') log.warn({ card: path, err: error }, 'a lease was not revoked');
    }
  }

  /** DRM master is back. */
  revokeWaiting(): void {
    for (const lessee of this.revocations.splice(0)) this.revoke(lessee);
  }
}
