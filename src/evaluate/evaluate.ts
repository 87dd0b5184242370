import { join } from 'node:path'
import { DrcorlError } from '../errors.js'
import type { EnvFactory, Policy } from '../envs/env.js'
import { EMBEDDED_ENVS, type ScoreRange, findEnv } from '../envs/registry.js'
import { sha256File, writeAtomic, writeJson } from '../files.js'
import { RUN_FILES, exists, readRecord } from '../train/run-folder.js'
import { loadPolicy } from './policy.js'
import { type EpisodeResult, rollout } from './rollout.js'
import { COST_CONVENTIONS, type CostConvention, normalizeCost, normalizeReward } from './score.js'
import { type Statistics, summarize } from './statistics.js'

export const EVALUATION_FORMAT = 'drcorl-evaluation/1'

/** What was measured over the episodes of one policy. */
export interface PolicyEvaluation {
  /** File name in the run folder, or the policy's name. */
  policy: string
  /** Of the policy file; null for a policy that came as an object. */
  sha256: string | null
  episodes: number
  return: Statistics
  cost: Statistics
  /** Steps of an episode. */
  length: Statistics
  /** Of the mean return; null where no score range is known. */
  normalized_reward: number | null
  /** Of the mean cost, by each convention of the field; null without a limit. */
  normalized_cost: Record<CostConvention, number> | null
  /** Episodes with cost <= limit; null without a limit. */
  within_limit: { episodes: number; share: number } | null
  /** Mean cost <= limit; null without a limit. */
  safe: boolean | null
  environment_steps: number
}

/** `evaluation.json`. */
export interface Evaluation extends PolicyEvaluation {
  format: typeof EVALUATION_FORMAT
  created: string
  env: string
  /** Episode i was reset with seed + i. */
  seed: number
  cost_limit: number | null
  /** What the policy was asked for, where that was not what its file says. */
  settings: Record<string, number>
  score_range: ScoreRange | null
  /** The offline-selected candidate beside the policy to use, where the run has one; same seeds. */
  selected: PolicyEvaluation | null
  wall_seconds: number
}

export interface EvaluateOptions {
  /** Run folder: its policies, environment and cost limit are used, and the result is written into it. */
  run?: string | undefined
  /** A policy, or the path of a policy file; without `run`. */
  policy?: Policy | string | undefined
  /** Name of an embedded environment, or a factory; default the one the run's data came from. */
  env?: string | EnvFactory | undefined
  /** Default 20. */
  episodes?: number | undefined
  /** Default 0; never occurs in scripted data, whatever its seed. */
  seed?: number | undefined
  /** Default the `cost_limit` of `settings`, or the run's. */
  costLimit?: number | undefined
  /**
   * What a policy that is conditioned on something is asked for instead of what its file says, for example
   * `{ target_return: 400, cost_limit: 20 }`; only for policies from files.
   */
  settings?: Record<string, number> | undefined
  signal?: AbortSignal | undefined
}

export interface EvaluationResult {
  evaluation: Evaluation
  /** Episodes of each policy evaluated. */
  episodes: { policy: string; episodes: EpisodeResult[] }[]
}

const DEFAULT_EPISODES = 20
/** Rows stepped side by side; more gain nothing with an MLP actor, and memory stays bounded. */
const MOST_ROWS = 64

