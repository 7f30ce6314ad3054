/** What D-Bus interfaces are made of, as TypeScript describes them. */
/**
 * A value of D-Bus:
 *
 * | signature | JavaScript |
 * |---|---|
 * | `y n q i u d` | number |
 * | `x t` | bigint (safe integers are taken, too) |
 * | `b` | boolean |
 * | `s o g` | string |
 * | `h` | Fd: given, it is duplicated; received, it belongs to the receiver |
 * | `v` | Variant |
 * | `ay` | Uint8Array |
 * | other arrays, `(...)` | array |
 * | `a{s.} a{o.} a{g.}` | plain object (a Map is taken, too); other dictionaries are Maps |
 */
export type BusValue = unknown;

/** A value with its type, which is one complete type. */
export interface Variant {
  signature: string;
  value: BusValue;
}

export function variant(signature: string, value: BusValue): Variant {
  return { signature, value };
}

/** Who called, as the kernel says (between peers) or the bus daemon. */
export interface BusCredentials {
  /** 0 when it is not visible from here. */
  pid: number;
  uid: number;
  /** Null when the bus daemon does not tell. */
  gid: number | null;
  /** All others, in no order. */
  groups: number[];
}

/** Who called, and what on. */
export interface CallInfo extends BusCredentials {
  /** Unique name on the bus, null between peers. */
  sender: string | null;
  path: string;
  /** Its user may be asked to authenticate (ALLOW_INTERACTIVE_AUTHORIZATION). */
  interactive: boolean;
}

/** What a call gives: one value for each type of `out`. */
// biome-ignore lint/suspicious/noConfusingVoidType: handlers without results are functions without a return
export type Results = readonly BusValue[] | void;

export interface MethodDescription {
  /** Signature of the arguments, empty when absent. */
  in?: string;
  /** A name for each argument, or none. Where `in` and `out` both have types, both have names or neither. */
  inNames?: readonly string[];
  out?: string;
  outNames?: readonly string[];
  deprecated?: boolean;
  /**
   * What is thrown is the caller's error: of the name `dbusName` where that is a property of it, else
   * org.scanoutd1.Error.Failed.
   *
   * Descriptors: those among the arguments are closed when the call is over, except what was taken out of them (by
   * native code that takes an Fd over, `release`) or duplicated. Those among the results are closed, too: return
   * `fd.dup()` to keep one.
   */
  handler(args: BusValue[], caller: CallInfo): Results | Promise<Results>;
}

export interface PropertyDescription {
  /** One complete type, without descriptors. */
  signature: string;
  /**
   * What is told when it changes: with the value, only that it did, that it never does, nothing. It is told by
   * `emitPropertiesChanged`.
   */
  emits?: 'change' | 'invalidates' | 'const' | 'none';
  deprecated?: boolean;
  /** At once: D-Bus reads many in one go. What is thrown is the reader's error. */
  get(): BusValue;
  /** Absent: read-only. */
  set?(value: BusValue, caller: CallInfo): void | Promise<void>;
}

export interface SignalDescription {
  signature?: string;
  names?: readonly string[];
  deprecated?: boolean;
}

/** An interface; may be added to many objects on many connections. */
export interface InterfaceDescription {
  methods?: Readonly<Record<string, MethodDescription>>;
  properties?: Readonly<Record<string, PropertyDescription>>;
  signals?: Readonly<Record<string, SignalDescription>>;
}

export interface Call {
  /** Bus name; needed where there is a bus daemon, none between peers. */
  destination?: string;
  path: string;
  interface?: string;
  member: string;
  /** Of the arguments, empty when absent. */
  signature?: string;
  body?: readonly BusValue[];
  /** 25 s when absent; Infinity for ever. */
  timeoutMs?: number;
  /** The caller's user may be asked to authenticate, such as by polkit. */
  interactive?: boolean;
}

export interface Signal {
  path: string;
  interface: string;
  member: string;
  signature?: string;
  body?: readonly BusValue[];
  /** Only to this name; absent: to all who want it. */
  destination?: string;
}

/** Which signals are wanted; what is absent may be anything. */
export interface Match {
  sender?: string;
  path?: string;
  /** The path or one below it. */
  pathNamespace?: string;
  interface?: string;
  member?: string;
  /** First argument, when that is a string. */
  arg0?: string;
}

export interface ReceivedSignal {
  sender: string | null;
  path: string;
  interface: string;
  member: string;
  signature: string;
  body: BusValue[];
}

/** Something that was added to a connection. Removing it again, or after the connection closed, does nothing. */
export interface BusSlot {
  remove(): void;
}

export interface Subscription extends BusSlot {
  /** Settles when the bus daemon answered; between peers at once. Signals of later calls' making come for sure. */
  readonly installed: Promise<void>;
}

export interface NameOptions {
  /** Take it from an owner that allows it. */
  replace?: boolean;
  /** Let others take it. */
  allowReplacement?: boolean;
}

/** An error with a name of D-Bus's. */
export class DBusError extends Error {
  override readonly name = 'DBusError';

  constructor(
    /** Such as org.freedesktop.DBus.Error.UnknownMethod. */
    readonly dbusName: string,
    message: string,
  ) {
    super(message);
  }
}

/** What calls end with that nobody answered: no reply in time, or the connection went. */
export const NO_REPLY = 'org.freedesktop.DBus.Error.NoReply';
/** The name of errors that say none of their own. */
export const FAILED = 'org.scanoutd1.Error.Failed';

/** Bounds of one connection. */
export interface BusLimits {
  /** Longest message, sent or received from a peer, in bytes; 4 MiB when absent. */
  maxMessageBytes?: number;
  /** Most descriptors in one message of a peer's, 0 to 253; 16 when absent. */
  maxFds?: number;
  /** Calls of one sender that wait for their handlers; more are refused; 64 when absent. */
  maxPendingCalls?: number;
}
