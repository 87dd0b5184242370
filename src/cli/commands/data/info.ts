import { type Dataset, loadDataset } from '../../data/dataset.js'
import type { Command } from '../command.js'
import { facts, table } from '../table.js'

export const dataCommand: Command = {
  command: 'data <action> <source>',
  describe: 'Check a dataset and show what is in it: drcorl data info FILE',
  builder: (yargs) =>
    yargs
      .usage('$0 data info FILE')
      .positional('action', { choices: ['info'], describe: 'What to do' })
      .positional('source', { type: 'string', describe: 'HDF5 file in DSRL format, or env:NAME' }),

  async run(args) {
    const dataset = await loadDataset(String(args['source']))
    const { summary, sha256, task } = dataset
    return { json: { ...summary, sha256, task }, text: describe(dataset) }
  },
}

function describe({ summary, sha256, task }: Dataset): string {
  const { min, median, max } = summary.episode_length
  const length = min === max ? `${min}` : `${min} to ${max}, median ${median}`
  const parts: [string, string | number][] = [
    ['source', summary.source],
    ['sha256', sha256],
    ['task', task === null ? 'not recognised by its name' : `${task.task} (episodes of ${task.episode_length} steps)`],
    ['transitions', summary.transitions],
    ['episodes', `${summary.episodes}, length ${length}`],
    ['ends', `${summary.terminals} terminals, ${summary.timeouts} timeouts`],
    ['observations', summary.obs_dim],
    ['actions', `${summary.act_dim}, from [${rounded(summary.action_min)}] to [${rounded(summary.action_max)}]`],
    ['correlation', `${summary.return_cost_correlation?.toFixed(2) ?? 'undefined'} (return and cost of an episode)`],
  ]
  if (summary.incomplete_episodes > 0) parts.push(['cut off', 'the last episode carries no end flag'])
  const deciles = table(
    ['decile', 'return', 'cost'],
    summary.return_deciles.map((value, index) => [index * 10, round(value), round(summary.cost_deciles[index] ?? 0)]),
  )
  const best = table(
    ['cost limit', 'episodes within', 'best return'],
    summary.best_returns.map((row) => [row.cost_limit, row.episodes, round(row.best_return)]),
  )
  return [facts(parts), deciles, best].join('\n\n')
}

function round(value: number | null): number | string {
  return value === null ? 'none' : Number(value.toFixed(2))
}

function rounded(values: readonly number[]): string {
  return values.map(round).join(', ')
}
