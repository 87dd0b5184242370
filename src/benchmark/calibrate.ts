/** Calibrates the certificate: trains and plays, or reads what was trained and played, and writes what came out. */
import { DrcorlError } from '../base/errors.js'
import { makeFolder, pathsIn, writeAtomic } from '../base/files.js'
import { readRun } from '../report/run-data.js'
import { type BenchmarkResult, type RunBenchmarkOptions, runBenchmark } from './benchmark.js'
import {
  type CalibrationCounts,
  type CalibrationRow,
  type Skipped,
  countRows,
  divide,
  readRows,
  rowOf,
} from './calibration.js'
import { calibrationCsv, calibrationMarkdown, calibrationPage, calibrationSvg } from './calibration-page.js'

export const CALIBRATION_FILES = {
  csv: 'calibration.csv',
  markdown: 'calibration.md',
  svg: 'calibration.svg',
  report: 'calibration.html',
} as const

/** What a calibration found. */
export interface CalibrationResult {
  counts: CalibrationCounts[]
  rows: CalibrationRow[]
  skipped: Skipped[]
  /** Absent where no run was both judged and played. */
  files: Record<keyof typeof CALIBRATION_FILES, string> | null
  /** Of the training, where there was one. */
  benchmark: BenchmarkResult | null
}

/** Trains and plays what is missing, as a benchmark does, then compares. */
export async function calibrate(options: RunBenchmarkOptions): Promise<CalibrationResult> {
  const unplayed = options.targets.find(({ env }) => env === null)
  if (unplayed !== undefined) {
    throw new DrcorlError('Usage', `${unplayed.name} has no environment, and estimates need a truth beside them`)
  }
  const benchmark = await runBenchmark(options)
  const done = benchmark.outcomes.filter(({ status }) => status === 'done')
  const made = await Promise.all(done.map(async ({ cell }) => rowOf(await readRun(cell.folder), cell.target.name)))
  return { ...(await compare(divide(made), options.command, options.out)), benchmark }
}

/** Compares the runs that lie in and below some folders, by what these files say of them where they do. */
export async function calibrateFolders(
  folders: readonly string[],
  certifications: readonly string[],
  command: string,
  out: string,
): Promise<CalibrationResult> {
  return { ...(await compare(await readRows(folders, certifications), command, out)), benchmark: null }
}

async function compare(
  { rows, skipped }: { rows: CalibrationRow[]; skipped: Skipped[] },
  command: string,
  out: string,
): Promise<Omit<CalibrationResult, 'benchmark'>> {
  const counts = countRows(rows)
  if (rows.length === 0) return { counts, rows, skipped, files: null }
  await makeFolder(out)
  const files = pathsIn(out, CALIBRATION_FILES)
  const picture = CALIBRATION_FILES.svg
  await writeAtomic(files.csv, calibrationCsv(rows))
  await writeAtomic(files.svg, calibrationSvg(rows))
  await writeAtomic(files.markdown, calibrationMarkdown(rows, counts, { command, picture, skipped }))
  await writeAtomic(files.report, calibrationPage(rows, counts, command, files.report))
  return { counts, rows, skipped, files }
}
