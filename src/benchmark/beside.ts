/** The paper's own Table 1, laid beside ours and marked as its own. */
import { labelOf } from '../report/compare.js'
import { formatFixed } from '../report/format.js'
import { published } from './published.js'
import type { Score } from './summary.js'
import { markdownTable } from './tables.js'

const HEADER = ['task', 'system', 'our reward', 'our cost', 'our runs', 'PAPER reward', 'PAPER cost']

/** Every pair that either side has a number for, on the tasks we ran. */
export function besideTable(scores: readonly Score[]): { header: string[]; rows: string[][] } {
  const { tasks } = published().table_1
  const used = scores.filter(({ policy }) => policy === 'used')
  const rows = [...new Set(used.map(({ target }) => target))].flatMap((target) => {
    const printed = tasks[target] ?? {}
    const own = new Map(used.filter((one) => one.target === target).map((one) => [one.algorithm, one]))
    return [...new Set([...own.keys(), ...Object.keys(printed)])].map((algorithm) => {
      const [one, paper] = [own.get(algorithm), printed[algorithm]]
      return [
        target,
        labelOf(algorithm),
        formatFixed(one?.reward, 2),
        one === undefined ? '–' : `${formatFixed(one.cost, 2)}${one.safe ? ' safe' : ''}`,
        String(one?.runs ?? '–'),
        formatFixed(paper?.[0], 2),
        paper === undefined ? '–' : `${formatFixed(paper[1], 2)}${paper[1] < 1 ? ' safe' : ''}`,
      ]
    })
  })
  return { header: HEADER, rows }
}

export const besideText = (): string => {
  const { about, limits_about } = published().table_1
  return `PAPER: published in ${published().source}, not measured here: ${about}; ${limits_about}. Ours: this page's runs, on the data named in each run's config.json, which need not be the paper's`
}

export function besideMarkdown(scores: readonly Score[]): string {
  const { header, rows } = besideTable(scores)
  return ['## Beside the published table', `${besideText()}.`, markdownTable(header, rows)].join('\n\n')
}
