/** What a DRM device has: the types of KmsDevice's methods that read it. */
import type { Fd } from './base.js';

/** Ids of everything there is; of a lease, what was leased. Sizes of framebuffers in pixels. */
export interface Resources {
  /** Bit n of every `possibleCrtcs` is the nth of these. */
  crtcs: number[];
  connectors: number[];
  encoders: number[];
  planes: number[];
  /** The caller's own. */
  framebuffers: number[];
  minWidth: number;
  maxWidth: number;
  minHeight: number;
  maxHeight: number;
}

/** What a mode blob is made of (struct drm_mode_modeinfo). */
export interface ModeTimings {
  /** kHz. */
  clock: number;
  hdisplay: number;
  hsyncStart: number;
  hsyncEnd: number;
  htotal: number;
  hskew: number;
  vdisplay: number;
  vsyncStart: number;
  vsyncEnd: number;
  vtotal: number;
  vscan: number;
  /** DRM_MODE_FLAG_*. */
  flags: number;
  /** DRM_MODE_TYPE_*; USERDEF when not given. */
  type?: number;
  name?: string;
}

/** A display mode. */
export interface Mode extends Required<ModeTimings> {
  /** Thousandths of a hertz, exact; fields of interlaced modes. */
  refreshMhz: number;
  /** struct drm_mode_modeinfo, for `createBlob`. */
  raw: Uint8Array;
}

export interface Connector {
  id: number;
  /** "HDMI-A-1". */
  name: string;
  /** DRM_MODE_CONNECTOR_*; 18 is writeback. */
  type: number;
  /** "HDMI-A". */
  typeName: string;
  /** Counts connectors of one type from 1. */
  typeId: number;
  status: 'connected' | 'disconnected' | 'unknown';
  /** 0: unknown. */
  mmWidth: number;
  mmHeight: number;
  /** DRM_MODE_SUBPIXEL_*. */
  subpixel: number;
  /** 0: none at present. */
  encoder: number;
  /** Encoders that it can be driven by. */
  encoders: number[];
  modes: Mode[];
}

export interface Encoder {
  id: number;
  /** DRM_MODE_ENCODER_*. */
  type: number;
  /** 0: none at present. */
  crtc: number;
  possibleCrtcs: number;
  possibleClones: number;
}

export interface Crtc {
  id: number;
  /** On its primary plane; 0: none. */
  framebuffer: number;
  x: number;
  y: number;
  /** Entries of the legacy table. */
  gammaSize: number;
  /** Null: it is off. */
  mode: Mode | null;
}

export interface FormatModifiers {
  /** DRM_FORMAT_*, a fourcc. */
  format: number;
  modifiers: bigint[];
}

export interface Plane {
  id: number;
  type: 'primary' | 'overlay' | 'cursor';
  /** 0: none at present. */
  crtc: number;
  framebuffer: number;
  possibleCrtcs: number;
  formats: FormatModifiers[];
  /** False where the driver has no IN_FORMATS: the lists of modifiers are empty, and none may be given then. */
  hasModifiers: boolean;
  /** What can be flipped to asynchronously; null where the driver does not say. */
  asyncFormats: FormatModifiers[] | null;
}

interface AnyProperty {
  id: number;
  /** "CRTC_ID". */
  name: string;
  immutable: boolean;
  /** Only atomic clients have it. */
  atomic: boolean;
}

/** What a property is. `min` and `max` are inclusive. */
export type PropertyInfo = AnyProperty &
  (
    | { type: 'range' | 'signed-range'; min: bigint; max: bigint }
    /** A choice's `value` is the property's for an enum, the number of its bit for a bitmask. */
    | { type: 'enum' | 'bitmask'; choices: { value: bigint; name: string }[] }
    /** Its value is a blob's id. */
    | { type: 'blob' }
    /** Its value is the id of an object of this type, DRM_MODE_OBJECT_*; 0: of any. */
    | { type: 'object'; objectType: number }
  );

/** A property with an object's value of it; signed for `signed-range`. */
export type Property = PropertyInfo & { value: bigint };

/** How pixels lie in buffers. */
export interface FramebufferLayout {
  /** Pixels. */
  width: number;
  height: number;
  /** DRM_FORMAT_*, a fourcc. */
  format: number;
  /** Not given, null or MODIFIER_INVALID: left to the driver. */
  modifier?: bigint | null;
  interlaced?: boolean;
}

/** A memory plane. Bytes. */
export interface PlaneLayout {
  pitch: number;
  /** 0 when not given. */
  offset?: number;
}

/** A framebuffer of anybody's. */
export interface FramebufferInfo extends Required<FramebufferLayout> {
  /** `fd`: the plane's dma-buf, to be closed by the caller; null without DRM master and CAP_SYS_ADMIN. */
  planes: (Required<PlaneLayout> & { fd: Fd | null })[];
}

/** What can be read of a device. ENOENT: no such object, or not of this lease. */
export interface KmsObjects {
  resources(): Resources;
  /**
   * What the kernel knew last; with `probe` it asks the display, which can block for hundreds of milliseconds. It asks
   * for the DRM master only.
   */
  connector(id: number, options?: { probe?: boolean }): Connector;
  /** Probes on another thread. */
  probeConnector(id: number): Promise<Connector>;
  encoder(id: number): Encoder;
  crtc(id: number): Crtc;
  plane(id: number): Plane;
  property(id: number): PropertyInfo;
  /** Of a connector, CRTC or plane. EINVAL: an object without properties. */
  properties(object: number): Property[];
  /** Null when the connector has none. */
  edid(connector: number): Uint8Array | null;
  /** Formats that a writeback connector writes; none of another. */
  writebackFormats(connector: number): number[];
  framebuffer(id: number): FramebufferInfo;
  /**
   * The CRTC's last vblank: its number, and when its first pixel left (CLOCK_MONOTONIC; 0: unknown). EOPNOTSUPP: the
   * driver has no vblanks. EINVAL: the CRTC is off.
   */
  getSequence(crtc: number): { sequence: bigint; timeNs: bigint; active: boolean };
  /**
   * Asks for a `sequence` event at a vblank: number `sequence`, or so many from now with `relative`. One that is past
   * comes at once, or at the next vblank with `nextOnMiss`. Returns the vblank's number.
   */
  queueSequence(
    crtc: number,
    sequence: number | bigint,
    options?: { relative?: boolean; nextOnMiss?: boolean; userData?: number | bigint },
  ): bigint;
  /** Lessees that were not revoked. */
  lessees(): number[];
  /** What a lease may use; of a device that is no lease, everything. */
  lease(): number[];
}
