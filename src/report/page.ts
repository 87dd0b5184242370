import { dirname, join, relative, sep } from 'node:path'
import { RUN_FILES } from '../train/run-folder.js'
import { type Frame, escape, svg } from './svg.js'

/**
 * Colours of the series are Okabe and Ito's, told apart by readers with any colour vision; in the dark they are
 * lightened. Everything is in this file: the page asks the network for nothing and runs no script.
 */
export const CSS = `
:root {
  color-scheme: light dark;
  --bg: #fbfbfa; --surface: #ffffff; --ink: #1c1e21; --muted: #5f666d; --hair: #e3e5e8; --rule: #b9bec4;
  --ok: #00704f; --ok-bg: #e6f4ee; --bad: #a63c06; --bad-bg: #fdeee4; --zone: #0072b212; --band: #1c1e2109;
  --s0: #0067a5; --s1: #c2500a; --s2: #00805e; --s3: #a5478a; --s4: #7d848b; --data: #9aa1a8; --data-safe: #5d7f94;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #15171a; --surface: #1c1f23; --ink: #e7e9ec; --muted: #a0a7af; --hair: #2c3036; --rule: #4d545c;
    --ok: #5fd0a5; --ok-bg: #14312a; --bad: #f5a470; --bad-bg: #3a2315; --zone: #56b4e916; --band: #ffffff0a;
    --s0: #62b5ea; --s1: #f0965a; --s2: #4cc9a0; --s3: #dd9cc6; --s4: #8b929a; --data: #6a727b; --data-safe: #7fa6bd;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--bg); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
}
main { max-width: 1060px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; font-weight: 650; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 44px 0 12px; font-weight: 650; }
h3 { font-size: 14px; margin: 22px 0 8px; font-weight: 600; color: var(--muted); }
p { margin: 6px 0 12px; max-width: 78ch; }
.sub, .note { color: var(--muted); }
.note { font-size: 13.5px; }
a { color: var(--s0); }
code { font: 0.92em ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; overflow-wrap: anywhere; }
.card { background: var(--surface); border: 1px solid var(--hair); border-radius: 10px; padding: 18px 20px; }
.card + .card { margin-top: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 24px 0 0; padding: 0; }
.tile { background: var(--surface); border: 1px solid var(--hair); border-radius: 10px; padding: 13px 16px; }
.tile dt { font-size: 13px; color: var(--muted); }
.tile dd { margin: 2px 0 0; }
.tile .value { font-size: 23px; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile .more { display: block; font-size: 13px; color: var(--muted); }
.ok { color: var(--ok); } .bad { color: var(--bad); }
.verdict { border-radius: 10px; padding: 14px 18px; margin: 0 0 16px; border: 1px solid; }
.verdict.ok { background: var(--ok-bg); border-color: var(--ok); } .verdict.bad { background: var(--bad-bg); border-color: var(--bad); }
.numbers tr.deciding th, .numbers tr.deciding td { font-weight: 600; }
.verdict strong { font-size: 17px; } .verdict .note { margin: 6px 0 0; } .verdict ul { margin: 6px 0 0; padding-left: 20px; color: var(--ink); }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--hair); vertical-align: top; }
thead th { color: var(--muted); font-weight: 500; font-size: 13px; white-space: nowrap; border-bottom-color: var(--rule); }
tbody th { font-weight: 500; } tbody tr:last-child > * { border-bottom: 0; }
.numbers td, .numbers thead th:not(:first-child) { text-align: right; }
.numbers td, .numbers th { white-space: nowrap; } .numbers th:last-child, .numbers td:last-child { padding-right: 0; }
.scroll { overflow-x: auto; }
.within { color: var(--ok); } .over { color: var(--bad); font-weight: 600; }
.changed th::after { content: " •"; color: var(--s0); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 0 36px; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 14px; }
figure { margin: 0; } .scroll + figure { margin-top: 16px; } figcaption { font-size: 13px; color: var(--muted); margin: 0 0 4px; }
.panels figure { background: var(--surface); border: 1px solid var(--hair); border-radius: 8px; padding: 10px 12px 6px; }
details { margin: 14px 0 0; } summary { cursor: pointer; color: var(--muted); font-size: 14px; padding: 4px 0; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
svg text { fill: var(--ink); } svg .tick, svg .axis-name, svg .phase-name { fill: var(--muted); }
.panels svg { font-size: 11.5px; }
.grid { stroke: var(--hair); } .axis { stroke: var(--rule); }
.phase.even { fill: transparent; } .phase.odd { fill: var(--band); }
.curve { fill: none; stroke: var(--s0); stroke-width: 1.7; stroke-linejoin: round; }
.curve.s1 { stroke: var(--s1); } .curve.s2 { stroke: var(--s2); } .curve.s3 { stroke: var(--s3); } .curve.s4 { stroke: var(--s4); }
.curve.d1 { stroke-dasharray: 7 3; } .curve.d2 { stroke-dasharray: 2 3; } .mark.hollow { fill: none; stroke: var(--muted); stroke-width: 1.6; }
.area { stroke: none; opacity: 0.13; } .area.s0 { fill: var(--s0); } .area.s1 { fill: var(--s1); } .area.s2 { fill: var(--s2); } .area.s3 { fill: var(--s3); } .area.s4 { fill: var(--s4); }
.limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 4; } svg .limit-name { fill: var(--bad); font-weight: 600; }
.safe-zone { fill: var(--zone); }
.data { fill: none; stroke: var(--data); stroke-width: 4.5; stroke-linecap: round; opacity: 0.55; } .data.safe { stroke: var(--data-safe); opacity: 0.9; }
.mark { fill-opacity: 0.55; stroke: var(--surface); stroke-width: 0.7; } .mark.mean { fill-opacity: 1; stroke-width: 1.5; }
.mark.s0 { fill: var(--s0); } .mark.s1 { fill: var(--s1); } .mark.s2 { fill: var(--s2); } .mark.s3 { fill: var(--s3); } .mark.s4 { fill: var(--s4); }
.spread { stroke-width: 2; } .spread.s0 { stroke: var(--s0); } .spread.s1 { stroke: var(--s1); } .spread.s2 { stroke: var(--s2); } .spread.s3 { stroke: var(--s3); } .spread.s4 { stroke: var(--s4); }
.legend { list-style: none; margin: 8px 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 22px; font-size: 13px; color: var(--muted); }
.legend li { display: flex; align-items: center; gap: 6px; } .legend svg { width: 16px; height: 16px; flex: none; }
.bar { display: flex; height: 12px; border-radius: 6px; overflow: hidden; background: var(--hair); margin: 4px 0 6px; }
.bar > span { border-right: 2px solid var(--surface); } .bar > span:last-child { border: 0; }
.bar .s0 { background: var(--s0); } .bar .s1 { background: var(--s1); } .bar .s2 { background: var(--s2); } .bar .s3 { background: var(--s3); } .bar .s4 { background: var(--s4); }
footer { margin-top: 48px; padding-top: 14px; border-top: 1px solid var(--hair); color: var(--muted); font-size: 13px; }
@media (max-width: 700px) { main { padding: 24px 14px 48px; } .card { overflow-x: auto; padding: 12px; } .card > svg { min-width: 680px; } }
@media print { main { max-width: none; padding: 0; } .card, .tile, figure { break-inside: avoid; } }
`

