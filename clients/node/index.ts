/**
 * A guest of scanoutd in TypeScript, over the C client. What the protocol means is told in docs/guest-protocol.md.
 *
 *     const client = new GuestClient({ name: 'kiosk' });
 *     client.on('configure', (area) => ...);
 *     await client.connect({ timeoutMs: 5000 });
 *     await client.addBuffer(0, layout, [dmabuf]);
 *     client.submit(0, { buffer: 0 });
 */
import { EventEmitter } from 'node:events';
import { Capability, Message, PlaneKind, PresentMode, SOCKET_PATH } from '../../src/guests/wire.js';
import type { Fd } from '../../src/native/base.js';
import {
  type BufferLayout,
  type Configuration,
  type Feedback,
  type Frame,
  type GuestClientEvent,
  GuestClientNative,
  type Refusal,
  type ShownState,
  type Submission,
} from '../../src/native/guest-client.js';
import { ClosedError, RefusedError, retried } from './attempts.js';
import { type InputDevices, type InputFrame, readInput } from './input.js';

export { Code, Flip, PlaneState, Presented } from '../../src/guests/wire.js';
export { ClosedError, RefusedError } from './attempts.js';
export type { InputClassName, InputDevice, InputDevices, InputEvent, InputFrame } from './input.js';
export { GuestLease, type LeaseEvents, takeLease } from './lease.js';
export { type DeviceOffer, offerDevice } from './offer.js';
export type { BufferLayout, Configuration, Feedback, Frame, Refusal, ShownState, Submission };

export interface GuestClientOptions {
  /** As in the daemon's configuration. */
  name: string;
  /** Default: SOCKET_PATH. */
  path?: string;
  /** Bottom to top; default: one primary plane. */
  planes?: Exclude<keyof typeof PlaneKind, 'none'>[];
  /** Whether frames will carry fences, where the daemon takes them. */
  fences?: boolean;
}

export interface GuestClientEvents {
  /** The guest's area: at first, and whenever it changes. */
  configure: [Configuration];
  formats: [plane: number, formats: { fourcc: number; modifier: bigint }[]];
  state: [plane: number, state: ShownState];
  /** Buffers came free, or feedback changed. */
  page: [];
  /** The devices that frames come from, from here on: at first, and whenever they change. See `takeInput`. */
  devices: [InputDevices];
  /** What a device sent. What is left pressed when the daemon dies or the seat's input ends is released by frames as well. */
  input: [InputFrame];
  /** An error that is no answer to a pending promise. Without a listener it is thrown, as EventEmitter has it. */
  error: [RefusedError];
  /** Null after `bye`; else ECONNRESET, EREMOTEIO or EPROTO. Buffers are kept: `connect` again. */
  closed: [reason: string | null];
}

interface Waiting {
  resolve(): void;
  reject(error: Error): void;
}

/** One guest. An open connection keeps the process alive; `close` or `bye` ends it. */
export class GuestClient extends EventEmitter<GuestClientEvents> {
  readonly #native: GuestClientNative;
  readonly #requests = new Map<number, Waiting>();
  /** Who waits for something in the flip page to change. */
  readonly #waiting = new Set<Waiting>();
  /** Settled by the end of an attempt to connect. */
  #greeting: Waiting | null = null;
  #lastRefusal: RefusedError | null = null;
  #reason: string | null = null;
  #over = false;

