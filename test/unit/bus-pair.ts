/** What tests of the bus share: two ends of one connection, without a bus daemon. */
import {
  Bus,
  type BusCredentials,
  BusServer,
  type BusServerOptions,
  socketAddress,
} from '../../src/native/bus.js';
import { socketPath, until } from './sockets.js';

export interface Pair {
  path: string;
  server: BusServer;
  /** The server's end. */
  served: Bus;
  client: Bus;
  credentials: BusCredentials;
  /** Closes all of it. */
  close(): void;
}

/** A server and a client that is connected to it. `setUp` adds objects before any call comes. */
export async function connectPair(
  setUp: (served: Bus) => void = () => {},
  options: Partial<BusServerOptions> = {},
): Promise<Pair> {
  const path = socketPath();
  let found: [Bus, BusCredentials] | undefined;
  const server = BusServer.listen(path, {
    onConnection: (bus, credentials) => {
      found = [bus, credentials];
      setUp(bus);
    },
    ...options,
  });
  const client = await Bus.open(socketAddress(path));
  await until('the connection', () => found !== undefined);
  const [served, credentials] = found as [Bus, BusCredentials];
  const close = () => {
    client.close();
    server.close();
  };
  return { path, server, served, client, credentials, close };
}

/** A `setUp` for one object with one interface. */
export const OBJECT = { path: '/org/scanoutd/test', interface: 'org.scanoutd.Test' } as const;
