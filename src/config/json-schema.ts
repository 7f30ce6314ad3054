/** The configuration's JSON Schema, for editors that complete and check TOML by one. */
import * as z from 'zod';
import { documentSchema } from './schema.js';

/** The text of docs/scanoutd.schema.json. Cross checks (checks.ts) have no place in it. */
export function jsonSchemaText(): string {
  const { $schema, ...schema } = z.toJSONSchema(documentSchema, { io: 'input' });
  const titled = { $schema, title: 'scanoutd.toml', ...schema };
  return `${JSON.stringify(titled, null, 2)}\n`;
}
