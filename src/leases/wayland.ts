/**
 * Leases for Wayland clients, with no compositor: which connectors a client is offered by `wp_drm_lease_device_v1`, and
 * which [[lease]] its request means. A connector is offered while a lease that has it can be taken, by that client.
 */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config, DaemonConfig, LeaseConfig } from '../config/config.js';
import { isOutputNamed } from '../config/match.js';
import type { Output } from '../kms/output.js';
import { isSystemError } from '../native/base.js';
import {
  type ConnectorOffer,
  openWithoutMaster,
  type WaylandEvent,
  type WaylandPeer,
  WaylandServer,
} from '../native/wayland.js';
import { type Log, type Logger, logOncePer } from '../service/log.js';
import type { LeaseBroker } from './broker.js';
import { LeaseError } from './errors.js';
import type { Lessee } from './held.js';
import { mayHave } from './policy.js';

const LOG_MS = 10_000;

export type LeasableOutput = Pick<Output, 'name' | 'identity' | 'connector' | 'settings' | 'lent'>;

/** What is offered of a card. */
export interface LeasableCard {
  readonly path: string;
  readonly outputs: ReadonlyMap<string, LeasableOutput>;
  readonly device: { isMaster(): boolean };
}

/** A client's wp_drm_lease_device_v1. */
interface Binding {
  card: LeasableCard;
  who: WaylandPeer;
  /** The card's descriptor was sent. */
  started: boolean;
}

/** A client's wp_drm_lease_v1. */
interface Asked {
  readonly who: Lessee;
  /** Of the lease that it has got. */
  name: string | null;
  /** Given back, or its client is gone, or it was finished. */
  over: boolean;
}

export class WaylandFrontend {
  private server: WaylandServer | null = null;
  private readonly devices = new Map<number, LeasableCard>();
  private readonly bindings = new Map<number, Binding>();
  private readonly leases = new Map<number, Asked>();
  private config: Config | null = null;
  private refreshing = false;
  private readonly log: Logger;

  /** `cards` are all there when it is configured. `open`: a descriptor of a card for clients to look at it. */
  constructor(
    private readonly broker: Pick<LeaseBroker, 'take' | 'release' | 'documents'>,
    private readonly cards: readonly LeasableCard[],
    private readonly logs: Log,
    private readonly open = openWithoutMaster,
  ) {
    this.log = logs.module('leases');
  }

  /** Serves the socket where one is configured; the leases of `config` count from now on. */
  configure(config: Config): void {
    this.config = config;
    const { waylandSocket } = config.daemon;
    if (waylandSocket !== null && this.server === null) this.listen(waylandSocket, config.daemon);
    this.refresh();
  }

  private listen(path: string, { guestSocketMode, guestSocketGroup }: DaemonConfig): void {
    try {
      mkdirSync(dirname(path), { recursive: true });
      const options = {
        mode: guestSocketMode,
        ...(guestSocketGroup === null ? {} : { group: guestSocketGroup }),
      };
      this.server = new WaylandServer(
        path,
        options,
        (events) => {
          for (const event of events) this.on(event);
        },
        (line) =>
          logOncePer('wayland', LOG_MS, (suppressed) => this.log.warn({ suppressed }, `Wayland: ${line}`)),
      );
      for (const card of this.cards) this.devices.set(this.server.addDevice(), card);
    } catch (error) {
      if (!isSystemError(error) && !(error instanceof Error && 'code' in error)) throw error;
      this.log.error({ path, err: error }, 'no socket for Wayland clients');
    }
  }

  /** The card is not there any more. */
  cardGone(card: LeasableCard): void {
    for (const [id, known] of this.devices) if (known === card) this.server?.removeDevice(id);
  }

  /** Something may have changed of outputs, of leases or of who is DRM master. */
  refresh(): void {
    if (this.refreshing || this.server === null) return;
    this.refreshing = true;
    setImmediate(() => {
      this.refreshing = false;
      const taken = this.taken();
      for (const [id, binding] of this.bindings) this.tell(id, binding, taken);
    });
  }

  /** What clients have is for the broker to end, before this. */
  stop(): void {
    this.server?.close();
    this.server = null;
    this.bindings.clear();
    this.leases.clear();
  }

  private on(event: WaylandEvent): void {
    switch (event.type) {
      case 'bound': {
        const card = this.devices.get(event.device);
        if (card === undefined) return;
        const binding = { card, who: event, started: false };
        this.bindings.set(event.id, binding);
        this.tell(event.id, binding, this.taken());
        return;
      }
      case 'unbound':
        this.bindings.delete(event.id);
        return;
      case 'requested':
        this.request(event);
        return;
      case 'ended':
        this.ended(event.id, event.crashed);
    }
  }

  /** Names of leases that somebody has. */
  private taken(): ReadonlySet<string> {
    const held = this.broker.documents().filter(({ state }) => state === 'leased');
    return new Set(held.map(({ name }) => name));
  }

  /** Nothing while the daemon is not master: who opens the card then would be. */
  private tell(id: number, binding: Binding, taken: ReadonlySet<string>): void {
    const { card, who } = binding;
    const isMaster = card.device.isMaster();
    if (!binding.started) binding.started = isMaster && this.start(id, card);
    if (binding.started) this.server?.offer(id, isMaster ? this.offers(card, who, taken) : []);
  }

