/**
 * Where in a TOML text each key stands.
 *
 * The parser keeps no positions, and an error without a line is a search for its reader. This scan reads a text that
 * the parser has already accepted, so it only has to follow the structure: headers, keys, where values end.
 */

export type Path = readonly (string | number)[];

/** Both from 1; columns count UTF-16 units, as editors and the parser do. */
export interface Position {
  line: number;
  column: number;
}

export interface Locations {
  /** Position of the key, header or list element at `path`; null when the text has none. */
  at(path: Path): Position | null;
  /** The same, or that of the nearest enclosing one: for keys that are missing. Null in an empty text. */
  nearest(path: Path): Position | null;
}

interface Scan {
  text: string;
  offset: number;
  /** Offset of each path, keyed by its JSON. */
  found: Map<string, number>;
  /** Entries so far of each list of tables, keyed by the JSON of its path. */
  lists: Map<string, number>;
}

/** Scans `text`, which must be valid TOML; of other texts the positions mean nothing, but it always ends. */
export function locate(text: string): Locations {
  const scan: Scan = { text, offset: text.startsWith('\ufeff') ? 1 : 0, found: new Map(), lists: new Map() };
  let table: Path = [];
  for (skipVoid(scan); scan.offset < text.length; skipVoid(scan)) {
    if (text[scan.offset] === '[') {
      table = scanHeader(scan);
    } else {
      scanPair(scan, table);
    }
  }
  const starts = lineStarts(text);
  const at = (path: Path) => {
    const offset = scan.found.get(JSON.stringify(path));
    return offset === undefined ? null : positionOf(starts, offset);
  };
  return {
    at,
    nearest(path) {
      for (let length = path.length; length > 0; length--) {
        const position = at(path.slice(0, length));
        if (position !== null) {
          return position;
        }
      }
      return null;
    },
  };
}

/** `[a.b]` or `[[a.b]]`; returns the path of the table that follows. */
function scanHeader(scan: Scan): Path {
  const isList = scan.text[scan.offset + 1] === '[';
  scan.offset += isList ? 2 : 1;
  const keys = scanKeys(scan, ']');
  scan.offset += isList ? 2 : 1;
  const path: (string | number)[] = [];
  for (const [depth, { key, offset }] of keys.entries()) {
    path.push(key);
    record(scan, path, offset);
    const list = JSON.stringify(path);
    const count = scan.lists.get(list) ?? 0;
    if (isList && depth === keys.length - 1) {
      scan.lists.set(list, count + 1);
      path.push(count);
      record(scan, path, offset);
    } else if (count > 0) {
      path.push(count - 1);
    }
  }
  return path;
}

function scanPair(scan: Scan, table: Path): void {
  const path = [...table];
  for (const { key, offset } of scanKeys(scan, '=')) {
    path.push(key);
    record(scan, path, offset);
  }
  scan.offset++;
  skipSpace(scan);
  scanValue(scan, path);
}

/** A dotted key up to `end`, on which it stops. */
function scanKeys(scan: Scan, end: string): { key: string; offset: number }[] {
  const keys: { key: string; offset: number }[] = [];
  while (scan.offset < scan.text.length) {
    skipSpace(scan);
    const offset = scan.offset;
    const char = scan.text[offset];
    if (char === end) {
      break;
    }
    if (char === '.') {
      scan.offset++;
    } else if (char === '"' || char === "'") {
      keys.push({ key: scanString(scan), offset });
    } else {
      keys.push({ key: scanBare(scan), offset });
    }
  }
  return keys;
}

function scanBare(scan: Scan): string {
  const start = scan.offset++;
  while (/^[A-Za-z0-9_-]$/.test(scan.text[scan.offset] ?? '')) {
    scan.offset++;
  }
  return scan.text.slice(start, scan.offset);
}

function scanValue(scan: Scan, path: Path): void {
  const char = scan.text[scan.offset];
  if (char === '[') {
    scanList(scan, path);
  } else if (char === '{') {
    scanInlineTable(scan, path);
  } else if (char === '"' || char === "'") {
    scanString(scan);
  } else {
    scanScalar(scan);
  }
}