/**
 * Plays episodes and measures return and cost. With `run`, evaluation.json and episodes.csv are written into the folder.
 *
 * @throws DrcorlError `Usage`, `Config`, `Io`, `Data` or `Shape` (exit status 2) for bad input, `Cancelled` after the signal.
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluationResult> {
  const started = performance.now()
  const plan = await makePlan(options)
  const measured: { result: PolicyEvaluation; episodes: EpisodeResult[] }[] = []
  for (const policy of plan.policies) measured.push(await measure(policy, plan, options.signal))
  const [main, selected] = measured
  if (main === undefined) throw new DrcorlError('Usage', 'there is no policy to evaluate')
  const evaluation: Evaluation = {
    format: EVALUATION_FORMAT,
    created: new Date().toISOString(),
    ...main.result,
    env: plan.envName,
    seed: plan.seed,
    cost_limit: plan.costLimit,
    settings: options.settings ?? {},
    score_range: plan.scoreRange,
    selected: selected?.result ?? null,
    wall_seconds: (performance.now() - started) / 1000,
  }
  const episodes = measured.map(({ result, episodes: own }) => ({ policy: result.policy, episodes: own }))
  if (options.run !== undefined) {
    await writeJson(join(options.run, RUN_FILES.evaluation), evaluation)
    await writeAtomic(join(options.run, RUN_FILES.episodes), episodesCsv(episodes))
  }
  return { evaluation, episodes }
}

interface NamedPolicy {
  policy: Policy
  name: string
  sha256: string | null
}

interface Plan {
  policies: NamedPolicy[]
  make: EnvFactory
  envName: string
  episodes: number
  seed: number
  costLimit: number | null
  scoreRange: ScoreRange | null
}

async function makePlan(options: EvaluateOptions): Promise<Plan> {
  if ((options.run === undefined) === (options.policy === undefined)) {
    throw new DrcorlError('Usage', 'evaluate needs a run folder or a policy, one of the two')
  }
  const record = options.run === undefined ? null : await readRecord(options.run)
  const asked = options.env ?? record?.task?.env
  if (asked === undefined || asked === null) throw noEnvironment(record?.dataset.source)
  const embedded = typeof asked === 'string' ? findEnv(asked) : undefined
  if (typeof asked === 'string' && embedded === undefined) throw unknownEnvironment(asked)
  const make = typeof asked === 'string' ? embedded!.make : asked
  const settings = options.settings ?? {}
  const recorded = record?.run['cost_limit']
  // A policy is judged by the limit it was asked to keep.
  const wanted = options.costLimit ?? settings['cost_limit']
  const limit = wanted ?? (typeof recorded === 'number' ? recorded : null)
  return {
    policies:
      options.run === undefined
        ? [await namePolicy(options.policy!, settings)]
        : await runPolicies(options.run, settings),
    make,
    envName: embedded?.id ?? make(1).id,
    episodes: requireWhole('episodes', options.episodes ?? DEFAULT_EPISODES, 1),
    seed: requireWhole('seed', options.seed ?? 0, 0),
    costLimit: limit === null ? null : requireLimit(limit),
    scoreRange: embedded?.score_range ?? record?.task ?? null,
  }
}

async function measure(
  { policy, name, sha256 }: NamedPolicy,
  plan: Plan,
  signal: AbortSignal | undefined,
): Promise<{ result: PolicyEvaluation; episodes: EpisodeResult[] }> {
  const env = plan.make(Math.min(plan.episodes, MOST_ROWS))
  try {
    const { episodes, seed } = plan
    const played = await rollout(policy, env, { episodes, seed, signal })
    return {
      result: describe(name, sha256, played.episodes, played.environment_steps, plan),
      episodes: played.episodes,
    }
  } finally {
    await env.close?.()
  }
}

/** Turns episodes into the numbers that are reported. */
export function describe(
  policy: string,
  sha256: string | null,
  episodes: readonly EpisodeResult[],
  environmentSteps: number,
  { costLimit, scoreRange }: { costLimit: number | null; scoreRange: ScoreRange | null },
): PolicyEvaluation {
  const ret = summarize(episodes.map((episode) => episode.return))
  const cost = summarize(episodes.map((episode) => episode.cost))
  const length = summarize(episodes.map((episode) => episode.length))
  const within = costLimit === null ? null : episodes.filter((episode) => episode.cost <= costLimit).length
  return {
    policy,
    sha256,
    episodes: episodes.length,
    return: ret,
    cost,
    length,
    normalized_reward: scoreRange === null ? null : normalizeReward(ret.mean, scoreRange),
    normalized_cost: costLimit === null ? null : normalizedCosts(cost.mean, costLimit),
    within_limit: within === null ? null : { episodes: within, share: within / episodes.length },
    safe: costLimit === null ? null : cost.mean <= costLimit,
    environment_steps: environmentSteps,
  }
}

function normalizedCosts(cost: number, limit: number): Record<CostConvention, number> {
  const entries = COST_CONVENTIONS.map((convention) => [convention, normalizeCost(cost, limit, convention)])
  return Object.fromEntries(entries) as Record<CostConvention, number>
}

/** `episodes.csv`: one row an episode, so that any statistic can be computed again. */
export function episodesCsv(policies: EvaluationResult['episodes']): string {
  const header = 'policy,episode,seed,return,cost,length,terminated'
  const rows = policies.flatMap(({ policy, episodes }) =>
    episodes.map((e) => [policy, e.episode, e.seed, e.return, e.cost, e.length, e.terminated ? 1 : 0].join(',')),
  )
  return `${[header, ...rows].join('\n')}\n`
}

/** The policy to use and, where the run kept one, the offline-selected candidate. */
async function runPolicies(run: string, settings: Record<string, number>): Promise<NamedPolicy[]> {
  const main = join(run, RUN_FILES.policy)
  if (!(await exists(main))) {
    throw new DrcorlError('Io', `${run} holds no ${RUN_FILES.policy}: its training has not ended`, {
      exitStatus: 2,
      hint: `go on with: drcorl train --resume ${run}`,
    })
  }
  const selected = join(run, RUN_FILES.selected)
  const paths = (await exists(selected)) ? [main, selected] : [main]
  return Promise.all(paths.map((path) => namePolicy(path, settings)))
}

async function namePolicy(policy: Policy | string, settings: Record<string, number>): Promise<NamedPolicy> {
  if (typeof policy === 'string') {
    const loaded = await loadPolicy(policy, settings)
    return { policy: loaded, name: loaded.name, sha256: await sha256File(policy) }
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
  return new DrcorlError('Usage', `${which}; embedded environments: ${known}`, { hint: 'name one with --env' })
}

function unknownEnvironment(name: string): DrcorlError {
  const known = EMBEDDED_ENVS.map((env) => env.id).join(', ')
  return new DrcorlError('Usage', `unknown environment "${name}"; known: ${known}`)
}

function requireWhole(name: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new DrcorlError('Usage', `${name} ${value} must be a whole number, ${least} or more`)
}

function requireLimit(limit: number): number {
  if (Number.isFinite(limit) && limit >= 0) return limit
  throw new DrcorlError('Usage', `cost limit ${limit} must be a number, 0 or more`)
}
