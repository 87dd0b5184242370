import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { type NamedLimits, costsIn, limitsOf, named as withOwnCosts } from '../config/limits.js'
import type { CostEvaluation, Evaluation, LimitEvaluation, PolicyEvaluation } from '../config/results.js'
import { readStored } from '../config/stored.js'
import { costColumn } from '../data/episodes.js'
import { type Environment, type OpenOptions, findEnvironment, playable } from '../data/environments.js'
import type { EnvFactory, Policy, VecEnv } from '../envs/env.js'
import { EMBEDDED_ENVS, type ScoreRange } from '../envs/registry.js'
import { type Runtime, openPolicy, policyFile } from '../export/open.js'
import { exists, sha256File, writeAtomic, writeJson } from '../base/files.js'
import { BESIDE, type Provenance, checkRunPolicies } from '../policy/provenance.js'
import { RUN_FILES, type RunRecord, readRecord } from '../train/run-folder.js'
import { lockRun } from '../train/run-lock.js'
import { EventFile, eventFiles } from '../train/tensorboard.js'
import { type EpisodeResult, type RolloutProgress, rollout } from '../envs/rollout.js'
import { COST_CONVENTIONS, type CostConvention, normalizeCost, normalizeReward } from './score.js'
import { summarize } from './statistics.js'

export const EVALUATION_FORMAT: Evaluation['format'] = 'drcorl-evaluation/1'

export type { Evaluation, LimitEvaluation, PolicyEvaluation }

export interface EvaluateOptions extends OpenOptions {
  /** Run folder: its policies, environment and cost limit are used, and the result is written into it. */
  run?: string | undefined
  /**
   * A policy, or the path of a policy file (`.safetensors`, `.onnx`, the `model.json` of a layers model);
   * without `run`.
   */
  policy?: Policy | string | undefined
  /** Embedded environment, DSRL task, `module:Id`, or a factory; default that of the run's data. */
  env?: string | EnvFactory | undefined
  /** Default 20. */
  episodes?: number | undefined
  /** Default 0; never occurs in scripted data, whatever its seed. */
  seed?: number | undefined
  /** Default the `cost_limit` of `settings`, or the run's. */
  cost_limit?: number | undefined
  /**
   * Limits on costs by their names, as in `train`: each is measured. Default those of the run; the first is the
   * `cost_limit`.
   */
  limits?: Readonly<Record<string, number>> | undefined
  /**
   * Limits that the policy to use is asked to keep one after the other, each judged by its own, the first beside the
   * policies that the run kept besides; only for policies from files that take a limit (setting `cost_limit`).
   */
  cost_limits?: readonly number[] | undefined
  /**
   * What a policy that is conditioned on something is asked for instead of what its file says, for example
   * `{ target_return: 400, cost_limit: 20 }`; only for policies from files.
   */
  settings?: Record<string, number> | undefined
  /** What computes the actions of policy files; default the best that is installed. */
  runtime?: Runtime | undefined
  signal?: AbortSignal | undefined
  onProgress?: ((progress: EvaluationProgress) => void) | undefined
}

export interface EvaluationProgress extends RolloutProgress {
  policy: string
  /** Episodes to play with this policy. */
  of: number
  steps_per_second: number
  eta_seconds: number
}

export interface EvaluationResult {
  evaluation: Evaluation
  /** Episodes of each policy evaluated. */
  episodes: { policy: string; episodes: EpisodeResult[] }[]
  /** Whether the run names the hashes of its policies; null without a run, and for one that has not ended. */
  provenance: Provenance | null
}

const DEFAULT_EPISODES = 20
/** Rows stepped side by side; more gain nothing with an MLP actor, and memory stays bounded. */
const MOST_ROWS = 64

