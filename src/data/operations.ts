/**
 * Datasets to new dataset files: filtered as DSRL does it, or converted from other formats. The work is done in Rust.
 */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { sha256File } from '../base/files.js'
import { own } from '../base/own.js'
import { type OperationOptions, convertFile, filterFile, splitFile, writeDatasetFile } from '../native/operation.js'
import { type Finding, checkDataset } from './checks.js'
import { type KnownTask, loadDataset } from './dataset.js'
import { locateDataset } from './locate.js'
import { type DensityGrid, type Task, recogniseTask, requireTask } from './tasks.js'

interface OutputOptions extends OperationOptions {
  /** Replace a file that is there. */
  overwrite?: boolean | undefined
  /**
   * Bytes that reading may hold. Default: a hundred times the file's size, at least 64 MiB,
   * at most 80 % of what is free.
   */
  maxMemory?: number | undefined
}

/** Steps of DSRL's pre-processing; those left out are not taken. docs/data.md says what each does. */
export interface FilterOptions extends OutputOptions {
  /** Default 0. */
  seed?: number | undefined
  /** `dsrl` keeps the faults of the published code; default `fixed`. */
  rules?: 'fixed' | 'dsrl' | undefined
  cost_limit?: number | undefined
  /** A grid, or the share that one of the task's presets is named after. */
  density?: number | DensityGrid | undefined
  /** Fraction of episodes, above 0 and at most 1. */
  outliers?: number | undefined
  /** Windows as fractions: cost from, cost to, return from, return to. */
  inpaint?: readonly (readonly [number, number, number, number])[] | undefined
  epsilon?: number | undefined
  /** In standard deviations of the observations. */
  noise?: number | undefined
  /** Whose presets and extremes are used; default the task that the file name tells, if it tells one. */
  task?: string | undefined
}

export interface FilterReport {
  episodes_before: number
  episodes: number
  transitions_before: number
  transitions: number
  score_range: Pick<KnownTask, 'min_cost' | 'max_cost' | 'min_return' | 'max_return'>
  steps: { step: string; removed: number; changed: number; note: string }[]
}

/**
 * Filters a dataset file into another.
 *
 * @param source path or `task:NAME`.
 * @throws DrcorlError `Usage`, `Data`, `Io` or `Cancelled`; no file is left then.
 */
export async function filterDataset(
  source: string,
  output: string,
  options: FilterOptions = {},
): Promise<FilterReport> {
  const { signal, onProgress, overwrite, maxMemory, task: name, density, seed = 0, rules = 'fixed', ...steps } = options
  requireSeed(seed)
  const input = source.startsWith('task:') ? await locateDataset(source.slice('task:'.length)) : source
  const task = name === undefined ? recogniseTask(input) : requireTask(name)
  await checkOutput(input, output, overwrite)
  const given = Object.entries({ ...steps, density: gridOf(density, task) }).filter(([, value]) => value !== undefined)
  const native = { seed, rules, score_range: rangeOf(task), ...Object.fromEntries(given) }
  return (await filterFile(input, output, native, { signal, onProgress, maxMemory })) as FilterReport
}

function rangeOf(task: Task | undefined): FilterReport['score_range'] | null {
  if (task === undefined) return null
  const { min_cost, max_cost, min_return, max_return } = task
  return { min_cost, max_cost, min_return, max_return }
}

function gridOf(density: number | DensityGrid | undefined, task: Task | undefined): DensityGrid | undefined {
  if (typeof density !== 'number') return density
  if (task === undefined) {
    throw new DrcorlError('Usage', `density ${density} names a preset, and the file name tells no task`, {
      hint: 'name the task (--task NAME), or the grid itself (--density 10x20:5:2)',
    })
  }
  const grid = task.density[String(density)]
  if (grid !== undefined) return grid
  const known = Object.keys(task.density)
  throw new DrcorlError(
    'Usage',
    `task ${task.task} has no density preset ${density}; it has ${known.length === 0 ? 'none' : known.join(' and ')}`,
    { hint: 'name the grid itself: --density 10x20:5:2 (cost bins x return bins : most : least)' },
  )
}

/** How `splitDataset` splits. */
export interface SplitOptions extends OutputOptions {
  /** Share of the complete episodes to set aside, above 0 and below 1; default 0.2. */
  share?: number | undefined
  /** Seed of the draw, default 0: `train` with this `holdout` and `seed` keeps the same episodes from training. */
  seed?: number | undefined
}

/** What `splitDataset` wrote. */
export interface SplitReport {
  /** Hex SHA-256 of the source, which both files name too. */
  sha256: string
  train: { episodes: number; transitions: number }
  held_out: { episodes: number; transitions: number }
  /** Rows after the last end flag; they stay with the training part. */
  tail: number
}

/** Root attribute of a file that is a part of another: JSON of source, sha256, share, seed and part sizes. */
const SPLIT_ATTRIBUTE = 'drcorl_split'

/**
 * Splits a dataset file by whole episodes into one to learn from and one to judge by. Every row is in one of them.
 *
 * @param source path or `task:NAME`.
 * @throws DrcorlError `Usage`, `Data`, `Io` or `Cancelled`; neither file is left then.
 */