/** A drawing as an SVG file of its own, which has no page behind it. */
export function svgFile(
  { width, height }: Pick<Frame, 'width' | 'height'>,
  label: string,
  body: readonly string[],
): string {
  const background = '<rect width="100%" height="100%" style="fill: var(--bg)"/>'
  const drawing = svg({ width, height }, label, [`<style>${CSS}</style>`, background, ...body])
  return `${drawing.replace('<svg ', `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" `)}\n`
}

/** A whole page. `body` is HTML already; title and everything inside must have been escaped by its maker. */
export function page(title: string, body: readonly string[]): string {
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escape(title)}</title>`,
    `<style>${CSS}</style>`,
    '</head>',
    '<body>',
    '<main>',
    ...body.filter((part) => part !== ''),
    '</main>',
    '</body>',
    '</html>',
    '',
  ].join('\n')
}

/** A titled part of the page; empty when there is nothing to show. */
export function section(title: string, ...content: readonly string[]): string {
  const inner = content.filter((part) => part !== '').join('\n')
  return inner === '' ? '' : `<section>\n<h2>${escape(title)}</h2>\n${inner}\n</section>`
}

/** A link from the page at `from` to the report of the run in `folder`. */
export function linkToReport(folder: string, from: string): string {
  const path = relative(dirname(from), join(folder, RUN_FILES.report)).split(sep)
  // Part by part: a folder called `javascript:x` is no scheme then, and one called `a#b` is found.
  return `<a href="${escape(path.map(encodeURIComponent).join('/'))}">open</a>`
}

/** A headline number. `tone` colours it; the words carry the meaning. */
export interface Tile {
  name: string
  value: string
  more?: string
  tone?: 'ok' | 'bad'
}

export function tiles(entries: readonly Tile[]): string {
  const items = entries.map(({ name, value, more, tone }) => {
    const extra = more === undefined ? '' : `<span class="more">${escape(more)}</span>`
    return `<div class="tile"><dt>${escape(name)}</dt><dd><span class="value${tone ? ` ${tone}` : ''}">${escape(value)}</span>${extra}</dd></div>`
  })
  return `<dl class="tiles">${items.join('')}</dl>`
}

/** A table of text cells with a header row; cells are escaped here. */
export function htmlTable(header: readonly string[], rows: readonly (readonly string[])[], css = ''): string {
  if (rows.length === 0) return ''
  const head = header.map((name) => `<th scope="col">${escape(name)}</th>`).join('')
  const body = rows
    .map(([first = '', ...rest]) => {
      const cells = rest.map((cell) => `<td>${escape(cell)}</td>`).join('')
      return `<tr><th scope="row">${escape(first)}</th>${cells}</tr>`
    })
    .join('\n')
  return `<div class="scroll"><table class="${css}"><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`
}

/** Names and values, one a line. `changed` marks names that are no defaults. */
export function factTable(rows: readonly (readonly [string, string])[], changed?: ReadonlySet<string>): string {
  if (rows.length === 0) return ''
  const body = rows.map(([name, value]) => {
    const css = changed?.has(name) ? ' class="changed"' : ''
    return `<tr${css}><th scope="row">${escape(name)}</th><td><code>${escape(value)}</code></td></tr>`
  })
  return `<table><tbody>${body.join('\n')}</tbody></table>`
}