/**
 * Plays episodes and measures return and cost. With `run`, evaluation.json and the list of episodes, as CSV
 * and JSON, are written into the folder.
 *
 * @throws DrcorlError `Usage`, `Config`, `Io`, `Data` or `Shape` (exit status 2) for bad input, a folder that cannot be
 *   written included, `Busy` while another process writes into it, all before anything is played; `Environment` where
 *   a real environment is missing or fails, `Cancelled` after the signal.
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluationResult> {
  const { run, policy } = options
  if (run === undefined || policy !== undefined) return play(options)
  // Only a folder that holds a run gets a lock.
  await readRecord(run)
  const unlock = await lockRun(run, 'evaluating', `to write nothing: drcorl evaluate ${join(run, RUN_FILES.policy)}`)
  try {
    return await play(options)
  } finally {
    unlock()
  }
}

async function play(options: EvaluateOptions): Promise<EvaluationResult> {
  const started = performance.now()
  const plan = await makePlan(options)
  const provenance = options.run === undefined ? null : await checkRunPolicies(options.run)
  const { env, measured } = await playAll(plan, options)
  const [main, ...others] = measured.filter(({ limit }) => limit === plan.cost_limit)
  if (main === undefined) throw new DrcorlError('Usage', 'there is no policy to evaluate')
  const beside = (file: string): PolicyEvaluation | null =>
    others.find(({ result }) => result.policy === file)?.result ?? null
  const first = options.cost_limits?.[0]
  const shipped = measured.filter(({ result }) => result.policy === main.result.policy)
  const evaluation: Evaluation = {
    format: EVALUATION_FORMAT,
    created: new Date().toISOString(),
    ...main.result,
    env,
    seed: plan.seed,
    cost_limit: plan.cost_limit,
    settings: { ...options.settings, ...(first === undefined ? {} : { cost_limit: first }) },
    score_range: scoreRange(plan.environment.score_range),
    selected: beside(BESIDE.selected),
    mixture: beside(BESIDE.mixture),
    by_limit: first === undefined ? null : shipped.map(atLimit),
    wall_seconds: (performance.now() - started) / 1000,
  }
  const episodes = measured.map(({ result, limit, episodes: own }) => ({
    // The names reports know are those of the first limit.
    policy: limit === plan.cost_limit ? result.policy : `${result.policy}@${limit}`,
    episodes: own,
  }))
  if (options.run !== undefined) {
    await writeJson(join(options.run, RUN_FILES.evaluation), evaluation)
    await writeAtomic(join(options.run, RUN_FILES.episodes), episodesCsv(episodes))
    await writeJson(join(options.run, RUN_FILES.episodesJson), episodes)
    await addScalars(options.run, evaluation)
  }
  return { evaluation, episodes, provenance }
}

/** Where the run was trained with event files, the evaluation is a point at its last step. */
async function addScalars(run: string, evaluation: Evaluation): Promise<void> {
  const result = join(run, RUN_FILES.result)
  if ((await eventFiles(run)).length === 0 || !(await exists(result))) return
  const { steps } = await readStored('RunResult', result)
  if (steps === undefined) return
  const { return: reward, cost, length, normalized_reward, normalized_cost } = evaluation
  const events = await EventFile.create(run)
  events.add(steps, {
    'eval/reward': reward.mean,
    'eval/cost': cost.mean,
    'eval/length': length.mean,
    ...(normalized_reward === null ? {} : { 'eval/normalized_reward': normalized_reward }),
    ...(normalized_cost === null ? {} : { 'eval/normalized_cost': normalized_cost.dsrl }),
  })
  await events.close()
}

const atLimit = ({ result, limit }: Measured): LimitEvaluation => ({ ...result, cost_limit: limit! })

interface NamedPolicy {
  policy: Policy
  name: string
  sha256: string | null
}

/** A policy, and the limit that judges it. */
interface Judged extends NamedPolicy {
  limit: number | null
}

