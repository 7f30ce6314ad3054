/**
 * The reference program's loop (reference.c) in JavaScript over the project's bindings: what one would write without a
 * native flip thread. The same arguments, the same guests, the same file of records at the end.
 */
import { writeFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  type AddBuffer,
  decodeFromGuest,
  encode,
  FLIP_PAGE_SIZE,
  Presented,
} from '../../src/guests/protocol.js';
import { addonPaths } from '../../src/native/addon.js';
import type { Fd } from '../../src/native/base.js';
import { createUdmabuf, mapDmabuf } from '../../src/native/buffers.js';
import {
  ATOMIC_ALLOW_MODESET,
  ATOMIC_NONBLOCK,
  AtomicRequest,
  type KmsDevice as Device,
  KmsDevice,
  type KmsEvent,
  PAGE_FLIP_EVENT,
} from '../../src/native/kms.js';
import { type SeqPacket, SeqPacketServer } from '../../src/native/seqpacket.js';

const XRGB8888 = 0x34325258;
const BUFFERS = 3;
/** Of struct scanoutd_flip_page, in 64-bit words. */
const PAGE = { released: 64, pending: 128, entries: 136, entryWords: 24, feedback: 208 } as const;
const FLIP_PAGE_MAGIC = 0x50494c46;
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

interface Frame {
  sequence: bigint;
  buffer: number;
  wakeNs: number;
  enterNs: number;
  leaveNs: number;
}

interface Guest {
  name: string;
  index: number;
  plane: number;
  fbProperty: number;
  width: number;
  height: number;
  page: BigUint64Array;
  locks: Uint32Array;
  release: Fd | null;
  framebuffers: number[];
  pending: Frame | null;
  queued: Frame | null;
  current: Frame | null;
}

const { watch } = loadWatch();
const options = parseArgs({
  options: { card: { type: 'string' }, socket: { type: 'string' }, out: { type: 'string' } },
  allowPositionals: true,
});
const device = KmsDevice.open(options.values.card ?? '/dev/dri/card0');
const request = new AtomicRequest();
const records: number[] = [];
/** Descriptors that are in use are not to be collected. */
const kept: Fd[] = [];
let inFlight = false;
let refreshNs = 0;

function loadWatch(): { watch(fd: number, callback: (wakeNs: number) => void): void } {
  const require = createRequire(import.meta.url);
  for (const path of addonPaths()) {
    try {
      return require(join(dirname(path), 'bench_watch.node'));
    } catch {
      // built in another place
    }
  }
  throw new Error('bench_watch.node is missing');
}

function nowNs(): number {
  return Number(process.hrtime.bigint());
}

// ---- The display: one CRTC, its primary plane

function propertyOf(from: Device, object: number, name: string): number {
  const found = from.properties(object).find((property) => property.name === name);
  if (found === undefined) throw new Error(`object ${object} has no ${name}`);
  return found.id;
}

function light(guest: Guest): void {
  const set = (object: number, name: string, value: number) =>
    request.add(object, propertyOf(device, object, name), value);
  const { crtcs, connectors, planes } = device.resources();
  const crtc = crtcs[0] ?? 0;
  const connector = connectors
    .map((id) => device.connector(id, { probe: true }))
    .find(({ encoders, status }) => {
      const possible = encoders.some((id) => (device.encoder(id).possibleCrtcs & 1) !== 0);
      return possible && status === 'connected';
    });
  const mode = connector?.modes.find(
    (one) =>
      one.hdisplay === guest.width &&
      one.vdisplay === guest.height &&
      Math.round(one.refreshMhz / 1000) === 60,
  );
  const plane = planes
    .map((id) => device.plane(id))
    .find(({ type, possibleCrtcs }) => type === 'primary' && (possibleCrtcs & 1) !== 0);
  if (connector === undefined || mode === undefined || plane === undefined) throw new Error('no display');
  refreshNs = Math.round(1e12 / mode.refreshMhz);
  guest.plane = plane.id;
  guest.fbProperty = propertyOf(device, plane.id, 'FB_ID');
  const buffer = device.createDumb(guest.width, guest.height);
  const framebuffer = device.addFramebuffer({
    width: guest.width,
    height: guest.height,
    format: XRGB8888,
    planes: [{ buffer, pitch: buffer.pitch }],
  });
  set(connector.id, 'CRTC_ID', crtc);
  set(crtc, 'MODE_ID', device.createModeBlob(mode));
  set(crtc, 'ACTIVE', 1);
  set(plane.id, 'FB_ID', framebuffer);
  set(plane.id, 'CRTC_ID', crtc);
  set(plane.id, 'SRC_W', guest.width * 65536);
  set(plane.id, 'SRC_H', guest.height * 65536);
  set(plane.id, 'CRTC_W', guest.width);
  set(plane.id, 'CRTC_H', guest.height);
  device.commit(request, ATOMIC_ALLOW_MODESET);
  console.log(`plane ${guest.name} ${plane.id}`);
}

// ---- The loop: what is measured

