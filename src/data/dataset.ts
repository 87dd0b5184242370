import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { basename, extname } from 'node:path'
import { DrcorlError, describeFsError, messageOf } from '../base/errors.js'
import type { DatasetKind, KnownTask } from '../config/results.js'
import { sha256File } from '../base/files.js'
import { own } from '../base/own.js'
import { findEnv } from '../envs/registry.js'
import { makeDataset } from '../envs/scripted.js'
import { type DatasetColumns, type NativeDataset, datasetFromColumns, openDataset } from '../native/dataset.js'
import { furtherSums } from './episodes.js'
import { locateDataset } from './locate.js'
import { recogniseTask, requireTask } from './tasks.js'

/** Statistics of a dataset, computed in Rust. Returns and costs are sums over whole episodes, undiscounted. */
export interface DatasetSummary {
  source: string
  transitions: number
  episodes: number
  /** 1 when the last rows carry no end flag, else 0. */
  incomplete_episodes: number
  obs_dim: number
  act_dim: number
  /** Transitions per episode. */
  episode_length: { min: number; median: number; max: number }
  /** Quantiles 0, 10, .. 100 % of the episode return. */
  return_deciles: number[]
  cost_deciles: number[]
  return_cost_correlation: number | null
  best_returns: { cost_limit: number; episodes: number; best_return: number | null }[]
  terminals: number
  timeouts: number
  action_min: number[]
  action_max: number[]
  /**
   * Further columns of one number a step that were read, with the deciles of their episodic sums; left out for none.
   */
  further?: { name: string; deciles: (number | null)[] }[]
}

export type { KnownTask }

/** A checked dataset in native memory. */
export interface Dataset {
  native: NativeDataset
  summary: DatasetSummary
  /** HDF5 path, `env:NAME?episodes=N&seed=N`, or the `source` of the columns. */
  source: string
  kind: DatasetKind
  /** Short name for run folders. */
  stem: string
  /** Of the file's bytes, or of the columns. */
  sha256: string
  /** Only a recognised name; in training presets alone may ask for it, and the length of its episodes. */
  task: KnownTask | null
}

export interface LoadDatasetOptions {
  /** Steps; an episode longer than this is refused. */
  episode_length?: number | undefined
  /**
   * Bytes a file may take in memory. Default: a hundred times its size, at least 64 MiB, at most 80 % of what is free.
   */
  maxMemory?: number | undefined
  /**
   * Columns of one number a step that are costs to be limited, in the order of the limits: the first stands in the
   * place of `costs`, which is the name of the data's own. Left out: `costs`.
   * An empty list reads all such columns beside it.
   */
  costs?: readonly string[] | undefined
}

/** Endings of files that `convertDataset` reads, or that are tables all the same. */
const OTHER_FORMATS = /\.(?:csv|tsv|parquet|pq|npz|arrow|feather)$/i

/** How a file becomes a dataset, by its ending; undefined where that tells no other format. */
export function conversionHint(path: string): string | undefined {
  if (!OTHER_FORMATS.test(path)) return undefined
  const output = `${basename(path, extname(path))}.hdf5`
  return `convert it first: drcorl data convert ${path} ${output} --map observations=.. actions=.. costs=.. --shift`
}

/**
 * Loads and checks a dataset.
 *
 * @param source path of a DSRL HDF5 file, `task:NAME` for the file of a DSRL task on this machine (see
 *   `locateDataset`), `env:NAME` for the scripted data of an embedded environment
 *   (`env:point-circle?episodes=200&seed=1`), or columns.
 * @throws DrcorlError `Data`, `Io` or `Config`, exit status 2, naming file, key and value.
 */
export async function loadDataset(
  source: string | DatasetColumns | Dataset,
  options: LoadDatasetOptions = {},
): Promise<Dataset> {
  const { costs } = options
  if (typeof source !== 'string') return 'native' in source ? source : fromColumns(source, 'columns', null, costs)
  if (source.startsWith('env:')) return fromEnv(source, costs)
  const path = source.startsWith('task:') ? await locateDataset(source.slice('task:'.length)) : source
  return fromFile(path, options)
}

/** Name of the task whose data a source holds, before it is read; undefined where its name tells none. */
export function taskOf(source: string | DatasetColumns | Dataset): string | undefined {
  if (typeof source !== 'string') return 'native' in source ? source.task?.task : undefined
  return source.startsWith('task:') ? requireTask(source.slice('task:'.length)).task : recogniseTask(source)?.task
}