interface Plan {
  policies: Judged[]
  environment: Pick<Environment, 'make' | 'score_range'>
  episodes: number
  seed: number
  /** The one limit, or the first of several. */
  cost_limit: number | null
  /** Limits by the names of their costs; empty where the environment's own cost is judged alone. */
  limits: NamedLimits
}

interface Measured {
  limit: number | null
  result: PolicyEvaluation
  episodes: EpisodeResult[]
}

async function makePlan(options: EvaluateOptions): Promise<Plan> {
  if ((options.run === undefined) === (options.policy === undefined)) {
    throw new DrcorlError('Usage', 'evaluate needs a run folder or a policy, one of the two')
  }
  const record = options.run === undefined ? null : await readRecord(options.run)
  const asked = options.env ?? (record === null ? undefined : environmentOf(record))
  if (asked === undefined) throw noEnvironment(record?.dataset.source)
  const named = readLimits(options, record)
  const costs = costsIn(named)
  const environment =
    typeof asked === 'string'
      ? findEnvironment(asked, { ...options, costs })
      : { make: asked, score_range: scoreRange(record?.task) }
  const { settings = {}, runtime } = options
  const recorded = named[0]?.[1] ?? record?.run['cost_limit']
  // A policy is judged by the limit it was asked to keep.
  const limits = requireLimits(options)
  const wanted = limits?.[0] ?? options.cost_limit ?? settings['cost_limit']
  const found = wanted ?? (typeof recorded === 'number' ? recorded : null)
  const limit = found === null ? null : requireLimit(found)
  const open = (asked: Record<string, number>): Promise<NamedPolicy[]> =>
    options.run === undefined
      ? namePolicy(options.policy!, asked, runtime).then((policy) => [policy])
      : runPolicies(options.run, asked, runtime)
  if (limits !== undefined) requireTaken(await open(settings))
  const policies: Judged[] = []
  for (const one of limits ?? [limit]) {
    const opened = await open(limits === undefined ? settings : { ...settings, cost_limit: one! })
    // Other limits are for the policy to use, which comes first.
    for (const policy of one === limit ? opened : opened.slice(0, 1)) policies.push({ ...policy, limit: one })
  }
  return {
    policies,
    environment,
    episodes: requireWhole('episodes', options.episodes ?? DEFAULT_EPISODES, 1),
    seed: requireWhole('seed', options.seed ?? 0, 0),
    cost_limit: limit,
    limits: named,
  }
}

/** The named limits asked for, or those of the run. */
function readLimits({ limits, ...options }: EvaluateOptions, record: RunRecord | null): Plan['limits'] {
  const asked = limitsOf({ limits: withOwnCosts(limits ?? record?.run['limits']) })
  asked.forEach(([, limit]) => requireLimit(limit))
  const other = options.cost_limits ?? options.cost_limit ?? options.settings?.['cost_limit']
  // A single limit by its name may be replaced by another number.
  if (other === undefined || (asked.length < 2 && limits === undefined)) return asked
  const all = asked.map(([name, limit]) => `${name} ${limit}`).join(', ')
  throw new DrcorlError('Usage', `a cost limit is given, and limits by name are too: ${all}`, {
    hint: 'give each by its name: --limit NAME=NUMBER',
  })
}

/** Several limits, or undefined where none are asked for. */
function requireLimits({ cost_limits: limits, cost_limit, settings }: EvaluateOptions): readonly number[] | undefined {
  if (limits === undefined) return undefined
  if (limits.length === 0) throw new DrcorlError('Usage', 'cost_limits is empty; give one limit or more')
  limits.forEach(requireLimit)
  const twice = limits.find((limit, index) => limits.indexOf(limit) !== index)
  if (twice !== undefined) throw new DrcorlError('Usage', `cost_limits has ${twice} twice; give each limit once`)
  if (cost_limit !== undefined || settings?.['cost_limit'] !== undefined) {
    throw new DrcorlError('Usage', 'cost_limit and cost_limits are both given; give one of them')
  }
  return limits
}

