import { makeFolder, pathsIn, writeAtomic } from '../base/files.js'
import { writeReport } from '../report/report.js'
import { type BenchmarkOptions, type Cell, planCells } from './plan.js'
import { type CellOutcome, type PoolEvent, runCells } from './pool.js'
import { benchmarkPage } from './report.js'
import { type FinishedCell, type Measurement, type Score, measure, readCells, score } from './summary.js'
import { besideMarkdown } from './beside.js'
import { type LedgerRow, ledgerCsv, ledgerMarkdown, ledgerOf } from './ledger.js'
import { csv, latex, markdown } from './tables.js'
import type { Judging } from './worker.js'

export const BENCHMARK_FILES = {
  csv: 'results.csv',
  ledger: 'ledger.csv',
  markdown: 'results.md',
  latex: 'results.tex',
  report: 'report.html',
} as const

export interface RunBenchmarkOptions extends BenchmarkOptions {
  judging: Judging
  /** Processes side by side. */
  jobs: number
  signal: AbortSignal
  report: (event: PoolEvent) => void
  /** Command line that repeats the benchmark, for the head of the tables. */
  command: string
  /** Lays the paper's own table beside the scores. */
  beside_paper?: boolean | undefined
}

export interface BenchmarkResult {
  outcomes: CellOutcome[]
  /** Cells planned. */
  cells: number
  measurements: Measurement[]
  scores: Score[]
  /** What every system was given. */
  ledger: LedgerRow[]
  /** Absent where no cell was finished. */
  files: Record<keyof typeof BENCHMARK_FILES, string> | null
}

/** Every cell of a plan, how each ended, and those that are done with what their folders say. */
export interface PlanResult {
  cells: Cell[]
  outcomes: CellOutcome[]
  finished: FinishedCell[]
}

/**
 * Trains and judges every cell, and writes the report of each that is done. Cells whose folders hold their result are
 * not repeated, half-trained ones go on from their checkpoint.
 *
 * @throws DrcorlError as `runBenchmark`.
 */
export async function runPlan(options: Omit<RunBenchmarkOptions, 'command'>): Promise<PlanResult> {
  const cells = planCells(options)
  await makeFolder(options.out)
  const { judging, jobs, signal, report } = options
  const outcomes = await runCells({ cells, judging, jobs, signal, report })
  const finished = await readCells(outcomes.filter(({ status }) => status === 'done').map(({ cell }) => cell))
  await Promise.all(finished.map(({ cell }) => writeReport(cell.folder)))
  return { cells, outcomes, finished }
}

/**
 * Trains and judges every cell and writes the tables of all that are done. Cells whose folders hold their result are
 * not repeated, half-trained ones go on from their checkpoint.
 *
 * @throws DrcorlError `Usage` or `Io` before anything is trained; a cell that fails is in `outcomes` instead.
 */
export async function runBenchmark(options: RunBenchmarkOptions): Promise<BenchmarkResult> {
  const { out, command } = options
  const { cells, outcomes, finished } = await runPlan(options)
  const measurements = finished.flatMap(measure)
  const scores = score(measurements)
  const ledger = await ledgerOf(finished)
  const ended = { outcomes, cells: cells.length, measurements, scores, ledger }
  if (finished.length === 0) return { ...ended, files: null }
  const files = pathsIn(out, BENCHMARK_FILES)
  const title = `Benchmark: ${[...new Set(cells.map(({ target }) => target.name))].join(', ')}`
  await writeAtomic(files.csv, csv(measurements))
  await writeAtomic(files.ledger, ledgerCsv(ledger))
  const more = [...(options.beside_paper ? [besideMarkdown(scores)] : []), ledgerMarkdown(ledger)]
  await writeAtomic(files.markdown, markdown(scores, measurements, `# ${title}\n\nMade by \`${command}\`.`, more))
  await writeAtomic(files.latex, latex(scores))
  await writeAtomic(
    files.report,
    benchmarkPage(title, finished, scores, { out: files.report, ledger, beside_paper: options.beside_paper ?? false }),
  )
  return { ...ended, files }
}
