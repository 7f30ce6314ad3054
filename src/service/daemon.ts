/** The daemon: start-up order, hot-plug, reload, end. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DbusFrontend } from '../api/dbus.js';
import { Manager } from '../api/manager.js';
import { VERSION } from '../cli/version.js';
import type { Config, GuestKindName } from '../config/config.js';
import { diffConfig, formatChange } from '../config/diff.js';
import { loadConfig } from '../config/load.js';
import { ConfigError, formatProblem } from '../config/problems.js';
import { AdmissionError, type GuestKind } from '../guests/kind.js';
import { GUEST_KIND_ENTRIES } from '../guests/kinds.js';
import { GuestManager } from '../guests/manager.js';
import { Card } from '../kms/card.js';
import { type FormerLeases, stateOf } from '../leases/adopt.js';
import { LeaseBroker } from '../leases/broker.js';
import { DlmFrontend } from '../leases/dlm.js';
import { LeaseKeeper } from '../leases/keeper.js';
import { WaylandFrontend } from '../leases/wayland.js';
import type { Fd } from '../native/base.js';
import { type UdevEvent, UdevMonitor } from '../native/session.js';
import { notify, watchdogUsec } from '../native/systemd.js';
import { SeatManager } from '../seats/manager.js';
import { CardSeats, seatWorld } from '../seats/world.js';
import { type AskedCards, CardOpener } from '../session/cards.js';
import { type OpenedCard, SessionError } from '../session/source.js';
import type { Log, Logger } from './log.js';
import { FlipStatistics } from './statistics.js';
import { SystemdStore } from './store.js';
import { Watchdog } from './watchdog.js';

const DRAIN_MS = 1000;
/** For guests to leave their planes at the end; a lost flip event alone takes a second. */
const LEAVE_MS = 3000;

export interface DaemonSetup extends AskedCards {
  config: Config;
  configPath: string | null;
  /** As asked on the command line, for reloading. */
  askedPath: string | undefined;
}

/** Why the daemon cannot run; said to the user as it is. */
export class StartError extends Error {}

export class Daemon {
  private readonly cards: Card[] = [];
  private readonly statistics = new FlipStatistics();
  private readonly store: SystemdStore;
  private readonly guests: GuestManager;
  private readonly leases: LeaseBroker;
  private readonly dlm: DlmFrontend;
  private readonly keeper: LeaseKeeper;
  private readonly wayland: WaylandFrontend;
  private readonly opener: CardOpener;
  private readonly seats: SeatManager;
  private readonly cardSeats = new CardSeats();
  private readonly manager: Manager;
  private readonly log: Logger;
  private readonly watchdog: Watchdog;
  private config: Config;
  private udev: UdevMonitor | null = null;
  private readonly kinds: readonly GuestKind[];
  private bus: DbusFrontend | null = null;
  private drain: NodeJS.Timeout | null = null;
  private stopping: Promise<void> | null = null;

  constructor(
    private readonly setup: DaemonSetup,
    private readonly logs: Log,
  ) {
    this.log = logs.module('daemon');
    this.config = setup.config;
    this.store = new SystemdStore(logs.module('store'));
    this.keeper = new LeaseKeeper(this.store, logs.module('leases'));
    this.leases = new LeaseBroker(this.cards, this.config, logs, () => {
      this.keeper.update(stateOf(this.leases.holdings.list()));
      this.manager.emit('changed', 'leases');
    });
    this.opener = new CardOpener(
      setup,
      {
        disabled: () => {
          this.seats.sessionDisabled();
          for (const card of this.seatCards()) card.mastery.disabled();
        },
        enabled: () => {
          for (const card of this.seatCards()) card.mastery.enabled();
          void this.seats.rescan();
        },
        lost: (reason) => this.log.error({ reason }, 'the seat manager is gone: cards stay as they are'),
        leaseEnded: (lease) => this.log.error({ lease }, 'the lease manager has ended the lease'),
      },
      logs.module('session'),
    );
    this.seats = this.makeSeats();
    this.guests = new GuestManager(
      this.cards,
      this.config,
      this.statistics,
      logs,
      this.store,
      this.leases,
      () => {
        void this.seats.update();
        this.manager.emit('changed', 'guests');
      },
      this.seats,
    );
    this.guests.seats = this.seats;
    this.kinds = GUEST_KIND_ENTRIES.map((entry) => entry.make(this.guests));
    this.dlm = new DlmFrontend(this.leases, logs.module('leases'));
    this.wayland = new WaylandFrontend(this.leases, this.cards, logs);
    this.manager = new Manager(
      VERSION,
      this.cards,
      this.opener,
      this.guests,
      this.leases,
      this.seats,
      this.statistics,
      logs,
      () => setup.configPath,
      () => this.drainRecords(),
      (kind, name, socket) => this.attach(kind, name, socket),
    );
    this.manager.on('changed', (what) => {
      if (what !== 'guests') this.wayland.refresh();
    });
    const host = { watchdogUsec, notify };
    const engines = () => [
      ...this.cards.map(({ engine }) => engine),
      ...(this.seats.engine === null ? [] : [this.seats.engine]),
    ];
    this.watchdog = new Watchdog(host, engines, logs.module('watchdog'));
  }

