/** Policies played in an environment and written as a DSRL dataset. */
import { rm } from 'node:fs/promises'
import { DrcorlError, toDrcorlError } from '../base/errors.js'
import { sha256File } from '../base/files.js'
import { type Finding, datasetFindings } from '../data/checks.js'
import { loadDataset } from '../data/dataset.js'
import type { VecEnv } from '../envs/env.js'
import { type RolloutProgress, type Transition, rollout } from '../envs/rollout.js'
import { datasetFromColumns } from '../native/dataset.js'
import { lock } from '../native/lock.js'
import { writeDatasetFile } from '../native/operation.js'
import { columnsOf } from '../train/visits.js'
import { Journal, type RecordedEpisode, type Recipe, type Round } from './journal.js'
import { Mixture } from './mixture.js'
import { type Plan, type RecordOptions, boxed, partOf, readPlan, recipeOf, requireMemory } from './plan.js'
import type { Player } from './players.js'

export type { RecordedEpisode } from './journal.js'
export type { RecordOptions, RecordProgress } from './plan.js'
export type { PolicyShare, RecordedEnv } from './players.js'

export const RECORD_FORMAT = 'drcorl-record/1'
/** Root attribute of a recorded file: JSON of what was played. */
const RECORD_ATTRIBUTE = 'drcorl_record'

/** One policy of a recording. */
export interface RecordedPolicy {
  policy: string
  /** Hex SHA-256 of its file; null for `random` and for objects. */
  sha256: string | null
  weight: number
  /** Episodes it played. */
  episodes: number
  /** What it was asked for instead of what its file says. */
  settings: Record<string, number>
  /** What computed its actions, for a policy that came from a file. */
  runtime: string | null
}

export interface RecordReport {
  output: string
  sha256: string
  env: string
  seed: number
  noise: number
  episodes: number
  transitions: number
  /** Steps the environment took for this file, those of a recording that was cut short included. */
  environment_steps: number
  /** Episodes that were there already when this went on. */
  kept: number
  policies: RecordedPolicy[]
  /** Every episode, in the order of the file. */
  played: RecordedEpisode[]
  /** What is odd about the data. */
  findings: readonly Finding[]
}

/** Seeds of recorded episodes start here, far from those of evaluation and of visits. */
const FIRST_SEED = 2 ** 31
/** Between the first episodes of two seeds. */
const SEEDS_A_RECORDING = 1_000_000
/**
 * Records a dataset. Its bits are a function of policies, environment, seed, noise and size.
 *
 * Whole rounds of episodes wait in `OUTPUT.part`, also after an interruption or an error, and `resume` goes on with
 * them to the bits of a recording that was never cut short. The output appears only when it is complete.
 *
 * @throws DrcorlError `Usage`, `Config`, `Io`, `Data` or `Shape` (exit status 2) for bad input, before anything is
 *   played; `Environment` or `Data` where environment or policy fail, `Busy`, `Cancelled` after the signal.
 */
export async function recordDataset(output: string, options: RecordOptions): Promise<RecordReport> {
  const plan = await readPlan(output, options)
  const unlock = await lock(`${output}.lock`, 'recording into this file')
  try {
    return await record(output, plan, options)
  } finally {
    unlock()
  }
}

async function record(output: string, plan: Plan, options: RecordOptions): Promise<RecordReport> {
  const env = await plan.make(plan.rows, options.signal)
  let journal: Journal | undefined
  try {
    requireMemory(plan, env)
    const mixture = await Mixture.make(boxed(env), plan.players, plan)
    const recipe = recipeOf(plan, env)
    journal = await openJournal(partOf(output), env, recipe, options.resume)
    const kept = journal.episodes
    await playAll(env, mixture, plan, journal, options)
    const report = await write(output, plan, env, journal, options)
    await journal.remove()
    return { ...report, kept }
  } catch (error) {
    throw await leave(journal, plan, toDrcorlError(error))
  } finally {
    await env.close?.()
  }
}

async function openJournal(path: string, env: VecEnv, recipe: Recipe, resume = false): Promise<Journal> {
  if (!resume) {
    await rm(path, { force: true })
    return Journal.create(path, env, recipe)
  }
  const journal = await Journal.open(path)
  try {
    requireSame(recipe, journal)
    return journal
  } catch (error) {
    await journal.close()
    throw error
  }
}

/** Plays round after round until there is enough. */
async function playAll(
  env: VecEnv,
  mixture: Mixture,
  plan: Plan,
  journal: Journal,
  { signal, onProgress }: RecordOptions,
): Promise<void> {
  const started = performance.now()
  const { num_envs, episode_length } = env
  const before = shareOf(plan, journal)
  // Of what is asked for, the share of a round of full length.
  const part = plan.episodes === null ? (num_envs * episode_length) / plan.steps! : num_envs / plan.episodes
  let stepped = 0
  for (let done = before; done < 1; done = shareOf(plan, journal)) {
    const first = journal.episodes
    const tell = (progress: RolloutProgress): void => {
      const seconds = (performance.now() - started) / 1000
      const share = Math.min(1, done + part * progress.share)
      onProgress?.({
        episodes: Math.min(first + progress.episodes, plan.episodes ?? Number.POSITIVE_INFINITY),
        of: plan.episodes,
        share,
        steps_per_second: (stepped + progress.environment_steps) / seconds,
        eta_seconds: (seconds * (1 - share)) / (share - before),
      })
    }
    const base = FIRST_SEED + ((plan.seed * SEEDS_A_RECORDING) % FIRST_SEED) + first
    const round = await playRound(env, mixture, { first, base }, { signal, onProgress: tell })
    stepped += round.environment_steps
    await journal.add(round)
  }
}

