/**
 * VKMS devices of any shape, through configfs (Linux 6.19 and later, root, module vkms loaded).
 *
 * The kernel's rules: 1 to 31 objects of each kind; exactly one primary plane and at most one cursor plane for each
 * CRTC; an encoder for each CRTC. Nothing but a connector's status can change while the device exists. All calls block.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

export type PlaneType = 'primary' | 'overlay' | 'cursor';
export type ConnectorStatus = 'connected' | 'disconnected' | 'unknown';

/** Objects refer to each other by index. Each list's order is the order in which the kernel lists the objects. */
export interface VkmsShape {
  /** Directory in configfs and device in /sys/devices/faux; one is made up when absent. */
  name?: string;
  crtcs: { name?: string; writeback?: boolean }[];
  planes: { type: PlaneType; crtcs: number[] }[];
  /** One for each connector, with the CRTCs of that connector, when absent. */
  encoders?: { crtcs: number[] }[];
  /** `crtcs` is for absent encoders, `encoders` for given ones. Connected when nothing is said. */
  connectors: { status?: ConnectorStatus; crtcs?: number[]; encoders?: number[] }[];
}

export interface VkmsDevice {
  readonly name: string;
  /** `/dev/dri/cardN` */
  readonly card: string;
  /** The N of cardN. */
  readonly index: number;
  /** The kernel's names (`Virtual-1`), in the order of the shape. */
  readonly connectors: readonly string[];
  /** Plugs or unplugs; the kernel sends a hotplug uevent. */
  setConnector(index: number, status: ConnectorStatus): void;
  /** Takes the device away, as when a card is unplugged. Does nothing the second time. */
  destroy(): void;
}

export interface OutputsOptions {
  name?: string;
  /** Pairs of a CRTC and a connector. */
  outputs: number;
  /** Overlay planes of each CRTC. */
  overlays?: number;
  /** Overlay planes that any CRTC can use. */
  sharedOverlays?: number;
  /** A cursor plane for each CRTC. */
  cursor?: boolean;
  /** A writeback connector for each CRTC. */
  writeback?: boolean;
  /** Of all connectors, or of each. */
  status?: ConnectorStatus | ConnectorStatus[];
  /** Connectors can use any CRTC instead of only their own. */
  anyCrtc?: boolean;
}

const CONFIGFS = '/sys/kernel/config/vkms';
const PLANE_TYPES: Record<PlaneType, number> = { overlay: 0, primary: 1, cursor: 2 };
const STATUSES: Record<ConnectorStatus, number> = { connected: 1, disconnected: 2, unknown: 3 };
const WAIT_MS = 10_000;

let made = 0;

/** The shape of a card with a number of like outputs. */
export function vkmsShape(options: OutputsOptions): VkmsShape {
  const { outputs, overlays = 0, sharedOverlays = 0, cursor = false, writeback = false } = options;
  const all = Array.from({ length: outputs }, (_, i) => i);
  const planes: VkmsShape['planes'] = [];
  for (const crtc of all) {
    planes.push({ type: 'primary', crtcs: [crtc] });
    for (let i = 0; i < overlays; i++) planes.push({ type: 'overlay', crtcs: [crtc] });
    if (cursor) planes.push({ type: 'cursor', crtcs: [crtc] });
  }
  for (let i = 0; i < sharedOverlays; i++) planes.push({ type: 'overlay', crtcs: all });
  const statusOf = (i: number): ConnectorStatus =>
    (Array.isArray(options.status) ? options.status[i] : options.status) ?? 'connected';
  return {
    ...(options.name === undefined ? {} : { name: options.name }),
    crtcs: all.map(() => ({ writeback })),
    planes,
    connectors: all.map((i) => ({ status: statusOf(i), crtcs: options.anyCrtc ? all : [i] })),
  };
}

/** Makes the device and waits for its node. Throws, leaving nothing behind, when the kernel refuses the shape. */
export function createVkms(shape: VkmsShape): VkmsDevice {
  if (!existsSync(CONFIGFS))
    throw new Error(`${CONFIGFS} is missing: vkms is not loaded, or Linux is before 6.19`);
  const name = shape.name ?? `vkms-${process.pid}-${made++}`;
  const root = join(CONFIGFS, name);
  mkdirSync(root);
  try {
    const connectorDirs = describe(root, shape);
    enable(root);
    return device(name, root, connectorDirs);
  } catch (error) {
    remove(root);
    throw error;
  }
}

