/** Which cards the daemon takes, and from whom. */
import type { SessionDocument } from '../api/documents.js';
import type { Config } from '../config/config.js';
import { takesCard } from '../config/match.js';
import { cardNodes } from '../kms/nodes.js';
import { type Fd, isSystemError } from '../native/base.js';
import type { OpenedInput } from '../seats/devices.js';
import type { Logger } from '../service/log.js';
import { adoptDescriptor, takeDlmLease } from './given.js';
import { openInputDirectly, openSession, type Session, type SessionEvents } from './session.js';
import { type OpenedCard, SessionError } from './source.js';

/** As said on the command line. */
export interface AskedCards {
  /** Cards to take and no others; empty: as the configuration says, unless there are others here. */
  drmDevices: readonly string[];
  /** Numbers of descriptors that this process was started with. */
  drmFds: readonly number[];
  /** Names of leases of a drm-lease-manager. */
  dlmLeases: readonly string[];
}

export interface CardsEvents extends SessionEvents {
  /** A lease that a card is was ended by its lease manager. */
  leaseEnded(name: string): void;
}

export class CardOpener {
  private session: Session | null = null;

  constructor(
    private readonly asked: AskedCards,
    private readonly events: CardsEvents,
    private readonly log: Logger,
  ) {}

  /**
   * Opens everything that is wanted; what cannot be had is told, each for itself. `former`: descriptors of the daemon before
   * this one by path, of which those that are used are taken over. Rejects with a SessionError.
   */
  async open(
    config: Config,
    former: Map<string, Fd>,
    problem: (where: string, error: Error) => void,
  ): Promise<OpenedCard[]> {
    const opened: OpenedCard[] = [];
    try {
      for (const number of this.asked.drmFds) opened.push(adoptDescriptor(number));
      for (const name of this.asked.dlmLeases)
        opened.push(await takeDlmLease(name, () => this.events.leaseEnded(name), this.log));
      if (opened.length > 0 && this.asked.drmDevices.length === 0) return opened;
      this.session = openSession(config.daemon.session, this.events, this.log);
      const { kind, seat, reason } = this.session;
      this.log.info({ kind, seat, reason }, 'session');
      await this.session.ready();
    } catch (error) {
      for (const { device, source } of opened) {
        device.close();
        source.close();
      }
      throw error;
    }
    for (const path of this.candidates()) {
      opened.push(...this.openOne(this.session, path, former.get(path) ?? null, config, problem));
    }
    return opened;
  }

  private openOne(
    session: Session,
    path: string,
    former: Fd | null,
    config: Config,
    problem: (where: string, error: Error) => void,
  ): OpenedCard[] {
    try {
      const card = session.open(path, former);
      if (card === null) return [];
      const { device, source } = card;
      const wanted =
        this.asked.drmDevices.includes(path) || takesCard(config, { device: path, driver: device.driver });
      if (wanted && device.isMaster()) return [card];
      device.close();
      source.close();
      if (wanted) throw new SessionError(`${path}: another program is DRM master (a display server?)`);
    } catch (error) {
      if (!isSystemError(error) && !(error instanceof SessionError)) throw error;
      problem(path, error);
    }
    return [];
  }

  private candidates(): string[] {
    if (this.asked.drmDevices.length > 0) return [...this.asked.drmDevices];
    return cardNodes();
  }

  /**
   * An input device: of the seat manager where it is at its seat, else opened directly: seat managers open nothing of other
   * seats. Null while the session is not active. Throws a SystemError, or an error of Node.js with a code.
   */
  openInput(path: string, udevSeat: string): OpenedInput | null {
    const { session } = this;
    if (session === null || session.seat === null || session.seat !== udevSeat)
      return openInputDirectly(path);
    return session.active ? session.openInput(path) : null;
  }

  document(): SessionDocument {
    if (this.session === null) return { kind: 'given', seat: null, reason: 'command line' };
    const { kind, seat, reason } = this.session;
    return { kind, seat, reason };
  }

  close(): void {
    this.session?.close();
  }
}
