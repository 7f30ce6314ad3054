/** The real daemon as a child, with a configuration of its own, and its control API. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { StatusDocument } from '../api/documents.js';
import { type Connection, connect } from '../cli/connection.js';
import { Bus, socketAddress } from '../native/bus.js';
import type { RECORD_COLUMNS } from '../native/flip.js';
import { Child } from './child.js';

/** An emulated machine under load needs long to load some megabytes of JavaScript. */
const START_MS = 300_000;
/** In its directory. */
export const GUEST_SOCKET = 'guest.sock';
const POLL_MS = 100;
/** As in api/dbus.ts, which would bring the whole daemon along. */
const MANAGER = { path: '/org/scanoutd1', interface: 'org.scanoutd1.Manager' } as const;

/** One flip as the daemon recorded it; times in nanoseconds. */
export type FlipRecord = Record<(typeof RECORD_COLUMNS)[number], number>;

export interface DaemonOptions {
  /** TOML, without `[daemon]`. */
  configuration: string;
  cards: readonly string[];
  /** For sockets, configuration and log. */
  directory: string;
  env?: Record<string, string>;
  /** More arguments for node. */
  node?: readonly string[];
}

export class DaemonProcess {
  readonly socket: string;
  readonly bus: string;
  readonly log: string;
  private readonly child: Child;
  private connection: Connection | null = null;

  constructor(options: DaemonOptions) {
    const { directory } = options;
    const config = join(directory, 'scanoutd.toml');
    this.socket = join(directory, GUEST_SOCKET);
    this.bus = join(directory, 'bus');
    this.log = join(directory, 'scanoutd.log');
    const paths = `[daemon]\nguest_socket = "${this.socket}"\nbus_socket = "${this.bus}"\nsystem_bus = "off"\n\n`;
    writeFileSync(config, paths + options.configuration);
    const program = fileURLToPath(new URL('../../bin/scanoutd.js', import.meta.url));
    const command = [process.execPath, ...(options.node ?? []), program, '--config', config];
    for (const card of options.cards) command.push('--drm-device', card);
    this.child = new Child('scanoutd', command, {
      log: this.log,
      ...(options.env ? { env: options.env } : {}),
    });
  }

  get pid(): number {
    return this.child.pid;
  }

  /** Status or signal once it has ended, null before. */
  get ended(): number | string | null {
    return this.child.ended;
  }

  /** Waits until it answers. */
  async ready(): Promise<void> {
    for (const end = Date.now() + START_MS; ; ) {
      if (this.child.ended !== null) throw this.child.failure(`ended (${this.child.ended})`);
      // The bus comes last of what it opens.
      if (existsSync(this.bus)) {
        this.connection = await connect({ kind: 'socket', path: this.bus }).catch(() => null);
        if (this.connection !== null) return;
      }
      if (Date.now() > end) throw this.child.failure(`did not answer in ${START_MS / 1000} s`);
      await sleep(POLL_MS);
    }
  }

  describe(): Promise<StatusDocument> {
    return this.api().describe();
  }

  screenshot(output: string): ReturnType<Connection['screenshot']> {
    return this.api().screenshot(output);
  }

  /** The kept flips of a guest, one list a plane. */
  async records(guest: string): Promise<FlipRecord[][]> {
    const bus = await Bus.open(socketAddress(this.bus));
    try {
      const [text] = await bus.call({ ...MANAGER, member: 'Records', signature: 's', body: [guest] });
      const { planes } = JSON.parse(String(text)) as { planes: { flips: FlipRecord[] }[] };
      return planes.map(({ flips }) => flips);
    } finally {
      bus.close();
    }
  }

  private api(): Connection {
    if (this.connection === null) throw this.child.failure('is not ready');
    return this.connection;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async end(): Promise<number | string> {
    this.connection?.close();
    this.connection = null;
    return this.child.end('SIGTERM');
  }
}