/** Takes away every device that configfs knows of, for instance those of a test that was killed. */
export function destroyAllVkms(): void {
  if (!existsSync(CONFIGFS)) return;
  for (const name of readdirSync(CONFIGFS)) remove(join(CONFIGFS, name));
}

/** Returns the directories of the connectors. */
function describe(root: string, shape: VkmsShape): string[] {
  const encoders = shape.encoders ?? shape.connectors.map(({ crtcs = [] }) => ({ crtcs }));
  const crtcDirs = shape.crtcs.map((crtc, i) => {
    const dir = makeDir(root, 'crtcs', crtc.name ?? `crtc${i}`);
    writeFileSync(join(dir, 'writeback'), crtc.writeback ? '1' : '0');
    return dir;
  });
  shape.planes.forEach((plane, i) => {
    const dir = makeDir(root, 'planes', `plane${i}`);
    writeFileSync(join(dir, 'type'), String(PLANE_TYPES[plane.type]));
    linkAll(join(dir, 'possible_crtcs'), crtcDirs, plane.crtcs);
  });
  const encoderDirs = encoders.map((encoder, i) => {
    const dir = makeDir(root, 'encoders', `encoder${i}`);
    linkAll(join(dir, 'possible_crtcs'), crtcDirs, encoder.crtcs);
    return dir;
  });
  return shape.connectors.map((connector, i) => {
    const dir = makeDir(root, 'connectors', `connector${i}`);
    writeFileSync(join(dir, 'status'), String(STATUSES[connector.status ?? 'connected']));
    linkAll(join(dir, 'possible_encoders'), encoderDirs, connector.encoders ?? [i]);
    return dir;
  });
}

function makeDir(root: string, kind: string, name: string): string {
  const dir = join(root, kind, name);
  mkdirSync(dir);
  return dir;
}

function linkAll(dir: string, targets: string[], indices: number[]): void {
  for (const index of indices) {
    const target = targets[index];
    if (target === undefined) throw new RangeError(`${dir}: there is no object ${index}`);
    symlinkSync(target, join(dir, String(index)));
  }
}

function enable(root: string): void {
  try {
    writeFileSync(join(root, 'enabled'), '1');
  } catch (error) {
    throw new Error(`the kernel refused the shape of ${root}; its log says why`, { cause: error });
  }
}

function device(name: string, root: string, connectorDirs: string[]): VkmsDevice {
  const drm = join('/sys/devices/faux', name, 'drm');
  const cardName = waitFor(`a card in ${drm}`, () => list(drm).find((entry) => /^card\d+$/.test(entry)));
  const card = join('/dev/dri', cardName);
  waitFor(card, () => (existsSync(card) ? card : undefined));
  return {
    name,
    card,
    index: Number(cardName.slice('card'.length)),
    connectors: connectorNames(join(drm, cardName), cardName),
    setConnector(index, status) {
      const dir = connectorDirs[index];
      if (dir === undefined) throw new RangeError(`${name} has no connector ${index}`);
      writeFileSync(join(dir, 'status'), String(STATUSES[status]));
    },
    destroy() {
      if (existsSync(root)) remove(root);
    },
  };
}

/** The kernel numbers connectors of all cards together, so the order comes from their ids. */
function connectorNames(cardDir: string, cardName: string): string[] {
  return list(cardDir)
    .filter((entry) => entry.startsWith(`${cardName}-Virtual-`))
    .map((entry) => ({ entry, id: Number(readFileSync(join(cardDir, entry, 'connector_id'), 'utf8')) }))
    .sort((a, b) => a.id - b.id)
    .map(({ entry }) => entry.slice(cardName.length + 1));
}

function remove(root: string): void {
  writeFileSync(join(root, 'enabled'), '0');
  // Links first: what a link points to cannot go before it.
  for (const kind of ['connectors', 'encoders', 'planes', 'crtcs']) {
    for (const object of list(join(root, kind))) {
      for (const links of ['possible_crtcs', 'possible_encoders']) {
        const dir = join(root, kind, object, links);
        for (const link of list(dir)) unlinkSync(join(dir, link));
      }
      rmdirSync(join(root, kind, object));
    }
  }
  rmdirSync(root);
}

function list(dir: string): string[] {
  return existsSync(dir) ? readdirSync(dir) : [];
}

function waitFor<T>(what: string, find: () => T | undefined): T {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (const end = Date.now() + WAIT_MS; ; ) {
    const found = find();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`${what} did not appear in ${WAIT_MS / 1000} s`);
    Atomics.wait(pause, 0, 0, 10);
  }
}
