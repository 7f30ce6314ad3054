/** Device nodes of the cards of this machine. */
import { readdirSync } from 'node:fs';

/** `/dev/dri/cardN`, by number; not all of them need to have outputs. Empty where there is no /dev/dri. */
export function cardNodes(): string[] {
  let names: string[];
  try {
    names = readdirSync('/dev/dri');
  } catch {
    return [];
  }
  return names
    .filter((name) => /^card[0-9]+$/.test(name))
    .sort((a, b) => Number(a.slice(4)) - Number(b.slice(4)))
    .map((name) => `/dev/dri/${name}`);
}
