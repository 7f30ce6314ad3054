/** What the kernel says of a card. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type UdevEvent, UdevMonitor } from '../../../src/native/session.js';

/** Uevents from now on, as they are sent: udevd passes them on late. */
export class Uevents {
  private readonly events: UdevEvent[] = [];
  private readonly monitor: UdevMonitor;

  constructor(card: string) {
    this.monitor = new UdevMonitor({
      subsystems: ['drm'],
      source: 'kernel',
      onEvents: (events) => this.events.push(...events.filter(({ devnode }) => devnode === card)),
    });
  }

  /** That a lease is over. */
  get leases(): number {
    return this.events.filter(({ properties }) => properties.LEASE === '1').length;
  }

  get hotplugs(): number {
    return this.events.filter(({ properties }) => properties.HOTPLUG === '1').length;
  }

  /** So many, and no more. */
  async untilLeases(count: number): Promise<void> {
    const deadline = performance.now() + 20_000;
    while (this.leases < count) {
      assert.ok(performance.now() < deadline, `${this.leases} of ${count} uevents with LEASE=1`);
      await sleep(20);
    }
    assert.equal(this.leases, count);
  }

  close(): void {
    this.monitor.close();
  }
}
