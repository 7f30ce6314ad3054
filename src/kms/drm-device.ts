/** A card's device on the native KMS layer. */
import { type Fd, isSystemError } from '../native/base.js';
import {
  AtomicRequest,
  type Connector,
  type FramebufferCache,
  KmsDevice,
  type Plane,
} from '../native/kms.js';
import type {
  BufferLayout,
  CardDevice,
  DumbPicture,
  ImportedBuffer,
  KernelBlob,
  PropertyValue,
} from './device.js';
import { parseEdid } from './edid.js';
import {
  type ConnectorInfo,
  type CrtcInfo,
  DRM_FORMAT_MOD_INVALID,
  type PlaneInfo,
  type PropertyIds,
  type Topology,
} from './topology.js';

const DRM_MODE_FLAG_INTERLACE = 1 << 4;
const DRM_MODE_TYPE_PREFERRED = 1 << 3;
const ALLOW_MODESET = 0x0400;
const DRM_MODE_CONNECTOR_WRITEBACK = 18;
/** Where the driver has no zpos: by type, as the kernel stacks them then. */
const TYPE_ZPOS = { primary: 0, overlay: 1, cursor: 2 } as const;

/**
 * Null for what is no card with outputs. `former`: the descriptor of the daemon before this one, taken over, with which its
 * leases go on. Throws a SystemError when it cannot be opened.
 */
export function openCardDevice(path: string, former: Fd | null = null): CardDevice | null {
  return cardDevice(
    () => (former === null ? KmsDevice.open(path) : KmsDevice.adopt(former)),
    former !== null,
  );
}

/** The same of a descriptor that somebody else opened; taken over. */
export function adoptCardDevice(fd: Fd): CardDevice | null {
  try {
    return cardDevice(() => KmsDevice.adopt(fd), false);
  } finally {
    fd.close();
  }
}

function cardDevice(open: () => KmsDevice, isFormer: boolean): CardDevice | null {
  let device: KmsDevice;
  try {
    device = open();
  } catch (error) {
    // Render-only hardware has a card node that knows no mode setting.
    if (isSystemError(error, 'EOPNOTSUPP') || isSystemError(error, 'ENOTTY')) return null;
    throw error;
  }
  const outputs = device.clientCaps.atomic && hasOutputs(device);
  if (outputs) return new DrmDevice(device, isFormer);
  device.close();
  return null;
}

function hasOutputs(device: KmsDevice): boolean {
  try {
    const { crtcs, connectors } = device.resources();
    return crtcs.length > 0 && connectors.length > 0;
  } catch (error) {
    if (isSystemError(error)) return false;
    throw error;
  }
}

class DrmDevice implements CardDevice {
  readonly native: KmsDevice;
  readonly fd: Fd;
  private readonly cache: FramebufferCache;
  /** Framebuffers of the former daemon. */
  private former: number[] = [];

  constructor(
    private readonly device: KmsDevice,
    isFormer: boolean,
  ) {
    if (isFormer) {
      device.closeEveryHandle();
      this.former = device.resources().framebuffers;
    }
    this.native = device;
    this.fd = device.dupFd();
    this.cache = device.framebufferCache();
  }

  get path(): string {
    return this.device.path;
  }

  get driver(): string {
    return this.device.driver.name;
  }

  isMaster(): boolean {
    return this.device.isMaster();
  }

  setMaster(): void {
    this.device.setMaster();
  }

  readTopology(): Topology {
    const resources = this.device.resources();
    const crtcs = resources.crtcs.map(
      (id, index): CrtcInfo => ({ id, index, properties: this.propertiesOf(id).ids }),
    );
    return {
      crtcs,
      connectors: resources.connectors.flatMap((id) => this.connector(id)),
      planes: resources.planes.flatMap((id) => this.plane(id)),
    };
  }

  /** Connectors and planes can go while they are read. */
  private present<T>(read: () => T): T[] {
    try {
      return [read()];
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return [];
      throw error;
    }
  }

