/** Programs that hold leases, each as its front end has it. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LeaseDocument, TakeLeaseRequest } from '../../../src/api/documents.js';
import type { Fd } from '../../../src/native/base.js';
import { Bus } from '../../../src/native/bus.js';
import { SeqPacket } from '../../../src/native/seqpacket.js';
import type { TestDaemon } from './daemon.js';
import { Lessee } from './lessee.js';

const MANAGER = { path: '/org/scanoutd1', interface: 'org.scanoutd1.Manager' } as const;
const SIGNALS = ['LeaseNotice', 'LeaseEnded', 'LeaseSuspended', 'LeaseResumed'] as const;
const PATIENCE_MS = 30_000;

function close(lessee: Lessee | null | undefined): void {
  if (lessee?.device.closed === false) lessee.device.close();
}

/** A display server on the bus: a lease by a call, its end by a signal. */
export class Holder {
  /** What it was told: the signal's name and its arguments. */
  readonly signals: unknown[][] = [];
  private readonly taken: Promise<{ lessee: Lessee; document: LeaseDocument }>;
  private got: { lessee: Lessee; document: LeaseDocument } | null = null;

  private constructor(
    private readonly bus: Bus,
    name: string,
    request: TakeLeaseRequest,
  ) {
    for (const member of SIGNALS)
      bus.subscribe({ ...MANAGER, member }, ({ body }) => this.signals.push([member, ...body]));
    this.taken = this.ask(name, request);
    this.taken.catch(() => {}); // told by `granted`
  }

  private async ask(
    name: string,
    request: TakeLeaseRequest,
  ): Promise<{ lessee: Lessee; document: LeaseDocument }> {
    const body = [name, JSON.stringify(request)];
    const call = { ...MANAGER, member: 'TakeLease', signature: 'ss', body, timeoutMs: 120_000 };
    const [fd, json] = await this.bus.call(call);
    this.got = { lessee: new Lessee(fd as Fd), document: JSON.parse(json as string) as LeaseDocument };
    return this.got;
  }

  /** Asks, and goes on. */
  static async ask(daemon: TestDaemon, name: string, request: TakeLeaseRequest = {}): Promise<Holder> {
    return new Holder(await Bus.open(`unix:path=${join(daemon.directory, 'bus')}`), name, request);
  }

  /** Rejects as it is refused. */
  static async take(daemon: TestDaemon, name: string, request: TakeLeaseRequest = {}): Promise<Holder> {
    const holder = await Holder.ask(daemon, name, request);
    return holder.granted();
  }

  async granted(): Promise<this> {
    try {
      await this.taken;
      return this;
    } catch (error) {
      this.bus.close();
      throw error;
    }
  }

  get lessee(): Lessee {
    if (this.got === null) throw new Error('it has no lease');
    return this.got.lessee;
  }

  get document(): LeaseDocument {
    if (this.got === null) throw new Error('it has no lease');
    return this.got.document;
  }

  async told(signal: (typeof SIGNALS)[number]): Promise<unknown[]> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = this.signals.find(([member]) => member === signal);
      if (found !== undefined) return found;
      if (performance.now() > deadline)
        throw new Error(`not told ${signal}: ${JSON.stringify(this.signals)}`);
      await sleep(20);
    }
  }

  async release(name: string): Promise<void> {
    await this.bus.call({ ...MANAGER, member: 'ReleaseLease', signature: 's', body: [name] });
    this.vanish();
  }

  /** As at a crash. */
  vanish(): void {
    this.bus.close();
    close(this.got?.lessee);
  }
}

/** A client of drm-lease-manager. */
export class DlmClient {
  readonly granted: Promise<Lessee>;
  private lessee: Lessee | null = null;
  private readonly socket: SeqPacket;
  /** The end of the connection. */
  readonly ended: Promise<void>;

  constructor(path: string) {
    this.socket = SeqPacket.connect(path);
    let end = () => {};
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    this.granted = new Promise((resolve, reject) => {
      this.socket.onMessage = (_byte, [fd]) => {
        if (fd === undefined) return reject(new Error('no lease'));
        this.lessee = new Lessee(fd);
        resolve(this.lessee);
      };
      this.socket.onClose = (reason) => {
        end();
        reject(new Error(reason));
      };
    });
    this.granted.catch(() => {}); // for those who wait for it
    this.socket.send(Uint8Array.of(0, 0, 0, 0));
  }

  /** As at a crash. */
  vanish(): void {
    this.socket.close();
    close(this.lessee);
  }

  release(): void {
    this.socket.send(Uint8Array.of(1, 0, 0, 0));
    this.vanish();
  }
}
