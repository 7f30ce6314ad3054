/** Listens for socket guests. */
import type { Config } from '../config/config.js';
import type { GuestManager } from '../guests/manager.js';
import { MAX } from '../guests/protocol.js';
import type { GuestSession } from '../guests/session.js';
import { type SeqPacket, SeqPacketServer } from '../native/seqpacket.js';
import type { Logger } from './log.js';

/** Longer than any message that a guest may send. */
const LONGEST_MESSAGE = 4096;
const BACKLOG = 64;

export class GuestSocket {
  private readonly server: SeqPacketServer;
  private readonly sessions = new Set<GuestSession>();

  /** Throws a SystemError: EADDRINUSE when another daemon listens. */
  constructor(
    config: Config,
    private readonly guests: GuestManager,
    log: Logger,
  ) {
    const { guestSocket, guestSocketMode, guestSocketGroup } = config.daemon;
    this.server = SeqPacketServer.listen(guestSocket, {
      mode: guestSocketMode,
      ...(guestSocketGroup === null ? {} : { group: guestSocketGroup }),
      backlog: BACKLOG,
      maxMessageSize: LONGEST_MESSAGE,
      maxFds: MAX.fds,
      onConnection: (connection) => this.accept(connection),
      onError: (error) => log.error({ err: error }, 'accepting a guest failed'),
    });
    log.debug({ path: guestSocket }, 'listening for guests');
  }

  private accept(connection: SeqPacket): void {
    const session = this.guests.connect(connection, connection.peerCredentials());
    this.sessions.add(session);
    connection.onMessage = (data, fds, flags) =>
      session.receive(data, fds, !flags.truncated && !flags.controlTruncated);
    connection.onClose = (reason) => {
      this.sessions.delete(session);
      session.end(reason);
    };
  }

  /** Listens no more. Resolves when every guest is gone from its planes. */
  async close(): Promise<void> {
    this.server.close();
    const sessions = [...this.sessions];
    for (const session of sessions) session.end('the daemon ends');
    await Promise.all(sessions.map((session) => session.settled()));
  }
}
