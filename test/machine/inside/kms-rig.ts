/** A VKMS card, opened, for tests of the native KMS layer; everything is gone after `close`. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { isSystemError } from '../../../src/native/base.js';
import {
  ATOMIC_ALLOW_MODESET,
  AtomicRequest,
  type Connector,
  type DumbBuffer,
  KmsDevice,
  type KmsEvent,
  type Plane,
  type Property,
} from '../../../src/native/kms.js';
import { createVkms, type OutputsOptions, type VkmsDevice, vkmsShape } from './vkms.js';

export const XRGB8888 = 0x34325258;
export const WRITEBACK = 18;

export interface Rig {
  vkms: VkmsDevice;
  device: KmsDevice;
  crtcs: number[];
  connectors: Connector[];
  writebacks: Connector[];
  planes: Plane[];
  close(): void;
}

export function openRig(options: OutputsOptions): Rig {
  const vkms = createVkms(vkmsShape(options));
  const device = KmsDevice.open(vkms.card);
  const resources = device.resources();
  const connectors = resources.connectors.map((id) => device.connector(id, { probe: true }));
  return {
    vkms,
    device,
    crtcs: resources.crtcs,
    connectors: connectors.filter(({ type }) => type !== WRITEBACK),
    writebacks: connectors.filter(({ type }) => type === WRITEBACK),
    planes: resources.planes.map((id) => device.plane(id)),
    close() {
      if (!device.closed) device.close();
      vkms.destroy();
    },
  };
}

/** Throws for what is not there, as indexing with noUncheckedIndexedAccess wants it. */
export function present<T>(value: T | null | undefined): T {
  assert.ok(value !== undefined && value !== null);
  return value;
}

export function property(device: KmsDevice, object: number, name: string): Property {
  return present(device.properties(object).find((one) => one.name === name));
}

/** Adds values by name. */
export function add(
  device: KmsDevice,
  request: AtomicRequest,
  object: number,
  values: Record<string, number | bigint>,
): void {
  const ids = new Map(device.properties(object).map(({ name, id }) => [name, id]));
  for (const [name, value] of Object.entries(values)) request.add(object, present(ids.get(name)), value);
}

export interface Output {
  crtc: number;
  connector: Connector;
  plane: Plane;
  width: number;
  height: number;
  modeBlob: number;
}

/** The nth output of a rig and its primary plane, in its smallest mode: less to compose. */
export function output(rig: Pick<Rig, 'device' | 'crtcs' | 'connectors' | 'planes'>, index = 0): Output {
  const connector = present(rig.connectors[index]);
  const mode = present(
    [...connector.modes].sort((a, b) => a.hdisplay * a.vdisplay - b.hdisplay * b.vdisplay)[0],
  );
  return {
    crtc: present(rig.crtcs[index]),
    connector,
    plane: present(rig.planes.find((one) => one.type === 'primary' && one.possibleCrtcs & (1 << index))),
    width: mode.hdisplay,
    height: mode.vdisplay,
    modeBlob: rig.device.createModeBlob(mode),
  };
}

export function lightRequest(device: KmsDevice, out: Output, framebuffer: number): AtomicRequest {
  const request = new AtomicRequest();
  const { width, height } = out;
  add(device, request, out.crtc, { MODE_ID: out.modeBlob, ACTIVE: 1 });
  add(device, request, out.connector.id, { CRTC_ID: out.crtc });
  const source = { SRC_X: 0, SRC_Y: 0, SRC_W: width * 65536, SRC_H: height * 65536 };
  const place = { CRTC_X: 0, CRTC_Y: 0, CRTC_W: width, CRTC_H: height };
  add(device, request, out.plane.id, { FB_ID: framebuffer, CRTC_ID: out.crtc, ...source, ...place });
  return request;
}

export function light(device: KmsDevice, out: Output, framebuffer: number): void {
  device.commit(lightRequest(device, out, framebuffer), ATOMIC_ALLOW_MODESET);
}

/** A dumb buffer of the output's size, and its framebuffer. */
export function dumb(device: KmsDevice, out: Output): { buffer: DumbBuffer; framebuffer: number } {
  const buffer = device.createDumb(out.width, out.height);
  const framebuffer = device.addFramebuffer({
    width: out.width,
    height: out.height,
    format: XRGB8888,
    planes: [{ buffer, pitch: buffer.pitch }],
  });
  return { buffer, framebuffer };
}

/** Pixels that no two places share, as far as XRGB8888 allows; the unused byte is as a writeback leaves it. */
export function paint(pixels: Uint8Array, seed: number): void {
  const words = new Uint32Array(pixels.buffer, pixels.byteOffset, pixels.byteLength / 4);
  for (let i = 0; i < words.length; i++) words[i] = (Math.imul(i + seed, 0x9e3779b1) & 0xffffff) | 0xff000000;
}

/** The next event of the device. */
export function nextEvent(device: KmsDevice): Promise<KmsEvent> {
  return new Promise((resolve) => {
    device.onEvent((event) => {
      device.onEvent(null);
      resolve(event);
    });
  });
}

/** Checks that a call is refused, how, by what and on what. */
export function refused(call: () => unknown, code: string, op: string, subject: RegExp): void {
  assert.throws(call, (error: unknown) => {
    assert.ok(isSystemError(error), String(error));
    assert.equal(error.code, code, error.message);
    assert.equal(error.op, op);
    assert.match(error.subject, subject);
    assert.ok(error.errno > 0);
    return true;
  });
}

function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

/** To be called at the end of a test: no descriptor and no GEM handle more than now is open, but for the device's. */
export function leakCheck(rig: Rig): () => void {
  const before = openFds();
  return () => {
    assert.equal(openFds(), rig.device.closed ? before - 1 : before, 'descriptors');
    if (!rig.device.closed) assert.equal(rig.device.gemHandles, 0, 'GEM handles');
  };
}

/** How many framebuffers the card has. */
export function framebuffers(vkms: VkmsDevice): number {
  const list = readFileSync(`/sys/kernel/debug/dri/${vkms.name}/framebuffer`, 'utf8');
  return list.split('\n').filter((line) => line.startsWith('framebuffer[')).length;
}
