/** Connections to QEMU's D-Bus display, which the input thread says its own things on when there is one. */
import type { Fd } from '../native/base.js';
import { Bus } from '../native/bus.js';
import type { InputEngine } from '../native/input.js';
import { connectStream } from '../native/streams.js';
import { openQemuDisplay } from './qmp.js';

const BUS_NAME = 'org.qemu';

/** A connection to the display. */
export interface QemuConnection {
  bus: Bus;
  /** Name of QEMU on a bus; null for a peer. */
  destination: string | null;
  pid: number | null;
  /** Where the input thread is in between; ends with `bus`. */
  relay: { engine: InputEngine; id: number } | null;
}

/** `socket` is taken over. Rejects with a SystemError or a DBusError. */
async function over(
  socket: Fd,
  engine: InputEngine | null,
  daemon: boolean,
): Promise<Pick<QemuConnection, 'bus' | 'relay'>> {
  if (engine === null) return { bus: await Bus.over(socket, { daemon }), relay: null };
  const { id, socket: ours } = await engine.relayQemu(socket);
  try {
    const bus = await Bus.over(ours, { daemon });
    void bus.closed.then(() => close(engine, id));
    return { bus, relay: { engine, id } };
  } catch (error) {
    await close(engine, id);
    throw error;
  }
}

async function close(engine: InputEngine, relay: number): Promise<void> {
  try {
    await engine.closeQemuRelay(relay);
  } catch {
    // The input thread has ended, and its relays with it.
  }
}

/** QEMU has the other end of `socket` (taken over). */
export async function connectPeer(socket: Fd, engine: InputEngine | null): Promise<QemuConnection> {
  return { ...(await over(socket, engine, false)), destination: null, pid: null };
}

/** Peer to peer, through the QMP monitor that listens at `path`. */
export async function connectMonitor(path: string, engine: InputEngine | null): Promise<QemuConnection> {
  const { socket, pid } = await openQemuDisplay(path);
  return { ...(await connectPeer(socket, engine)), pid };
}

/** Over the bus at `address`. Input can be given by one at a path only. */
export async function connectBus(address: string, engine: InputEngine | null): Promise<QemuConnection> {
  const path = engine === null ? null : pathOf(address);
  const connection =
    path === null
      ? { bus: await Bus.open(address, { daemon: true }), relay: null }
      : await over(connectStream(path), engine, true);
  return { ...connection, destination: BUS_NAME, pid: null };
}

/** Of an address of D-Bus ("unix:path=/run/vm/bus,guid=..."); null for others. */
export function pathOf(address: string): string | null {
  const path = /^unix:(?:[^;,]*,)*path=([^;,]+)(?:,[^;]*)?$/.exec(address)?.[1];
  if (path === undefined) return null;
  try {
    return decodeURIComponent(path);
  } catch {
    return null;
  }
}