export async function splitDataset(
  source: string,
  outputs: { train: string; held_out: string },
  options: SplitOptions = {},
): Promise<SplitReport> {
  const { signal, onProgress, overwrite, maxMemory, share = 0.2, seed = 0 } = options
  requireSeed(seed)
  const input = source.startsWith('task:') ? await locateDataset(source.slice('task:'.length)) : source
  const { train, held_out } = outputs
  if (resolve(train) === resolve(held_out)) {
    throw new DrcorlError('Usage', `both parts are to be written to ${train}`, { hint: 'name two files' })
  }
  await checkOutput(input, train, overwrite)
  await checkOutput(input, held_out, overwrite)
  const sha256 = await sha256File(input)
  const origin = JSON.stringify({ source: resolve(input), sha256, by: 'episode', share, seed })
  const attributes = { [SPLIT_ATTRIBUTE]: origin }
  const report = await splitFile(input, outputs, { share, seed }, attributes, { signal, onProgress, maxMemory })
  return { sha256, ...(report as Omit<SplitReport, 'sha256'>) }
}

export interface ConvertOptions extends OutputOptions {
  /** Field of a DSRL file to its name in the input; see docs/data.md. */
  map?: Readonly<Record<string, string>> | undefined
  /** Further columns of one number a step to keep, as costs that limits may be given for; `map` may say from where. */
  keep?: readonly string[] | undefined
  /** Take successors from the next row of the episode. */
  shift?: boolean | undefined
  /** Column whose values tell episodes apart, in whatever order their rows are; flags may then be absent. */
  episode?: string | undefined
  /** Column of times: seconds, Unix times or ISO 8601. */
  time?: string | undefined
  /** Seconds; an episode ends before a step of `time` that is longer. */
  maxGap?: number | undefined
  /** Cost of the steps that have none. */
  missingCost?: number | undefined
  /** Warnings of the data checks are errors. */
  strict?: boolean | undefined
}

export interface ConvertReport {
  format: string
  episodes: number
  transitions: number
  /** Rows without a successor, left out. */
  dropped: number
  /** Episodes without an end flag that were given a timeout. */
  ended: number
  /** Episodes that were ended at a gap in time. */
  gaps: number
  /** Rows after the last end flag. */
  tail: number
  columns: Record<string, string>
  /** Warnings about the data that were written; errors end the conversion. */
  findings: readonly Finding[]
}

/**
 * Converts CSV, Parquet, npz, Minari or other HDF5 to a DSRL file;
 * or writes the scripted data of an embedded environment.
 *
 * @param source path or `env:NAME`.
 * @throws DrcorlError `Usage`, `Config`, `Data`, `Io` or `Cancelled`; no file is left then.
 */
export async function convertDataset(
  source: string,
  output: string,
  options: ConvertOptions = {},
): Promise<ConvertReport> {
  const { signal, onProgress, overwrite, strict = false, ...reading } = options
  await checkOutput(source, output, overwrite)
  if (!source.startsWith('env:')) {
    const { map = {}, keep = [], shift = false, episode, time, maxGap, missingCost, maxMemory } = reading
    const further = keep.map((name): [string, string] => [`further/${name}`, own(map, name) ?? name])
    const fields = Object.entries(map).filter(([name]) => !keep.includes(name))
    const stated = {
      map: Object.fromEntries([...fields, ...further]),
      shift,
      episode,
      time,
      max_gap: maxGap,
      missing_cost: missingCost,
      max_memory: maxMemory,
      strict,
    }
    return (await convertFile(source, output, stated, { signal, onProgress })) as ConvertReport
  }
  if (Object.values(reading).some((value) => value !== undefined && value !== false && !isEmpty(value))) {
    throw new DrcorlError('Usage', `${source} has the fields of a DSRL file already: nothing is to be mapped`)
  }
  const dataset = await loadDataset(source)
  const { native, summary } = dataset
  const findings = checkDataset(dataset, { strict })
  const provenance = JSON.stringify({ converted_from: summary.source })
  await writeDatasetFile(native, output, { drcorl: provenance }, { signal, onProgress })
  const { episodes, transitions, incomplete_episodes: tail } = summary
  return { format: 'env', episodes, transitions, dropped: 0, ended: 0, gaps: 0, tail, columns: {}, findings }
}

/** A map without entries. */
function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

/** @throws DrcorlError `Usage` naming the seed. */
export function requireSeed(seed: number): void {
  if (Number.isSafeInteger(seed) && seed >= 0) return
  throw new DrcorlError('Usage', `seed ${seed} is not a whole number, 0 or more`)
}

/**
 * Refuses an output that is no HDF5 file name, is the input or is there.
 *
 * @throws DrcorlError `Usage`.
 */
export async function checkOutput(input: string, output: string, overwrite = false): Promise<void> {
  if (!/\.(hdf5|h5)$/i.test(output)) {
    throw new DrcorlError('Usage', `output ${output} is no HDF5 file name`, { hint: 'let it end in .hdf5' })
  }
  if (resolve(input) === resolve(output)) {
    throw new DrcorlError('Usage', `input and output are the same file, ${output}`, { hint: 'name another output' })
  }
  const found = await stat(output).catch(() => undefined)
  if (found !== undefined && !overwrite) {
    throw new DrcorlError('Usage', `output ${output} is there already`, {
      hint: 'name another one, or add --overwrite',
    })
  }
}