function take(guest: Guest, wakeNs: number): void {
  const word = Atomics.exchange(guest.page, PAGE.pending, 0n);
  const index = Number(word & 3n);
  if (index === 0) return;
  const entry = PAGE.entries + (index - 1) * PAGE.entryWords;
  const sequence = guest.page[entry] ?? 0n;
  const buffer = Number((guest.page[entry + 1] ?? 0n) & 0xffffffffn);
  if (guest.pending !== null) release(guest, guest.pending);
  guest.pending = { sequence, buffer, wakeNs, enterNs: 0, leaveNs: 0 };
  commit(guest);
}

function commit(guest: Guest): void {
  const frame = guest.pending;
  if (inFlight || frame === null) return;
  request.clear().add(guest.plane, guest.fbProperty, guest.framebuffers[frame.buffer] ?? 0);
  frame.enterNs = nowNs();
  device.commit(request, ATOMIC_NONBLOCK | PAGE_FLIP_EVENT);
  frame.leaveNs = nowNs();
  inFlight = true;
  guest.queued = frame;
  guest.pending = null;
}

function onFlip(guest: Guest, event: KmsEvent): void {
  if (event.type !== 'flip' || guest.queued === null) return;
  const former = guest.current;
  const frame = guest.queued;
  inFlight = false;
  guest.current = frame;
  guest.queued = null;
  writeFeedback(guest, frame, event);
  if (former !== null) release(guest, former);
  const { sequence, wakeNs, enterNs, leaveNs } = frame;
  records.push(guest.index, Number(sequence), wakeNs, enterNs, leaveNs, Number(event.timeNs));
  if (guest.release !== null) writeSync(guest.release.number, ONE);
  commit(guest);
}

function writeFeedback(guest: Guest, frame: Frame, event: KmsEvent): void {
  const { page, locks } = guest;
  const lock = PAGE.feedback * 2;
  Atomics.add(locks, lock, 1);
  locks[lock + 1] = Presented.vsync | Presented.hwClock | Presented.direct;
  page[PAGE.feedback + 1] = frame.sequence;
  page[PAGE.feedback + 2] = frame.sequence;
  page[PAGE.feedback + 3] = event.timeNs;
  page[PAGE.feedback + 4] = event.sequence;
  locks[lock + 10] = refreshNs;
  page[PAGE.feedback + 8] = (page[PAGE.feedback + 8] ?? 0n) + 1n;
  Atomics.add(locks, lock, 1);
}

function release(guest: Guest, frame: Frame): void {
  Atomics.store(guest.page, PAGE.released + frame.buffer, frame.sequence);
}

// ---- The guest's messages

function serve(connection: SeqPacket, guest: Guest): void {
  connection.onMessage = (bytes, fds) => {
    const message = decodeFromGuest(bytes, fds.length);
    const { serial } = message;
    if (message.type === 'hello') {
      const [kick, releaseFd] = fds;
      kept.push(...fds);
      const memory = createUdmabuf(FLIP_PAGE_SIZE, 'flip-page');
      const { data } = mapDmabuf(memory.dmabuf);
      guest.page = new BigUint64Array(data.buffer, data.byteOffset, FLIP_PAGE_SIZE / 8);
      guest.locks = new Uint32Array(data.buffer, data.byteOffset, FLIP_PAGE_SIZE / 4);
      guest.locks.set([FLIP_PAGE_MAGIC, 1, 0, 1]);
      guest.release = releaseFd ?? null;
      connection.send(
        encode({
          type: 'welcome',
          serial,
          versionMajor: 1,
          versionMinor: 0,
          capabilities: 0n,
          pageSize: FLIP_PAGE_SIZE,
        }),
        [memory.memfd],
      );
      if (kick !== undefined) watch(kick.number, (wakeNs) => take(guest, wakeNs));
    } else if (message.type === 'addBuffer') {
      importBuffer(guest, message, fds);
      connection.send(encode({ type: 'done', serial }));
      if (guest.framebuffers.length === BUFFERS) console.log('ready');
    } else {
      connection.send(encode({ type: 'done', serial }));
    }
  };
}

function importBuffer(guest: Guest, message: AddBuffer, fds: readonly Fd[]): void {
  const [fd] = fds;
  if (fd === undefined) throw new Error('a buffer without dma-buf');
  guest.framebuffers[message.buffer] = device.addFramebuffer({
    width: message.width,
    height: message.height,
    format: message.fourcc,
    planes: [{ buffer: device.importDmabuf(fd), pitch: message.strides[0] ?? 0 }],
  });
}

const [name = '', , , , , size = ''] = (options.positionals[0] ?? '').split(':');
const [width = 0, height = 0] = size.split('x').map(Number);
const guest: Guest = {
  name,
  index: 0,
  plane: 0,
  fbProperty: 0,
  width,
  height,
  page: new BigUint64Array(0),
  locks: new Uint32Array(0),
  release: null,
  framebuffers: [],
  pending: null,
  queued: null,
  current: null,
};
light(guest);
device.onEvent((event) => onFlip(guest, event));
SeqPacketServer.listen(options.values.socket ?? '', {
  mode: 0o600,
  onConnection: (one) => serve(one, guest),
});
console.log('listening');
process.on('SIGTERM', () => {
  if (options.values.out !== undefined) writeFileSync(options.values.out, new Float64Array(records));
  process.exit(0);
});
