/** A virtual machine that is connected: its virtio-gpu device, what it asks, and its end. */
import type { VirtioGuestConfig } from '../config/config.js';
import type { Card } from '../kms/card.js';
import { type Fd, isSystemError } from '../native/base.js';
import { VirtioGpu, type VirtioNotice } from '../native/virtio.js';
import type { FlipStatistics } from '../service/statistics.js';
import type { GuestHost } from './kind.js';
import { scanoutName, VirtioGuest, type VirtioOwner } from './virtio.js';
import { VirtioBuffers } from './virtio-buffers.js';

const RINGS = ['control', 'cursor'];

export class VirtioDevice implements VirtioOwner {
  readonly card: Card;
  readonly gpu: VirtioGpu;
  readonly buffers: VirtioBuffers;
  lastError = '';
  private readonly guests: VirtioGuest[];
  private readonly owner: string;
  /** Notices are dealt with one after the other: a buffer is not freed while it is copied into. */
  private turn: Promise<void> = Promise.resolve();
  private ending: Promise<void> | null = null;

  /**
   * Admits its scanouts as guests. `state` is that of a former daemon. Throws an AdmissionError, or a SystemError for a state
   * that does not fit. `gone` is called once, when everything is over.
   */
  constructor(
    readonly settings: VirtioGuestConfig,
    readonly peer: { pid: number; uid: number },
    private readonly host: GuestHost,
    private readonly gone: () => void,
    state: Fd | null = null,
  ) {
    this.owner = storeOwner(settings);
    const wanted = settings.outputs ?? [settings.output];
    const [card] = wanted.map((output, i) => host.place(scanoutName(settings, i), output));
    if (card === undefined) throw new RangeError('a device has one scanout at least');
    this.card = card;
    this.gpu = new VirtioGpu(card.engine, {
      scanouts: wanted.length,
      label: settings.socket,
      state,
      onNotice: (notice) => this.onNotice(notice),
      onRefused: (why) => this.problem(why),
      onEnd: (why) => {
        this.host.log.info({ guest: settings.name, reason: why }, 'virtual machine left');
        void this.end();
      },
      onKeep: (name, fd) => this.keep(name, fd),
      onDrop: (name) => host.store.remove(this.owner, name),
    });
    this.buffers = new VirtioBuffers(this.gpu, card.device);
    this.guests = wanted.map((_, scanout) => new VirtioGuest(this, scanout));
    for (const guest of this.guests) host.admit(guest);
  }

  /** It is on its way out. */
  get ended(): boolean {
    return this.ending !== null;
  }

  get statistics(): FlipStatistics {
    return this.host.statistics;
  }

  /** Shows the scanouts, then speaks with the virtual machine; takes the socket over. */
  async start(socket: Fd): Promise<void> {
    // Before the guest asks what displays there are.
    for (const guest of this.guests) await this.host.arrived(guest);
    if (this.ending !== null) socket.close();
    else await this.gpu.connect(socket);
  }

  /** In place of `start`: goes on where a former daemon was. Takes over the socket and what was kept. */
  async restore(socket: Fd, kept: Map<string, Fd>): Promise<void> {
    for (const guest of this.guests) await this.host.arrived(guest);
    const rest = [...kept].filter(([name]) => name !== 'socket' && name !== 'state');
    const resources = this.gpu.restore(socket, Object.fromEntries(rest));
    for (const resource of resources) {
      for (const buffer of await this.buffers.restore(resource)) {
        for (const guest of this.guests) await this.card.shadows.added(guest, buffer);
        await this.gpu.restored(buffer.id, buffer.copy !== null, buffer.framebuffer);
      }
    }
    await this.gpu.resume();
  }

  /** Leaves the virtual machine to the next daemon; what it shows last stays until the card is closed. */
  async suspend(): Promise<void> {
    this.ending ??= Promise.resolve();
    await this.gpu.suspend();
  }

  private keep(name: string, fd: Fd): void {
    this.host.store.put(this.owner, name, fd, name === 'socket');
    fd.close();
  }

  /** Takes the guests off their planes and frees what they had. Safe to call again. */
  end(): Promise<void> {
    this.ending ??= this.leave()
      .catch((error: unknown) =>
        this.host.log.error({ guest: this.settings.name, err: error }, 'leaving failed'),
      )
      .finally(() => this.gone());
    return this.ending;
  }

  private async leave(): Promise<void> {
    await this.gpu.disconnect();
    this.host.store.removeAll(this.owner);
    await this.turn;
    for (const guest of this.guests) await this.host.departed(guest, true);
    this.buffers.releaseAll();
    await this.gpu.close();
  }

  private problem(text: string): void {
    this.lastError = text;
    this.host.log.warn({ guest: this.settings.name }, text);
    this.host.changed();
  }

  private onNotice(notice: VirtioNotice): void {
    this.turn = this.turn
      .then(() => this.handle(notice))
      .catch((error: unknown) => {
        this.host.log.error({ guest: this.settings.name, err: error, what: notice.what }, 'virtio device');
      });
  }

  private async handle(notice: VirtioNotice): Promise<void> {
    switch (notice.what) {
      case 'back':
      case 'import':
      case 'transfer':
        await this.job(notice);
        return;
      case 'releaseBuffer': {
        const id = notice.buffer ?? -1;
        for (const guest of this.guests) await this.card.shadows.forget(guest, id);
        this.buffers.release(id);
        await this.gpu.bufferReleased(id);
        return;
      }
      case 'releaseResource':
        this.buffers.releaseBacking(notice.resource);
        await this.gpu.resourceReleased(notice.resource);
        return;
      case 'broken':
        this.problem(`the guest's ${RINGS[notice.resource]} queue is not served any more: ${notice.text}`);
    }
  }

  /** The guest's control queue waits for the answer. */
  private async job(notice: VirtioNotice): Promise<void> {
    try {
      if (notice.what === 'transfer') {
        await this.buffers.transfer(notice);
        await this.gpu.finishJob(true, false, 0);
        return;
      }
      const buffer = notice.what === 'back' ? await this.buffers.back(notice) : this.buffers.import(notice);
      if (buffer !== null) for (const guest of this.guests) await this.card.shadows.added(guest, buffer);
      await this.gpu.finishJob(true, buffer !== null && buffer.copy !== null, buffer?.framebuffer ?? 0);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.problem(`resource refused: ${error.message}`);
      await this.gpu.finishJob(false, false, 0);
    }
  }
}

/** Under which its descriptors are kept. */
export function storeOwner({ name }: VirtioGuestConfig): string {
  return `virtio/${name}`;
}
