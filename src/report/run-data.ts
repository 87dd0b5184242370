import { readFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { DrcorlError, codeOf, describeFsError } from '../base/errors.js'
import { exists } from '../base/files.js'
import type { Certificate, Evaluation, Metric, PolicyEvaluation, RunProfile, RunResult } from '../config/results.js'
import { metricsOf } from '../config/schema.js'
import { type Stored, isAmount, readStored, readWhole } from '../config/stored.js'
import { type Provenance, checkMeasured, checkRunPolicies } from '../policy/provenance.js'
import { type MonitorRecord, readMonitor } from '../train/monitor-file.js'
import { RUN_FILES, type RunRecord, readRecord } from '../train/run-folder.js'

/** A CSV file by columns; empty cells are NaN. */
export interface Csv {
  rows: number
  text(name: string): string[]
  numbers(name: string): number[]
  names: string[]
  /** The first row with more or fewer cells than there are names. */
  uneven?: number | undefined
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
  /** Whether the policies beside them are those that certificate and result speak of; null before the run has ended. */
  provenance: Provenance | null
  evaluation: Evaluation | null
  /** What the policy did while it was trained, where it was watched. */
  monitor: MonitorRecord | null
  /** Where the time went, where that was asked. */
  profile: RunProfile | null
  /** Episodes of the evaluated policies. */
  episodes: Csv | null
  /** Return and cost of each episode of the dataset. */
  dataset: Csv | null
}

/**
 * Reads a run folder. No addon is needed.
 *
 * @throws DrcorlError `Io` or `Data` (exit status 2) for a folder that is none of a run, a damaged file in it, or a
 *   policy of another run.
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
    metrics: await readCsv(join(folder, RUN_FILES.metrics), ['step', 'phase_step', 'seconds'], ['phase']),
    declared: metricsOf(record.algorithm),
    certificate: await stored('Certificate', RUN_FILES.certificate),
    provenance: await checkRunPolicies(folder),
    evaluation: await readEvaluation(join(folder, RUN_FILES.evaluation)),
    monitor: await readMonitor(folder),
    profile: await readProfile(join(folder, RUN_FILES.profile)),
    episodes: await readCsv(join(folder, RUN_FILES.episodes), ['return', 'cost'], ['policy']),
    dataset: await readCsv(join(folder, RUN_FILES.datasetEpisodes), ['return', 'cost']),
  }
}

async function readEvaluation(path: string): Promise<Evaluation | null> {
  if (!(await exists(path))) return null
  const evaluation = await readWhole('Evaluation', path)
  for (const one of measuredPolicies(evaluation)) await checkMeasured(path, one.policy, one.sha256)
  return evaluation
}

async function readProfile(path: string): Promise<RunProfile | null> {
  return (await exists(path)) ? readWhole('RunProfile', path) : null
}

/** The policies that an evaluation measured, the one to use first. */
export const measuredPolicies = (evaluation: Evaluation): PolicyEvaluation[] =>
  [evaluation, evaluation.selected, evaluation.mixture].filter((policy) => policy !== null && policy !== undefined)

/** @param numbers columns that hold a number in every row. @param texts columns that are there. */
async function readCsv(path: string, numbers: readonly string[], texts: readonly string[] = []): Promise<Csv | null> {
  let content: string
  try {
    content = await readFile(path, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw new DrcorlError('Io', `cannot read ${path}: ${describeFsError(error)}`, { cause: error, exitStatus: 2 })
  }
  const table = parseCsv(content)
  const wrong = (what: string): DrcorlError => new DrcorlError('Data', `${path} is damaged: ${what}`)
  const missing = [...numbers, ...texts].find((name) => !table.names.includes(name))
  if (missing !== undefined) throw wrong(`it has no column "${missing}"`)
  const twice = table.names.find((name, index) => table.names.indexOf(name) !== index)
  if (twice !== undefined) throw wrong(`it has two columns "${twice}"`)
  if (table.uneven !== undefined) throw wrong(`row ${table.uneven} has not ${table.names.length} cells`)
  for (const name of table.names) {
    if (texts.includes(name)) continue
    const row = table.text(name).findIndex((cell) => !isNumber(cell, !numbers.includes(name)))
    if (row >= 0) throw wrong(`${name} of row ${row} is "${table.text(name)[row]}", which is no number`)
  }
  return table
}

/** Metrics of other phases are empty; what a loss that diverged wrote is shown as a gap. */
const isNumber = (cell: string, optional: boolean): boolean =>
  optional ? cell === '' || cell === 'NaN' || !Number.isNaN(Number(cell)) : cell.trim() !== '' && isAmount(Number(cell))

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
  const uneven = cells.findIndex((row) => row.length !== names.length)
  return { rows: cells.length, text, numbers, names, ...(uneven < 0 ? {} : { uneven }) }
}
