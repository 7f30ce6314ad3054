/**
 * Every native symbol, typed: a compositor, a tool or the daemon itself can be written on this. The programs of scanoutd
 * import the modules that they need, so that each loads nothing but these.
 */
export * from './native/addon.js';
export * from './native/base.js';
export * from './native/buffers.js';
export * from './native/bus.js';
export * from './native/flip.js';
export * from './native/guest-client.js';
export * from './native/guests.js';
export * from './native/input.js';
export * from './native/kms.js';
export * from './native/pixels.js';
export * from './native/process.js';
export * from './native/seqpacket.js';
export * from './native/session.js';
export * from './native/shadow.js';
export * from './native/systemd.js';
export * from './native/unix-listener.js';
export * from './native/wayland.js';