/** Refuses policies that keep to the limit they were trained with. */
function requireTaken(policies: readonly NamedPolicy[]): void {
  for (const { policy, name } of policies) {
    const settings = 'settings' in policy ? (policy.settings as Record<string, number>) : {}
    if ('cost_limit' in settings) continue
    throw new DrcorlError('Usage', `${name} takes no limit: it keeps to the one it was trained with`, {
      hint: 'judge it by another one with cost_limit (--cost-limit), or train it once for each limit',
    })
  }
}

/** The environment a run's data came from, where this version can play it. */
export const environmentOf = ({ task }: RunRecord): string | undefined => playable(task)

/** Plays every policy in the same environments: opening them takes longer than many an episode. */
async function playAll(plan: Plan, options: EvaluateOptions): Promise<{ env: string; measured: Measured[] }> {
  const env = await plan.environment.make(Math.min(plan.episodes, MOST_ROWS), options.signal)
  try {
    const measured: Measured[] = []
    for (const policy of plan.policies) measured.push(await measure(policy, env, plan, options))
    return { env: env.id, measured }
  } finally {
    await env.close?.()
  }
}

async function measure(
  { policy, name, sha256, limit }: Judged,
  env: VecEnv,
  { episodes, seed, environment, limits }: Plan,
  { signal, onProgress }: EvaluateOptions,
): Promise<Measured> {
  const start = performance.now()
  const seconds = (): number => (performance.now() - start) / 1000
  const tell = (progress: RolloutProgress): void => {
    const steps_per_second = progress.environment_steps / seconds()
    const eta_seconds = (seconds() * (1 - progress.share)) / progress.share
    onProgress?.({ ...progress, policy: name, of: episodes, steps_per_second, eta_seconds })
  }
  const costs = costsIn(limits)
  const played = await rollout(policy, env, { episodes, seed, signal, onProgress: tell, costs })
  const cost = { steps: played.environment_steps, seconds: seconds() }
  const judged = { cost_limit: limit, score_range: scoreRange(environment.score_range), limits }
  const source = { policy: name, sha256, runtime: policy.runtime ?? null }
  return { limit, result: describe(source, played.episodes, cost, judged), episodes: played.episodes }
}

/** Those four numbers alone, of whatever holds them. */
function scoreRange(task: ScoreRange | null | undefined): ScoreRange | null {
  if (task === null || task === undefined) return null
  const { min_return, max_return, min_cost, max_cost } = task
  return { min_return, max_return, min_cost, max_cost }
}

/** What episodes are held against. */
interface Judgement {
  cost_limit: number | null
  score_range: ScoreRange | null
  /** Where they are several, each is measured. */
  limits?: NamedLimits
}

/** Turns episodes into the numbers that are reported. */
export function describe(
  source: Pick<PolicyEvaluation, 'policy' | 'sha256' | 'runtime'>,
  episodes: readonly EpisodeResult[],
  spent: { steps: number; seconds: number },
  { cost_limit, score_range, limits = [] }: Judgement,
): PolicyEvaluation {
  const ret = summarize(episodes.map((episode) => episode.return))
  const cost = summarize(episodes.map((episode) => episode.cost))
  const length = summarize(episodes.map((episode) => episode.length))
  const within = cost_limit === null ? null : episodes.filter((episode) => episode.cost <= cost_limit).length
  return {
    ...source,
    episodes: episodes.length,
    return: ret,
    cost,
    length,
    normalized_reward: score_range === null ? null : normalizeReward(ret.mean, score_range),
    normalized_cost: cost_limit === null ? null : normalizedCosts(cost.mean, cost_limit),
    within_limit: within === null ? null : { episodes: within, share: within / episodes.length },
    safe: cost_limit === null ? null : cost.mean <= cost_limit,
    ...(limits.length < 2 ? {} : { costs: limits.map(([name, limit]) => costOf(name, limit, episodes)) }),
    environment_steps: spent.steps,
    steps_per_second: spent.steps / spent.seconds,
  }
}