  private connector(id: number): ConnectorInfo[] {
    return this.present(() => {
      const connector = this.device.connector(id, { probe: true });
      const { ids, values } = this.propertiesOf(id);
      const edid = connector.type === DRM_MODE_CONNECTOR_WRITEBACK ? null : this.device.edid(id);
      return {
        id,
        name: connector.name,
        connected: connector.status === 'connected',
        writeback: connector.type === DRM_MODE_CONNECTOR_WRITEBACK,
        possibleCrtcs: this.possibleCrtcs(connector),
        crtc: Number(values.get('CRTC_ID') ?? 0n),
        modes: connector.modes.map((mode) => ({
          width: mode.hdisplay,
          height: mode.vdisplay,
          refreshMhz: mode.refreshMhz,
          preferred: (mode.type & DRM_MODE_TYPE_PREFERRED) !== 0,
          interlaced: (mode.flags & DRM_MODE_FLAG_INTERLACE) !== 0,
          raw: mode.raw,
        })),
        identity: edid === null ? null : parseEdid(edid),
        edid,
        properties: ids,
      };
    });
  }

  private possibleCrtcs(connector: Connector): number {
    return connector.encoders.reduce((mask, id) => mask | this.device.encoder(id).possibleCrtcs, 0);
  }

  private plane(id: number): PlaneInfo[] {
    return this.present(() => {
      const plane: Plane = this.device.plane(id);
      const { ids, values } = this.propertiesOf(id);
      return {
        id,
        type: plane.type,
        possibleCrtcs: plane.possibleCrtcs,
        crtc: plane.crtc,
        formats: new Map(plane.formats.map(({ format, modifiers }) => [format, modifiers])),
        zpos: Number(values.get('zpos') ?? TYPE_ZPOS[plane.type]),
        properties: ids,
      };
    });
  }

  private propertiesOf(object: number): { ids: PropertyIds; values: Map<string, bigint> } {
    const list = this.device.properties(object);
    return {
      ids: new Map(list.map(({ name, id }) => [name, id])),
      values: new Map(list.map(({ name, value }) => [name, value])),
    };
  }

  modeBlob(raw: Uint8Array): KernelBlob {
    const id = this.device.createBlob(raw);
    return { id, destroy: () => this.device.destroyBlob(id) };
  }

  test(properties: readonly PropertyValue[], allowModeset: boolean): number {
    const request = new AtomicRequest();
    for (const [object, property, value] of properties) request.add(object, property, value);
    return this.device.test(request, allowModeset ? ALLOW_MODESET : 0);
  }

  importBuffer(fds: readonly Fd[], layout: BufferLayout, fresh = false): ImportedBuffer {
    const [first] = fds;
    if (first === undefined) throw new TypeError('a buffer without descriptors');
    const { width, height, fourcc: format, modifier, strides, offsets } = layout;
    const planes = strides.map((pitch, i) => ({ fd: fds[i] ?? first, pitch, offset: offsets[i] ?? 0 }));
    const given = modifier === DRM_FORMAT_MOD_INVALID ? {} : { modifier };
    return this.cache.acquire({ width, height, format, ...given, planes }, { fresh });
  }

  createDumb(width: number, height: number, fourcc: number): DumbPicture {
    const buffer = this.device.createDumb(width, height, 32);
    try {
      const framebuffer = this.device.addFramebuffer({
        width,
        height,
        format: fourcc,
        planes: [{ buffer, pitch: buffer.pitch, offset: 0 }],
      });
      return {
        framebuffer,
        width,
        height,
        stride: buffer.pitch,
        pixels: buffer.map(),
        exportFd: () => buffer.exportFd(),
        destroy: () => {
          this.device.removeFramebuffer(framebuffer);
          buffer.destroy();
        },
      };
    } catch (error) {
      buffer.destroy();
      throw error;
    }
  }

  forgetFormer(): void {
    for (const framebuffer of this.former.splice(0))
      this.present(() => this.device.removeFramebuffer(framebuffer));
  }

  framebufferCounts(): { live: number; imports: number; hits: number } {
    const { live, imports, hits } = this.cache.statistics();
    return { live, imports, hits };
  }

  close(): void {
    this.fd.close();
    this.device.close();
  }
}
