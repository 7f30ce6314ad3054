/**
 * The lessor: who may have which lease, who waits for it, and when it ends.
 *
 *     free --take--> leased --release--> free
 *                      |  '--crash, on_crash = "keep"--> kept --take--> leased
 *                      '--revoke, after notice--> free
 *
 * Whatever ends a lease that somebody waits for hands it over: the last frame stays until the successor's first.
 */
import type { LeaseDocument } from '../api/documents.js';
import type { Config, LeaseConfig } from '../config/config.js';
import type { Card } from '../kms/card.js';
import { isSystemError } from '../native/base.js';
import type { Log } from '../service/log.js';
import { type AdoptedLease, adoptLease, sameShape } from './adopt.js';
import { LeaseError } from './errors.js';
import { documentOf, freeDocument, type Held, type Lessee, type LesseeEvents } from './held.js';
import { type Grant, Holdings } from './holdings.js';
import { Lending } from './lending.js';
import { LeaseNames } from './names.js';
import { type EndRequest, giveNotice } from './notice.js';
import { mayHave } from './policy.js';
import { type Waiter, WaitingList } from './queue.js';

/** How a lease is asked for. */
export interface LeaseRequest extends LesseeEvents {
  /** Wait where somebody else has it, or a connector is not there; `release` ends the waiting too. */
  wait?: boolean;
  /** Milliseconds to wait at most. */
  timeoutMs?: number;
  /** Take it over from its lessee, where the lease permits that. */
  transfer?: boolean;
  /** What its lessee is told then. */
  reason?: string;
}

export class LeaseBroker {
  readonly holdings: Holdings;
  private readonly queue: WaitingList<LeaseRequest, Grant>;
  private readonly lending: Lending;
  private names: LeaseNames;
  /** Grants and ends are done one after the other: each reads what the one before has left. */
  private turn: Promise<unknown> = Promise.resolve();

  /** `changed`: of what `documents` tells. */
  constructor(
    private readonly cards: readonly Card[],
    private config: Config,
    private readonly logs: Log,
    private readonly changed: () => void,
  ) {
    this.names = new LeaseNames(config.leases);
    this.queue = new WaitingList(changed);
    this.lending = new Lending(cards, (name) => this.holdings.get(name)?.who?.pid ?? null);
    this.holdings = new Holdings(this.lending, logs, changed);
  }

  /** Leases that the configuration has no more, or otherwise, are left to their lessees until they end. */
  configure(config: Config): void {
    this.config = config;
    this.names = new LeaseNames(config.leases);
    for (const waiter of this.queue.list()) {
      if (this.names.find(waiter.name) === null) this.queue.refuse(waiter, this.names.unknown(waiter.name));
    }
  }

  private inTurn<T>(body: () => Promise<T>): Promise<T> {
    const result = this.turn.then(body);
    this.turn = result.catch(() => {});
    return result;
  }

  /** `asked` is a name, or the connector of a lease of that alone. Rejects with a LeaseError. */
  async take(asked: string, who: Lessee, request: LeaseRequest): Promise<Grant> {
    const { granted } = await this.inTurn(async () => {
      try {
        return { granted: await this.grant(asked, who, request) };
      } catch (error) {
        if (!(error instanceof LeaseError)) throw error;
        // Not waited for here: what it waits for has its turn after this.
        if (error.passing && (request.wait || request.transfer))
          return { granted: this.wait(asked, who, request, error) };
        this.holdings.audit(asked, who, error.message);
        throw error;
      }
    });
    return granted;
  }

  private wait(asked: string, who: Lessee, request: LeaseRequest, why: LeaseError): Promise<Grant> {
    const settings = this.names.get(asked);
    const { name } = settings;
    const held = this.holdings.get(name);
    const takesOver = request.transfer === true && held !== undefined && held.ending === null;
    const refusal = this.refusalToWait(settings, who, takesOver, why);
    if (refusal !== null) {
      this.holdings.audit(name, who, refusal.message);
      throw refusal;
    }
    this.holdings.audit(name, who, takesOver ? 'takes over' : 'waits', { why: why.message });
    const granted = this.queue.add(name, who, request, why, takesOver);
    if (takesOver) void this.endSoon(held, { reason: request.reason ?? 'it is taken over' });
    return granted;
  }

  private refusalToWait(
    { name, queue, transfer }: LeaseConfig,
    { uid }: Lessee,
    takesOver: boolean,
    why: LeaseError,
  ): LeaseError | null {
    if (takesOver) {
      return transfer || uid === 0
        ? null
        : new LeaseError('NotAllowed', `lease ${name} may not be taken over (transfer): ${why.message}`);
    }
    const waiting = this.queue.list(name).length;
    if (waiting < queue) return null;
    const most = queue === 0 ? 'nobody may wait for it' : `${waiting} wait for it already`;
    return new LeaseError(why.kind, `${why.message}; ${most} (queue)`);
  }

