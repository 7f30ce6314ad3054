/** QEMU's machine protocol, as much of it as it takes to hand a socket to its D-Bus display. */
import { Socket } from 'node:net';
import type { Fd } from '../native/base.js';
import { connectStream, peerOf, sendWithFd, streamPair } from '../native/streams.js';

const TIMEOUT_MS = 5000;
/** Of one line; QEMU's greeting has a few hundred bytes. */
const LONGEST_LINE = 65536;

/** QEMU refused a command, or is none. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
}

interface Answer {
  QMP?: unknown;
  return?: unknown;
  error?: { class?: unknown; desc?: unknown };
  event?: unknown;
}

class Qmp {
  private readonly lines: Answer[] = [];
  private rest = '';
  private wake: () => void = () => {};
  private failure: Error | null = null;
  readonly pid: number;

  private constructor(
    private readonly socket: Fd,
    private readonly stream: Socket,
    private readonly path: string,
  ) {
    this.pid = peerOf(socket).pid;
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => this.receive(text));
    stream.on('error', (error) => this.fail(error));
    stream.on('close', () => this.fail(new QmpError(`${path}: QEMU closed the connection`)));
  }

  /** Throws a SystemError or a QmpError. */
  static async connect(path: string): Promise<Qmp> {
    const socket = connectStream(path);
    const stream = new Socket({ fd: socket.dup().release(), readable: true, writable: true });
    const qmp = new Qmp(socket, stream, path);
    try {
      // A monitor has one client at a time, and says nothing to those who wait.
      const greeting = await qmp.next('no greeting: another program has the monitor, or it is none of QMP');
      if (greeting.QMP === undefined) throw new QmpError(`${path}: this is no QMP monitor`);
      await qmp.execute('qmp_capabilities', {});
    } catch (error) {
      qmp.close();
      throw error;
    }
    return qmp;
  }

  /** `fd` (borrowed) goes along. Throws a QmpError with what QEMU says. */
  async execute(command: string, args: Record<string, unknown>, fd: Fd | null = null): Promise<unknown> {
    const line = `${JSON.stringify({ execute: command, arguments: args })}\r\n`;
    if (fd === null) this.stream.write(line);
    else sendWithFd(this.socket, Buffer.from(line), fd);
    for (;;) {
      const answer = await this.next(`no answer to ${command}`);
      if (answer.event !== undefined) continue;
      if (answer.error === undefined) return answer.return;
      throw new QmpError(`${this.path}: ${command}: ${String(answer.error.desc)}`);
    }
  }

  private receive(text: string): void {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop() ?? '';
    try {
      for (const line of lines) if (line.trim() !== '') this.lines.push(JSON.parse(line) as Answer);
      if (this.rest.length > LONGEST_LINE) throw new SyntaxError('a line that does not end');
    } catch (error) {
      this.fail(new QmpError(`${this.path}: no QMP: ${(error as Error).message}`));
    }
    this.wake();
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.wake();
  }

  private async next(silence: string): Promise<Answer> {
    const deadline = Date.now() + TIMEOUT_MS;
    for (;;) {
      const answer = this.lines.shift();
      if (answer !== undefined) return answer;
      if (this.failure !== null) throw this.failure;
      const left = deadline - Date.now();
      if (left <= 0) throw new QmpError(`${this.path}: ${silence}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  close(): void {
    this.stream.destroy();
    this.socket.close();
  }
}

/**
 * Hands `socket` (borrowed) to the D-Bus display of the QEMU whose monitor listens at `path`: it becomes a peer-to-peer
 * connection, and replaces a former one. The monitor is free for others afterwards. Gives QEMU's process id. Throws a
 * SystemError or a QmpError.
 */
async function addDisplayClient(path: string, socket: Fd): Promise<number> {
  const qmp = await Qmp.connect(path);
  try {
    const fdname = `scanoutd-${process.pid}`;
    await qmp.execute('getfd', { fdname }, socket);
    await qmp.execute('add_client', { protocol: '@dbus-display', fdname });
    return qmp.pid;
  } finally {
    qmp.close();
  }
}

/** A new peer-to-peer connection to that display: our end, and QEMU's process id. Throws a SystemError or a QmpError. */
export async function openQemuDisplay(path: string): Promise<{ socket: Fd; pid: number }> {
  const [socket, theirs] = streamPair();
  try {
    return { socket, pid: await addDisplayClient(path, theirs) };
  } catch (error) {
    socket.close();
    throw error;
  } finally {
    theirs.close();
  }
}
