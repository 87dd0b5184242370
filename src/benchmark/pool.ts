/** Worker processes side by side: libtorch keeps global state, so every cell trains in a process of its own. */
import { type ChildProcess, fork } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DrcorlError, type ErrorCode } from '../base/errors.js'
import type { Cell } from './plan.js'
import { Shares, type Start } from './shares.js'
import type { Answer, Judging, Request } from './worker.js'

/** How one cell ended. */
export interface CellOutcome {
  cell: Cell
  status: 'done' | 'failed' | 'stopped'
  /** False where the folder already held the run. */
  trained: boolean
  error: DrcorlError | null
}

/** What the pool tells while it works. */
export type PoolEvent =
  | { type: 'started'; cell: Cell }
  | { type: 'progress'; cell: Cell; phase: string; share: number; eta_seconds: number | null }
  | { type: 'finished'; outcome: CellOutcome }

export interface PoolOptions {
  cells: readonly Cell[]
  judging: Judging
  /** Processes side by side. */
  jobs: number
  /** Aborting checkpoints the running cells and starts no others. */
  signal: AbortSignal
  report: (event: PoolEvent) => void
}

// Beside this file, with its extension: .ts in the sources, .js in the package.
const WORKER = fileURLToPath(new URL(`./worker${extname(fileURLToPath(import.meta.url))}`, import.meta.url))
const STDERR_KEPT = 2000

/** Runs all cells; a cell that fails does not stop the others. */
export async function runCells(options: PoolOptions): Promise<CellOutcome[]> {
  const shares = await Shares.of(options.cells, options.signal)
  const outcomes: CellOutcome[] = []
  async function lane(): Promise<void> {
    let worker: ChildProcess | undefined
    for (let start = await shares.next(); start !== undefined; start = await shares.next()) {
      const { cell } = start
      worker ??= startWorker()
      options.report({ type: 'started', cell })
      const outcome = await runCell(worker, start, shares, options)
      outcomes.push(outcome)
      await shares.ended(cell, outcome.status === 'done')
      options.report({ type: 'finished', outcome })
      if (!worker.connected) worker = undefined
    }
    worker?.disconnect()
  }
  const lanes = Math.min(options.jobs, options.cells.length)
  await Promise.all(Array.from({ length: lanes }, lane))
  const order = new Map(options.cells.map((cell, index) => [cell, index]))
  return outcomes.toSorted((a, b) => order.get(a.cell)! - order.get(b.cell)!)
}

function startWorker(): ChildProcess {
  return fork(WORKER, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], serialization: 'advanced' })
}

/** One cell in a worker; a worker that dies is that cell's failure. */
function runCell(
  worker: ChildProcess,
  { cell, reuse }: Start,
  shares: Shares,
  options: PoolOptions,
): Promise<CellOutcome> {
  const request = (message: Request): unknown => worker.connected && worker.send(message)
  let stderr = ''
  return new Promise((resolve) => {
    const keep = (chunk: Buffer): void => {
      stderr = (stderr + chunk.toString()).slice(-STDERR_KEPT)
    }
    const stop = (): unknown => request({ type: 'stop' })
    const end = (outcome: Omit<CellOutcome, 'cell'>): void => {
      worker.off('message', hear)
      worker.off('exit', died)
      worker.stderr?.off('data', keep)
      options.signal.removeEventListener('abort', stop)
      resolve({ cell, ...outcome })
    }
    const hear = (answer: Answer): void => {
      if (answer.type === 'progress') options.report({ ...answer, cell })
      else if (answer.type === 'pretrained') shares.pretrained(cell)
      else if (answer.type === 'done') end({ status: 'done', trained: answer.trained, error: null })
      else if (answer.type === 'stopped') end({ status: 'stopped', trained: true, error: null })
      else end({ status: 'failed', trained: true, error: failure(answer) })
    }
    const died = (code: number | null, signal: string | null): void => {
      const how = signal === null ? `status ${code}` : `signal ${signal}`
      const last = stderr.trim().split('\n').at(-1)
      const error = new DrcorlError('Internal', `the worker process ended with ${how}${last ? `: ${last}` : ''}`)
      end({ status: options.signal.aborted ? 'stopped' : 'failed', trained: true, error })
    }
    worker.on('message', hear)
    worker.on('exit', died)
    worker.stderr?.on('data', keep)
    options.signal.addEventListener('abort', stop, { once: true })
    request({ type: 'cell', cell, reuse, judging: options.judging })
  })
}

function failure({ code, message, status }: Extract<Answer, { type: 'failed' }>): DrcorlError {
  return new DrcorlError(code as ErrorCode, message, { exitStatus: status })
}
