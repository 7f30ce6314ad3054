/** What a lease has of its card, and what of that anybody is told: by object ids, beside those that its lessor knows. */
import type { LeaseDocument } from '../../../src/api/documents.js';
import { ATOMIC_ALLOW_MODESET, AtomicRequest, type KmsDevice } from '../../../src/native/kms.js';
import { present, refused } from './kms-rig.js';

/** Ids by kind. */
export type Objects = Pick<LeaseDocument, 'crtcs' | 'connectors' | 'planes'>;
export const sorted = (ids: readonly number[]) => [...ids].sort((a, b) => a - b);
export const all = ({ crtcs, connectors, planes }: Objects) => sorted([...crtcs, ...connectors, ...planes]);

/** What the lessor has besides. */
export function others(lessor: KmsDevice, than: Objects): Objects {
  const { crtcs, connectors, planes } = lessor.resources();
  const own = new Set(all(than));
  const foreign = (ids: readonly number[]) => ids.filter((id) => !own.has(id));
  return { crtcs: foreign(crtcs), connectors: foreign(connectors), planes: foreign(planes) };
}

/** Each is as if it were not there. */
export function assertHidden(lease: KmsDevice, objects: Objects): void {
  for (const id of objects.crtcs) refused(() => lease.crtc(id), 'ENOENT', 'DRM_IOCTL_MODE_GETCRTC', /^crtc/);
  for (const id of objects.connectors)
    refused(() => lease.connector(id), 'ENOENT', 'DRM_IOCTL_MODE_GETCONNECTOR', /^connector/);
  for (const id of objects.planes)
    refused(() => lease.plane(id), 'ENOENT', 'DRM_IOCTL_MODE_GETPLANE', /^plane/);
  for (const id of all(objects))
    refused(() => lease.properties(id), 'ENOENT', 'DRM_IOCTL_MODE_OBJ_GETPROPERTIES', /./);
}

/** A set of CRTCs as a lease has to tell it: its own, counted anew. */
export function counted(lessor: KmsDevice, mask: number, { crtcs }: Objects): number {
  const places = lessor.resources().crtcs;
  const bits = crtcs.map((id, i) => ((mask >> places.indexOf(id)) & 1) << i);
  return bits.reduce((sum, bit) => sum | bit, 0);
}

export type Value = [object: number, name: string, value: number];

/** Commits by ids and names, of what the lessor knows. */
export class Commits {
  private readonly ids = new Map<number, Map<string, number>>();

  constructor(private readonly lessor: KmsDevice) {}

  private id(object: number, name: string): number {
    const names =
      this.ids.get(object) ?? new Map(this.lessor.properties(object).map((one) => [one.name, one.id]));
    this.ids.set(object, names);
    return present(names.get(name));
  }

  /** Throws a SystemError. */
  make(device: KmsDevice, ...values: readonly Value[]): void {
    const request = new AtomicRequest();
    for (const [object, name, value] of values) request.add(object, this.id(object, name), value);
    device.commit(request, ATOMIC_ALLOW_MODESET);
  }

  refused(device: KmsDevice, code: string, ...values: readonly Value[]): void {
    refused(() => this.make(device, ...values), code, 'DRM_IOCTL_MODE_ATOMIC', /^objects/);
  }
}
