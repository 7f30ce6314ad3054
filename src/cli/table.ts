/** Tables and small texts that the commands share. Pure: text comes out, nothing is printed. */
import Table from 'cli-table3';

export interface Style {
  /** Colours are for terminals only. */
  color: boolean;
}

/** Columns two blanks apart, without frame; a line each row, the head first. */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  style: Style,
): string {
  const none = [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
  ];
  const lines = ['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'];
  const chars = Object.fromEntries([...none, ...lines].map((name) => [name, '']));
  const table = new Table({
    head: head.map((name) => bold(name, style)),
    chars: { ...chars, middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [], compact: true },
  });
  table.push(...rows.map((row) => row.map(plain)));
  const text = table.toString();
  return `${text
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')}\n`;
}

/**
 * `text` without control characters.
 *
 * Names of monitors and reasons of guests come from outside, and must not move the reader's cursor.
 */
export function plain(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}

export function bold(text: string, style: Style): string {
  return style.color ? `\x1b[1m${text}\x1b[22m` : text;
}

/** `1920x1080@59.94`, as the configuration reads it. */
export function formatMode(mode: { width: number; height: number; refreshMhz: number }): string {
  return `${mode.width}x${mode.height}@${mode.refreshMhz / 1000}`;
}

/** `640x480+10+20`, as `parseArea` reads it. */
export function formatArea(area: { x: number; y: number; width: number; height: number }): string {
  return `${area.width}x${area.height}+${area.x}+${area.y}`;
}

/** The area of `WIDTHxHEIGHT+X+Y` or `WIDTHxHEIGHT`, in pixels; null for any other text. */
export function parseArea(text: string): { x: number; y: number; width: number; height: number } | null {
  const match = /^([1-9][0-9]{0,4})x([1-9][0-9]{0,4})(?:\+([0-9]{1,5})\+([0-9]{1,5}))?$/.exec(text);
  if (match === null) {
    return null;
  }
  const [width, height, x, y] = match.slice(1).map((part) => Number(part ?? 0));
  return { x: x ?? 0, y: y ?? 0, width: width ?? 0, height: height ?? 0 };
}

/** Microseconds as `85 us`, `1.2 ms` or `2.5 s`. */
export function formatMicros(microseconds: number): string {
  if (microseconds < 1000) {
    return `${Math.round(microseconds)} us`;
  }
  if (microseconds < 1_000_000) {
    return `${(microseconds / 1000).toFixed(1)} ms`;
  }
  return `${(microseconds / 1_000_000).toFixed(1)} s`;
}

/** Milliseconds as the two largest units that say something: `3 d 4 h`, `12 min 5 s`, `0 s`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) {
    return '0 s';
  }
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}

/** `0 guests`, `1 guest`, `2 guests`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