  private async grant(asked: string, who: Lessee, request: LeaseRequest): Promise<Grant> {
    const settings = this.names.get(asked);
    const { name } = settings;
    requireRight(settings, who);
    const former = this.holdings.get(name);
    if (former === undefined) return this.lend(settings, who, request);
    if (this.holdings.isAdopted(former, who)) return this.holdings.rejoin(former, who, request);
    if (former.who !== null) {
      const { pid, uid } = former.who;
      throw new LeaseError('Busy', `lease ${name} is held by process ${pid}, uid ${uid}`, true);
    }
    if (sameShape(former.settings, settings)) return this.holdings.succeed(former, settings, who, request);
    await this.holdings.giveBack(former);
    return this.lend(settings, who, request);
  }

  private async lend(settings: LeaseConfig, who: Lessee, events: LeaseRequest): Promise<Grant> {
    const lent = await this.lending.lend(settings, this.config);
    try {
      return this.holdings.hold({ settings, who, events, ...lent });
    } catch (error) {
      await this.lending.giveBack(lent.card, lent.outputs);
      throw error;
    }
  }

  /** Who has it, or waits for it, is done with that; `crashed`: it went without a word. */
  release(asked: string, who: Lessee, crashed: boolean): Promise<void> {
    return this.inTurn(async () => {
      const waiter = this.queue.list().find((one) => one.who === who);
      if (waiter !== undefined) {
        this.holdings.audit(waiter.name, who, crashed ? 'waits no longer: it is gone' : 'waits no longer');
        this.queue.refuse(waiter, new LeaseError('Unavailable', 'it was given up'));
        return;
      }
      const held = this.holdings.get(this.names.find(asked)?.name ?? asked);
      if (held === undefined || held.who !== who) return;
      this.holdings.audit(held.settings.name, who, crashed ? 'lessee is gone' : 'released');
      await this.over(held, crashed);
    });
  }

  private async over(held: Held, crashed: boolean): Promise<void> {
    this.holdings.withdraw(held);
    if (this.handOver(held)) return;
    if (crashed && held.settings.onCrash === 'keep') return this.holdings.keep(held);
    await this.holdings.giveBack(held);
    this.serve();
  }

  /** To the first who waits for it and can have it; false: to nobody. */
  private handOver(held: Held): boolean {
    const settings = this.names.find(held.settings.name);
    if (settings === null || !sameShape(held.settings, settings)) return false;
    for (const waiter of this.queue.list(settings.name)) {
      try {
        requireRight(settings, waiter.who);
        this.queue.grant(waiter, this.holdings.succeed(held, settings, waiter.who, waiter.request));
        return true;
      } catch (error) {
        this.refuse(waiter, error);
      }
    }
    return false;
  }

  private refuse(waiter: Waiter<LeaseRequest, Grant>, error: unknown): void {
    if (error instanceof LeaseError) this.holdings.audit(waiter.name, waiter.who, error.message);
    this.queue.refuse(waiter, error);
  }

  /** Outputs or leases have changed: who waits may have what it waits for. */
  serve(): void {
    if (this.queue.empty) return;
    void this.inTurn(async () => {
      for (const waiter of this.queue.list()) await this.tryAgain(waiter);
    });
  }

  private async tryAgain(waiter: Waiter<LeaseRequest, Grant>): Promise<void> {
    try {
      const grant = await this.grant(waiter.name, waiter.who, waiter.request);
      if (this.queue.grant(waiter, grant)) return;
      // Its time was over meanwhile.
      grant.fd.close();
      const held = this.holdings.get(grant.document.name);
      if (held !== undefined) await this.over(held, false);
    } catch (error) {
      if (error instanceof LeaseError && error.passing) return;
      this.refuse(waiter, error);
    }
  }

  /** Takes it from whoever has it; who waits for it gets it. Rejects with a LeaseError when nobody has. */
  async revoke(name: string, by: Lessee, how: EndRequest): Promise<void> {
    const { over } = await this.inTurn(async () => {
      const held = this.heldBySomebody(name, by, 'revoke');
      this.holdings.audit(held.settings.name, by, 'revoked', { reason: how.reason, lessee: held.who });
      return { over: this.endSoon(held, how) };
    });
    await over;
  }

  /** Hands it to who waits for it: the process `to`, or the first. Rejects with a LeaseError when nobody does. */
  async transfer(name: string, by: Lessee, how: EndRequest & { to?: number }): Promise<void> {
    const { over } = await this.inTurn(async () => {
      const { to, reason } = how;
      const held = this.heldBySomebody(name, by, 'transfer');
      const lease = held.settings.name;
      const next = this.queue.list(lease).find(({ who }) => to === undefined || who.pid === to);
      if (next === undefined) {
        const whom = to === undefined ? 'nobody waits' : `process ${to} does not wait`;
        throw this.refused(lease, by, 'transfer', new LeaseError('NotFound', `${whom} for lease ${lease}`));
      }
      this.holdings.audit(lease, by, 'transferred', { reason, lessee: held.who, to: next.who });
      this.queue.moveToFront(next);
      return { over: this.endSoon(held, how) };
    });
    await over;
  }

