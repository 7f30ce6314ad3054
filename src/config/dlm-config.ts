/**
 * The configuration of drm-lease-manager (AGL), read for those who come from there. That manager takes what it cannot read for an
 * empty file; here all that is wrong is told.
 */
import * as z from 'zod';
import { finding } from './entries.js';
import { CONNECTOR_NAME, FLAG, flag, key } from './fields.js';
import { LEASE_NAME, MOST } from './lease-schema.js';
import { parseToml, readText } from './load.js';
import { locate } from './locate.js';
import { ConfigError, type Finding, findingsOf, placeFindings } from './problems.js';

export const DLM_CONFIG_PATH = '/etc/drm-lease-manager.toml';

export interface DlmConnector {
  name: string;
  /** Left out of its lease on a card that does not have it. */
  optional: boolean;
  /** Ids; null: all planes that its CRTC has to itself. */
  planes: number[] | null;
}

export interface DlmLease {
  name: string;
  connectors: DlmConnector[];
}

export interface DlmConfig {
  leases: DlmLease[];
  /** Connectors that have a table, and no lease. */
  unused: string[];
}

const connectorTable = key(
  z.strictObject({
    optional: key(flag, FLAG, 'Whether the lease can be without it.').default(false),
    planes: key(
      z.array(key(z.int().min(1).max(0xffffffff), 'the id of a plane', 'A plane.')),
      'a list of ids of planes',
      'Planes that are leased with it.',
    ).optional(),
  }),
  'a table, written ["CONNECTOR"]',
  'A connector.',
);

const leases = key(
  z
    .array(
      key(
        z.strictObject({
          name: key(
            z.string().regex(LEASE_NAME),
            'a text of 1 to 63 letters, digits, ".", "_" and "-", as scanoutd has them',
            'Its name.',
          ),
          connectors: key(
            z
              .array(key(z.string().regex(CONNECTOR_NAME), 'a connector name, such as "HDMI-A-1"', 'One.'))
              .min(1)
              .max(MOST),
            `a list of 1 to ${MOST} connector names, such as "HDMI-A-1"`,
            'Its connectors.',
          ),
        }),
        'a table, written [[lease]]',
        'A lease.',
      ),
    )
    .min(1),
  'a list of tables, written [[lease]]',
  'The leases.',
);

/** Reads `path`, or the default file, which may be missing: null. Throws ConfigError with everything that is wrong. */
export function loadDlmConfig(path?: string): DlmConfig | null {
  const file = path ?? DLM_CONFIG_PATH;
  const text = readText(file, path === undefined);
  return text === null ? null : parseDlmConfig(text, file);
}

/** `file` is for the errors. Throws ConfigError with everything that is wrong. */
export function parseDlmConfig(text: string, file: string): DlmConfig {
  const document = parseToml(text, file);
  const tables = tablesOf(document);
  const schema = key(
    z.strictObject({
      lease: leases,
      ...Object.fromEntries(tables.map((name) => [name, connectorTable.optional()])),
    }),
    'the tables [[lease]], and one for each connector',
    'Configuration of drm-lease-manager.',
  );
  const result = schema.safeParse(document);
  const findings = [
    ...(result.success ? [] : findingsOf(result.error.issues, schema, document)),
    ...twins(document.lease),
  ];
  if (findings.length > 0 || !result.success) {
    throw new ConfigError(placeFindings(findings, file, locate(text)));
  }
  const data = result.data as { lease: z.output<typeof leases> } & Record<string, unknown>;
  const connector = (name: string): DlmConnector => {
    const { optional = false, planes = null } = (data[name] ?? {}) as Partial<
      z.output<typeof connectorTable>
    >;
    return { name, optional, planes };
  };
  const used = new Set(data.lease.flatMap(({ connectors }) => connectors));
  return {
    leases: data.lease.map(({ name, connectors }) => ({ name, connectors: connectors.map(connector) })),
    unused: tables.filter((name) => !used.has(name)),
  };
}

/** Keys of the document that are, or should be, tables of connectors. */
function tablesOf(document: Record<string, unknown>): string[] {
  const isTable = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);
  return Object.keys(document).filter(
    (name) => name !== 'lease' && (CONNECTOR_NAME.test(name) || isTable(document[name])),
  );
}

/** Names of leases that are there twice, and connectors that are twice in one. */
function twins(list: unknown): Finding[] {
  if (!Array.isArray(list)) return [];
  return list.flatMap((entry: unknown, index) => {
    const { name, connectors } = Object(entry) as { name?: unknown; connectors?: unknown };
    const first = list.findIndex((other) => name !== undefined && Object(other).name === name);
    const names: unknown[] = Array.isArray(connectors) ? connectors : [];
    const again = names.flatMap((one, i) => (names.indexOf(one) < i ? [i] : []));
    return [
      ...(first >= 0 && first < index
        ? [finding(['lease', index, 'name'], name, 'a name of its own', `lease[${first}] has this one`)]
        : []),
      ...again.map((i) =>
        finding(
          ['lease', index, 'connectors', i],
          names[i],
          'a connector of its own',
          'it is in the list already',
        ),
      ),
    ];
  });
}
