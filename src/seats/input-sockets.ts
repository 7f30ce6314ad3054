/** Sockets on which a virtual machine connects its vhost-user-input devices: one for each class, and one connection at a time. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Fd, isSystemError } from '../native/base.js';
import type { InputClass } from '../native/input.js';
import { UnixListener } from '../native/unix-listener.js';
import type { Logger } from '../service/log.js';

/** Who may connect. */
export interface SocketAccess {
  mode: number;
  group: number | null;
  allows(uid: number, gid: number): boolean;
}

interface Port {
  path: string;
  listener: UnixListener;
  connected: boolean;
}

export class InputSockets {
  private readonly ports = new Map<InputClass, Port>();
  private readonly refused = new Set<string>();
  private access: SocketAccess | null = null;

  /** `connected` takes the socket over, and says when it is over (`ended`). */
  constructor(
    private readonly guest: string,
    private readonly log: Logger,
    private readonly connected: (of: InputClass, socket: Fd, path: string) => void,
  ) {}

  /** `pattern`: a path with "{class}" in it. */
  update(classes: readonly InputClass[], pattern: string, access: SocketAccess): void {
    this.access = access;
    for (const [of, port] of [...this.ports]) {
      if (classes.includes(of) && port.path === pathOf(pattern, of)) continue;
      port.listener.close();
      this.ports.delete(of);
    }
    for (const of of classes) {
      if (!this.ports.has(of)) this.listen(of, pathOf(pattern, of), access);
    }
  }

  /** A socket that cannot be is no reason to leave the guest without the others. */
  private listen(of: InputClass, path: string, { mode, group }: SocketAccess): void {
    try {
      mkdirSync(dirname(path), { recursive: true });
      const listener = new UnixListener(
        path,
        { type: 'stream', mode, ...(group === null ? {} : { group }) },
        (socket, { pid, uid, gid }) => this.accept(of, socket, { pid, uid, gid }),
        (error) =>
          this.log.error({ guest: this.guest, class: of, err: error }, 'accepting an input device failed'),
      );
      this.ports.set(of, { path, listener, connected: false });
      this.refused.delete(path);
      this.log.debug({ guest: this.guest, class: of, socket: path }, 'listening for an input device');
    } catch (error) {
      if (!isSystemError(error) && !(error instanceof Error && 'code' in error)) throw error;
      if (!this.refused.has(path)) {
        this.log.error({ guest: this.guest, socket: path, err: error }, 'cannot listen for an input device');
      }
      this.refused.add(path);
    }
  }

  private accept(of: InputClass, socket: Fd, peer: { pid: number; uid: number; gid: number }): void {
    const port = this.ports.get(of);
    const why =
      port === undefined || this.access === null
        ? 'nobody listens any more'
        : !this.access.allows(peer.uid, peer.gid)
          ? `uid ${peer.uid} gid ${peer.gid} may not be this guest`
          : port.connected
            ? 'another one is connected'
            : null;
    if (port === undefined || why !== null) {
      socket.close();
      const { pid, uid } = peer;
      this.log.warn({ guest: this.guest, class: of, pid, uid }, `input device refused: ${why}`);
      return;
    }
    port.connected = true;
    this.connected(of, socket, port.path);
  }

  /** The connection is over: another one may come. */
  ended(of: InputClass, path: string): void {
    const port = this.ports.get(of);
    if (port?.path === path) port.connected = false;
  }

  /** Those that nobody is connected to. */
  free(): { class: InputClass; path: string }[] {
    return [...this.ports].flatMap(([of, { path, connected }]) => (connected ? [] : [{ class: of, path }]));
  }

  close(): void {
    for (const { listener } of this.ports.values()) listener.close();
    this.ports.clear();
  }
}

function pathOf(pattern: string, of: InputClass): string {
  return pattern.replaceAll('{class}', of);
}
