import { readFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { DrcorlError, codeOf, describeFsError } from '../base/errors.js'
import { exists } from '../base/files.js'
import type { Certificate, Evaluation, Metric, RunResult } from '../config/results.js'
import { metricsOf } from '../config/schema.js'
import { type Stored, readStored, readWhole } from '../config/stored.js'
import { RUN_FILES, type RunRecord, readRecord } from '../train/run-folder.js'

/** A CSV file by columns; empty cells are NaN. */
export interface Csv {
  rows: number
  text(name: string): string[]
  numbers(name: string): number[]
  names: string[]
}

/** Everything a report shows, read from one run folder. What the run has not written yet is null. */
export interface RunData {
  folder: string
  name: string
  record: RunRecord
  result: Stored<RunResult> | null
  metrics: Csv | null
  /** What the algorithm's metrics mean, in their order; none for an algorithm this version does not know. */
  declared: readonly Metric[]
  certificate: Stored<Certificate> | null
  evaluation: Evaluation | null
  /** Episodes of the evaluated policies. */
  episodes: Csv | null
  /** Return and cost of each episode of the dataset. */
  dataset: Csv | null
}

/**
 * Reads a run folder. No addon is needed.
 *
 * @throws DrcorlError `Io` or `Data` (exit status 2) for a folder that is none of a run, or a damaged file in it.
 */
export async function readRun(folder: string): Promise<RunData> {
  const record = await readRecord(folder)
  const stored = async <Name extends 'Certificate' | 'RunResult'>(name: Name, file: string) => {
    const path = join(folder, file)
    return (await exists(path)) ? readStored(name, path) : null
  }
  return {
    folder,
    name: basename(resolve(folder)),
    record,
    result: await stored('RunResult', RUN_FILES.result),
    metrics: await readCsv(join(folder, RUN_FILES.metrics), ['step', 'phase', 'phase_step', 'seconds']),
    declared: metricsOf(record.algorithm),
    certificate: await stored('Certificate', RUN_FILES.certificate),
    evaluation: await readEvaluation(join(folder, RUN_FILES.evaluation)),
    episodes: await readCsv(join(folder, RUN_FILES.episodes), ['policy', 'return', 'cost']),
    dataset: await readCsv(join(folder, RUN_FILES.datasetEpisodes), ['return', 'cost']),
  }
}

async function readEvaluation(path: string): Promise<Evaluation | null> {
  if (!(await exists(path))) return null
  return readWhole('Evaluation', path)
}

async function readCsv(path: string, columns: readonly string[]): Promise<Csv | null> {
  let content: string
  try {
    content = await readFile(path, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw new DrcorlError('Io', `cannot read ${path}: ${describeFsError(error)}`, { cause: error, exitStatus: 2 })
  }
  const table = parseCsv(content)
  const missing = columns.find((name) => !table.names.includes(name))
  if (missing === undefined) return table
  throw new DrcorlError('Data', `${path} is damaged: it has no column "${missing}"`)
}

/** Parses the plain CSV that drcorl writes: one header line, no quoting. */
export function parseCsv(content: string): Csv {
  const [header = '', ...lines] = content.trimEnd().split('\n')
  const names = header.split(',')
  const cells = lines.filter((line) => line !== '').map((line) => line.split(','))
  const text = (name: string): string[] => {
    const column = names.indexOf(name)
    return cells.map((row) => row[column] ?? '')
  }
  const numbers = (name: string): number[] => text(name).map((cell) => (cell === '' ? Number.NaN : Number(cell)))
  return { rows: cells.length, text, numbers, names }
}
