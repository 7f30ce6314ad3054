/**
 * The socket protocol of drm-lease-manager (AGL), so that its clients get their leases unchanged: a SEQPACKET socket for each
 * lease, `DIRECTORY/NAME`, and beside it a lock file that says who serves it.
 *
 *     client                         daemon
 *     4 bytes, 0 (GET_LEASE)   -->
 *                              <--   1 byte and the lease           granted
 *                              <--   the end of the connection      denied
 *     4 bytes, 1 (RELEASE)     -->
 *     the end of the connection -->                                 without a RELEASE: a crash
 */
import { mkdirSync } from 'node:fs';
import type { DaemonConfig, LeaseConfig } from '../config/config.js';
import { type Fd, isSystemError, lockFile } from '../native/base.js';
import { type SeqPacket, SeqPacketServer } from '../native/seqpacket.js';
import type { Logger } from '../service/log.js';
import type { LeaseBroker } from './broker.js';
import { GET_LEASE, RELEASE_LEASE, REQUEST_BYTES, requestOf } from './dlm-wire.js';
import { LeaseError } from './errors.js';
import type { Lessee } from './held.js';

/** Who has the lease, and one who asks for it; a third is sent away at once. */
const MOST_CLIENTS = 2;

export class DlmFrontend {
  private readonly ports = new Map<string, DlmPort>();

  constructor(
    private readonly broker: Pick<LeaseBroker, 'take' | 'release'>,
    private readonly log: Logger,
  ) {}

  /** Serves a socket for each lease; one that cannot be had is no reason to leave the others without. */
  configure(leases: readonly LeaseConfig[], daemon: DaemonConfig): void {
    const directory = daemon.dlmDirectory;
    const served = directory === null ? [] : leases;
    for (const [name, port] of [...this.ports]) {
      if (served.some((lease) => lease.name === name)) continue;
      port.close();
      this.ports.delete(name);
    }
    for (const lease of served) {
      const { name } = lease;
      const known = this.ports.get(name);
      if (known !== undefined) known.transfer = lease.transfer;
      if (known !== undefined) continue;
      const path = `${directory}/${name}`;
      try {
        mkdirSync(directory ?? '', { recursive: true });
        this.ports.set(name, new DlmPort(lease, path, daemon, this.broker, this.log));
      } catch (error) {
        if (!isSystemError(error) && !(error instanceof Error && 'code' in error)) throw error;
        const who = isSystemError(error, 'EAGAIN') ? ': another lease manager serves it' : '';
        this.log.error({ lease: name, path, err: error }, `no socket for clients of drm-lease-manager${who}`);
      }
    }
  }

  stop(): void {
    for (const port of this.ports.values()) port.close();
    this.ports.clear();
  }
}

/** The socket of one lease. */
class DlmPort {
  /** Who asks takes it over from who has it, as with drm-lease-manager's `-t`. */
  transfer: boolean;
  private readonly lease: string;
  private readonly lock: Fd;
  private readonly server: SeqPacketServer;
  private readonly clients = new Set<SeqPacket>();

  /** Throws a SystemError. */
  constructor(
    { name: lease, transfer }: LeaseConfig,
    path: string,
    { guestSocketMode, guestSocketGroup }: DaemonConfig,
    private readonly broker: Pick<LeaseBroker, 'take' | 'release'>,
    private readonly log: Logger,
  ) {
    this.lease = lease;
    this.transfer = transfer;
    this.lock = lockFile(`${path}.lock`);
    try {
      this.server = SeqPacketServer.listen(path, {
        mode: guestSocketMode,
        ...(guestSocketGroup === null ? {} : { group: guestSocketGroup }),
        maxMessageSize: REQUEST_BYTES + 1,
        maxFds: 0,
        onConnection: (connection) => this.accept(connection),
        onError: (error) => this.log.error({ lease, err: error }, 'accepting a client failed'),
      });
    } catch (error) {
      this.lock.close();
      throw error;
    }
  }

  private accept(connection: SeqPacket): void {
    if (this.clients.size >= MOST_CLIENTS) {
      connection.close();
      return;
    }
    this.clients.add(connection);
    const { pid, uid, gid } = connection.peerCredentials();
    const client = new DlmClient(this.lease, connection, { pid, uid, gid }, this.broker, this.log);
    client.transfer = () => this.transfer;
    connection.onMessage = (data, fds, flags) => {
      for (const fd of fds) fd.close();
      client.receive(flags.truncated || flags.controlTruncated ? null : data);
    };
    connection.onClose = () => {
      this.clients.delete(connection);
      client.gone();
    };
    client.closed = () => this.clients.delete(connection);
  }

  /** Who has the lease keeps it, and its connection. */
  close(): void {
    this.server.close();
    // The file stays: who has opened it already would lock one that nobody else sees.
    this.lock.close();
  }
}

class DlmClient {
  closed: () => void = () => {};
  transfer: () => boolean = () => false;
  private state: 'idle' | 'asking' | 'holding' | 'over' = 'idle';

  constructor(
    private readonly lease: string,
    private readonly connection: SeqPacket,
    private readonly who: Lessee,
    private readonly broker: Pick<LeaseBroker, 'take' | 'release'>,
    private readonly log: Logger,
  ) {}

  /** Null: something that was too long, or had descriptors. */
  receive(data: Uint8Array | null): void {
    const request = data === null ? null : requestOf(data);
    if (request === GET_LEASE && this.state === 'idle') void this.take();
    else if (request === RELEASE_LEASE) this.giveUp(false);
    else
      this.log.warn(
        { lease: this.lease, ...this.who, request, state: this.state },
        'a request that is none is ignored',
      );
  }

  private async take(): Promise<void> {
    this.state = 'asking';
    try {
      // Its protocol lets it wait for the answer, and has no word for a notice.
      const request = { ended: () => this.hangUp(), wait: true, transfer: this.transfer() };
      const { fd } = await this.broker.take(this.lease, this.who, request);
      try {
        // It may have gone meanwhile, or said that it wants it no more: then it is given up already.
        if (!this.over) this.grant(fd);
      } finally {
        fd.close();
      }
    } catch (error) {
      if (!(error instanceof LeaseError))
        this.log.error({ lease: this.lease, err: error }, 'lease not granted');
      this.hangUp();
    }
  }

  private get over(): boolean {
    return this.state === 'over';
  }

  private grant(fd: Fd): void {
    this.state = 'holding';
    try {
      this.connection.send(Uint8Array.of(0), [fd]);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.giveUp(true);
    }
  }

  private giveUp(crashed: boolean): void {
    const { state } = this;
    this.state = 'over';
    if (state === 'asking' || state === 'holding')
      void this.broker.release(this.lease, this.who, crashed && state === 'holding');
  }

  /** Denied or revoked: the protocol has no other word for it. */
  private hangUp(): void {
    this.state = 'over';
    this.connection.close();
    this.closed();
  }

  gone(): void {
    this.giveUp(true);
  }
}