  private makeSeats(): SeatManager {
    const world = seatWorld({
      cards: this.cards,
      cardSeats: this.cardSeats,
      opener: this.opener,
      guests: () => this.guests,
      config: () => this.config,
      changed: () => this.manager.emit('changed', 'seats'),
      log: this.logs.module('seats'),
    });
    return new SeatManager(world, this.config, this.logs.module('seats'));
  }

  /** Lights the outputs, then lets guests and callers in, then says READY. Throws a StartError. */
  async start(): Promise<void> {
    notify('STATUS=Taking cards');
    const former = this.keeper.claim();
    await this.openCards(former);
    notify('STATUS=Lighting outputs');
    this.udev = new UdevMonitor({
      subsystems: ['drm', 'input'],
      onEvents: (events, { overflow }) => this.onUevents(events, overflow),
    });
    for (const lease of former.leases) await this.leases.adopt(lease);
    // What was kept of leases that do not go on is let go.
    this.keeper.update(stateOf(this.leases.holdings.list()));
    for (const card of this.cards) {
      await card.rescan(true);
      card.device.forgetFormer();
      await this.leases.reconcile(card);
    }
    // Under systemd it is there (RuntimeDirectory=); started by hand it may not be.
    mkdirSync(dirname(this.config.daemon.busSocket), { recursive: true });
    // First: guests' devices are there before they are.
    await this.seats.start();
    for (const kind of this.kinds) await kind.start(this.config);
    this.store.close();
    this.dlm.configure(this.config.leases, this.config.daemon);
    this.wayland.configure(this.config);
    this.bus = new DbusFrontend(this.manager, this.config, this.logs.module('bus'));
    await this.bus.start();
    this.drain = setInterval(() => this.drainRecords(), DRAIN_MS);
    this.manager.ready = true;
    this.watchdog.start();
    const lit = this.litNames();
    notify(`READY=1\nSTATUS=${lit.length} outputs lit: ${lit.join(', ') || 'none'}`);
    this.log.info({ outputs: lit, socket: this.config.daemon.guestSocket }, 'ready');
  }

  private async attach(kind: GuestKindName, name: string, socket: Fd): Promise<void> {
    const found = this.kinds[GUEST_KIND_ENTRIES.findIndex((entry) => entry.name === kind)];
    if (found?.attach === undefined) throw new AdmissionError(`nobody attaches guests of kind "${kind}"`);
    await found.attach(name, socket);
  }

  private litNames(): string[] {
    return this.cards.flatMap((card) =>
      [...card.outputs.values()].filter(({ lit }) => lit !== null).map(({ name }) => name),
    );
  }

  private async openCards(former: FormerLeases): Promise<void> {
    const problems: string[] = [];
    let opened: OpenedCard[];
    try {
      opened = await this.opener.open(this.config, former.cards, (card, error) => {
        problems.push(error.message);
        this.log.error({ card, err: error }, 'card not taken');
      });
    } catch (error) {
      if (error instanceof SessionError) throw new StartError(error.message);
      throw error;
    }
    for (const one of opened) {
      const card = this.makeCard(one);
      this.cards.push(card);
      card.mastery.start();
    }
    for (const fd of former.cards.values()) fd.close();
    if (this.cards.length > 0) return;
    const why = problems.length > 0 ? problems.join('; ') : 'there is none with outputs';
    throw new StartError(`no card could be taken: ${why}`);
  }

