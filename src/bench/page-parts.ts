/** What of a page runs in the browser: its style, and the script that draws the plots with uPlot. */

export const style = `
:root { --ink: #1c2430; --dim: #5c6675; --line: #d8dde4; --ground: #ffffff; --bad: #b3261e; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ef; --dim: #98a2b1; --line: #2e3744; --ground: #12161c; --bad: #ff8a80; }
}
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink); background: var(--ground);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p { color: var(--dim); max-width: 60rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.25rem 1rem 0.25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--dim); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
figure { display: inline-block; margin: 0 1rem 1rem 0; } figure img { max-width: 32rem; width: 100%; display: block;
  border: 1px solid var(--line); }
figcaption { color: var(--dim); }
.plot { margin: 1rem 0 2rem; }
.u-title { font-size: 1rem; font-weight: 600; } .u-legend { color: var(--ink); } .u-legend .u-marker { border-radius: 2px; }
`;

/** Reads the JSON of element "plots" and fills the elements plot0, plot1 and so on. */
export const drawPlots = `
'use strict';
(() => {
  const colours = ['#2f7ed8', '#e07b1f', '#2a9d63', '#a04ccf', '#c9a227', '#17a2b8', '#8d6e63', '#d8437e'];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => String(Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3)));
  const nines = (value) => 'p' + Number((100 * (1 - 10 ** -value)).toFixed(Math.max(0, Math.ceil(value) - 1)));
  const mantissa = (value) => Math.round(value / 10 ** Math.floor(Math.log10(value) + 1e-9));
  const labelled = (value) => value > 0 && [1, 2, 5].includes(mantissa(value));
  const micros = (value) => (value >= 1e6 ? short(value / 1e6) + ' s' : value >= 1e3 ? short(value / 1e3) + ' ms' : short(value) + ' µs');
  const format = { linear: short, log: short, micros, nines };
  const isLog = (kind) => kind === 'log' || kind === 'micros';
  const axis = ({ label, kind }, size) => ({
    label,
    labelSize: 24,
    size,
    stroke: css('--dim'),
    grid: { stroke: css('--line'), width: 1 },
    ticks: { stroke: css('--line'), width: 1 },
    ...(kind === 'nines' ? { incrs: [1], values: (_, ticks) => ticks.map(nines) } : {}),
    ...(kind === 'linear' ? { values: (_, ticks) => ticks.map(short) } : {}),
    ...(isLog(kind) ? { values: (_, ticks) => ticks.map((tick) => (labelled(tick) ? format[kind](tick) : '')) } : {}),
  });
  const scale = (kind) => (isLog(kind) ? { distr: 3, log: 10, time: false } : { time: false });
  const looks = {
    line: (colour, count) => ({
      stroke: colour, width: 2, spanGaps: true, points: { show: count < 20, size: 6, fill: colour },
    }),
    dots: (colour) => ({ stroke: colour, paths: () => null, points: { show: true, size: 5, fill: colour, width: 0 } }),
    marks: () => ({
      stroke: css('--bad'), paths: () => null, points: { show: true, size: 11, stroke: css('--bad'), width: 2 },
    }),
    steps: (colour) => ({
      stroke: colour, fill: colour + '30', width: 1.5, points: { show: false }, spanGaps: true,
      paths: uPlot.paths.stepped({ align: 1 }),
    }),
  };
  const draw = (plot, element) => {
    const data = uPlot.join(plot.series.map(({ x, y }) => [x, y]));
    const options = {
      title: plot.title,
      width: element.clientWidth || 900,
      height: 360,
      padding: [12, 28, 0, 0],
      scales: { x: scale(plot.x.kind), y: scale(plot.y.kind) },
      axes: [axis(plot.x, 36), axis(plot.y, 64)],
      series: [
        { label: plot.x.label, value: (_, value) => (value == null ? '' : format[plot.x.kind](value)) },
        ...plot.series.map(({ label, look, x }, i) => ({
          label,
          value: (_, value) => (value == null ? '' : format[plot.y.kind](value)),
          ...looks[look](colours[i % colours.length], x.length),
        })),
      ],
    };
    const chart = new uPlot(options, data, element);
    addEventListener('resize', () => chart.setSize({ width: element.clientWidth, height: 360 }));
  };
  const plots = JSON.parse(document.getElementById('plots').textContent);
  plots.forEach((plot, i) => draw(plot, document.getElementById('plot' + i)));
})();
`;