function scanList(scan: Scan, path: Path): void {
  scan.offset++;
  for (let index = 0; scan.offset < scan.text.length; ) {
    skipVoid(scan);
    const char = scan.text[scan.offset];
    if (char === ']') {
      scan.offset++;
      return;
    }
    if (char === ',') {
      scan.offset++;
      index++;
      continue;
    }
    const element = [...path, index];
    record(scan, element, scan.offset);
    scanValue(scan, element);
  }
}

function scanInlineTable(scan: Scan, path: Path): void {
  scan.offset++;
  while (scan.offset < scan.text.length) {
    skipVoid(scan);
    const char = scan.text[scan.offset];
    if (char === '}') {
      scan.offset++;
      return;
    }
    if (char === ',') {
      scan.offset++;
    } else {
      scanPair(scan, path);
    }
  }
}

/** A number, date or boolean, all of which end before the same characters. Takes one character at least. */
function scanScalar(scan: Scan): void {
  scan.offset++;
  while (!/^[,\]}#\r\n]?$/.test(scan.text[scan.offset] ?? '')) {
    scan.offset++;
  }
}

/** Any of the four kinds of string; returns the content, unescaped in those that can be keys. */
function scanString(scan: Scan): string {
  const quote = scan.text.charAt(scan.offset);
  const isMultiline = scan.text.startsWith(quote.repeat(3), scan.offset);
  const end = isMultiline ? quote.repeat(3) : quote;
  const start = scan.offset + end.length;
  scan.offset = start;
  while (scan.offset < scan.text.length && !scan.text.startsWith(end, scan.offset)) {
    scan.offset += quote === '"' && scan.text[scan.offset] === '\\' ? 2 : 1;
  }
  const content = scan.text.slice(start, scan.offset);
  scan.offset += end.length;
  // One or two quotes may stand right before the three that end a multi-line string.
  for (let extra = 0; isMultiline && extra < 2 && scan.text[scan.offset] === quote; extra++) {
    scan.offset++;
  }
  return quote === '"' ? unescapeKey(content) : content;
}

const ESCAPES: Record<string, string> = { b: '\b', t: '\t', n: '\n', f: '\f', r: '\r', e: '\x1b' };

function unescapeKey(content: string): string {
  return content.replace(
    /\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))/gs,
    (all, x?: string, u?: string, long?: string, char?: string) => {
      const code = Number.parseInt(x ?? u ?? long ?? '', 16);
      if (char !== undefined) {
        return ESCAPES[char] ?? char;
      }
      return code <= 0x10ffff ? String.fromCodePoint(code) : all;
    },
  );
}

function skipSpace(scan: Scan): void {
  while (scan.text[scan.offset] === ' ' || scan.text[scan.offset] === '\t') {
    scan.offset++;
  }
}

/** Blanks, line ends and comments. */
function skipVoid(scan: Scan): void {
  const { text } = scan;
  while (scan.offset < text.length) {
    const char = text[scan.offset];
    if (char === '#') {
      const end = text.indexOf('\n', scan.offset);
      scan.offset = end < 0 ? text.length : end + 1;
    } else if (char === ' ' || char === '\t' || char === '\n' || char === '\r') {
      scan.offset++;
    } else {
      return;
    }
  }
}

/** The first place counts: a table that is opened again belongs where it begins. */
function record(scan: Scan, path: Path, offset: number): void {
  const key = JSON.stringify(path);
  if (!scan.found.has(key)) {
    scan.found.set(key, offset);
  }
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', end + 1)) {
    starts.push(end + 1);
  }
  return starts;
}

function positionOf(starts: readonly number[], offset: number): Position {
  let line = starts.findIndex((start) => start > offset);
  line = line < 0 ? starts.length : line;
  return { line, column: offset - (starts[line - 1] ?? 0) + 1 };
}
