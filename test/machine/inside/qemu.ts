/**
 * A real QEMU in the test machine: started with the bare guest or a kernel, heard on its serial line, asked over QMP,
 * killed at will. It dies with the test, however that ends.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { ANSWER_MS, GuestProcess } from './guest-process.js';
import type { Expected } from './pixels.js';

/** Debian 13's (10.0), and its backports' (11.1). */
export const VERSIONS = { debian: 'qemu-system-x86_64', backports: 'qemu-system-x86_64-backports' } as const;
export type QemuVersion = keyof typeof VERSIONS;

export const BARE_GUEST = 'build-machine/guest.elf';
export interface QemuOptions {
  version?: QemuVersion;
  /** The kernel's command line: the bare guest's options. */
  append?: string;
  kernel?: string;
  initrd?: string;
  /** Arguments for the display's devices and whatever else: `-device`, `virtio-gpu-pci`. */
  args?: readonly string[];
  /** `-display`'s argument (none). */
  display?: string;
  memoryMb?: number;
  /** `-accel` arguments; the emulator by default, in which a bare guest is quick enough. */
  accelerators?: readonly string[];
  /** Further monitors, by the name that `monitor` gives the path of. */
  monitors?: readonly string[];
  env?: Record<string, string>;
}

export class Qemu extends GuestProcess {
  private qmpSocket: Socket | null = null;
  private replies: ((reply: { return?: unknown; error?: { desc: string } }) => void)[] = [];
  private dumps = 0;

  private constructor(
    readonly directory: string,
    options: QemuOptions,
  ) {
    super('QEMU', [VERSIONS[options.version ?? 'debian'], ...argumentsOf(directory, options)], options.env);
  }

  /** Resolves when it answers on QMP; a guest may have said much by then. */
  static async start(options: QemuOptions = {}): Promise<Qemu> {
    const qemu = new Qemu(mkdtempSync(join(tmpdir(), 'qemu-')), options);
    try {
      await qemu.connect();
    } catch (error) {
      await qemu.dispose();
      throw new Error(`no QEMU: ${(error as Error).message}\n${qemu.log}`);
    }
    return qemu;
  }

  /** The path of a QMP monitor's socket; each takes one client. */
  monitor(name: string): string {
    return monitorPath(this.directory, name);
  }

  private async connect(): Promise<void> {
    const deadline = performance.now() + ANSWER_MS;
    for (;;) {
      if (!this.alive) throw new Error(`ended with ${this.child.exitCode ?? this.child.signalCode}`);
      const socket = await tryConnect(this.monitor('test'));
      if (socket !== null) {
        this.listen(socket);
        await this.qmp('qmp_capabilities');
        return;
      }
      if (performance.now() > deadline) throw new Error('no monitor');
      await sleep(50);
    }
  }

  private listen(socket: Socket): void {
    this.qmpSocket = socket;
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const reply of this.replies.splice(0)) reply({ error: { desc: 'QEMU went away' } });
    });
    createInterface({ input: socket }).on('line', (line) => {
      const message = JSON.parse(line) as Record<string, unknown>;
      if ('return' in message || 'error' in message) this.replies.shift()?.(message);
    });
  }

  /** Executes a QMP command and gives what it returned. */
  async qmp(execute: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const reply = await new Promise<{ return?: unknown; error?: { desc: string } }>((resolve) => {
      if (this.qmpSocket === null || this.qmpSocket.destroyed) {
        resolve({ error: { desc: 'not connected' } });
        return;
      }
      this.replies.push(resolve);
      this.qmpSocket.write(JSON.stringify({ execute, arguments: args }));
    });
    if (reply.error !== undefined) throw new Error(`QMP ${execute}: ${reply.error.desc}`);
    return reply.return;
  }

  /** What QEMU itself takes for the picture of a console: of a device by its id and head, else of the first. */
  async screendump(of: { device?: string; head?: number } = {}): Promise<Expected> {
    const filename = join(this.directory, `${this.dumps++}.ppm`);
    await this.qmp('screendump', { filename, ...of });
    const ppm = readFileSync(filename);
    rmSync(filename);
    const head = /^P6\s(\d+)\s(\d+)\s255\s/.exec(ppm.toString('latin1', 0, 64));
    if (head === null) throw new Error('screendump: not a PPM');
    const [width, height] = [Number(head[1]), Number(head[2])];
    return { width, height, data: ppm.subarray(head[0].length) };
  }

  override async dispose(): Promise<void> {
    await this.kill();
    this.qmpSocket?.destroy();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function monitorPath(directory: string, name: string): string {
  return join(directory, `${name}.qmp`);
}

function argumentsOf(directory: string, options: QemuOptions): string[] {
  const memory = `${options.memoryMb ?? 128}M`;
  const monitors = ['test', ...(options.monitors ?? [])];
  return [
    ...['-nodefaults', '-no-user-config', '-m', memory],
    ...(options.accelerators ?? ['-accel', 'tcg,thread=multi']),
    ...['-object', `memory-backend-memfd,id=memory,size=${memory},share=on`],
    ...['-machine', 'pc,memory-backend=memory', '-display', options.display ?? 'none'],
    ...['-chardev', 'stdio,id=serial,signal=off', '-serial', 'chardev:serial'],
    ...monitors.flatMap((name) => ['-qmp', `unix:${monitorPath(directory, name)},server=on,wait=off`]),
    ...['-kernel', options.kernel ?? BARE_GUEST, '-append', options.append ?? ''],
    ...(options.initrd === undefined ? [] : ['-initrd', options.initrd]),
    ...(options.args ?? []),
  ];
}

function tryConnect(path: string): Promise<Socket | null> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', () => resolve(null));
  });
}
