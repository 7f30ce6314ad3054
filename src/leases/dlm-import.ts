/**
 * Leases of drm-lease-manager as [[lease]] tables of scanoutd. That manager leases planes by id, or all that a CRTC has to itself;
 * scanoutd by what they can do. What a card that is here can tell of them is carried over, and the rest is said beside it.
 */
import type { DlmConfig, DlmConnector, DlmLease } from '../config/dlm-config.js';
import { MOST } from '../config/lease-schema.js';
import type { ConnectorInfo, PlaneInfo, Topology } from '../kms/topology.js';

export interface ImportCard {
  path: string;
  /** Of the device node. */
  minor: number;
  topology: Topology;
}

/** What its command line says, and no file. */
export interface DlmOptions {
  /** -t: who asks for a lease gets it from whoever has it. */
  transfer: boolean;
  /** -k: a lessee that is gone without a word leaves its last frame. */
  keepOnCrash: boolean;
  /** The card that its command line names; null: the first with outputs. */
  device: string | null;
}

export interface ImportedLease {
  name: string;
  /** Empty: there is nothing left to lease. */
  outputs: string[];
  overlays: number;
  cursor: boolean;
  onCrash: 'clear' | 'keep';
  transfer: boolean;
  /** What is not as it was, as whole sentences. */
  notes: string[];
}

export interface ImportedOutput {
  name: string;
  connector: string;
  card: string;
}

export interface Import {
  /** Names for connectors that several cards have. */
  outputs: ImportedOutput[];
  leases: ImportedLease[];
  notes: string[];
}

/** A connector of a lease with its card, as far as there is one here. */
interface Found {
  wanted: DlmConnector;
  card: ImportCard;
  connector: ConnectorInfo;
}

interface Wish {
  overlays: number;
  cursor: boolean;
}

/** `config` null: there is no file, so that each connector of each card, or of the one that is named, is a lease. */
export function importLeases(
  config: DlmConfig | null,
  cards: readonly ImportCard[],
  options: DlmOptions,
): Import {
  const own = options.device === null ? cards : cards.filter(({ path }) => path === options.device);
  const importer = new Importer(cards, options);
  if (config === null) {
    const leases = own.flatMap((card) => defaultLeases(card).map((lease) => importer.lease(lease, [card])));
    return { outputs: importer.outputs, leases, notes: [] };
  }
  const leases = config.leases.map((lease) => importer.lease(lease, own));
  const unused = config.unused.map((name) => `["${name}"] is left out: no lease has this connector.`);
  const blind =
    own.length > 0 ? [] : ['No card could be read, so planes are as many as scanoutd leases by default.'];
  return { outputs: importer.outputs, leases, notes: [...blind, ...unused] };
}

function defaultLeases({ minor, topology }: ImportCard): DlmLease[] {
  return displays(topology).map(({ name }) => ({
    name: `card${minor}-${name}`,
    connectors: [{ name, optional: false, planes: null }],
  }));
}

class Importer {
  readonly outputs: ImportedOutput[] = [];

  constructor(
    private readonly cards: readonly ImportCard[],
    private readonly options: DlmOptions,
  ) {}

  lease({ name, connectors }: DlmLease, own: readonly ImportCard[]): ImportedLease {
    const notes: string[] = [];
    const outputs: string[] = [];
    const wishes: Wish[] = [];
    for (const wanted of connectors) {
      const found = find(wanted, own);
      if (found === null && wanted.optional && own.length > 0) {
        notes.push(`${wanted.name} was optional, and is left out: no card here has it.`);
        continue;
      }
      notes.push(...this.absent(wanted, found, own));
      outputs.push(found === null ? wanted.name : this.nameOf(found));
      const { wish, notes: more } = found === null ? unknownPlanes(wanted) : planesOf(found);
      notes.push(...more);
      if (wish !== null) wishes.push(wish);
    }
    const overlays = Math.min(MOST, Math.max(0, ...wishes.map((wish) => wish.overlays)));
    if (wishes.some((wish) => wish.overlays !== overlays)) {
      notes.push(`Each of its outputs gets ${overlays} overlay planes, which not each had.`);
    }
    const cursor = wishes.length === 0 || wishes.some((wish) => wish.cursor);
    if (cursor && wishes.some((wish) => !wish.cursor)) {
      notes.push('Each of its outputs gets a cursor plane where there is one, which not each had.');
    }
    const { transfer, keepOnCrash } = this.options;
    return { name, outputs, overlays, cursor, onCrash: keepOnCrash ? 'keep' : 'clear', transfer, notes };
  }

  private absent(
    { name, optional }: DlmConnector,
    found: Found | null,
    own: readonly ImportCard[],
  ): string[] {
    if (optional) return [`${name} was optional; here it is not: without it there is no lease.`];
    return found === null && own.length > 0
      ? [`No card here has ${name}: without it there is no lease.`]
      : [];
  }

  /** Its connector, or where other cards have one of that name, an [[output]], whose name must be no connector's. */
  private nameOf({ card, connector: { name } }: Found): string {
    const others = this.cards.filter((other) => displays(other.topology).some((one) => one.name === name));
    if (others.length < 2) return name;
    const output = { name: `${name} of card${card.minor}`, connector: name, card: card.path };
    if (!this.outputs.some((one) => one.name === output.name)) this.outputs.push(output);
    return output.name;
  }
}

