/** The card that the demonstration takes: one of this machine, or a virtual one. */
import { accessSync, constants } from 'node:fs';
import { cardNodes } from '../kms/nodes.js';
import type { DemoCard } from './demo-layout.js';

export interface ReadyCard extends DemoCard {
  /** Undoes what was done to have it. */
  remove(): void;
}

/** The first card that could be taken and has something connected; else why there is none. */
export async function findCard(): Promise<ReadyCard | string> {
  const reasons: string[] = [];
  try {
    // The guests' memory; without it they could show nothing.
    accessSync('/dev/udmabuf', constants.R_OK | constants.W_OK);
    for (const path of cardNodes()) {
      const card = await look(path);
      if (typeof card !== 'string') return card;
      reasons.push(card);
    }
  } catch (error) {
    reasons.push((error as Error).message);
  }
  return reasons.join('; ') || 'there is none in /dev/dri';
}

async function look(path: string): Promise<ReadyCard | string> {
  // Loaded late: --help and the virtual card have no need of it.
  const { openCardDevice } = await import('../kms/drm-device.js');
  try {
    const device = openCardDevice(path);
    if (device === null) return `${path} has no outputs`;
    try {
      if (!device.isMaster()) return `${path}: another program is DRM master (a display server?)`;
      const topology = device.readTopology();
      const connected = topology.connectors.filter((one) => one.connected && !one.writeback);
      const outputs = connected.flatMap(({ name, modes }) => {
        const mode = modes.find(({ preferred }) => preferred) ?? modes[0];
        return mode === undefined ? [] : [{ name, width: mode.width, height: mode.height }];
      });
      if (outputs.length === 0) return `${path}: nothing is connected`;
      const planes = new Map(topology.planes.map(({ id, type }) => [id, type]));
      return { path, outputs, planes, remove: () => {} };
    } finally {
      device.close();
    }
  } catch (error) {
    return `${path}: ${(error as Error).message}`;
  }
}

/** Two outputs with overlays, a cursor and writeback each. Needs root and Linux 6.19 with vkms. */
export async function makeVirtualCard(): Promise<ReadyCard | string> {
  const { createVkms, vkmsShape } = await import('../../test/machine/inside/vkms.js');
  const device = createVkms(vkmsShape({ outputs: 2, overlays: 2, cursor: true, writeback: true }));
  const card = await look(device.card);
  if (typeof card !== 'string') return { ...card, remove: () => device.destroy() };
  device.destroy();
  return card;
}
