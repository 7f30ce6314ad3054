/**
 * D-Bus on the JS loop, by libsystemd: connections to a bus daemon and, with the same objects, to single peers.
 *
 * A connection lives until it is closed, by `close` or by its peer; nobody needs to hold it. A peer that breaks a rule
 * (malformed, too long, not reading) loses its own connection and nothing else.
 */
export { Bus, type OpenOptions, socketAddress } from './bus-connection.js';
export { BusServer, type BusServerOptions } from './bus-server.js';
export * from './bus-types.js';
