/** The guests of one program: a child process that flips, or prints, as it is told. */
import { Child, nativeFile } from './child.js';
import type { GuestLayout } from './scenarios.js';

const CONNECT_MS = 120_000;
const PROGRAMS = { socket: 'bench_guest', virtio: 'bench_virtio', qemu: 'bench_dbus' } as const;

export class Guests {
  private readonly child: Child;
  /** Where its kicks are, when it has ended. */
  readonly file: string;

  /** Of one kind; several only of kind socket. `sockets`: where each connects, or for `qemu` its monitor is to listen. */
  constructor(layout: readonly GuestLayout[], sockets: readonly string[], rate: number, base: string) {
    this.file = `${base}.kicks`;
    const names = layout.map(({ name, width, height }, i) => `${sockets[i]}:${name}:${width}x${height}`);
    const [{ kind, printing } = { kind: 'socket', printing: null } as const] = layout;
    const options = ['--out', this.file, '--rate', String(rate)];
    if (printing !== null) options.push('--print', printing);
    const command = [nativeFile(PROGRAMS[kind]), ...options, ...names];
    this.child = new Child('guests', command, { log: `${base}.log` });
  }

  async connected(): Promise<void> {
    await this.child.line('ready', CONNECT_MS);
  }

  /** Flips that were presented (lines, where it prints), and those that never were. */
  async run(seconds: number): Promise<{ flips: number; lost: number }> {
    this.child.write(`run ${seconds}\n`);
    const [, flips, lost] = (await this.child.line('ran ', seconds * 1000 + CONNECT_MS)).split(' ');
    return { flips: Number(flips), lost: Number(lost) };
  }

  async leave(): Promise<void> {
    await this.child.end();
  }
}
