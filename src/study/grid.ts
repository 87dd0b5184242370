/** A study that is a grid of runs: trained and played as a benchmark's, then drawn. */
import { join } from 'node:path'
import { type PlanResult, type RunBenchmarkOptions, runPlan } from '../benchmark/benchmark.js'
import { DrcorlError } from '../base/errors.js'
import { writeAtomic } from '../base/files.js'
import { LIMIT, algorithmsWith, limitsOf, readAxes, variantsOf } from './axes.js'
import { type GridResult, gridOf } from './grid-numbers.js'
import { curvesCsv, gridCsv, gridMarkdown, gridPage, gridPictures } from './grid-page.js'
import type { Study } from './studies.js'

export interface GridOptions extends Omit<RunBenchmarkOptions, 'variants' | 'watch'> {
  study: Study
  /** Replaces what the study varies. */
  vary?: readonly string[] | undefined
  /** Default the study's own; 0 for none. */
  eval_every?: number | undefined
  /** Of each point of a curve. */
  eval_episodes: number
}

export interface StudyResult extends GridResult, Pick<PlanResult, 'outcomes'> {
  study: string
  cells: number
  /** Absent where no run was finished. */
  files: string[] | null
}

/**
 * Trains what is missing and draws all that is done.
 *
 * @throws DrcorlError `Usage` for axes, algorithms or targets that cannot be, before anything is trained.
 */
export async function runStudy(options: GridOptions): Promise<StudyResult> {
  const { study, out, command } = options
  const axes = readAxes(options.vary ?? study.vary)
  const limits = limitsOf(axes)
  if (limits !== undefined && options.cost_limits !== undefined && options.vary !== undefined) {
    throw new DrcorlError('Usage', `--cost-limits and --vary ${LIMIT} are both given; give one of them`)
  }
  const every = options.eval_every ?? study.eval_every ?? 0
  const { cells, outcomes, finished } = await runPlan({
    ...options,
    algorithms: options.algorithms ?? study.algorithms ?? algorithmsWith(axes),
    cost_limits: options.cost_limits ?? limits,
    variants: variantsOf(axes),
    watch: every === 0 ? undefined : { every, episodes: options.eval_episodes },
  })
  const grid = gridOf(finished, axes)
  const ended = { study: study.name, cells: cells.length, outcomes, ...grid }
  if (finished.length === 0) return { ...ended, files: null }
  const pictures = gridPictures(grid)
  const write = async (name: string, content: string): Promise<string> => {
    const path = join(out, name)
    await writeAtomic(path, content)
    return path
  }
  const head = { study, command, pictures: pictures.map(({ name, title }) => ({ name, title })) }
  const files = [
    await write('study.csv', gridCsv(grid)),
    ...(grid.curves.length === 0 ? [] : [await write('curves.csv', curvesCsv(grid))]),
    await write('study.md', gridMarkdown(grid, head)),
    await write('study.html', gridPage(grid, head, finished, join(out, 'study.html'))),
  ]
  for (const { name, content } of pictures) files.push(await write(name, content))
  return { ...ended, files }
}