  constructor({ name, path = SOCKET_PATH, planes = ['primary'], fences = false }: GuestClientOptions) {
    super();
    this.#native = new GuestClientNative(
      path,
      { name, planes: planes.map((kind) => PlaneKind[kind]), capabilities: fences ? Capability.fence : 0n },
      (event) => this.#on(event),
    );
  }

  get connected(): boolean {
    return this.#native.connected;
  }

  /** Whether the daemon takes fences. */
  get fences(): boolean {
    return (this.#native.capabilities & Capability.fence) !== 0n;
  }

  /**
   * Connects, for the first time or again; registers again what an earlier connection had. Frames are not submitted
   * again. Tries until `timeoutMs` have passed (default: one attempt; Infinity: until there is a daemon).
   *
   * Rejected with a RefusedError when the daemon refuses the guest, with a SystemError or ClosedError otherwise.
   */
  async connect({ timeoutMs = 0 }: { timeoutMs?: number } = {}): Promise<void> {
    await retried(timeoutMs, (leftMs) => this.#attempt(leftMs));
  }

  /** Leaves cleanly; the daemon switches the guest's planes off. Resolved when the connection has ended. */
  async bye(): Promise<void> {
    this.#native.bye();
    await new Promise<void>((resolve) => this.once('closed', () => resolve()));
  }

  /** Ends the connection without a word; buffers are kept. The event `closed` does not follow. */
  disconnect(): void {
    this.#native.disconnect();
    this.#readInput();
    this.#rejectAll(new ClosedError(null));
  }

  /** Ends everything. */
  close(): void {
    this.#over = true;
    this.#native.close();
    this.#rejectAll(new ClosedError(null));
  }

  /**
   * Registers a dma-buf, in one descriptor or one a memory plane; the client keeps duplicates. Without a connection it
   * is kept for the next one. Rejected with a RefusedError when the daemon does not take it.
   */
  addBuffer(id: number, layout: BufferLayout, fds: Fd[]): Promise<void> {
    return this.#answered(this.#native.addBuffer(id, layout, fds));
  }

  /**
   * The memory behind the buffer has moved, or other dma-bufs (`fds`, borrowed, as many) have its picture from now on. Resolved
   * when the display has let go of the former memory; rejected with a RefusedError, the buffer is what it was.
   */
  renewBuffer(id: number, fds: Fd[] = []): Promise<void> {
    return this.#answered(this.#native.renewBuffer(id, fds));
  }

  /** Resolved when nothing shows the buffer any more. */
  removeBuffer(id: number): Promise<void> {
    return this.#answered(this.#native.removeBuffer(id));
  }

  setPresent(plane: number, mode: keyof typeof PresentMode): Promise<void> {
    return this.#answered(this.#native.setPresent(plane, PresentMode[mode]));
  }

  /**
   * Asks for the input of the seat that shows the guest, now and after every later connect: events `devices` and `input` follow.
   * Resolved when the seat gives it; without a connection at once. Rejected with a RefusedError when the configuration says
   * otherwise. Its end is an `error` with the code `inputEnded`; it may be asked for anew then.
   */
  takeInput(): Promise<void> {
    return this.#answered(this.#native.takeInput());
  }

  /** Sets the LEDs of the guest's keyboard, all of them: bits by LED_*. Kept over connections. */
  setLeds(leds: number): void {
    this.#native.setLeds(leds);
  }

  /** Hands a frame over. The newest wins: `reclaimed` is the former one when the daemon never saw it. */
  submit(plane: number, frame: Frame): Submission {
    return this.#native.submit(plane, frame);
  }

  /** Takes back a submission that the daemon has not taken; null when there is none. */
  withdraw(plane: number): Submission | null {
    return this.#native.withdraw(plane);
  }

  /** Whether the buffer may be drawn into. */
  bufferFree(id: number): boolean {
    return this.#native.bufferFree(id);
  }

  /** Waits for a free one of `ids`, and prefers the one submitted longest ago. Rejected when the connection closes. */
  async acquire(ids: number[]): Promise<number> {
    const buffers = ids.reduce((mask, id) => mask | (1n << BigInt(id)), 0n);
    for (;;) {
      this.#checkOpen();
      const id = this.#native.acquire(buffers);
      if (id !== null) return id;
      await this.#changed();
    }
  }

  /** Waits until frame `sequence` or a later one of the plane was presented. Rejected when the connection closes. */
  async presented(plane: number, sequence: bigint): Promise<Feedback> {
    for (;;) {
      this.#checkOpen();
      const feedback = this.#native.feedback(plane);
      if (feedback.presented >= sequence) return feedback;
      await this.#changed();
    }
  }

  feedback(plane: number): Feedback {
    return this.#native.feedback(plane);
  }

  async #attempt(leftMs: number): Promise<void> {
    if (this.#greeting !== null) throw new Error('connect is under way already');
    this.#lastRefusal = null;
    this.#native.connect();
    const greeted = new Promise<void>((resolve, reject) => {
      this.#greeting = { resolve, reject };
    });
    const timer = Number.isFinite(leftMs) ? setTimeout(() => this.#giveUp(), Math.max(0, leftMs)) : undefined;
    await greeted.finally(() => clearTimeout(timer));
  }

  #giveUp(): void {
    this.#native.disconnect();
    this.#rejectAll(new ClosedError('ETIMEDOUT'));
  }

  #answered(serial: number): Promise<void> {
    if (serial === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.#requests.set(serial, { resolve, reject }));
  }

  #checkOpen(): void {
    if (!this.#native.connected) throw new ClosedError(this.#reason);
  }

  /** Until something in the flip page has changed, or a request was answered. */
  #changed(): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.add({ resolve, reject }));
  }

  #wake(): void {
    for (const waiting of this.#waiting) waiting.resolve();
    this.#waiting.clear();
  }

  #on(event: GuestClientEvent): void {
    switch (event.type) {
      case 'connected':
        this.#greeting?.resolve();
        this.#greeting = null;
        break;
      case 'configure':
        this.emit('configure', event.configure);
        break;
      case 'formats':
        this.emit('formats', event.plane, event.formats);
        break;
      case 'state':
        this.emit('state', event.plane, event.state);
        break;
      case 'done':
        this.#requests.get(event.serial)?.resolve();
        this.#requests.delete(event.serial);
        this.#wake();
        break;
      case 'error':
        this.#onRefusal(event);
        break;
      case 'page':
        this.#wake();
        this.emit('page');
        break;
      case 'input':
        this.#readInput();
        break;
      case 'closed':
        this.#onClosed(event.reason);
        break;
    }
  }

  #readInput(): void {
    const all = readInput(this.#native, {
      frame: (frame) => this.emit('input', frame),
      devices: (devices) => this.emit('devices', devices),
      closed: () => this.#over,
    });
    if (!all) setImmediate(() => this.#over || this.#readInput());
  }

  #onRefusal(event: Extract<GuestClientEvent, { type: 'error' }>): void {
    const { code, errnum, text } = event.error;
    const { addBuffer, removeBuffer, renewBuffer } = Message;
    const aboutBuffer = [addBuffer, removeBuffer, renewBuffer].some((type) => type === event.request);
    const error = new RefusedError(code, errnum, text, aboutBuffer ? event.buffer : undefined);
    this.#lastRefusal = error;
    const request = this.#requests.get(event.serial);
    if (request !== undefined) {
      this.#requests.delete(event.serial);
      request.reject(error);
    } else if (this.#greeting === null) {
      this.emit('error', error);
    }
  }

  #onClosed(reason: string | null): void {
    this.#reason = reason;
    const greeting = this.#greeting !== null;
    const told = reason === 'EREMOTEIO' ? this.#lastRefusal : null;
    this.#rejectAll(told ?? new ClosedError(reason));
    if (!greeting) this.emit('closed', reason);
  }

  #rejectAll(error: Error): void {
    const all = [
      ...this.#requests.values(),
      ...this.#waiting,
      ...(this.#greeting === null ? [] : [this.#greeting]),
    ];
    this.#requests.clear();
    this.#waiting.clear();
    this.#greeting = null;
    for (const one of all) one.reject(error);
  }
}
