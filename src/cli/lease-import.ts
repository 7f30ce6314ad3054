/** `scanoutctl lease import`: leases of drm-lease-manager as [[lease]] tables, and which cards there are to ask. */
import { realpathSync } from 'node:fs';
import { DLM_CONFIG_PATH, type DlmConfig, loadDlmConfig } from '../config/dlm-config.js';
import { ConfigError, formatProblem } from '../config/problems.js';
import { cardNodes } from '../kms/nodes.js';
import { formatImport, type Import, type ImportCard, importLeases } from '../leases/dlm-import.js';
import { CliError, EXIT } from './errors.js';

export interface ImportOptions {
  device?: string;
  leaseTransfer?: boolean;
  keepOnCrash?: boolean;
}

export interface CardsRead {
  cards: ImportCard[];
  /** Why others could not be read, one each. */
  problems: string[];
}

/** `file` undefined: the default file, and where that is missing the leases that drm-lease-manager has then. Throws CliError. */
export async function importDlm(
  file: string | undefined,
  { device, leaseTransfer = false, keepOnCrash = false }: ImportOptions,
  readCards: () => Promise<CardsRead>,
): Promise<{ document: Import; text: string }> {
  const config = readConfig(file);
  const { cards, problems } = await readCards();
  const path = device === undefined ? null : nodeOf(device);
  if (path !== null && !cards.some((card) => card.path === path)) {
    const why =
      problems.find((problem) => problem.startsWith(`${path}:`)) ?? `${path} is no card with outputs`;
    throw new CliError(EXIT.refused, why, 'Leave out --device to import without a card.');
  }
  if (config === null && cards.length === 0) {
    const what = `${DLM_CONFIG_PATH} is not there, and no card could be read: ${problems.join('; ') || 'there is none'}`;
    throw new CliError(
      EXIT.refused,
      what,
      'Without a file each connector of a card is a lease: be root, or in the group video.',
    );
  }
  const document = importLeases(config, cards, { transfer: leaseTransfer, keepOnCrash, device: path });
  document.notes.push(...problems.map((problem) => `Not read: ${problem}.`));
  const from = config === null ? 'the default leases of drm-lease-manager' : (file ?? DLM_CONFIG_PATH);
  return { document, text: formatImport(document, from) };
}

function readConfig(file: string | undefined): DlmConfig | null {
  try {
    return loadDlmConfig(file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const problems = error.problems.map(formatProblem).join('\n  ');
    throw new CliError(EXIT.refused, `this cannot be imported:\n  ${problems}`, '');
  }
}

/** Links, such as those in /dev/dri/by-path, are followed. */
function nodeOf(device: string): string {
  try {
    return realpathSync(device);
  } catch (error) {
    throw new CliError(EXIT.refused, `no card: ${(error as Error).message}`, '');
  }
}

/** The cards of this machine; none where the native part is missing, which is one of the problems then. */
export async function readCards(): Promise<CardsRead> {
  const result: CardsRead = { cards: [], problems: [] };
  const native = await loadNative();
  if (typeof native === 'string') return { cards: [], problems: [`cards: ${native}`] };
  const { openCardDevice, isSystemError } = native;
  for (const path of cardNodes()) {
    try {
      const device = openCardDevice(path);
      if (device === null) continue;
      try {
        // The first who opens a card is its master, which nobody else should find taken.
        if (device.isMaster()) device.native.dropMaster();
        result.cards.push({ path, minor: device.native.number.minor, topology: device.readTopology() });
      } finally {
        device.close();
      }
    } catch (error) {
      if (!isSystemError(error)) throw error;
      result.problems.push(`${path}: ${error.message}`);
    }
  }
  return result;
}

/** Loaded only when needed: help, and errors in the file, need no native part. */
async function loadNative() {
  try {
    const { openCardDevice } = await import('../kms/drm-device.js');
    const { isSystemError } = await import('../native/base.js');
    return { openCardDevice, isSystemError };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'ERR_DLOPEN_FAILED') throw error;
    return `the native part of scanoutd is missing: ${message.split('\n')[0]}`;
  }
}