/** @param at number of the first episode, and the seed of its environment. */
async function playRound(
  env: VecEnv,
  mixture: Mixture,
  { first, base }: { first: number; base: number },
  watch: { signal: AbortSignal | undefined; onProgress: (progress: RolloutProgress) => void },
): Promise<Round> {
  const seeds = Array.from({ length: env.num_envs }, (_, row) => base + row)
  const players = mixture.begin(first, seeds)
  const met: Transition[] = []
  const onTransition = (transition: Transition): unknown => met.push(transition)
  const played = await rollout(mixture, env, { episodes: env.num_envs, seed: base, ...watch, onTransition })
  return roundOf(played, players, columnsOf(met, env, `the episodes from ${first} on`))
}

async function roundOf(
  { episodes, environment_steps }: Awaited<ReturnType<typeof rollout>>,
  players: readonly Player[],
  columns: ReturnType<typeof columnsOf>,
): Promise<Round> {
  // What a dataset cannot hold, a negative cost say, is told now and not at the end.
  ;(await datasetFromColumns(columns)).release()
  const told = episodes.map((episode, row): RecordedEpisode => {
    const { seed, return: ret, cost, length, terminated } = episode
    return { policy: players[row]!.policy, seed, return: ret, cost, length, terminated }
  })
  return { episodes: told, environment_steps, columns }
}

async function write(
  output: string,
  plan: Plan,
  env: VecEnv,
  journal: Journal,
  { signal }: RecordOptions,
): Promise<Omit<RecordReport, 'kept'>> {
  const played = wanted(
    plan,
    journal.rounds.flatMap(({ episodes }) => episodes),
  )
  const policies = plan.players.map(({ policy, sha256, weight, settings, runtime }) => {
    const episodes = played.filter((episode) => episode.policy === policy).length
    return { policy, sha256, weight, episodes, settings, runtime }
  })
  const transitions = played.reduce((sum, { length }) => sum + length, 0)
  const environment_steps = journal.rounds.reduce((sum, round) => sum + round.environment_steps, 0)
  const { noise, seed } = plan
  const counts = { episodes: played.length, transitions, environment_steps }
  const content = { format: RECORD_FORMAT, env: env.id, policies, seed, noise, ...counts }
  const dataset = await loadDataset(await journal.columns(played.length, output))
  const findings = datasetFindings(dataset)
  await writeDatasetFile(dataset.native, output, { [RECORD_ATTRIBUTE]: JSON.stringify(content) }, { signal })
  dataset.native.release()
  const sha256 = await sha256File(output)
  return { output, sha256, env: env.id, seed, noise, ...counts, policies, played, findings }
}

/** Of the episodes played, those that were asked for. */
function wanted({ episodes, steps }: Plan, played: readonly RecordedEpisode[]): RecordedEpisode[] {
  if (episodes !== null) return played.slice(0, episodes)
  let [count, sum] = [0, 0]
  while (count < played.length && sum < steps!) sum += played[count++]!.length
  return played.slice(0, count)
}

const shareOf = ({ episodes, steps }: Plan, journal: Journal): number =>
  episodes === null ? journal.transitions / steps! : journal.episodes / episodes

/** Closes the journal, which stays where it holds episodes, and says so. */
async function leave(journal: Journal | undefined, plan: Plan, error: DrcorlError): Promise<DrcorlError> {
  if (journal === undefined) return error
  const episodes = Math.min(journal.episodes, plan.episodes ?? Number.POSITIVE_INFINITY)
  const { code, exitStatus } = error
  const isEmpty = episodes === 0
  await (isEmpty ? journal.remove() : journal.close())
  const goOn = 'go on with the same command and --resume'
  const kept = `${episodes}${plan.episodes === null ? '' : ` of ${plan.episodes}`} episodes are kept in ${journal.path}`
  if (code === 'Cancelled') {
    const message = `recording was stopped: ${isEmpty ? 'no episode had ended' : kept}`
    return new DrcorlError(code, message, { cause: error, ...(isEmpty ? {} : { hint: goOn }) })
  }
  if (isEmpty) return error
  const hint = [error.hint, `${kept}; ${goOn}`].filter((line) => line !== undefined).join('\n  ')
  return new DrcorlError(code, error.message, { cause: error, exitStatus, hint })
}

function requireSame(recipe: Recipe, { head, path }: Journal): void {
  for (const [name, value] of Object.entries(recipe)) {
    const [before, now] = [JSON.stringify(head.recipe[name]), JSON.stringify(value)]
    if (before === now) continue
    throw new DrcorlError('Usage', `the recording in ${path} was begun with ${name} ${before}, not ${now}`, {
      hint: 'go on with the same command and --resume, or begin anew with --overwrite',
    })
  }
}
