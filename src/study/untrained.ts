/** Policies of the sizes that a preset says, made in a moment: for times, weights need not be good. */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { DrcorlError } from '../base/errors.js'
import { exists, makeFolder, readJson, writeJson } from '../base/files.js'
import { resolveConfig } from '../config/load.js'
import { type Parameter, type Schema, loadSchema, parametersFor } from '../config/schema.js'
import { loadDataset } from '../data/dataset.js'
import { Random } from '../envs/random.js'
import type { NativeColumns } from '../native/dataset.js'
import { Trainer } from '../native/trainer.js'
import { RUN_FILES } from '../train/run-folder.js'

/** Sizes of observations and actions. */
export interface Sizes {
  obs_dim: number
  act_dim: number
}

/** A policy to make. */
export interface Untrained extends Sizes {
  algorithm: string
  /** Of the algorithm, or `none`. */
  preset: string
  /** Parameters given by hand. */
  config: Record<string, unknown>
  folder: string
}

/** What was made, beside the policy: the same wishes find it again. */
const MADE_FILE = 'made.json'
const EPISODES = 40
/** Longer than any plan or window of the presets. */
const EPISODE_LENGTH = 64

/**
 * Presets with the published sizes, the first that an algorithm has: the released implementation where there is one
 * (`published`, `osrl`), the paper's own numbers (`paper`).
 */
export const PUBLISHED_PRESETS = ['published', 'osrl', 'paper'] as const

export function publishedPreset(algorithm: string, schema: Schema = loadSchema()): string {
  const known = Object.keys(schema.algorithms[algorithm]?.presets ?? {})
  return PUBLISHED_PRESETS.find((name) => known.includes(name)) ?? 'none'
}

/**
 * Makes the policy of an algorithm after one step of each phase on made-up data, or keeps the one that was made so. Its
 * networks have the sizes of the preset; it has learnt nothing.
 *
 * @returns the path of the policy file.
 * @throws DrcorlError `Usage` where the folder holds a policy of other wishes, `Config` for a value that is refused.
 */
export async function makeUntrained(wanted: Untrained, signal: AbortSignal): Promise<string> {
  const { algorithm, preset, config, folder, obs_dim, act_dim } = wanted
  const path = join(folder, RUN_FILES.policy)
  const wish = { algorithm, preset, config, obs_dim, act_dim }
  if (await exists(join(folder, MADE_FILE))) {
    if (isDeepStrictEqual(await readJson(join(folder, MADE_FILE)), wish)) return path
    throw new DrcorlError('Usage', `${folder} holds a policy of other sizes`, {
      hint: 'name another folder with --out',
    })
  }
  await makeFolder(folder)
  const dataset = await loadDataset(madeUp(wanted))
  const steps = oneStep(parametersFor(loadSchema(), algorithm))
  const resolved = resolveConfig({ algorithm, preset, flags: { ...steps, ...config } })
  const trainer = await Trainer.create(dataset.native, resolved, true)
  try {
    let status = await trainer.status()
    const own = status.phases.filter(({ stage }) => stage === 'model' || stage === 'algorithm')
    const end = own.reduce((sum, phase) => sum + phase.steps, 0)
    while (status.step < end) {
      if (signal.aborted) throw new DrcorlError('Cancelled', 'stopped before every policy was made')
      status = await trainer.run(1)
    }
    await trainer.writePolicies(folder, { dataset_sha256: dataset.sha256, date: new Date().toISOString().slice(0, 10) })
  } finally {
    trainer.dispose()
  }
  await writeJson(join(folder, MADE_FILE), wish)
  return path
}

/** Every phase as short as it may be, and the models around the training, which no time here is of, small. */
function oneStep(parameters: readonly Parameter[]): Record<string, unknown> {
  const short = parameters
    .filter(({ name, types, nullable }) => name.endsWith('_steps') && types.has('integer') && !nullable)
    .map(({ name, minimum }): [string, number] => [name, Math.max(1, minimum ?? 1)])
  return {
    ...Object.fromEntries(short),
    model_members: 1,
    selection_members: 0,
    audit_members: 1,
    model_hidden: [8, 8],
    cost_limit: 10,
  }
}

/** Columns of random numbers: the sizes of a task without its data. */
function madeUp({ obs_dim, act_dim }: Sizes): NativeColumns {
  const random = new Random(0)
  const rows = EPISODES * EPISODE_LENGTH
  const numbers = (count: number): Float32Array => Float32Array.from({ length: count }, () => 2 * random.uniform() - 1)
  const observations = numbers(rows * obs_dim)
  const next_observations = numbers(rows * obs_dim)
  next_observations.set(observations.subarray(obs_dim))
  return {
    obs_dim,
    act_dim,
    observations,
    next_observations,
    actions: numbers(rows * act_dim),
    rewards: numbers(rows),
    costs: Float32Array.from({ length: rows }, () => Number(random.uniform() < 0.1)),
    terminals: new Uint8Array(rows),
    timeouts: Uint8Array.from({ length: rows }, (_, row) => Number(row % EPISODE_LENGTH === EPISODE_LENGTH - 1)),
    source: `made up, ${obs_dim} observations and ${act_dim} actions`,
  }
}
