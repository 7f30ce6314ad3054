/** One connection of the guest protocol: order of messages, answers, and its end. */
import type { Fd } from '../native/base.js';
import { isSystemError } from '../native/base.js';
import type { Logger } from '../service/log.js';
import { discard, ImportError } from './buffers.js';
import type { GuestLeaseRequest, TakenLease } from './lease-request.js';
import type { DeviceOffer, TakenDevice } from './offer.js';
import {
  Code,
  type DaemonMessage,
  decodeFromGuest,
  encode,
  type GuestMessage,
  type Hello,
  type OfferDevice,
  ProtocolError,
  type RenewBuffer,
  type TakeLease,
} from './protocol.js';
import type { SocketGuest } from './socket.js';

/** What a session needs of its socket. */
export interface Connection {
  /** Never blocks; `full` when the guest does not read. */
  send(data: Uint8Array, fds?: Fd[]): 'sent' | 'full';
  pause(): void;
  resume(): void;
  close(): void;
}

/** What a session asks of the daemon. */
export interface SessionHost {
  /** Makes the guest, or throws a ProtocolError. Takes the descriptors over. */
  admit(session: GuestSession, hello: Hello, kick: Fd, release: Fd): SocketGuest;
  /** Finds a place for it; after the welcome. */
  arrived(guest: SocketGuest): Promise<void>;
  /** Takes a device that the peer offers instead of pictures. Throws a ProtocolError. */
  offered(session: GuestSession, offer: Omit<DeviceOffer, 'peer'>): Promise<TakenDevice>;
  /** Asks for the lease that the peer gets instead of planes. Throws a ProtocolError. */
  lease(session: GuestSession, request: Omit<GuestLeaseRequest, 'peer'>): TakenLease;
  /** It is gone, one way or the other. */
  departed(guest: SocketGuest, clean: boolean): Promise<void>;
}

/** Messages that wait for their turn before the socket is not read for a while. */
const MOST_WAITING = 64;

export class GuestSession {
  private guest: SocketGuest | null = null;
  /** What it has in place of planes of its own: a device that it offered, or a lease, also one that it waits for. */
  private other: ((TakenDevice | TakenLease) & { name: string; what: string }) | null = null;
  private turn: Promise<void> = Promise.resolve();
  private waiting = 0;
  private ended = false;
  private clean = false;

  constructor(
    private readonly connection: Connection,
    private readonly host: SessionHost,
    private readonly log: Logger,
  ) {}

  /** A message came; takes the descriptors over. Messages are handled one after the other. */
  receive(data: Uint8Array, fds: Fd[], whole: boolean): void {
    if (this.ended) {
      for (const fd of fds) discard(fd);
      return;
    }
    if (++this.waiting === MOST_WAITING) this.connection.pause();
    this.turn = this.turn
      .then(() => this.handle(data, fds, whole))
      .finally(() => {
        if (this.waiting-- === MOST_WAITING && !this.ended) this.connection.resume();
      });
  }

  private async handle(data: Uint8Array, fds: Fd[], whole: boolean): Promise<void> {
    let serial = 0;
    try {
      if (this.ended) return;
      if (!whole) throw new ProtocolError(Code.badMessage, 'the message or its descriptors were cut off');
      const message = decodeFromGuest(data, fds.length);
      serial = message.serial;
      await this.dispatch(message, fds);
    } catch (error) {
      this.refuse(error, serial);
    } finally {
      // Whatever was taken over is closed already, or moved out.
      for (const fd of fds) if (!this.keeps(fd)) discard(fd);
    }
  }

  /** Descriptors of registered buffers stay with these. */
  private keeps(fd: Fd): boolean {
    for (const buffer of this.guest?.buffers() ?? []) if (buffer.fds.includes(fd)) return true;
    return false;
  }

  private async dispatch(message: GuestMessage, fds: Fd[]): Promise<void> {
    if (message.type === 'hello') {
      await this.hello(message, fds);
      return;
    }
    if (message.type === 'offerDevice') {
      await this.offer(message, fds);
      return;
    }
    if (message.type === 'takeLease') {
      this.takeLease(message);
      return;
    }
    if (message.type === 'bye' && this.other !== null) {
      this.bye(message.serial);
      return;
    }
    const { guest } = this;
    if (guest === null) {
      const when = this.other === null ? 'before hello' : `after ${this.other.what}`;
      throw new ProtocolError(Code.badState, `${message.type} ${when}`);
    }
    switch (message.type) {
      case 'addBuffer':
        await guest.addBuffer(message, fds);
        this.done(message.serial);
        return;
      case 'removeBuffer':
        // Answered when nothing shows it any more; other messages do not wait for that.
        void guest.removeBuffer(message.buffer).then(
          () => this.done(message.serial),
          (error: unknown) => this.refuse(error, message.serial),
        );
        return;
      case 'setPresent':
        await guest.setPresent(message);
        this.done(message.serial);
        return;
      case 'takeInput':
        guest.takeInput(message, fds); // answered when the seat is there
        return;
      case 'renewBuffer':
        await this.renew(guest, message, fds);
        return;
      case 'bye':
        this.bye(message.serial);
        return;
    }
  }

