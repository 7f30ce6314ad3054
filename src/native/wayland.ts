/**
 * A socket for Wayland clients that offers `wp_drm_lease_device_v1` and nothing else: the native class WaylandServer. It
 * knows the protocol; who is offered what, and gets it, is for its user to say.
 */
import { addon } from './addon.js';
import type { Fd } from './base.js';
import type { ListenOptions } from './unix-listener.js';

/** Who a client is by the kernel's word, as of its connecting. */
export interface WaylandPeer {
  /** 0 when the process is not visible from here. */
  pid: number;
  uid: number;
  gid: number;
}

/** A connector that may be asked for. Texts without NUL; longer ones than 512 bytes are cut. */
export interface ConnectorOffer {
  /** Id of the DRM object. */
  connector: number;
  name: string;
  description: string;
}

/** What a client did. Ids count up, and are never used again. */
export type WaylandEvent =
  /** It bound a device, and waits for `sendFd` and then `offer`; the binding is `id`. */
  | ({ type: 'bound'; id: number; device: number } & WaylandPeer)
  /** Nothing more is to be said of a binding. */
  | { type: 'unbound'; id: number }
  /**
   * It asked for a lease, `id`, of connectors of the device, one or more and each once, and waits for `grant` or `finish`.
   * `stale`: one of them was withdrawn, and the lease is to be denied.
   */
  | ({ type: 'requested'; id: number; device: number; connectors: number[]; stale: boolean } & WaylandPeer)
  /** A lease that was not finished is over: given back, or `crashed`, with the end of its connection. */
  | { type: 'ended'; id: number; crashed: boolean };

/**
 * Serves until `close`; alive meanwhile. Connections, objects and what is not read are bounded; a client that goes beyond
 * is disconnected. A binding or a lease may be gone before the event says so: calls for it do nothing and return false.
 */
export interface WaylandServer {
  /** One more global, for a card. Returns its id. */
  addDevice(): number;
  /** The card is gone: its global goes and what is offered of it is withdrawn. Leases stay until they are finished. */
  removeDevice(device: number): void;
  /** Sends the descriptor by which the client may look at the card; borrowed. Once for each binding. */
  sendFd(binding: number, fd: Fd): boolean;
  /** Sends what has changed since it was called last: all that is offered now, by connector. Throws before `sendFd`. */
  offer(binding: number, offers: readonly ConnectorOffer[]): boolean;
  /** Sends the lease; borrowed. Once. */
  grant(lease: number, fd: Fd): boolean;
  /** Says that it is denied or revoked, and forgets it. */
  finish(lease: number): boolean;
  /** Ends all connections and removes the socket. Nobody is told of the ends of leases. */
  close(): void;
}

export interface WaylandServerClass {
  /**
   * Listens at a path. Throws a SystemError: EADDRINUSE when another process listens there, EEXIST when a file there is no
   * socket, ENAMETOOLONG beyond 107 bytes. `onEvents`: all that happened in one turn, in order. `onLog`: a line of what went
   * wrong with a client, of which a hostile one can make many.
   */
  new (
    path: string,
    options: ListenOptions,
    onEvents: (events: WaylandEvent[]) => void,
    onLog: (line: string) => void,
  ): WaylandServer;
}

export const { WaylandServer, openWithoutMaster } = addon as unknown as {
  WaylandServer: WaylandServerClass;
  /**
   * Opens a card's node for a client to look at, without being its master. While nobody is master it may be that for a
   * moment. Throws a SystemError.
   */
  openWithoutMaster: (path: string) => Fd;
};
