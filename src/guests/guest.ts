/** A guest as the rest of the daemon sees it, whatever its kind. */
import type { GuestFacts, PlaneState } from '../api/documents.js';
import type { Area, GuestKindName, PlaneRequest } from '../config/config.js';
import type { Card } from '../kms/card.js';
import type { BufferLayout } from '../kms/device.js';
import type { Fd } from '../native/base.js';
import type { Producer } from '../native/flip.js';
import type { PixelMemory } from '../native/pixels.js';
import type { GuestInput } from '../seats/sinks.js';

/** A guest's own plane and how it is shown at the moment. */
export interface GuestPlane {
  readonly index: number;
  readonly kind: 'primary' | 'overlay' | 'cursor';
  /** Id of its stream in the engine. */
  readonly stream: number;
}

/** How a plane is shown, and why not directly. */
export interface PlaneShown {
  state: PlaneState;
  /** Hardware plane, or null. */
  plane: number | null;
  reason: string;
  errno: number;
}

/** Before a plane's first frame. */
export const UNSHOWN: Readonly<PlaneShown> = {
  state: 'off',
  plane: null,
  reason: 'nothing was shown yet',
  errno: 0,
};

/** A buffer that a guest has registered. */
export interface GuestBuffer {
  readonly id: number;
  readonly layout: BufferLayout;
  /** Framebuffer id, or 0 when the display made none. */
  readonly framebuffer: number;
  /** Why there is no framebuffer: stage and errno. Empty when there is one. */
  readonly reason: string;
  readonly errno: number;
  /** Its dma-bufs, for the shadow copy; owned by the guest. */
  readonly fds: readonly Fd[];
  /** Of these, whose fences are to be asked before each frame; see fences.ts. None when absent. */
  readonly fenced?: readonly Fd[];
  /** Its pixels, where it has no dma-buf. */
  readonly memory?: PixelMemory;
}

/** Where a guest is shown. */
export interface GuestPlace {
  output: string;
  area: Area;
  refreshMhz: number;
}

/** What an assignment wishes of a guest, before its configuration does. */
export interface GuestWish {
  /** Null: all of the output. */
  area: Area | null;
  plane: PlaneRequest;
}

export interface Guest {
  /** Unique among the guests of all kinds. */
  readonly name: string;
  readonly kind: GuestKindName;
  /** Whose flip thread its producer is on; a guest does not change it. */
  readonly card: Card;
  /** Connector, or name of an output, that the configuration wants for it; null: any. */
  readonly outputRequest: string | null;
  /** Set by an assignment, which the configuration's wishes give way to; null: there is none. */
  wish: GuestWish | null;
  /** Stacking among the guests of one output; higher is above. */
  readonly z: number;
  readonly producer: Producer;
  readonly planes: readonly GuestPlane[];
  /** Which hardware planes its lowest plane may have. */
  readonly planeRequest: PlaneRequest;
  /** Part of the output that it is to fill; null: all of it. */
  readonly areaRequest: Area | null;
  /** Its own way to take input, once it is there; `GuestHost.input.changed` tells of another. Absent: its kind has none. */
  readonly input?: GuestInput | null;
  buffer(id: number): GuestBuffer | null;
  buffers(): Iterable<GuestBuffer>;
  /** The output shows it from now on, or no output does (null). */
  placed(place: GuestPlace | null): Promise<void>;
  shown(plane: number, how: PlaneShown): void;
  /** Async flips do not work for a stream; it goes on in step with the vblank. */
  asyncRefused(stream: number, code: string): void;
  /** A stream could not be drawn into its shadow copy; the former picture stays, if there was one. */
  copyFailed?(stream: number, code: string): void;
  /** Formats that the plane would show without a copy. */
  formats(plane: number, formats: readonly { fourcc: number; modifier: bigint }[]): void;
  /**
   * Ends the native half; no output shows it any more. Resolves when no plane holds a frame of it and its buffers are
   * freed. Nothing but `document` is called afterwards.
   */
  leave(): Promise<void>;
  document(): GuestFacts;
}
