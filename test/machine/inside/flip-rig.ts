/**
 * The flip engine on a VKMS card, without the daemon: each test decides which plane of which output shows what. Guests come
 * over the guest protocol, from this process (GuestClient) or from another (the C example).
 */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { GuestClient } from '../../../clients/node/index.js';
import {
  FlipEngine,
  type FlipEngine as FlipEngineType,
  type FlipNotice,
  Picture,
  type Picture as PictureType,
  type PlaneProperties,
  type Policy,
  RECORD_COLUMNS,
  type ShownFrame,
} from '../../../src/native/flip.js';
import type { SocketGuest as SocketGuestType } from '../../../src/native/guests.js';
import { ATOMIC_ALLOW_MODESET, type DumbBuffer } from '../../../src/native/kms.js';
import { SeqPacketServer } from '../../../src/native/seqpacket.js';
import { RigGuest, Session } from './flip-guests.js';
import { dumb, type Output, openRig, output, paint, present, property, type Rig } from './kms-rig.js';
import type { OutputsOptions } from './vkms.js';

export type FlipRecord = Record<(typeof RECORD_COLUMNS)[number], number>;

/** Where a guest's planes go. `area` is the whole output when absent; no planes: the virtual CRTC `crtc`. */
export interface Place {
  crtc: number;
  planes: number[];
  area?: [x1: number, y1: number, x2: number, y2: number];
}

export interface FlipOutput extends Output {
  index: number;
  periodNs: number;
  overlays: number[];
  cursor: number | undefined;
  idle: PictureType;
  idleFramebuffer: number;
  idleBuffer: DumbBuffer;
}

const PLANE_PROPERTIES = [
  'FB_ID',
  'CRTC_ID',
  'SRC_X',
  'SRC_Y',
  'SRC_W',
  'SRC_H',
  'CRTC_X',
  'CRTC_Y',
  'CRTC_W',
  'CRTC_H',
] as const;
const PATIENCE_MS = 60_000;

export class FlipRig {
  readonly outputs: FlipOutput[] = [];
  readonly socket = join(mkdtempSync(join(tmpdir(), 'flip-')), 'guest.sock');
  readonly producers = new Map<string, SocketGuestType>();
  private readonly records: FlipRecord[] = [];
  private readonly places = new Map<string, Place>();
  /** Guests that left or wanted to. */
  leaving = 0;
  /** What went wrong on the daemon's side. */
  readonly failures: unknown[] = [];
  private readonly guests: RigGuest[] = [];
  private readonly sessions: Session[] = [];
  private readonly server: SeqPacketServer;
  private streams = 0;
  private stopped = false;

  private constructor(
    readonly kms: Rig,
    readonly engine: FlipEngineType,
    readonly notices: FlipNotice[],
  ) {
    this.server = SeqPacketServer.listen(this.socket, {
      onConnection: (connection) => this.sessions.push(new Session(this, connection)),
    });
  }

  /** Lights every output in its smallest mode with an idle picture. */
  static async open(options: OutputsOptions & { policy?: Policy }): Promise<FlipRig> {
    const kms = openRig(options);
    const notices: FlipNotice[] = [];
    const engine = new FlipEngine(kms.device.dupFd(), {
      realtimePriority: 10,
      onNotice: (notice) => notices.push(notice),
    });
    const rig = new FlipRig(kms, engine, notices);
    for (const [index] of kms.crtcs.entries()) await rig.light(index, options.policy ?? 'eager');
    return rig;
  }

  private async light(index: number, policy: Policy): Promise<void> {
    const { kms, engine } = this;
    const base = output(kms, index);
    const mode = present(
      base.connector.modes.find((one) => one.hdisplay === base.width && one.vdisplay === base.height),
    );
    const periodNs = Math.round(1e12 / mode.refreshMhz);
    await engine.addCrtc(base.crtc, periodNs, policy);
    const { buffer, framebuffer } = dumb(kms.device, base);
    paint(buffer.map(), 1000 + index);
    const idle = new Picture(engine, this.newStream());
    const of = (type: string) =>
      kms.planes.filter((one) => one.type === type && one.possibleCrtcs & (1 << index)).map(({ id }) => id);
    const made: FlipOutput = {
      ...base,
      index,
      periodNs,
      overlays: of('overlay'),
      cursor: of('cursor')[0],
      idle,
      idleFramebuffer: framebuffer,
      idleBuffer: buffer,
    };
    this.outputs.push(made);
    await this.modeset(made);
    await engine.attach(idle, 0, base.crtc, base.plane.id, this.properties(base.plane.id));
    await idle.show(framebuffer, base.width, base.height);
  }

