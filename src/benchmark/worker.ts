/**
 * A process that trains and judges one cell of a benchmark after the other. Each message from the parent is a cell or a
 * stop; each answer says how far the cell is, that it is done, or why it failed.
 */
import { join, resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { toDrcorlError } from '../base/errors.js'
import { exists } from '../base/files.js'
import { resolveConfig } from '../config/load.js'
import { readWhole } from '../config/stored.js'
import { taskOf } from '../data/dataset.js'
import { evaluate } from '../evaluate/evaluate.js'
import { type Compared, requireAgreement } from '../train/agreement.js'
import { train } from '../train/experiment.js'
import { type MonitorRecord, readMonitor } from '../train/monitor-file.js'
import { RUN_FILES, type RunRecord, holdsRun, readRecord } from '../train/run-folder.js'
import type { Cell } from './plan.js'

/** How policies are judged in the environment. */
export interface Judging {
  episodes: number
  seed: number
}

/** A cell comes with the folder of the run whose pretraining it takes over, if it does. */
export type Request = { type: 'cell'; cell: Cell; reuse: string | null; judging: Judging } | { type: 'stop' }

export type Answer =
  | { type: 'progress'; phase: string; share: number; eta_seconds: number | null }
  | { type: 'pretrained' }
  | { type: 'done'; trained: boolean; evaluated: boolean }
  | { type: 'stopped' }
  | { type: 'failed'; code: string; message: string; status: number }

const controller = new AbortController()

function answer(message: Answer): void {
  process.send?.(message)
}

/** Does what is missing in the cell's folder; what is there and agrees with the cell is kept. */
async function work(cell: Cell, reuse: string | null, judging: Judging): Promise<Answer> {
  const trained = await trainCell(cell, reuse)
  if (controller.signal.aborted) return { type: 'stopped' }
  const evaluated = cell.target.env !== null && (await evaluateCell(cell, cell.target.env, judging))
  return { type: 'done', trained, evaluated }
}

async function trainCell(cell: Cell, reuse: string | null): Promise<boolean> {
  const { algorithm, preset, config, folder, shared, target, watch } = cell
  const resume = await holdsRun(folder)
  if (resume) requireSame(cell, await readRecord(folder), await readMonitor(folder))
  if (resume && (await exists(join(folder, RUN_FILES.result)))) return false
  // The folder's own record says the rest of a run that goes on.
  const parameters = resume ? {} : { algorithm, preset, config, reuse: reuse ?? undefined }
  const watched =
    watch === null
      ? {}
      : {
          evalEvery: watch.every,
          evalEpisodes: watch.episodes,
          ...(target.env === null ? {} : { environment: target.env }),
        }
  const where = { dataset: target.dataset, out: folder, auditModels: shared }
  const options = { ...where, resume, signal: controller.signal, ...parameters, ...watched }
  for await (const event of train(options)) {
    if (event.type === 'pretraining') answer({ type: 'pretrained' })
    if (event.type !== 'progress') continue
    const { phase, step, steps, eta_seconds } = event
    answer({ type: 'progress', phase, share: step / steps, eta_seconds })
  }
  return true
}

/**
 * A folder whose run had other parameters belongs to another benchmark: its numbers must not enter this one's table.
 */
function requireSame(
  { algorithm, preset, config, folder, target, watch }: Cell,
  record: RunRecord,
  monitor: MonitorRecord | null,
): void {
  const wanted = resolveConfig({ algorithm, preset, flags: config, task: taskOf(target.dataset) })
  const asked: Record<string, unknown> = { ...wanted.run, ...wanted.config }
  const stored: Record<string, unknown> = { ...record.run, ...record.config }
  const file = record.dataset.kind === 'file'
  const dataset: Compared = ['dataset', resolve(target.dataset), record.dataset.source]
  const parameters: Compared[] = [
    ['algorithm', algorithm, record.algorithm],
    ...(file ? [dataset] : []),
    ...(watch === null ? [] : [['eval_every', watch.every, monitor?.every ?? null] satisfies Compared]),
    ...(watch === null ? [] : [['eval_episodes', watch.episodes, monitor?.episodes ?? null] satisfies Compared]),
    ...Object.keys({ ...asked, ...stored })
      // Left to the run, which took it from its task.
      .filter((key) => asked[key] !== null || !record.origins[key]?.startsWith('task '))
      .map((key): Compared => [key, asked[key], stored[key]]),
  ]
  requireAgreement(parameters, folder, 'name another folder with --out')
}

async function evaluateCell(cell: Cell, env: string, { episodes, seed }: Judging): Promise<boolean> {
  const path = join(cell.folder, RUN_FILES.evaluation)
  if (await exists(path)) {
    const { episodes: played, seed: first, env: where, by_limit } = await readWhole('Evaluation', path)
    const kept = by_limit?.map((one) => one.cost_limit)
    if (isDeepStrictEqual([played, first, where, kept], [episodes, seed, env, several(cell)])) return false
  }
  answer({ type: 'progress', phase: 'evaluation', share: 1, eta_seconds: null })
  const limits = { cost_limits: several(cell) }
  await evaluate({ run: cell.folder, env, episodes, seed, signal: controller.signal, ...limits })
  return true
}

/** The limits of a cell that has more than its own. */
const several = ({ cost_limits: limits }: Cell): readonly number[] | undefined =>
  limits.length > 1 ? limits : undefined

async function handle(request: Request): Promise<void> {
  if (request.type === 'stop') {
    controller.abort()
    return
  }
  try {
    answer(await work(request.cell, request.reuse, request.judging))
  } catch (error) {
    const { code, message, exitStatus } = toDrcorlError(error)
    answer(controller.signal.aborted ? { type: 'stopped' } : { type: 'failed', code, message, status: exitStatus })
  }
}

// The terminal sends Ctrl-C to the whole group; the parent decides what it means.
process.on('SIGINT', () => {})
process.on('message', (request: Request) => void handle(request))
// A parent that died must not leave training behind.
process.on('disconnect', () => controller.abort())
