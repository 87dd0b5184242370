import { readFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { DrcorlError, codeOf, describeFsError } from '../base/errors.js'
import { exists, readJson } from '../base/files.js'
import type { Evaluation } from '../evaluate/evaluate.js'
import { RUN_FILES, type RunRecord, type RunResult, readRecord } from '../train/run-folder.js'

/** A JSON object of which nothing is known. */
export type Json = Record<string, unknown>

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
  result: RunResult | null
  metrics: Csv | null
  certificate: Json | null
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
  const json = async <T>(name: string): Promise<T | null> => {
    const path = join(folder, name)
    if (!(await exists(path))) return null
    const content = await readJson(path)
    if (isObject(content)) return content as T
    throw new DrcorlError('Data', `${path} must hold a JSON object`)
  }
  return {
    folder,
    name: basename(resolve(folder)),
    record,
    result: await json<RunResult>(RUN_FILES.result),
    metrics: await readCsv(join(folder, RUN_FILES.metrics)),
    certificate: await json<Json>(RUN_FILES.certificate),
    evaluation: await json<Evaluation>(RUN_FILES.evaluation),
    episodes: await readCsv(join(folder, RUN_FILES.episodes)),
    dataset: await readCsv(join(folder, RUN_FILES.datasetEpisodes)),
  }
}

export const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The value at a path of keys in unknown JSON, or undefined. */
export function at(value: unknown, ...keys: string[]): unknown {
  return keys.reduce<unknown>((inner, key) => (isObject(inner) ? inner[key] : undefined), value)
}

/** The finite number at a path, or null. */
export function numberAt(value: unknown, ...keys: string[]): number | null {
  const found = at(value, ...keys)
  return typeof found === 'number' && Number.isFinite(found) ? found : null
}

/** The strings of the list at a path; a single string counts as a list of one. */
export function textsAt(value: unknown, ...keys: string[]): string[] {
  const found = at(value, ...keys)
  if (typeof found === 'string') return [found]
  return Array.isArray(found) ? found.filter((entry): entry is string => typeof entry === 'string') : []
}

async function readCsv(path: string): Promise<Csv | null> {
  let content: string
  try {
    content = await readFile(path, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw new DrcorlError('Io', `cannot read ${path}: ${describeFsError(error)}`, { cause: error, exitStatus: 2 })
  }
  return parseCsv(content)
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