/** What can be leased by name: drm-lease-manager does not see writeback connectors. */
function displays({ connectors }: Topology): ConnectorInfo[] {
  return connectors.filter(({ writeback }) => !writeback);
}

/**
 * On the first card that has it, as drm-lease-manager takes the first card. Connectors of kinds that it does not know it calls
 * `Unknown-` and the id; the kernel counts those of each kind.
 */
function find(wanted: DlmConnector, cards: readonly ImportCard[]): Found | null {
  const id = /^Unknown-([0-9]+)$/.exec(wanted.name)?.[1];
  for (const card of cards) {
    const connector = displays(card.topology).find((one) =>
      id === undefined ? one.name === wanted.name : one.id === Number(id),
    );
    if (connector !== undefined) return { wanted, card, connector };
  }
  return null;
}

function unknownPlanes({ name, planes }: DlmConnector): { wish: null; notes: string[] } {
  if (planes === null) return { wish: null, notes: [] };
  const list = planes.length === 0 ? 'no planes' : `planes ${planes.join(', ')}`;
  return { wish: null, notes: [`${name} had ${list}: set overlays to how many of them are overlays.`] };
}

function planesOf({ wanted, card, connector }: Found): { wish: Wish; notes: string[] } {
  const { planes } = card.topology;
  if (wanted.planes === null) return { wish: ownPlanes(connector, card), notes: [] };
  const listed = wanted.planes.map((id) => ({ id, plane: planes.find((one) => one.id === id) ?? null }));
  const present = listed.flatMap(({ plane }) => (plane === null ? [] : [plane]));
  const fitting = present.filter((plane) => (plane.possibleCrtcs & connector.possibleCrtcs) !== 0);
  const gone = listed.filter(({ plane }) => plane === null).map(({ id }) => id);
  const useless = present.filter((plane) => !fitting.includes(plane)).map(({ id }) => id);
  const notes = [
    `${wanted.name} had ${fitting.map(({ id, type }) => `plane ${id} (${type})`).join(', ') || 'no planes'}.`,
    ...(gone.length > 0 ? [`${card.path} has no plane ${gone.join(', ')}.`] : []),
    ...(useless.length > 0 ? [`Plane ${useless.join(', ')} cannot be used with ${wanted.name}.`] : []),
    ...(fitting.some(({ type }) => type === 'primary') ? [] : ['A primary plane is leased in any case.']),
  ];
  return { wish: wishOf(fitting), notes };
}

/** Planes that the connector's CRTC has to itself; where it has none at present, of the CRTC that has the fewest. */
function ownPlanes(connector: ConnectorInfo, { topology }: ImportCard): Wish {
  const possible = topology.crtcs.filter(({ index }) => (connector.possibleCrtcs & (1 << index)) !== 0);
  const current = possible.filter(({ id }) => id === connector.crtc);
  const wishes = (current.length > 0 ? current : possible).map(({ index }) =>
    wishOf(topology.planes.filter(({ possibleCrtcs }) => possibleCrtcs === 1 << index)),
  );
  // Without cursor planes of their own, CRTCs may share some: scanoutd leases one where there is one.
  return {
    overlays: wishes.length === 0 ? 0 : Math.min(...wishes.map((wish) => wish.overlays)),
    cursor: true,
  };
}

function wishOf(planes: readonly PlaneInfo[]): Wish {
  return {
    overlays: planes.filter(({ type }) => type === 'overlay').length,
    cursor: planes.some(({ type }) => type === 'cursor'),
  };
}

/** As tables for scanoutd's configuration, with what is not as it was in comments. `from`: where it was read. */
export function formatImport({ outputs, leases, notes }: Import, from: string): string {
  const head = [
    `# From ${from}. Its clients find scanoutd by dlm_directory in [daemon], or DLM_RUNTIME_PATH.`,
    ...notes.map((note) => `# ${note}`),
  ];
  const tables = [...outputs.map(formatOutput), ...leases.map(formatLease)];
  return [`${head.join('\n')}\n`, ...tables].join('\n');
}

function formatOutput({ name, connector, card }: ImportedOutput): string {
  return `[[output]]\nname = ${quoted(name)}\nconnector = ${quoted(connector)}\ncard = ${quoted(card)}\n`;
}

function formatLease({ name, outputs, overlays, cursor, onCrash, transfer, notes }: ImportedLease): string {
  const comments = notes.map((note) => `# ${note}\n`).join('');
  if (outputs.length === 0)
    return `# Lease ${quoted(name)} is left out, as there is nothing left of it.\n${comments}`;
  const lines = [
    '[[lease]]',
    `name = ${quoted(name)}`,
    `outputs = [${outputs.map(quoted).join(', ')}]`,
    ...(overlays > 0 ? [`overlays = ${overlays}`] : []),
    ...(cursor ? [] : ['cursor = false']),
    ...(onCrash === 'keep' ? ['on_crash = "keep"'] : []),
    ...(transfer ? ['transfer = true'] : []),
  ];
  return `${comments}${lines.join('\n')}\n`;
}

/** Names of leases, connectors and devices have nothing in them that TOML and JSON quote differently. */
function quoted(text: string): string {
  return JSON.stringify(text);
}
