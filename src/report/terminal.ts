import { styleText } from 'node:util'
import { printable } from '../base/text.js'
import { COMPARISON_HEADER, type ComparisonRow } from './compare.js'

type Style = Parameters<typeof styleText>[0]

/** A table cell with an optional style; width is counted on the plain text. */
export interface Cell {
  text: string
  style?: Style
}

/**
 * A table for terminals: first column to the left, the others to the right, a rule under the header.
 *
 * @param stream where it will be printed: colours are left out where that is no terminal or NO_COLOR is set.
 */
export function terminalTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  stream: NodeJS.WriteStream = process.stdout,
): string {
  const safe = rows.map((row) => row.map((cell): Cell => ({ ...cell, text: printable(cell.text) })))
  const lines = [header.map((text): Cell => ({ text, style: 'bold' })), ...safe]
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]?.text.length ?? 0)))
  const show = (line: readonly Cell[]): string =>
    widths
      .map((width, column) => {
        const { text = '', style } = line[column] ?? {}
        const shown = style === undefined ? text : styleText(style, text, { stream })
        const space = ' '.repeat(width - text.length)
        return column === 0 ? shown + space : space + shown
      })
      .join('  ')
      .trimEnd()
  const rule = widths.map((width) => '─'.repeat(width)).join('──')
  const [head, ...body] = lines
  return [show(head!), rule, ...body.map(show)].join('\n')
}

/** The comparison of runs; costs over the limit and refusals stand out, and say so in words as well. */
export function comparisonTable(rows: readonly ComparisonRow[], stream?: NodeJS.WriteStream): string {
  const tone = (good: boolean | null): Pick<Cell, 'style'> => (good === null ? {} : { style: good ? 'green' : 'red' })
  const cells = rows.map((row): Cell[] => [
    { text: row.algorithm },
    { text: row.return },
    { text: row.cost, ...tone(row.safe) },
    { text: row.normalized_reward },
    { text: row.normalized_cost },
    { text: row.within_limit },
    { text: row.training_environment_steps },
    { text: row.verdict, ...tone(row.verdict === 'certified' ? true : row.verdict === 'not certified' ? false : null) },
  ])
  return terminalTable(COMPARISON_HEADER, cells, stream)
}
