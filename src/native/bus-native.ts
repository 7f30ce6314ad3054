/** The native class BusConnection, and what of a description is handed to it. Used by src/native/bus*.ts only. */
import { addon } from './addon.js';
import { Fd, isSystemError } from './base.js';
import {
  type BusCredentials,
  type BusValue,
  type CallInfo,
  FAILED,
  type InterfaceDescription,
  type ReceivedSignal,
  type Results,
} from './bus-types.js';

export interface NativeMember {
  kind: 'method' | 'signal' | 'property';
  name: string;
  in: string;
  out: string;
  inNames: readonly string[];
  outNames: readonly string[];
  emits: 'change' | 'invalidates' | 'const' | 'none';
  writable: boolean;
  deprecated: boolean;
}

/** `fds` are those among the values; `call` is the number to answer with; `interactive`: see CallInfo. */
export interface NativeHandlers {
  method(
    name: string,
    args: BusValue[],
    fds: Fd[],
    sender: string | null,
    call: number,
    interactive: boolean,
  ): void;
  get(name: string): BusValue;
  set(
    name: string,
    value: BusValue,
    fds: Fd[],
    sender: string | null,
    call: number,
    interactive: boolean,
  ): void;
}

/**
 * One connection. Alive until `close` or its peer's end. After that emitting does nothing, and what has a result throws
 * a SystemError (ENOTCONN).
 */
export interface NativeBus {
  readonly closed: boolean;
  /** On the bus; null between peers, and before the connection is made. */
  readonly uniqueName: string | null;
  /** Of the peer; null where there is a bus daemon. */
  readonly credentials: (BusCredentials & { gid: number }) | null;
  /** Messages that wait to be sent. */
  readonly queued: number;
  close(): void;
  /** onDrain will be called when nothing waits to be sent. */
  awaitDrain(): void;
  /** Rejects with an Error that has `dbusName`, or a SystemError. `timeoutMs` undefined: sd-bus's 25 s. */
  call(
    destination: string | null,
    path: string,
    interfaceName: string | null,
    member: string,
    signature: string,
    body: readonly BusValue[],
    timeoutMs: number | undefined,
    interactive: boolean,
  ): Promise<BusValue[]>;
  emit(
    path: string,
    interfaceName: string,
    member: string,
    signature: string,
    body: readonly BusValue[],
    destination: string | null,
  ): void;
  /** Gives the number of the slot. */
  addMatch(
    rule: string,
    onMessage: (message: ReceivedSignal) => void,
    onInstalled: (error: Error | null) => void,
  ): number;
  /** False when the call is gone: its object was removed, or the connection closed. */
  reply(call: number, results: readonly BusValue[]): boolean;
  replyError(call: number, dbusName: string, message: string): boolean;
  addInterface(
    path: string,
    interfaceName: string,
    members: readonly NativeMember[],
    handlers: NativeHandlers,
  ): number;
  addObjectManager(path: string): number;
  remove(slot: number): void;
  emitPropertiesChanged(path: string, interfaceName: string, properties: readonly string[]): void;
  emitInterfacesAdded(path: string, interfaces: readonly string[]): void;
  emitInterfacesRemoved(path: string, interfaces: readonly string[]): void;
}

export interface NativeBusClass {
  /**
   * Connects, serves the peer of `socket` or calls that of `client` (both taken over); `peer`: no bus daemon. `onReady` comes before any message of the peer's. `onClosed`
   * comes once, with null after `close`.
   */
  new (
    target: { address: string; peer: boolean } | { socket: Fd } | { client: Fd; peer: boolean },
    limits: { maxMessageBytes: number; maxFds: number; maxPendingCalls: number },
    onReady: () => void,
    onClosed: (error: Error | null) => void,
    onDrain: () => void,
  ): NativeBus;
}

export const { BusConnection } = addon as unknown as { BusConnection: NativeBusClass };

function member(kind: NativeMember['kind'], name: string, deprecated: boolean | undefined): NativeMember {
  return {
    kind,
    name,
    in: '',
    out: '',
    inNames: [],
    outNames: [],
    emits: 'none',
    writable: false,
    deprecated: deprecated ?? false,
  };
}

export function nativeMembers(description: InterfaceDescription): NativeMember[] {
  const methods = Object.entries(description.methods ?? {}).map(([name, method]) => ({
    ...member('method', name, method.deprecated),
    in: method.in ?? '',
    out: method.out ?? '',
    inNames: method.inNames ?? [],
    outNames: method.outNames ?? [],
  }));
  const properties = Object.entries(description.properties ?? {}).map(([name, property]) => ({
    ...member('property', name, property.deprecated),
    in: property.signature,
    emits: property.emits ?? 'none',
    writable: property.set !== undefined,
  }));
  const signals = Object.entries(description.signals ?? {}).map(([name, signal]) => ({
    ...member('signal', name, signal.deprecated),
    in: signal.signature ?? '',
    inNames: signal.names ?? [],
  }));
  return [...methods, ...properties, ...signals];
}

/** What a connection lends to the handlers of its objects. */
export interface HandlerHost {
  readonly native: NativeBus;
  /** Who `sender` is, null being the peer. */
  credentialsOf(sender: string | null): BusCredentials | Promise<BusCredentials>;
}

type Body = (caller: CallInfo) => Results | Promise<Results>;

export function nativeHandlers(
  host: HandlerHost,
  path: string,
  description: InterfaceDescription,
): NativeHandlers {
  const run = (
    call: number,
    fds: readonly Fd[],
    { sender, interactive }: { sender: string | null; interactive: boolean },
    body: Body,
  ): void => {
    answer(host, call, fds, () => {
      const called = (who: BusCredentials) => body({ ...who, sender, path, interactive });
      const who = host.credentialsOf(sender);
      return who instanceof Promise ? who.then(called) : called(who);
    });
  };
  return {
    method: (name, args, fds, sender, call, interactive) =>
      run(call, fds, { sender, interactive }, (caller) => description.methods?.[name]?.handler(args, caller)),
    get: (name) => description.properties?.[name]?.get(),
    set: (name, value, fds, sender, call, interactive) =>
      run(call, fds, { sender, interactive }, (caller) =>
        description.properties?.[name]?.set?.(value, caller),
      ),
  };
}

/** Runs a handler and answers. What is there at once is answered at once: callers' order is kept. */
function answer(
  host: HandlerHost,
  call: number,
  fds: readonly Fd[],
  body: () => Results | Promise<Results>,
): void {
  const finish = (results: Results): void => {
    try {
      host.native.reply(call, results ?? []);
    } catch (error) {
      fail(error);
      return;
    } finally {
      closeFds(results);
    }
    closeFds(fds);
  };
  const fail = (error: unknown): void => {
    closeFds(fds);
    if (host.native.closed) return;
    const { dbusName } = error as { dbusName?: unknown };
    const message = error instanceof Error ? error.message : String(error);
    try {
      host.native.replyError(call, typeof dbusName === 'string' ? dbusName : FAILED, message);
    } catch (refusal) {
      // The caller has hung up, and we have not heard of it yet.
      if (!isSystemError(refusal)) throw refusal;
    }
  };
  let results: Results | Promise<Results>;
  try {
    results = body();
  } catch (error) {
    fail(error);
    return;
  }
  if (results instanceof Promise) void results.then(finish, fail);
  else finish(results);
}

/** Closes every Fd in a value, however deep. */
function closeFds(value: unknown): void {
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return;
  if (value instanceof Fd) {
    (value as Fd).close();
    return;
  }
  const parts = value instanceof Map ? value.values() : Object.values(value);
  for (const part of parts) closeFds(part);
}
