/** Leases that are out: how they are made, handed on, withdrawn and given back. Knows nothing of who asks and who waits. */
import type { LeaseDocument } from '../api/documents.js';
import type { LeaseConfig } from '../config/config.js';
import type { Card } from '../kms/card.js';
import { type Fd, isSystemError } from '../native/base.js';
import { openProcess, ProcessWatch } from '../native/process.js';
import type { Log } from '../service/log.js';
import { LeaseError } from './errors.js';
import { documentOf, type Held, type LeaseParts, type Lessee, type LesseeEvents } from './held.js';
import { createLease, type Lending } from './lending.js';
import { Remains } from './remains.js';

/** What a lessee gets. `fd` is the caller's. */
export interface Grant {
  fd: Fd;
  document: LeaseDocument;
}

type Owned = LeaseParts & { who: Lessee };

export class Holdings {
  private readonly held = new Map<string, Held>();

  constructor(
    private readonly lending: Lending,
    private readonly logs: Log,
    private readonly changed: () => void,
  ) {}

  get(name: string): Held | undefined {
    return this.held.get(name);
  }

  has(held: Held): boolean {
    return this.held.get(held.settings.name) === held;
  }

  list(): Held[] {
    return [...this.held.values()];
  }

  audit(lease: string, who: Lessee | null, result: string, more: object = {}): void {
    const { pid = null, uid = null, gid = null } = who ?? {};
    this.logs.audit('lease', { lease, pid, uid, gid, result, ...more });
  }

  /** Framebuffers of the card's lessees, and of those before them whose last frame is still to be seen. */
  framebuffers(card: Card): Set<number> {
    const files = this.list()
      .filter((held) => held.card === card)
      .flatMap(({ fd, remains }) => [fd, ...(remains?.files ?? [])]);
    return new Set(files.flatMap((file) => card.device.native.framebuffersOf(file)));
  }

  /** From here on it is somebody's. Throws a LeaseError; nothing is left of the lease then. */
  hold(parts: Owned, remains: () => Remains | null = () => null): Grant {
    const { lessee, fd } = createLease(parts.card, parts.objects);
    let own: Fd;
    let held: Held;
    try {
      own = fd.dup();
      const more = { ending: null, suspended: false, watch: null, process: processOf(parts.who) };
      const events = this.guarded(parts.settings.name, parts.events);
      held = { ...parts, events, lessee, fd, since: Date.now(), remains: null, ...more };
    } catch (error) {
      fd.close();
      if (isSystemError(error)) throw new LeaseError('Unavailable', error.message);
      throw error;
    }
    held.remains = remains();
    this.held.set(parts.settings.name, held);
    this.audit(parts.settings.name, parts.who, 'granted');
    this.changed();
    return { fd: own, document: documentOf(held) };
  }

  /** A lessee that cannot be told, as its connection is just ending, is no reason to leave anything else undone. */
  private guarded(lease: string, events: LesseeEvents): LesseeEvents {
    const tell = (body: () => void) => {
      try {
        body();
      } catch (error) {
        this.logs.module('leases').warn({ lease, err: error }, 'its lessee could not be told');
      }
    };
    const { notice, suspended } = events;
    return {
      ended: (reason) => tell(() => events.ended(reason)),
      ...(notice === undefined
        ? {}
        : { notice: (reason, ms) => tell(() => notice.call(events, reason, ms)) }),
      ...(suspended === undefined ? {} : { suspended: (is) => tell(() => suspended.call(events, is)) }),
    };
  }

  /** What a lessee had, withdrawn, goes to another one; its last frame stays until the first of that one. Throws a LeaseError. */
  succeed(former: Held, settings: LeaseConfig, who: Lessee, events: LesseeEvents): Grant {
    const { card, outputs, objects } = former;
    const grant = this.hold({ settings, who, events, card, outputs, objects }, () => {
      const before = former.remains?.release() ?? [];
      return new Remains(card.device.native, objects.primaries, [...before, former.fd]);
    });
    former.ending?.done();
    return grant;
  }

  /** Takes the objects from the lessee, who can commit no more; its last frame stays. */
  withdraw(held: Held): void {
    held.card.lessor.revoke(held.lessee);
    this.forgetProcess(held);
  }

  private forgetProcess(held: Held): void {
    held.watch?.close();
    held.watch = null;
    held.process?.close();
    held.process = null;
  }

  /** Its lessee is gone, and its last frame stays. */
  keep(held: Held): void {
    held.who = null;
    held.ending?.done();
    this.changed();
  }

  /** Its outputs are the daemon's again. */
  async giveBack(held: Held): Promise<void> {
    this.held.delete(held.settings.name);
    await this.lending.giveBack(held.card, held.outputs);
    // Its framebuffers go with this, and planes that still showed one would have been switched off.
    this.close(held);
    this.changed();
  }

  /** Lets go of all descriptors of it. */
  close(held: Held): void {
    this.held.delete(held.settings.name);
    this.forgetProcess(held);
    held.remains?.close();
    held.fd.close();
    held.ending?.done();
  }

  /** One of the former daemon. `gone` is called when its lessee, who has no connection to this one, has ended. */
  adopt(held: Held, gone: (who: Lessee) => void): void {
    const { who } = held;
    this.held.set(held.settings.name, held);
    this.audit(held.settings.name, who, 'adopted from the former daemon');
    if (who !== null && held.process === null) gone(who);
    else if (who !== null && held.process !== null)
      held.watch = new ProcessWatch(held.process.dup(), () => gone(who));
    this.changed();
  }

  /** Whether `who` had it from the former daemon. */
  isAdopted(held: Held, who: Lessee): boolean {
    return held.watch !== null && held.who?.pid === who.pid && held.who.uid === who.uid;
  }

  /** A lessee of the former daemon has a connection to this one, which ends the lease as any other. */
  rejoin(held: Held, who: Lessee, events: LesseeEvents): Grant {
    const fd = held.fd.dup();
    held.watch?.close();
    held.watch = null;
    held.who = who;
    held.events = this.guarded(held.settings.name, events);
    this.audit(held.settings.name, who, 'granted again');
    this.changed();
    return { fd, document: documentOf(held) };
  }
}

function processOf({ pid }: Lessee): Fd | null {
  try {
    return openProcess(pid);
  } catch (error) {
    // It has ended by now, or is of another name space: then its connection alone tells.
    if (isSystemError(error)) return null;
    throw error;
  }
}
