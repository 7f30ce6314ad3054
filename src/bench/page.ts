/** One self-contained HTML page of tables, texts and plots. Shared by the benchmark and the demonstration. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { drawPlots, style } from './page-parts.js';

export interface Series {
  label: string;
  /** Ascending. */
  x: number[];
  y: number[];
  /** `dots`: a mark for each point; `marks`: a larger one that stands out; `steps`: bars without gaps. */
  look: 'line' | 'dots' | 'marks' | 'steps';
}

/** How an axis is divided and labelled. `micros`: a time in µs, logarithmic; `nines`: 0 is p0, 1 is p90, 2 is p99. */
export type AxisKind = 'linear' | 'log' | 'micros' | 'nines';

export interface Plot {
  title: string;
  x: { label: string; kind: AxisKind };
  y: { label: string; kind: AxisKind };
  series: Series[];
}

export interface Section {
  heading: string;
  text?: string;
  table?: { head: string[]; rows: string[][] };
  /** Pictures as data, so that the page is one file. */
  pictures?: { title: string; png: Uint8Array }[];
  plots?: Plot[];
}

export interface Page {
  title: string;
  text: string;
  sections: Section[];
}

/** Nothing in the page is fetched from anywhere: it can be mailed, kept and opened without a network. */
export function htmlPage(page: Page): string {
  const { script, css, licence } = plotLibrary();
  const plots = page.sections.flatMap((section) => section.plots ?? []);
  let next = 0;
  const sections = page.sections.map((section) => sectionHtml(section, () => next++));
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(page.title)}</title>
<style>
${css}
${style}
</style>
</head>
<body>
<h1>${escapeHtml(page.title)}</h1>
<p>${escapeHtml(page.text)}</p>
${sections.join('\n')}
<!-- The plots are drawn by uPlot:
${licence.replaceAll('--', '- -')}
-->
<script>
${script}
</script>
<script type="application/json" id="plots">${escapeJson(JSON.stringify(plots, rounded))}</script>
<script>
${drawPlots}
</script>
</body>
</html>
`;
}

function sectionHtml(section: Section, plotNumber: () => number): string {
  const parts = [`<h2>${escapeHtml(section.heading)}</h2>`];
  if (section.text !== undefined) parts.push(`<p>${escapeHtml(section.text)}</p>`);
  if (section.table !== undefined) parts.push(tableHtml(section.table));
  for (const { title, png } of section.pictures ?? []) {
    const data = Buffer.from(png).toString('base64');
    const image = `<img alt="${escapeHtml(title)}" src="data:image/png;base64,${data}">`;
    parts.push(`<figure>${image}<figcaption>${escapeHtml(title)}</figcaption></figure>`);
  }
  for (const _ of section.plots ?? []) parts.push(`<div class="plot" id="plot${plotNumber()}"></div>`);
  return `<section>\n${parts.join('\n')}\n</section>`;
}

function tableHtml({ head, rows }: { head: string[]; rows: string[][] }): string {
  const cells = (tag: string, row: string[]) =>
    row
      .map((cell) => `<${tag}${cell === 'missed' ? ' class="bad"' : ''}>${escapeHtml(cell)}</${tag}>`)
      .join('');
  const body = rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('\n');
  return `<div class="wide"><table><thead><tr>${cells('th', head)}</tr></thead>\n<tbody>\n${body}\n</tbody></table></div>`;
}

export function escapeHtml(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (char) => names[char] ?? char);
}

/** Within a script element no text may look like its end. */
function escapeJson(json: string): string {
  return json.replaceAll('<', '\\u003c');
}

/** A tenth of a microsecond is more than any of the plots shows. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Math.round(value * 1e4) / 1e4 : value;
}

function plotLibrary(): { script: string; css: string; licence: string } {
  const root = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  const read = (path: string) => readFileSync(join(root, path), 'utf8').trim();
  return {
    script: read('dist/uPlot.iife.min.js'),
    css: read('dist/uPlot.min.css'),
    licence: read('LICENSE'),
  };
}
