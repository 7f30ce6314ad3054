/** `scanoutctl check` and `scanoutd --check`: the daemon's own loading of a configuration, without a daemon. */
import { defaultConfig } from '../config/config.js';
import { DEFAULT_CONFIG_PATH, loadConfig } from '../config/load.js';
import { ConfigError, formatProblem, type Problem } from '../config/problems.js';
import { count } from './table.js';

export interface CheckDocument {
  file: string;
  ok: boolean;
  /** True when the default file is not there, which is right: the defaults hold. */
  missing: boolean;
  cards: number;
  outputs: number;
  guests: number;
  problems: readonly Problem[];
}

/** Checks `file`, or the default one. */
export function checkConfig(file?: string): CheckDocument {
  const place = { file: file ?? DEFAULT_CONFIG_PATH };
  try {
    const { config, path } = loadConfig(file);
    return { ...place, ok: true, missing: path === null, ...countsOf(config), problems: [] };
  } catch (error) {
    if (!(error instanceof ConfigError)) {
      throw error;
    }
    const { problems } = error;
    return { ...place, ok: false, missing: false, ...countsOf(defaultConfig()), problems };
  }
}

/** What is wrong, a line each, and how much that is; or that nothing is. */
export function formatCheck(check: CheckDocument): string {
  if (!check.ok) {
    const lines = check.problems.map((problem) => `${formatProblem(problem)}\n`);
    return `${lines.join('')}${check.file}: ${count(check.problems.length, 'problem')}\n`;
  }
  if (check.missing) {
    return `${check.file}: not there, so the defaults hold\n`;
  }
  const entries = [count(check.cards, 'card'), count(check.outputs, 'output'), count(check.guests, 'guest')];
  return `${check.file}: right; it has entries for ${entries.join(', ')}\n`;
}

function countsOf(config: { cards: unknown[]; outputs: unknown[]; guests: unknown[] }) {
  return { cards: config.cards.length, outputs: config.outputs.length, guests: config.guests.length };
}
