import { readdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { ResolvedConfig } from '../config/load.js'
import type { RunRecord } from '../config/results.js'
import { requireWhole } from '../config/stored.js'
import type { Dataset } from '../data/dataset.js'
import { DrcorlError } from '../base/errors.js'
import { exists, readJson, writeJson } from '../base/files.js'
import { VERSION } from '../base/version.js'
import { BESIDE, CERTIFICATE_FILE, POLICY_FILE, RESULT_FILE } from '../policy/provenance.js'
import { isEventFile } from './tensorboard.js'

/**
 * Every file of a run, but for event files (`tensorboard.ts`) and what is half-written (`isTemporary`). Evaluation and
 * reports need nothing but this folder; `--overwrite` removes these and no others.
 */
export const RUN_FILES = {
  config: 'config.json',
  /** Return and cost of each logged episode, which the report draws beside the policy's. */
  datasetEpisodes: 'dataset_episodes.csv',
  metrics: 'metrics.csv',
  checkpoint: 'checkpoint.safetensors',
  /** What runs of other parameters may take over, of algorithms that have such a part. */
  pretraining: 'pretraining.safetensors',
  policy: POLICY_FILE,
  ...BESIDE,
  /** What the policy under training did in the environment, where it was watched. */
  monitor: 'monitor.json',
  /** Where the time went, where that was asked. */
  profile: 'profile.json',
  certificate: CERTIFICATE_FILE,
  result: RESULT_FILE,
  evaluation: 'evaluation.json',
  episodes: 'episodes.csv',
  episodesJson: 'episodes.json',
  report: 'report.html',
} as const

const FILE_NAMES: ReadonlySet<string> = new Set(Object.values(RUN_FILES))

/** With `keep_checkpoints`: a folder for each point of the monitor, with its policy and checkpoint. */
export const MONITOR_FOLDER = 'monitor'

/** The policy that meets the environment at a visit: only ever a temporary file. */
export const VISITOR = 'visitor.safetensors'

export const RUN_FORMAT: RunRecord['format'] = 'drcorl-run/1'

export type { RunRecord }

export function makeRecord(resolved: ResolvedConfig, dataset: Dataset, environment: string | null): RunRecord {
  const { transitions, episodes, obs_dim, act_dim } = dataset.summary
  const source = dataset.kind === 'file' ? resolve(dataset.source) : dataset.source
  return {
    format: RUN_FORMAT,
    created: new Date().toISOString(),
    versions: { drcorl: VERSION, node: process.version },
    ...resolved,
    dataset: { source, kind: dataset.kind, sha256: dataset.sha256, transitions, episodes, obs_dim, act_dim },
    task: dataset.task,
    environment,
  }
}

/** The episode length the user stated: it bounds the episodes of a file. */
export function statedEpisodeLength(run: Record<string, unknown>): number | undefined {
  const stated = run['episode_length']
  return typeof stated === 'number' ? stated : undefined
}

/**
 * `runs/<algorithm>-<dataset>-l<limit>-s<seed>-<time>`, the folder of a run that names none;
 * where it is there, with a number.
 */
export function defaultRunFolder(resolved: ResolvedConfig, dataset: Dataset): string {
  const { cost_limit: limit, seed } = resolved.run
  const time = new Date().toISOString().replace(/\..*$/, '').replace(/[-:]/g, '').replace('T', '-')
  const parts = [resolved.algorithm, dataset.stem]
  if (limit !== undefined && limit !== null) parts.push(`l${String(limit)}`)
  if (seed !== undefined && seed !== null) parts.push(`s${String(seed)}`)
  return join('runs', [...parts, time].join('-'))
}

/** True for a file that a run has written. */
export function isOfRun(name: string): boolean {
  return FILE_NAMES.has(name) || isEventFile(name) || isTemporary(name)
}

/** True where the folder holds a run that can be resumed. */
export async function holdsRun(folder: string): Promise<boolean> {
  return exists(join(folder, RUN_FILES.config))
}

/**
 * Reads `config.json` of a run folder.
 *
 * @throws DrcorlError `Io` or `Data` (exit status 2) when the folder is not one of a run, or its certificate and result
 *   are for another limit or algorithm.
 */
export async function readRecord(folder: string): Promise<RunRecord> {
  const path = join(folder, RUN_FILES.config)
  if (!(await exists(path))) {
    throw new DrcorlError('Io', `${folder} is not a run folder: it has no ${RUN_FILES.config}`, { exitStatus: 2 })
  }
  const content = (await readJson(path)) as RunRecord | null
  if (content?.format !== RUN_FORMAT) throw new DrcorlError('Data', `${path} is not of format "${RUN_FORMAT}"`)
  const record = requireWhole('RunRecord', content, path)
  await requireSame(folder, RUN_FILES.certificate, 'cost_limit', record.run['cost_limit'])
  await requireSame(folder, RUN_FILES.result, 'algorithm', record.algorithm)
  return record
}

/** What a run has written beside its record speaks of the same run; a file that is not there, or not whole, of none. */
async function requireSame(folder: string, file: string, key: string, recorded: unknown): Promise<void> {
  const path = join(folder, file)
  const content = (await exists(path)) ? ((await readJson(path)) as Record<string, unknown> | null) : null
  const found = content?.[key]
  if (found === undefined || found === recorded) return
  const [there, here] = [found, recorded].map((value) => (value === undefined ? 'none' : JSON.stringify(value)))
  throw new DrcorlError('Data', `${path} has ${key} = ${there}, but ${RUN_FILES.config} beside it says ${here}`, {
    hint: `put ${key} back in ${join(folder, RUN_FILES.config)}, or the files of that run in its place`,
  })
}

export async function writeRecord(folder: string, record: RunRecord): Promise<void> {
  await writeJson(join(folder, RUN_FILES.config), record)
}

/** Removes the half-written files that a killed process left. */
export async function removeTemporaries(folder: string): Promise<void> {
  const left = (await readdir(folder)).filter(isTemporary)
  await Promise.all(left.map((name) => rm(join(folder, name), { force: true })))
}

/** A name that the next run in the folder recognises as left behind. */
export const temporaryFile = (name: string): string => `.${name}.${process.pid}.tmp`

/** `.NAME.PID.tmp` of the core and of visits, `.NAME.PID-RANDOM.tmp` of `writeAtomic`; NAME is one of a run's own. */
function isTemporary(name: string): boolean {
  const stem = /^\.(.+)\.\d+(?:-[0-9a-f]+)?\.tmp$/.exec(name)?.[1]
  return stem !== undefined && (FILE_NAMES.has(stem) || stem === VISITOR)
}
