/** A socket guest's way to take input: the ring that it has asked for. */
import { type Fd, isSystemError } from '../native/base.js';
import { fdKind } from '../native/guests.js';
import type { GuestDevice, InputEngine } from '../native/input.js';
import type { GuestInput, InputHost } from '../seats/sinks.js';
import { discard } from './buffers.js';
import type { Guest } from './guest.js';
import { Code, INPUT_REPLY_SIZE, INPUT_RING_SIZE, ProtocolError, type TakeInput } from './protocol.js';
import type { SendMessage } from './socket.js';

/** One TAKE_INPUT and what comes of it: one INPUT, or an ERROR, and at last another ERROR when it ends. */
export class RingInput implements GuestInput {
  readonly how = 'ring';
  /** Until the ring has them. */
  private eventfds: { event: Fd; room: Fd } | null;
  private sink: { id: number; engine: InputEngine } | null = null;
  private over = false;

  constructor(
    private readonly serial: number,
    eventfds: { event: Fd; room: Fd },
    private readonly send: SendMessage,
    /** The guest may ask again. */
    private readonly ended: () => void,
  ) {
    this.eventfds = eventfds;
  }

  async attach(engine: InputEngine, guest: number, devices: readonly GuestDevice[]): Promise<number> {
    const { eventfds } = this;
    if (eventfds === null) throw new Error('the guest has not asked for another ring');
    this.eventfds = null;
    try {
      const { id, ring, reply } = await engine.addRing(guest, { ...eventfds, devices });
      this.sink = { id, engine };
      if (!this.over) this.welcome([ring, reply]);
      for (const fd of [ring, reply]) fd.close();
      return id;
    } catch (error) {
      for (const fd of Object.values(eventfds)) discard(fd); // what was not taken over
      const bad = isSystemError(error) && error.code === 'EINVAL';
      const text = error instanceof Error ? error.message : String(error);
      this.end(bad ? Code.badFd : Code.internal, text, isSystemError(error) ? error.errno : 0);
      throw error;
    }
  }

  private welcome(fds: Fd[]): void {
    const sizes = { ringSize: INPUT_RING_SIZE, replySize: INPUT_REPLY_SIZE };
    this.send({ type: 'input', serial: this.serial, ...sizes }, fds);
  }

  async describe(devices: readonly GuestDevice[]): Promise<void> {
    await this.sink?.engine.setRing(this.sink.id, devices);
  }

  detached(why: string | null): void {
    this.end(Code.inputEnded, why ?? 'no seat gives the guest input by a ring any more');
  }

  /** The guest is going, and is told nothing. */
  close(): void {
    this.over = true;
    if (this.eventfds !== null) for (const fd of Object.values(this.eventfds)) discard(fd);
    this.eventfds = null;
  }

  private end(code: Code, text: string, errnum = 0): void {
    if (this.over) return;
    const serial = this.sink === null ? this.serial : 0;
    this.close();
    this.ended();
    this.send({ type: 'error', serial, code, errnum, fatal: 0, text });
  }
}

/** What a TAKE_INPUT makes, or a ProtocolError. The eventfds stay the caller's. */
export function takeRing(
  { name, input }: Guest,
  versionMinor: number,
  { serial }: TakeInput,
  [event, room]: Fd[],
  inputs: InputHost,
  send: SendMessage,
  ended: () => void,
): RingInput {
  if (versionMinor < 4) {
    const text = 'TAKE_INPUT is of version 1.4, which the guest does not speak';
    throw new ProtocolError(Code.badMessage, text);
  }
  if (input) throw new ProtocolError(Code.badState, 'the guest has asked for input already');
  const how = inputs.how(name, 'socket');
  if (how !== 'ring') {
    const text = `guest ${name} gets no input by a ring: the configuration says input = "${how}"`;
    throw new ProtocolError(Code.notAllowed, text);
  }
  if (event === undefined || room === undefined || [event, room].some((fd) => fdKind(fd) !== 'eventfd'))
    throw new ProtocolError(Code.badFd, 'two eventfds expected');
  return new RingInput(serial, { event: event.dup(), room: room.dup() }, send, ended);
}