  private start(id: number, card: LeasableCard): boolean {
    try {
      const fd = this.open(card.path);
      try {
        return this.server?.sendFd(id, fd) === true;
      } finally {
        fd.close();
      }
    } catch (error) {
      if (!isSystemError(error)) throw error;
      logOncePer(`wayland ${card.path}`, LOG_MS, (suppressed) =>
        this.log.error({ card: card.path, err: error, suppressed }, 'Wayland clients cannot look at a card'),
      );
      return false;
    }
  }

  private offers(card: LeasableCard, who: Lessee, taken: ReadonlySet<string>): ConnectorOffer[] {
    const offered = new Set<LeasableOutput>();
    for (const settings of this.config?.leases ?? []) {
      if (taken.has(settings.name) || !mayHave(settings, who)) continue;
      const outputs = this.outputsOf(settings, card);
      // What is lent to the lease itself is what a lessee that crashed has left.
      const free = outputs?.every(
        ({ connector, lent }) => connector.connected && (lent === null || lent.lease === settings.name),
      );
      if (free === true) for (const output of outputs ?? []) offered.add(output);
    }
    return [...offered].map((output) => ({
      connector: output.connector.id,
      name: output.name,
      description: describe(output),
    }));
  }

  /** Null: not all of them are outputs of the card. */
  private outputsOf({ outputs }: LeaseConfig, card: LeasableCard): LeasableOutput[] | null {
    const { config } = this;
    if (config === null) return null;
    const all = [...card.outputs.values()];
    const found = outputs.map((name) => all.find(({ identity }) => isOutputNamed(config, identity, name)));
    return found.every((output) => output !== undefined) ? found : null;
  }

  private request(event: Extract<WaylandEvent, { type: 'requested' }>): void {
    const { id, pid, uid, gid, connectors, stale } = event;
    const who: Lessee = { pid, uid, gid };
    const asked: Asked = { who, name: null, over: false };
    this.leases.set(id, asked);
    const card = this.devices.get(event.device);
    const leases = card === undefined ? [] : this.leasesOf(card, new Set(connectors));
    if (stale || leases.length === 0) {
      const names = connectors.map((connector) => nameOf(card, connector));
      const why = stale
        ? `one of them was withdrawn: ${names.join(', ')}`
        : `no lease is configured of exactly ${names.join(', ')}`;
      this.logs.audit('lease', { lease: null, ...who, connectors: names, result: why });
      this.finish(id, asked);
      return;
    }
    const permitted = leases.filter((settings) => mayHave(settings, who));
    void this.take(id, asked, permitted.length > 0 ? permitted : leases);
  }

  private leasesOf(card: LeasableCard, connectors: ReadonlySet<number>): LeaseConfig[] {
    return (this.config?.leases ?? []).filter((settings) => {
      const ids = new Set(this.outputsOf(settings, card)?.map(({ connector }) => connector.id));
      return ids.size === connectors.size && [...connectors].every((id) => ids.has(id));
    });
  }

  /** The first that can be had. */
  private async take(id: number, asked: Asked, leases: readonly LeaseConfig[]): Promise<void> {
    for (const { name } of leases) {
      if (asked.over) return;
      try {
        const grant = await this.broker.take(name, asked.who, { ended: () => this.finish(id, asked) });
        asked.name = name;
        try {
          // Its client may have gone meanwhile, of which the event may be on its way yet.
          if (asked.over || this.server?.grant(id, grant.fd) !== true) this.giveBack(asked, false);
        } finally {
          grant.fd.close();
        }
        return;
      } catch (error) {
        if (!(error instanceof LeaseError)) this.log.error({ lease: name, err: error }, 'lease not granted');
      }
    }
    this.finish(id, asked);
  }

  /** Denied or revoked: the protocol has no other word for it. */
  private finish(id: number, asked: Asked): void {
    asked.over = true;
    this.leases.delete(id);
    this.server?.finish(id);
  }

  private ended(id: number, crashed: boolean): void {
    const asked = this.leases.get(id);
    if (asked === undefined) return;
    this.leases.delete(id);
    if (!asked.over) this.giveBack(asked, crashed);
  }

  /** What is not granted yet is given back when it is. */
  private giveBack(asked: Asked, crashed: boolean): void {
    asked.over = true;
    if (asked.name !== null) void this.broker.release(asked.name, asked.who, crashed);
  }
}

function nameOf(card: LeasableCard | undefined, connector: number): string {
  const found = [...(card?.outputs.values() ?? [])].find((output) => output.connector.id === connector);
  return found?.name ?? `connector ${connector}`;
}

/** For people: the monitor, and the name that the configuration has for the output. */
function describe({ name, settings, connector }: LeasableOutput): string {
  const { make = null, model = null, serial = null } = connector.identity ?? {};
  const monitor = [make, model, serial].filter((part) => part !== null).join(' ');
  const known = [settings.name, monitor].filter((part) => part !== null && part !== '').join(', ');
  return known === '' ? name : `${known} (${name})`;
}
