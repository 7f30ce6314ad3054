/** Loads the add-on, once. The typed views of it are in the other modules of this directory. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where the built add-on may lie, best first: what a developer built, then what is built for the test machine. */
const PLACES = ['build/Release/scanoutd.node', 'build-machine/scanoutd.node'];

/** The directory of package.json, whether this runs compiled or not. */
function projectRoot(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  let directory = here;
  while (!existsSync(join(directory, 'package.json'))) {
    const parent = dirname(directory);
    if (parent === directory) return here;
    directory = parent;
  }
  return directory;
}

/** The files that are tried. SCANOUTD_NATIVE names one and no other. */
export function addonPaths(env: NodeJS.ProcessEnv = process.env): string[] {
  if (env.SCANOUTD_NATIVE) return [env.SCANOUTD_NATIVE];
  const root = projectRoot();
  return PLACES.map((place) => join(root, place));
}

/**
 * Loads the first of `paths` that is there and works. Throws an Error that says what was tried; its `code` is
 * ERR_MODULE_NOT_FOUND when there is none, ERR_DLOPEN_FAILED when none of those that are there can be loaded.
 */
export function loadAddon(paths: readonly string[] = addonPaths()): Record<string, unknown> {
  const require = createRequire(import.meta.url);
  const tried: string[] = [];
  let code = 'ERR_MODULE_NOT_FOUND';
  for (const path of paths) {
    if (!existsSync(path)) {
      tried.push(`${path}: not there`);
      continue;
    }
    try {
      return require(path) as Record<string, unknown>;
    } catch (error) {
      code = 'ERR_DLOPEN_FAILED';
      tried.push(`${path}: ${(error as Error).message}`);
    }
  }
  const message = ['the native add-on cannot be loaded; build it with `npm run build:native`', ...tried];
  throw Object.assign(new Error(message.join('\n  ')), { code });
}

/** Everything that the add-on exports, by name. Loaded when this module is. */
export const addon: Readonly<Record<string, unknown>> = loadAddon();