async function fromFile(path: string, { episode_length, maxMemory, costs }: LoadDatasetOptions): Promise<Dataset> {
  await stat(path).catch((error: unknown) => {
    throw new DrcorlError('Io', `cannot read dataset ${path}: ${describeFsError(error)}`, {
      cause: error,
      exitStatus: 2,
    })
  })
  const hint = conversionHint(path)
  if (hint !== undefined)
    throw new DrcorlError('Data', `dataset ${path} is a ${extname(path)} file, not HDF5`, { hint })
  const native = await openDataset(path, episode_length, maxMemory, costs)
  const sha256 = await sha256File(path)
  const dsrl = recogniseTask(path)
  const stem = basename(path).replace(/\.(hdf5|h5)$/i, '')
  const task = dsrl === undefined ? null : { ...pickTask(dsrl), env: null }
  return { native, summary: summaryOf(native), source: path, kind: 'file', stem, sha256, task }
}

async function fromEnv(source: string, costs: readonly string[] | undefined): Promise<Dataset> {
  const { name, episodes, seed } = parseEnvSource(source)
  const columns = build(source, () => makeDataset(name, { ...episodes, ...seed }))
  const env = findEnv(name)
  if (env === undefined) throw new DrcorlError('Config', `unknown environment in ${source}`)
  const task: KnownTask = {
    task: name,
    env: name,
    episode_length: env.task.episode_length,
    obs_dim: columns.obs_dim,
    act_dim: columns.act_dim,
    ...env.score_range,
  }
  return fromColumns(columns, 'env', task, costs)
}

async function fromColumns(
  columns: DatasetColumns,
  kind: 'env' | 'columns',
  task: KnownTask | null,
  costs: readonly string[] | undefined,
): Promise<Dataset> {
  const native = await datasetFromColumns(columns, costs)
  const stem = task?.env ?? (columns.source.replace(/[^\w.-]+/g, '-').slice(0, 40) || 'columns')
  const sha256 = sha256Columns(columns, costs ?? [])
  return { native, summary: summaryOf(native), source: columns.source, kind, stem, sha256, task }
}

function parseEnvSource(source: string): { name: string; episodes?: { episodes: number }; seed?: { seed: number } } {
  const [name = '', query = ''] = source.slice('env:'.length).split('?')
  const parameters = new URLSearchParams(query)
  for (const key of parameters.keys()) {
    if (key !== 'episodes' && key !== 'seed') {
      throw new DrcorlError('Config', `unknown setting "${key}" in ${source}; known: episodes, seed`)
    }
  }
  const episodes = parameters.get('episodes')
  const seed = parameters.get('seed')
  return {
    name,
    ...(episodes === null ? {} : { episodes: { episodes: Number(episodes) } }),
    ...(seed === null ? {} : { seed: { seed: Number(seed) } }),
  }
}

/** The scripted data refuses bad names and numbers with a RangeError: that is bad input here. */
function build<T>(source: string, make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError) {
      throw new DrcorlError('Config', `${source}: ${messageOf(error)}`, { cause: error })
    }
    throw error
  }
}

function pickTask(task: Omit<KnownTask, 'env'>): Omit<KnownTask, 'env'> {
  const { task: name, episode_length, obs_dim, act_dim, min_return, max_return, min_cost, max_cost } = task
  return { task: name, episode_length, obs_dim, act_dim, min_return, max_return, min_cost, max_cost }
}

function summaryOf(native: NativeDataset): DatasetSummary {
  const summary = JSON.parse(native.summary()) as DatasetSummary
  const [, ...names] = native.shape().costs
  return names.length === 0 ? summary : { ...summary, further: names.map((name) => furtherOf(name, native, summary)) }
}

/** Deciles of a further column's sums over the complete episodes; of the cut-off tail where there are no others. */
function furtherOf(name: string, native: NativeDataset, { incomplete_episodes: tail }: DatasetSummary) {
  const sums = furtherSums(name, native, native.episodes().lengths)
  const counted = (sums.length > tail ? sums.slice(0, sums.length - tail) : sums).toSorted((a, b) => a - b)
  const decile = (tenth: number): number | null => {
    const place = (tenth / 10) * (counted.length - 1)
    const low = counted[Math.floor(place)]!
    const found = low + (place - Math.floor(place)) * (counted[Math.ceil(place)]! - low)
    return Number.isNaN(found) ? null : found
  }
  return { name, deciles: Array.from({ length: 11 }, (_, tenth) => decile(tenth)) }
}

/**
 * Of dimensions and bytes in a fixed order, so that the same columns always give the same hash; of further columns
 * those that are costs, by their names.
 */
function sha256Columns(columns: DatasetColumns, named: readonly string[]): string {
  const hash = createHash('sha256').update(`${columns.obs_dim} ${columns.act_dim}`)
  const { observations, next_observations, actions, rewards, costs, terminals, timeouts } = columns
  for (const column of [observations, next_observations, actions, rewards, costs, terminals, timeouts]) {
    hash.update(new Uint8Array(column.buffer, column.byteOffset, column.byteLength))
  }
  for (const name of named) {
    const column = own(columns.further ?? {}, name)
    if (column !== undefined)
      hash.update(`${name} `).update(new Uint8Array(column.buffer, column.byteOffset, column.byteLength))
  }
  return hash.digest('hex')
}