  /** Sets the output's mode, with its idle picture. */
  async modeset(out: FlipOutput): Promise<void> {
    const { device } = this.kms;
    const values: [number, string, number][] = [
      [out.crtc, 'MODE_ID', out.modeBlob],
      [out.crtc, 'ACTIVE', 1],
      [out.connector.id, 'CRTC_ID', out.crtc],
      [out.plane.id, 'FB_ID', out.idleFramebuffer],
      [out.plane.id, 'CRTC_ID', out.crtc],
      [out.plane.id, 'SRC_X', 0],
      [out.plane.id, 'SRC_Y', 0],
      [out.plane.id, 'SRC_W', out.width * 65536],
      [out.plane.id, 'SRC_H', out.height * 65536],
      [out.plane.id, 'CRTC_X', 0],
      [out.plane.id, 'CRTC_Y', 0],
      [out.plane.id, 'CRTC_W', out.width],
      [out.plane.id, 'CRTC_H', out.height],
    ];
    const writeback = this.kms.writebacks[out.index];
    if (writeback !== undefined) values.push([writeback.id, 'CRTC_ID', out.crtc]);
    for (const plane of [...out.overlays, ...(out.cursor === undefined ? [] : [out.cursor])])
      values.push([plane, 'FB_ID', 0], [plane, 'CRTC_ID', 0]);
    await this.engine.modeset({
      flags: ATOMIC_ALLOW_MODESET,
      properties: values.map(([object, name, value]) => [object, property(device, object, name).id, value]),
      targets: [{ crtc: out.crtc, primaryPlane: out.plane.id, periodNs: out.periodNs }],
    });
  }

  newStream(): number {
    return ++this.streams;
  }

  out(index: number): FlipOutput {
    return present(this.outputs[index]);
  }

  properties(plane: number): PlaneProperties {
    const ids = PLANE_PROPERTIES.map((name) => [name, property(this.kms.device, plane, name).id]);
    return Object.fromEntries(ids) as unknown as PlaneProperties;
  }

  attach(
    producer: SocketGuestType | PictureType,
    stream: number,
    crtc: number,
    plane: number,
  ): Promise<void> {
    if (plane === 0) return this.engine.attach(producer, stream, crtc, 0);
    return this.engine.attach(producer, stream, crtc, plane, this.properties(plane));
  }

  /** Says where a guest of this name will be shown. */
  expect(name: string, place: Place): void {
    this.places.set(name, place);
  }

  /** A guest in this process. */
  async guest(
    name: string,
    place: Place,
    kinds: ('primary' | 'overlay' | 'cursor')[] = ['primary'],
  ): Promise<RigGuest> {
    this.expect(name, place);
    const client = new GuestClient({ name, path: this.socket, planes: kinds, fences: true });
    client.on('error', () => {});
    await client.connect();
    const guest = new RigGuest(client, present(this.producers.get(name)));
    this.guests.push(guest);
    return guest;
  }

  place(name: string): Place {
    return present(this.places.get(name));
  }

  /** What happened so far, oldest first. */
  flips(crtc?: number): FlipRecord[] {
    const rows = this.engine.records();
    for (let at = 0; at < rows.length; at += RECORD_COLUMNS.length) {
      const row = RECORD_COLUMNS.map((name, i) => [name, rows[at + i]]);
      this.records.push(Object.fromEntries(row) as FlipRecord);
    }
    return this.records.filter((record) => crtc === undefined || record.crtc === crtc);
  }

  count(type: FlipNotice['type']): number {
    return this.notices.filter((notice) => notice.type === type).length;
  }

  /** Waits until a condition holds, which is asked again and again. */
  async until(what: string, condition: () => boolean): Promise<void> {
    for (const end = Date.now() + PATIENCE_MS; !condition(); await sleep(20))
      assert.ok(Date.now() < end, `${what} did not happen; notices: ${JSON.stringify(this.notices)}`);
  }

  /** Waits for so many more flips of a CRTC, or of one stream. */
  async more(flips: number, of: { crtc?: number; stream?: number } = {}): Promise<void> {
    const now = () =>
      this.flips(of.crtc).filter(({ stream }) => of.stream === undefined || stream === of.stream).length;
    const wanted = now() + flips;
    await this.until(`${flips} flips`, () => now() >= wanted);
  }

  /** What the output scans out, 32 bits a pixel as a writeback leaves them, and of which frames it is made. */
  async capture(index: number): Promise<{ shown: ShownFrame[]; pixels: Uint32Array }> {
    const { device, writebacks } = this.kms;
    const out = this.out(index);
    const connector = present(writebacks[index]).id;
    const { buffer, framebuffer } = dumb(device, out);
    const shown = await this.engine.capture(out.crtc, framebuffer, {
      connector,
      WRITEBACK_FB_ID: property(device, connector, 'WRITEBACK_FB_ID').id,
      WRITEBACK_OUT_FENCE_PTR: property(device, connector, 'WRITEBACK_OUT_FENCE_PTR').id,
    });
    const pixels = words(Uint8Array.from(buffer.map()));
    device.removeFramebuffer(framebuffer);
    buffer.destroy();
    return { shown, pixels };
  }

  /** Ends the engine under its guests, which then leave as well as they can. */
  stopEngine(): void {
    this.stopped = true;
    this.engine.close();
  }

  async close(): Promise<void> {
    this.server.close();
    const ended = Promise.all(this.sessions.map((session) => session.end()));
    const late = sleep(PATIENCE_MS, 'late', { ref: false });
    const hung = (await Promise.race([ended, late])) === 'late';
    for (const guest of this.guests) guest.close();
    if (!this.stopped) this.engine.close();
    this.kms.close();
    assert.ok(!hung, 'a guest never left');
    if (!this.stopped) assert.deepEqual(this.failures, []);
  }
}

/** Opens rigs for tests, one at a time, and closes each when its test is over. */
export function rigs(): typeof FlipRig.open {
  let rig: FlipRig | undefined;
  afterEach(async () => {
    await rig?.close();
    rig = undefined;
  });
  return async (options) => {
    rig = await FlipRig.open(options);
    return rig;
  };
}

export function words(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}
