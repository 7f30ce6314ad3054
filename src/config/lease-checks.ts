/** Checks of [[lease]] entries that no single value can fail. */
import { type Entries, type Entry, finding } from './entries.js';
import { CONNECTOR_NAME } from './fields.js';
import type { LeaseEntry } from './lease-schema.js';
import type { Finding } from './problems.js';
import type { OutputEntry } from './schema.js';

export function checkLeases(leases: readonly Entry<LeaseEntry>[], outputs: Entries<OutputEntry>): Finding[] {
  return leases.flatMap((lease, order) => [
    ...checkName(lease, leases.slice(0, order)),
    ...lease.value.outputs.flatMap((_, i) => checkOutput(lease, i, outputs)),
  ]);
}

function checkName({ index, value }: Entry<LeaseEntry>, before: readonly Entry<LeaseEntry>[]): Finding[] {
  const twin = before.find((other) => other.value.name === value.name);
  if (twin === undefined) return [];
  return [
    finding(['lease', index, 'name'], value.name, 'a name of its own', `lease[${twin.index}] has this one`),
  ];
}

/** Outputs that are not enabled may be leased: then they are lit for their lessee alone. */
function checkOutput(
  { index, value }: Entry<LeaseEntry>,
  i: number,
  outputs: Entries<OutputEntry>,
): Finding[] {
  const name = value.outputs[i] ?? '';
  const path = ['lease', index, 'outputs', i];
  if (value.outputs.indexOf(name) < i) {
    return [finding(path, name, 'an output of its own', 'it is in the list already')];
  }
  const known = outputs.known.some((entry) => entry.value.name === name || entry.value.connector === name);
  const isOpen = !outputs.complete || outputs.known.some(({ unsure }) => unsure.has('name'));
  if (known || isOpen || CONNECTOR_NAME.test(name)) return [];
  return [finding(path, name, 'a connector name such as "HDMI-A-1"', 'no [[output]] has this name')];
}