  /** Cards of the seat manager's. */
  private seatCards(): Card[] {
    return this.cards.filter(({ source }) => source.told);
  }

  private makeCard({ device, source }: OpenedCard): Card {
    const card: Card = new Card(
      device,
      source,
      this.config,
      {
        changed: () => {
          this.manager.emit('changed', 'outputs');
          this.leases.serve();
          void this.guests.settleAll();
          void this.seats.update();
        },
        guestOf: (stream) => this.guests.guestOfStream(stream, card),
        gone: () => {
          this.log.error({ card: device.path }, 'the card is gone');
          this.wayland.cardGone(card);
          void this.leases.cardGone(card);
        },
        lesseesFramebuffers: () => this.leases.holdings.framebuffers(card),
        paused: () => this.leases.suspended(card, true),
        resumed: () => this.leases.suspended(card, false),
      },
      this.logs.module('kms'),
    );
    return card;
  }

  /** All that came at once, then one rescan: uevents are hints, and often come in threes. */
  private onUevents(all: readonly UdevEvent[], overflow: boolean): void {
    const events = all.filter(({ subsystem }) => subsystem === 'drm');
    if (overflow || events.length < all.length) void this.seats.rescan();
    if (!overflow && events.length === 0) return;
    this.cardSeats.forget();
    for (const card of this.cards) {
      const concerned = overflow || events.some(({ devnode }) => devnode === null || devnode === card.path);
      if (!concerned) continue;
      this.log.debug({ card: card.path, overflow, actions: events.map(({ action }) => action) }, 'uevents');
      // One that only tells of a lessee's end (LEASE=1) says nothing of connectors.
      const ofLeases = !overflow && events.every(({ properties }) => properties.LEASE === '1');
      if (!ofLeases) void card.rescan();
      void this.leases.reconcile(card);
    }
  }

  private drainRecords(): void {
    for (const card of this.cards) this.statistics.ingest(card.engine.records());
  }

  /** SIGHUP. A wrong file changes nothing. */
  async reload(): Promise<void> {
    notify(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
    try {
      const { config } = loadConfig(this.setup.askedPath);
      for (const change of diffConfig(this.config, config)) this.log.info(formatChange(change));
      this.config = config;
      this.logs.setLevel(config.daemon.logLevel);
      this.guests.configure(config);
      this.leases.configure(config);
      this.dlm.configure(config.leases, {
        ...config.daemon,
        dlmDirectory: this.setup.config.daemon.dlmDirectory,
      });
      const { waylandSocket } = this.setup.config.daemon;
      this.wayland.configure({ ...config, daemon: { ...config.daemon, waylandSocket } });
      for (const card of this.cards) {
        card.configure(config);
        await card.rescan();
      }
      await this.seats.configure(config);
      for (const kind of this.kinds) await kind.reload(config);
      await this.guests.settleAll();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const problem of error.problems) this.log.error(formatProblem(problem));
      this.log.error('the configuration is wrong: the former one stays');
    } finally {
      notify('READY=1');
    }
  }

  /** Ends in order. What the screens show last stays until the cards' descriptors are closed. */
  stop(): Promise<void> {
    this.stopping ??= this.shutDown();
    return this.stopping;
  }

  private async shutDown(): Promise<void> {
    notify('STOPPING=1');
    this.log.info('ending');
    this.watchdog.stop();
    if (this.drain !== null) clearInterval(this.drain);
    this.udev?.close();
    this.dlm.stop();
    const left = Promise.all([this.leases.stop(this.store.kept), ...this.kinds.map((kind) => kind.stop())]);
    // What a card that is gone or stuck does not give back, its engine does when it is closed.
    await Promise.race([left, sleep(LEAVE_MS, undefined, { ref: false })]);
    await this.seats.stop();
    this.wayland.stop();
    await this.bus?.stop();
    for (const card of this.cards) card.close();
    this.opener.close();
  }
}