/** One of several costs over its episodes. */
function costOf(name: string, cost_limit: number, episodes: readonly EpisodeResult[]): CostEvaluation {
  const sums = episodes.map(({ costs }) => costs?.[name] ?? Number.NaN)
  const cost = summarize(sums)
  const within = sums.filter((sum) => sum <= cost_limit).length
  const within_limit = { episodes: within, share: within / episodes.length }
  return { name, cost_limit, cost, within_limit, safe: cost.mean <= cost_limit }
}

function normalizedCosts(cost: number, limit: number): Record<CostConvention, number> {
  const entries = COST_CONVENTIONS.map((convention) => [convention, normalizeCost(cost, limit, convention)])
  return Object.fromEntries(entries) as Record<CostConvention, number>
}

/** `episodes.csv`: one row an episode, so that any statistic can be computed again; a column for each further cost. */
export function episodesCsv(policies: EvaluationResult['episodes']): string {
  const further = Object.keys(policies[0]?.episodes[0]?.costs ?? {}).slice(1)
  const header = [
    'policy',
    'episode',
    'seed',
    'return',
    'cost',
    'length',
    'terminated',
    ...further.map((name) => costColumn(name)),
  ]
  const rows = policies.flatMap(({ policy, episodes }) =>
    episodes.map((e) => {
      const ended = e.terminated ? 1 : 0
      return [policy, e.episode, e.seed, e.return, e.cost, e.length, ended, ...further.map((name) => e.costs![name]!)]
    }),
  )
  return `${[header, ...rows].map((row) => row.join(',')).join('\n')}\n`
}

/** The policy to use and, where the run kept them, those beside it. */
async function runPolicies(
  run: string,
  settings: Record<string, number>,
  runtime: Runtime | undefined,
): Promise<NamedPolicy[]> {
  const main = join(run, RUN_FILES.policy)
  if (!(await exists(main))) {
    throw new DrcorlError('Io', `${run} holds no ${RUN_FILES.policy}: its training has not ended`, {
      exitStatus: 2,
      hint: `go on with: drcorl train --resume ${run}`,
    })
  }
  const paths = [main]
  for (const file of Object.values(BESIDE)) if (await exists(join(run, file))) paths.push(join(run, file))
  return Promise.all(paths.map((path) => namePolicy(path, settings, runtime)))
}

async function namePolicy(
  policy: Policy | string,
  settings: Record<string, number>,
  runtime: Runtime | undefined,
): Promise<NamedPolicy> {
  if (typeof policy === 'string') {
    const path = await policyFile(policy)
    const loaded = await openPolicy(path, { settings, runtime })
    return { policy: loaded, name: loaded.name, sha256: await sha256File(path) }
  }
  const [name] = Object.keys(settings)
  if (name === undefined) return { policy, name: policy.name, sha256: null }
  throw new DrcorlError('Usage', `settings.${name} is given, but the policy is an object, not a file`, {
    hint: 'pass the settings to loadPolicy',
  })
}

function noEnvironment(source: string | undefined): DrcorlError {
  const known = EMBEDDED_ENVS.map((env) => env.id).join(', ')
  const which = source === undefined ? 'no environment is named' : `no environment is known for the data ${source}`
  return new DrcorlError('Usage', `${which}; embedded environments: ${known}`, {
    hint: 'name a task with --task, or an environment with --env (see: npx drcorl envs list)',
  })
}

function requireWhole(name: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new DrcorlError('Usage', `${name} ${value} must be a whole number, ${least} or more`)
}

function requireLimit(limit: number): number {
  if (Number.isFinite(limit) && limit >= 0) return limit
  throw new DrcorlError('Usage', `cost limit ${limit} must be a number, 0 or more`)
}