  private heldBySomebody(asked: string, by: Lessee, request: string): Held {
    const settings = this.names.find(asked);
    const name = settings?.name ?? asked;
    const held = this.holdings.get(name);
    if (held !== undefined) return held;
    const error =
      settings === null ? this.names.unknown(asked) : new LeaseError('NotFound', `nobody has lease ${name}`);
    throw this.refused(name, by, request, error);
  }

  private refused(name: string, by: Lessee, request: string, error: LeaseError): LeaseError {
    this.holdings.audit(name, by, error.message, { request });
    return error;
  }

  /** Resolves when it is over; not to be waited for in turn. */
  private endSoon(held: Held, how: EndRequest): Promise<void> {
    const over = giveNotice(held, how, (reason) => this.inTurn(() => this.end(held, reason)));
    this.changed();
    return over;
  }

  private async end(held: Held, reason: string): Promise<void> {
    if (!this.holdings.has(held)) return;
    this.holdings.withdraw(held);
    const { who, events } = held;
    const isHandedOver = this.handOver(held);
    if (!isHandedOver) await this.holdings.giveBack(held);
    if (who !== null) events.ended(reason);
    if (!isHandedOver) this.serve();
  }

  /** The daemon ends. `keep`: the next one adopts them. */
  stop(keep: boolean): Promise<void> {
    return this.inTurn(async () => {
      for (const waiter of this.queue.list())
        this.queue.refuse(waiter, new LeaseError('Unavailable', 'the daemon ends'));
      for (const held of this.holdings.list()) {
        if (!keep) {
          this.holdings.withdraw(held);
          if (held.who !== null) held.events.ended('the daemon ends');
        }
        this.holdings.close(held);
      }
    });
  }

  /** By the kernel's word: leases that are no more, and some that nobody here knows of. After an uevent of the card. */
  reconcile(card: Card): Promise<void> {
    return this.inTurn(async () => {
      const lessees = lesseesOf(card);
      if (lessees === null) return;
      const own = this.holdings.list().filter((held) => held.card === card && held.who !== null);
      for (const held of own)
        if (!lessees.includes(held.lessee)) await this.vanished(held, 'the kernel has it no more');
      for (const lessee of lessees) {
        if (own.some((held) => held.lessee === lessee)) continue;
        this.logs.audit('lease', { card: card.path, lessee, result: 'revoked: nobody knows whose it is' });
        card.lessor.revoke(lessee);
      }
    });
  }

  /** The card is gone: its leases end. */
  cardGone(card: Card): Promise<void> {
    return this.inTurn(async () => {
      for (const held of this.holdings.list())
        if (held.card === card) await this.vanished(held, 'the card is gone');
    });
  }

  private async vanished(held: Held, why: string): Promise<void> {
    this.holdings.audit(held.settings.name, held.who, why);
    await this.end(held, why);
  }

  /** DRM master was lost, or is there again: leases stay, and lessees are told. */
  suspended(card: Card, suspended: boolean): void {
    for (const held of this.holdings.list()) {
      if (held.card !== card || held.suspended === suspended) continue;
      held.suspended = suspended;
      held.events.suspended?.(suspended);
      this.changed();
    }
    if (!suspended) this.serve();
  }

  /** Goes on with a lease of the former daemon, taken over; before the outputs of its card are lit. */
  adopt(lease: AdoptedLease): Promise<void> {
    return this.inTurn(async () => {
      const { name, who } = lease.state;
      const adopted = await adoptLease(lease, this.cards, this.names.find(name));
      if (typeof adopted === 'string') this.holdings.audit(name, who, `not adopted: ${adopted}`);
      else this.holdings.adopt(adopted, (lessee) => void this.release(name, lessee, true));
    });
  }

  documents(): LeaseDocument[] {
    const held = this.holdings.list().map(documentOf);
    const free = this.names.all.filter(({ name }) => this.holdings.get(name) === undefined).map(freeDocument);
    for (const document of [...held, ...free])
      document.waiting = this.queue.list(document.name).map(waiterDocument);
    return [...held, ...free].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}

function waiterDocument({ who: { pid, uid }, since, why }: Waiter<LeaseRequest, Grant>) {
  return { pid, uid, waitedMs: Date.now() - since, why: why.message };
}

function requireRight(settings: LeaseConfig, who: Lessee): void {
  if (mayHave(settings, who)) return;
  throw new LeaseError('NotAllowed', `uid ${who.uid} may not have lease ${settings.name}`);
}

function lesseesOf(card: Card): number[] | null {
  try {
    return card.device.native.lessees();
  } catch (error) {
    if (isSystemError(error)) return null; // the card is gone
    throw error;
  }
}