  /** Answered when the display has let go of the former memory; other messages do not wait for that. */
  private async renew(guest: SocketGuest, { buffer, serial }: RenewBuffer, fds: Fd[]): Promise<void> {
    await guest.renewBuffer(buffer, fds);
    void guest.bufferRenewed(buffer).then(
      () => this.done(serial),
      (error: unknown) => this.refuse(error, serial),
    );
  }

  private bye(serial: number): void {
    this.clean = true;
    this.done(serial);
    this.end('bye');
  }

  /** The first message of a connection, and only that. */
  private checkFirst(what: string): void {
    if (this.guest === null && this.other === null) return;
    throw new ProtocolError(Code.badState, `${what} after ${this.other?.what ?? 'hello'}`);
  }

  private async offer({ name, serial }: OfferDevice, [device]: Fd[]): Promise<void> {
    this.checkFirst('a device');
    if (device === undefined) throw new ProtocolError(Code.badFd, 'a device expected');
    const ended = (code: Code, text: string) => this.dismiss(0, code, text);
    const taken = await this.host.offered(this, { name, device, ended });
    if (this.ended) {
      await taken.withdraw(this.clean);
      return;
    }
    this.other = { name, what: 'a device was offered', withdraw: (clean) => taken.withdraw(clean) };
    this.done(serial);
  }

  /** Answered when the lease is there; who waits for it may say bye. */
  private takeLease({ name, serial }: TakeLease): void {
    this.checkFirst('a lease');
    let open = serial;
    const taken = this.host.lease(this, {
      name,
      granted: (lease, fd) => {
        this.send({ type: 'lease', serial, lease }, [fd]);
        open = 0;
      },
      noticed: (milliseconds, text) => this.send({ type: 'leaseNotice', serial: 0, milliseconds, text }),
      ended: (code, text) => this.dismiss(open, code, text),
    });
    this.other = { name, what: 'a lease was asked for', withdraw: (clean) => taken.withdraw(clean) };
  }

  /** The device or the lease is gone already. */
  private dismiss(serial: number, code: Code, text: string): void {
    this.send({ type: 'error', serial, code, errnum: 0, fatal: 1, text });
    this.other = null;
    this.end(text);
  }

  private async hello(message: Hello, fds: Fd[]): Promise<void> {
    this.checkFirst('a hello');
    const [kick, release] = fds;
    if (kick === undefined || release === undefined)
      throw new ProtocolError(Code.badFd, 'two eventfds expected');
    const guest = this.host.admit(this, message, kick, release);
    this.guest = guest;
    guest.welcome();
    await this.host.arrived(guest);
  }

  private done(serial: number): void {
    this.send({ type: 'done', serial });
  }

  /** Before the hello was accepted an error ends the connection; later it refuses one message. */
  private refuse(error: unknown, serial: number): void {
    const known = error instanceof ProtocolError;
    const code = known ? error.code : Code.internal;
    const text = known ? error.text : error instanceof Error ? error.message : String(error);
    const errnum = error instanceof ImportError || isSystemError(error) ? error.errno : 0;
    const fatal = this.guest === null && this.other === null;
    this.log.warn(
      { guest: this.guest?.name ?? this.other?.name, code, errnum, fatal, err: known ? undefined : error },
      `refused: ${text}`,
    );
    this.guest?.told(text);
    this.send({
      type: 'error',
      serial: known && error.serial !== 0 ? error.serial : serial,
      code,
      errnum,
      fatal: fatal ? 1 : 0,
      text,
    });
    if (fatal) this.end('refused');
  }

  /** Sends, and ends the connection of a guest that does not read. */
  send(message: DaemonMessage, fds: Fd[] = []): void {
    if (this.ended) return;
    try {
      if (this.connection.send(encode(message), fds) === 'sent') return;
      this.log.warn(
        { guest: this.guest?.name ?? this.other?.name },
        'the guest does not read its messages: closed',
      );
      this.end('does not read');
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.end(error.code);
    }
  }

  /** The connection is over, by either side. Safe to call again. */
  end(reason: string): void {
    if (this.ended) return;
    this.ended = true;
    this.connection.close();
    const { guest, other } = this;
    const leaving = guest ?? other;
    if (leaving === null) return;
    this.log.info({ guest: leaving.name, reason }, 'guest left');
    this.turn = this.turn
      .then(() => (guest === null ? other?.withdraw(this.clean) : this.host.departed(guest, this.clean)))
      .catch((error: unknown) => this.log.error({ guest: leaving.name, err: error }, 'leaving failed'));
  }

  /** Resolves when everything that has come so far is dealt with; after `end`, when the guest is gone. */
  settled(): Promise<void> {
    return this.turn;
  }
}
