/** How guests take the input of the seat that shows them, where that is not by devices of the host. */
import type { GuestInputName } from '../config/config.js';
import type { GuestDevice, InputEngine } from '../native/input.js';

/**
 * A guest's own way to take input (`Guest.input`): the ring of a socket guest that asked for one, the console of a QEMU. The seats
 * make the guest of the input thread, and remove it with all of its sinks when the guest has departed or the
 * configuration wants another way; the guest adds the sink, and keeps whatever belongs to it up to date.
 */
export interface GuestInput {
  readonly how: 'ring' | 'qemu';
  /**
   * Adds the sink (`addRing`, `addQemu`) to guest `guest` of the input thread, and resolves with its id. Called at most once at a time: again
   * after `detached`. `devices`: what the guest is to have, one of each class at most. What it rejects with is logged, and the guest goes without.
   */
  attach(engine: InputEngine, guest: number, devices: readonly GuestDevice[]): Promise<number>;
  /** The guest is to have other devices. Between `attach` and `detached`. Absent: it has the same ones whatever the seat has. */
  describe?(devices: readonly GuestDevice[]): Promise<void>;
  /**
   * The sink is there no more: it ended by itself (`why` says how), or it was removed (null). Nothing is to be called for its id. After an
   * end by itself the guest may offer another: `GuestHost.input.changed`.
   */
  detached(why: string | null): void;
}

/** What kinds of guests ask of the seats; `GuestHost.input`. */
export interface InputHost {
  /** The input thread; null while the configuration asks for no input. It comes, with a reload, but never goes. */
  readonly engine: InputEngine | null;
  /** How a guest of this name takes input, as configured ("auto" resolved): only with "ring" or "qemu" is it asked for a sink. */
  how(name: string, kind: 'socket' | 'virtio' | 'qemu' | 'vfio'): GuestInputName;
  /** `Guest.input` of a guest that was admitted is another than before: a guest asked for a ring, or its console is there again. */
  changed(name: string): void;
}

/** Where nobody has seats, as in tests of guests alone. */
export const NO_INPUT: InputHost = { engine: null, how: () => 'none', changed: () => {} };
