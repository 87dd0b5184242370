/**
 * The page of the method keeps to the sources: where equations are, whose numbers the presets have, what is deviated.
 */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { loadSchema } from '../src/config/schema.js'

const PAGE = fileURLToPath(new URL('../docs/algorithms/drcorl.md', import.meta.url))
const text = await readFile(PAGE, 'utf8')

/** Rows of the tables under a heading, up to the next of its level or above. */
function rowsUnder(heading: string): string[][] {
  const from = text.indexOf(`\n${heading}\n`)
  if (from < 0) throw new Error(`${PAGE} has no heading "${heading}"`)
  const level = heading.split(' ')[0]!
  const rest = text.slice(from + heading.length + 2)
  const end = rest.search(new RegExp(`^#{1,${level.length}} `, 'm'))
  return rest
    .slice(0, end < 0 ? undefined : end)
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\|[-|]+\|$/.test(line))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
}

test('every function the page names is in the file it names', async (t) => {
  let checked = 0
  for (const [equation = '', what = '', file = '', names = ''] of rowsUnder('## Where each equation is').slice(1)) {
    const linked = [...`${file} ${names}`.matchAll(/\]\(([^)]+\.rs)\)/g)].map(([, path = '']) => path)
    const sources = await Promise.all(linked.map((path) => readFile(join(dirname(PAGE), path), 'utf8')))
    for (const [, name = ''] of names.matchAll(/`(\w+)`/g)) {
      const pattern = new RegExp(`\\b(fn|struct|enum|const) ${name}\\b`)
      t.true(
        sources.some((source) => pattern.test(source)),
        `${equation} ${what}: ${name} is not in ${linked.join(', ')}`,
      )
      checked += 1
    }
  }
  t.true(checked > 20, `${checked} functions were found on the page`)
})

test('the numbers called ours are those of preset paper, and each row says truly whose they are', (t) => {
  const { algorithms, run } = loadSchema()
  const { schema, presets } = algorithms['drcorl']!
  const properties = { ...run.schema.properties, ...schema.properties } as Record<string, { default?: unknown }>
  const { paper } = presets
  const preset: Record<string, unknown> = { ...paper!.run, ...paper!.config }
  const rows = rowsUnder('## Paper, code, ours').slice(1)
  const cell = (value: string): unknown => JSON.parse(value.replaceAll('`', ''))
  const exceptions: string[] = []
  for (const [name = '', stated = '', source = '', , ours = '', verdict = ''] of rows) {
    const parameter = name.replaceAll('`', '')
    t.true(parameter in properties, `${parameter} is no parameter`)
    t.deepEqual(cell(ours), preset[parameter] ?? properties[parameter]?.default ?? null, parameter)
    if (stated === '-') {
      t.regex(verdict, /^(the code's|ours)/, parameter)
      continue
    }
    t.not(source, '', `${parameter}: a number of the paper without its place`)
    const isSame = JSON.stringify(cell(stated)) === JSON.stringify(cell(ours))
    t.regex(verdict, isSame ? /^same/ : /^differs: /, parameter)
    if (verdict !== 'same' && !verdict.startsWith('same, if')) exceptions.push(parameter)
  }
  t.deepEqual(exceptions, ['warmup_lr', 'adaptation_steps', 'episode_length'], 'the README names these')
  t.true(rows.length > 50)
})

test('deviations are numbered without a gap, and each has its reason', (t) => {
  for (const [heading, letter] of [
    ['### From the paper', 'P'],
    ['### From the published code', 'C'],
  ] as const) {
    const rows = rowsUnder(heading).filter(([number = '']) => number !== '')
    t.deepEqual(
      rows.map(([number]) => number),
      rows.map((_, index) => `${letter}${index + 1}`),
    )
    for (const row of rows) t.true(row.length === 4 && row.every((cell) => cell !== ''), row.join(' | '))
  }
  const known = new Set(text.match(/^\| ([PC]\d+) \|/gm)?.map((start) => start.replace(/\W/g, '')))
  for (const [, reference = ''] of text.matchAll(/\b([PC]\d+)\b/g)) t.true(known.has(reference), reference)
})
