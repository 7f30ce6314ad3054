/** Peers on a unix socket, each a connection of its own, with no bus daemon in between. */
import type { Fd, SystemError } from './base.js';
import { Bus } from './bus-connection.js';
import type { BusCredentials, BusLimits } from './bus-types.js';
import { type ListenOptions, UnixListener } from './unix-listener.js';

export interface BusServerOptions extends BusLimits, ListenOptions {
  /** Peers at once; more are turned away; 64 when absent. */
  maxConnections?: number;
  /** The same for one user, root apart; 16 when absent. */
  maxConnectionsPerUser?: number;
  /** A peer that has proved who it is. Add the objects here: its calls come after this. */
  onConnection(bus: Bus, credentials: BusCredentials): void;
  /** A connection that was turned away or never became one, and why. */
  onRefused?(credentials: BusCredentials, error: Error): void;
  /** Accepting failed (descriptors or memory ran out); it goes on by itself. */
  onError?(error: SystemError): void;
}

export class BusServer {
  private readonly peers = new Map<Bus, number>();
  private readonly listener: UnixListener;

  /**
   * Listens at `where`, a path or a listening socket that was passed on (taken over). Throws a SystemError, EADDRINUSE
   * when another process listens there. A socket file that a dead process left is removed.
   */
  static listen(where: string | Fd, options: BusServerOptions): BusServer {
    return new BusServer(where, options);
  }

  private constructor(
    where: string | Fd,
    private readonly options: BusServerOptions,
  ) {
    this.listener = new UnixListener(
      where,
      { ...options, type: 'stream' },
      (socket, credentials) => this.accept(socket, credentials),
      (error) => options.onError?.(error),
    );
  }

  /** Those that have proved who they are, and those that are about to. */
  get connections(): number {
    return this.peers.size;
  }

  /** Listens no more and closes every connection. */
  close(): void {
    this.listener.close();
    for (const bus of this.peers.keys()) bus.close();
  }

  private accept(socket: Fd, credentials: BusCredentials): void {
    const refusal = this.refusal(credentials);
    if (refusal !== null) {
      socket.close();
      this.options.onRefused?.(credentials, refusal);
      return;
    }
    let known = false;
    const bus = Bus.serve(socket, this.options, (ready) => {
      known = true;
      this.options.onConnection(ready, credentials);
    });
    this.peers.set(bus, credentials.uid);
    void bus.closed.then((error) => {
      this.peers.delete(bus);
      if (!known && error !== null) this.options.onRefused?.(credentials, error);
    });
  }

  private refusal({ uid }: BusCredentials): Error | null {
    const { maxConnections = 64, maxConnectionsPerUser = 16 } = this.options;
    if (this.peers.size >= maxConnections) return new Error(`more than ${maxConnections} connections`);
    const same = [...this.peers.values()].filter((other) => other === uid).length;
    if (uid === 0 || same < maxConnectionsPerUser) return null;
    return new Error(`more than ${maxConnectionsPerUser} connections of user ${uid}`);
  }
}
