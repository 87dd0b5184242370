/** docs/limits.md keeps to the registry and to the formulas. */
import { readFile } from 'node:fs/promises'
import test from 'ava'
import { loadSchema } from '../src/config/schema.js'

const text = await readFile(new URL('../docs/limits.md', import.meta.url), 'utf8')

/** Rows of the table with this first cell in its head. */
function table(head: string): string[][] {
  const [, rows = ''] = text.split(new RegExp(`^\\| ${head} \\|.*\\n\\|[-|]+\\|\\n`, 'm'))
  const end = rows.search(/^(?!\|)/m)
  return rows
    .slice(0, end)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
}

const WORDS: Record<string, RegExp> = {
  terminals: /^terminals$/,
  terminals_and_timeouts: /^terminals and timeouts$/,
  infinite_horizon: /^infinite horizon$/,
  finite_horizon: /^finite horizon$/,
}

test('every algorithm has its row, with what ends its critics and how it converts the limit', (t) => {
  const { algorithms } = loadSchema()
  const named = new Set<string>()
  let checked = 0
  for (const [names = '', ends = '', conversion = ''] of table('algorithm')) {
    for (const [, name = ''] of names.matchAll(/`(\w+)`/g)) {
      named.add(name)
      const properties = algorithms[name]!.schema.properties as Record<string, { default?: unknown }>
      const { done, cost_threshold: threshold, gamma } = properties
      t.is(ends === 'no critics', gamma === undefined, `${name}: critics`)
      for (const [value, cell] of [
        [done?.default, ends],
        [threshold?.default, conversion],
      ] as const) {
        if (value === undefined) continue
        t.regex(cell, WORDS[String(value)]!, name)
        checked += 1
      }
    }
  }
  t.deepEqual([...named].toSorted(), Object.keys(algorithms).toSorted())
  t.true(checked >= 12, `${checked} defaults were compared`)
})

test('the numbers of the page are those of its formulas', (t) => {
  const [limit, gamma] = [10, 0.99]
  const rows = table('L')
  t.is(rows.length, 5)
  for (const [steps = '', infinite, finite, even] of rows) {
    const L = Number(steps)
    const value = limit / ((1 - gamma) * L)
    const near = (cell: string | undefined, truth: number): void => {
      const digits = cell!.split('.')[1]?.length ?? 0
      t.is(Number(cell), Number(truth.toFixed(digits)), `${cell} at L = ${L}`)
    }
    near(infinite, value)
    near(finite, value * (1 - gamma ** L))
    near(even, limit / L)
  }
})
