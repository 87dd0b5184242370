import { join } from 'node:path'
import { DrcorlError } from '../../../base/errors.js'
import { BenchmarkProgress } from '../../../benchmark/progress.js'
import { taskTargets } from '../../../benchmark/targets.js'
import { isInterval } from '../../../train/monitor-file.js'
import { type StudyResult, runStudy } from '../../../study/grid.js'
import { CURVES_LEGEND, GRID_LEGEND, gridTables } from '../../../study/grid-page.js'
import { type Study, STUDIES, STUDY_NAMES, ownStudy } from '../../../study/studies.js'
import { RUN_FLAGS, ending, list, readRuns, whole } from '../../benchmark-options.js'
import {
  type Arguments,
  type Context,
  type Output,
  commandLine,
  optionalNumber,
  optionalString,
} from '../../command.js'
import { table } from '../../table.js'

/** Options of studies that train. */
export const GRID_FLAGS = [...RUN_FLAGS, 'jobs', 'vary', 'eval-every', 'eval-episodes']

/** Evaluation episodes of a policy, and episodes of a point of a curve, unless asked otherwise. */
export const EPISODES = 20
const WATCHED = 5

export async function studyGridCommand(args: Arguments, { stderr, signal }: Context): Promise<Output> {
  const vary = args['vary'] as string[] | undefined
  const study = findStudy(optionalString(args, 'name'), vary)
  const tasks = list(args, 'tasks')
  if (tasks === undefined) {
    throw new DrcorlError('Usage', `study ${study.name} needs --tasks`, {
      hint: `for example: drcorl study ${study.name} --tasks point-circle`,
    })
  }
  const progress = new BenchmarkProgress(stderr)
  try {
    const result = await runStudy({
      study,
      vary,
      targets: await taskTargets(tasks),
      ...readRuns(args, EPISODES),
      eval_every: every(args),
      eval_episodes: whole(args, 'eval-episodes', WATCHED),
      out: optionalString(args, 'out') ?? join('runs', `study-${study.name}`),
      signal,
      report: (event) => progress.show(event),
      command: commandLine(
        vary !== undefined && study.name === 'own' ? 'study' : `study ${study.name}`,
        args,
        GRID_FLAGS,
      ),
    })
    return output(result, signal.aborted)
  } finally {
    progress.close()
  }
}

function findStudy(name: string | undefined, vary: readonly string[] | undefined): Study {
  const found = STUDIES.find((study) => study.name === name)
  if (found !== undefined) return found
  if (name === undefined && vary !== undefined) return ownStudy(vary)
  const message = name === undefined ? 'study needs a name' : `there is no study "${name}"`
  throw new DrcorlError('Usage', `${message}; there are ${STUDY_NAMES.join(', ')}`, {
    hint: 'one of your own: drcorl study --vary NAME=a,b',
  })
}

/** 0 for none. */
function every(args: Arguments): number | undefined {
  const value = optionalNumber(args, 'eval-every')
  if (value === undefined || value === 0 || isInterval(value)) return value
  throw new DrcorlError(
    'Usage',
    `--eval-every ${value} must be a whole number of updates, a share below 1, or 0 for none`,
  )
}

function output(result: StudyResult, interrupted: boolean): Output {
  const { study, cells, points, curves, files } = result
  const { done, failures, lines, error, status } = ending(result, interrupted)
  const json = { study, cells, done, failures, points, curves, files, ...(error === undefined ? {} : { error }) }
  const tables = gridTables(result).map(({ target, header, rows }) => `${target}\n${table(header, rows)}`)
  const notes = tables.length === 0 ? [] : [GRID_LEGEND, ...(curves.length === 0 ? [] : [CURVES_LEGEND])]
  const written = files === null ? [] : [files.map((path) => `written   ${path}`).join('\n')]
  return { json, text: [...tables, ...notes, ...written, ...lines].join('\n\n'), status }
}
