/** The daemon's session: who opens cards for it, and who says when they may be used. */
import { constants, existsSync, openSync } from 'node:fs';
import type { SessionKind } from '../config/config.js';
import { adoptCardDevice, openCardDevice } from '../kms/drm-device.js';
import { Fd, isSystemError } from '../native/base.js';
import { Seat, type SeatBackend } from '../native/seat.js';
import type { OpenedInput } from '../seats/devices.js';
import type { Logger } from '../service/log.js';
import { type MasterKind, type OpenedCard, SessionError } from './source.js';

const SEATD_SOCKET = '/run/seatd.sock';
const BACKENDS: readonly SeatBackend[] = ['seatd', 'logind', 'builtin'];

/** Told when the seat manager takes the devices away and gives them back. */
export interface SeatUser {
  /** Nothing uses them any more when this returns. */
  disabled(): void;
  enabled(): void;
}

export interface SessionEvents extends SeatUser {
  /** The seat manager is gone: it will not give master back. */
  lost(reason: string): void;
}

export interface Session {
  readonly kind: Extract<MasterKind, 'direct' | SeatBackend>;
  /** Name of the seat, or null. */
  readonly seat: string | null;
  /** Why it is this one. */
  readonly reason: string;
  /** Resolves when cards can be opened: when the session is the active one of its seat. */
  ready(): Promise<void>;
  /**
   * Null for what is no card with outputs. `former`: the descriptor of the daemon before this one, taken over where the
   * daemon opens cards itself; seat managers want theirs anew. Throws a SystemError.
   */
  open(path: string, former?: Fd | null): OpenedCard | null;
  /** Devices may be used now. */
  readonly active: boolean;
  /** An input device of the seat, for reading and writing. Throws a SystemError: EPERM for one of another seat. */
  openInput(path: string): OpenedInput;
  close(): void;
}

/** Opens an input device without anybody's help. Throws a SystemError or an error of Node.js with a code. */
export function openInputDirectly(path: string): OpenedInput {
  const flags = constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY;
  return { fd: new Fd(openSync(path, flags)), close: () => {}, direct: true };
}

/**
 * `auto`: by the seat manager that LIBSEAT_BACKEND names, else by seatd where it has its socket, else by logind where this
 * process belongs to a session, else directly. Throws a SessionError when the one that was asked for cannot be had.
 */
export function openSession(wanted: SessionKind, events: SessionEvents, log: Logger): Session {
  if (wanted === 'direct') return new DirectSession('configuration');
  if (wanted !== 'auto') {
    try {
      return new SeatSession(wanted, 'configuration', events);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw new SessionError(`session = "${wanted}": ${error.message}`);
    }
  }
  const failures: string[] = [];
  for (const { backend, reason } of candidates(process.env)) {
    try {
      return new SeatSession(backend, reason, events);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      failures.push(`${backend} (${reason}): ${error.message}`);
    }
  }
  const reason =
    failures.join('; ') || 'there is no seat for this process: no socket of seatd, no XDG_SESSION_ID';
  if (failures.length > 0) log.warn({ reason }, 'no seat manager gives a seat: cards are opened directly');
  return new DirectSession(reason);
}

/** Seat managers worth trying, best first. */
export function candidates(
  environment: NodeJS.ProcessEnv,
  exists: (path: string) => boolean = existsSync,
): { backend: SeatBackend; reason: string }[] {
  const { LIBSEAT_BACKEND: named, SEATD_SOCK: socket = SEATD_SOCKET, XDG_SESSION_ID: session } = environment;
  const backend = BACKENDS.find((one) => one === named);
  if (backend !== undefined) return [{ backend, reason: 'LIBSEAT_BACKEND' }];
  const found: { backend: SeatBackend; reason: string }[] = [];
  if (exists(socket)) found.push({ backend: 'seatd', reason: socket });
  if (session !== undefined && session !== '')
    found.push({ backend: 'logind', reason: `session ${session}` });
  return found;
}

class DirectSession implements Session {
  readonly kind = 'direct';
  readonly seat = null;

  readonly active = true;

  constructor(readonly reason: string) {}

  openInput(path: string): OpenedInput {
    return openInputDirectly(path);
  }

  ready(): Promise<void> {
    return Promise.resolve();
  }

  open(path: string, former: Fd | null = null): OpenedCard | null {
    const device = openCardDevice(path, former);
    if (device === null) return null;
    return { device, source: { kind: 'direct', detail: '', own: true, told: false, close: () => {} } };
  }

  close(): void {}
}

class SeatSession implements Session {
  readonly seat: string;
  private readonly manager: Seat;
  private enabled = false;
  private closed = false;
  private waiting: (() => void)[] = [];

  /** Throws a SystemError. */
  constructor(
    readonly kind: SeatBackend,
    readonly reason: string,
    private readonly events: SessionEvents,
  ) {
    this.manager = new Seat(kind, {
      onEnabled: () => this.onEnabled(),
      onDisabled: () => this.onDisabled(),
      onError: (error) => {
        this.closed = true;
        this.events.lost(error.message);
      },
    });
    this.seat = this.manager.name;
  }

  private onEnabled(): void {
    const before = this.enabled;
    this.enabled = true;
    for (const resolve of this.waiting.splice(0)) resolve();
    if (!before) this.events.enabled();
  }

  private onDisabled(): void {
    const before = this.enabled;
    this.enabled = false;
    if (before) this.events.disabled();
  }

  get active(): boolean {
    return this.enabled && !this.closed;
  }

  openInput(path: string): OpenedInput {
    const opened = this.manager.openDevice(path);
    const close = () => {
      if (!this.closed) this.manager.closeDevice(opened);
    };
    return { fd: opened.fd, close, direct: false };
  }

  ready(): Promise<void> {
    return this.enabled ? Promise.resolve() : new Promise((resolve) => this.waiting.push(resolve));
  }

  open(path: string): OpenedCard | null {
    const opened = this.manager.openDevice(path);
    const close = () => {
      if (!this.closed) this.manager.closeDevice(opened);
    };
    try {
      const device = adoptCardDevice(opened.fd);
      if (device === null) close();
      if (device === null) return null;
      return { device, source: { kind: this.kind, detail: this.seat, own: false, told: true, close } };
    } catch (error) {
      close();
      throw error;
    }
  }

  close(): void {
    if (!this.closed) this.manager.close();
    this.closed = true;
  }
}
