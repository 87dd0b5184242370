import { DrcorlError } from '../../../base/errors.js'
import { writeAtomic } from '../../../base/files.js'
import { datasetFindings, describeFinding } from '../../../data/checks.js'
import { type Dataset, loadDataset } from '../../../data/dataset.js'
import { datasetEpisodes } from '../../../data/episodes.js'
import { recogniseTask } from '../../../data/tasks.js'
import { type ScatterPoint, scatterFile } from '../../../report/scatter.js'
import { terminalScatter } from '../../../report/terminal-scatter.js'
import { optionalNumber, optionalString } from '../../command.js'
import { facts, table } from '../../table.js'
import { MAX_MEMORY_HELP, optionalBytes } from '../../units.js'
import type { DataAction } from '../data.js'

export const infoAction: DataAction = {
  usage: 'info FILE [--svg FILE.svg] [--cost-limit 10] [--strict]',
  words: ['[FILE]'],
  describe: 'Check a dataset and show what is in it; FILE may be env:NAME, and --task NAME stands for one',
  options: {
    task: { requiresArg: true, describe: 'DSRL task of the data (default: what the file name tells)' },
    svg: { requiresArg: true, describe: 'info: write return against cost of all episodes to this file' },
    strict: { boolean: true, describe: 'Warnings of the data checks are errors: exit status 2' },
    'max-memory': { requiresArg: true, describe: MAX_MEMORY_HELP },
    'cost-limit': { requiresArg: true, describe: 'Episodic cost up to which an episode is safe' },
  },

  async run(args) {
    const source = sourceOf(optionalString(args, 'source'), optionalString(args, 'task'))
    const dataset = await loadDataset(source, { maxMemory: optionalBytes(args, 'max-memory'), costs: [] })
    const findings = datasetFindings(dataset)
    const refused = findings.some(({ severity }) => args['strict'] === true || severity === 'error')
    const limit = optionalNumber(args, 'cost-limit')
    const { summary, sha256, task } = dataset
    const episodes = datasetEpisodes(dataset.native)
    const svg = optionalString(args, 'svg')
    if (svg !== undefined) await writeAtomic(svg, scatterFile(episodes, limit ?? null, dataset.stem))
    const written = svg === undefined ? {} : { svg }
    const found = findings.map(describeFinding)
    return {
      json: { ...summary, sha256, task, ...written, findings },
      text: [describe(dataset, episodes, limit, svg), ...(found.length > 0 ? [found.join('\n')] : [])].join('\n\n'),
      status: refused ? 2 : 0,
    }
  },
}

function sourceOf(source: string | undefined, task: string | undefined): string {
  if (source !== undefined && task !== undefined) {
    throw new DrcorlError('Usage', `both ${source} and --task ${task} name a dataset`)
  }
  if (source === undefined && task === undefined) {
    throw new DrcorlError('Usage', 'no dataset is given', { hint: 'name one: data info FILE, or --task NAME' })
  }
  return source ?? `task:${task}`
}

function describe(
  { summary, sha256, task, source }: Dataset,
  episodes: readonly ScatterPoint[],
  limit: number | undefined,
  svg: string | undefined,
): string {
  const { min, median, max } = summary.episode_length
  const length = min === max ? `${min}` : `${min} to ${max}, median ${median}`
  const parts: [string, string | number][] = [
    ['source', summary.source],
    ['sha256', sha256],
    ['task', describeTask(source, task)],
    ['transitions', summary.transitions],
    ['episodes', `${summary.episodes}, length ${length}`],
    ['ends', `${summary.terminals} terminals, ${summary.timeouts} timeouts`],
    ['observations', summary.obs_dim],
    ['actions', `${summary.act_dim}, from [${rounded(summary.action_min)}] to [${rounded(summary.action_max)}]`],
    ['correlation', `${summary.return_cost_correlation?.toFixed(2) ?? 'undefined'} (return and cost of an episode)`],
  ]
  const further = summary.further ?? []
  const deciles = table(
    ['decile', 'return', 'cost', ...further.map(({ name }) => name)],
    summary.return_deciles.map((value, index) => [
      index * 10,
      round(value),
      round(summary.cost_deciles[index] ?? 0),
      ...further.map((column) => round(column.deciles[index] ?? null)),
    ]),
  )
  if (further.length > 0) parts.push(['further costs', further.map(({ name }) => name).join(', ')])
  const best = table(
    ['cost limit', 'episodes within', 'best return'],
    summary.best_returns.map((row) => [row.cost_limit, row.episodes, round(row.best_return)]),
  )
  if (svg !== undefined) parts.push(['drawing', svg])
  return [facts(parts), deciles, best, terminalScatter(episodes, limit)].join('\n\n')
}

/** A name tells the task; that the data are DSRL's it does not tell, if its numbers are others. */
function describeTask(source: string, task: Dataset['task']): string {
  if (task === null) return 'not recognised by its name'
  const official = recogniseTask(source)?.dataset_file
  const other = official !== undefined && !source.endsWith(official) ? `, not DSRL's own file ${official}` : ''
  return `${task.task} (episodes of ${task.episode_length} steps)${other}`
}

function round(value: number | null): number | string {
  return value === null ? 'none' : Number(value.toFixed(2))
}

function rounded(values: readonly number[]): string {
  return values.map(round).join(', ')
}
