import { setImmediate } from 'node:timers/promises'
import { DrcorlError } from '../base/errors.js'
import { own } from '../base/own.js'
import { OWN_COST } from '../config/limits.js'
import type { Feedback, Policy, StepResult, VecEnv } from './env.js'

/** One evaluated episode: undiscounted sums over its steps. */
export interface EpisodeResult {
  episode: number
  /** Seed the episode was reset with. */
  seed: number
  return: number
  cost: number
  /** Every cost that was asked for by its name, where these are several; `cost` is the first. */
  costs?: Record<string, number>
  /** Steps. */
  length: number
  /** True where it ended in a terminal state, false where it was cut at the step limit. */
  terminated: boolean
}

export interface Rollout {
  episodes: EpisodeResult[]
  /** What the environment really executed: rows that have ended are included where it goes on stepping them. */
  environment_steps: number
}

/** Where a rollout stands, told after every step of the N rows. */
export interface RolloutProgress {
  /** Episodes that have ended. */
  episodes: number
  environment_steps: number
  /** Share of the longest possible course, 0 to 1: episodes that end early make it jump. */
  share: number
}

/** One step of a running row; the arrays are copies. */
export interface Transition {
  /** Row of the environments, which is the number of the episode while these are no more than rows. */
  row: number
  /** [S]. */
  observation: Float32Array
  /** [A]. */
  action: Float32Array
  reward: number
  cost: number
  /** Further costs by their names, where the environment gives any. */
  further?: Record<string, number>
  /** [S], the true successor also at the end of an episode. */
  next_observation: Float32Array
  terminated: boolean
  truncated: boolean
}

export interface RolloutOptions {
  /** Number of episodes, default one for each row. */
  episodes?: number
  /** Episode i is reset with seed + i; default 0. */
  seed?: number
  /**
   * Names of the costs to sum, `costs` being the environment's own; the first is the `cost` of an episode.
   * Default that.
   */
  costs?: readonly string[] | undefined
  /** False where costs alone are asked for: an environment may then give no rewards, and returns are 0. */
  rewards?: boolean
  signal?: AbortSignal | undefined
  onProgress?: ((progress: RolloutProgress) => void) | undefined
  /** Told every step of every row up to its end. */
  onTransition?: ((transition: Transition) => void) | undefined
}

/**
 * Plays a policy in N environments side by side. Each row counts up to its first end; rows that end early wait for the
 * others. More episodes than rows are played in several rounds.
 *
 * @throws DrcorlError `Shape` where policy and environment do not fit, `Data` where the environment or the policy
 *   answers with something that is no number, `Cancelled` after the signal.
 */
export async function rollout(policy: Policy, env: VecEnv, options: RolloutOptions = {}): Promise<Rollout> {
  const { episodes = env.num_envs, seed = 0, signal, onProgress, onTransition, costs, rewards } = options
  requireFit(policy, env)
  const played: Rollout = { episodes: [], environment_steps: 0 }
  while (played.episodes.length < episodes) {
    const first = played.episodes.length
    const rows = Math.min(env.num_envs, episodes - first)
    const tell = (step: number, ended: number, stepped: number): void =>
      onProgress?.({
        episodes: first + Math.min(ended, rows),
        environment_steps: played.environment_steps + stepped,
        share: (first + rows * (ended === env.num_envs ? 1 : step / env.episode_length)) / episodes,
      })
    const round = await playRound(policy, env, seed + first, { signal, tell, onTransition, costs, rewards })
    played.environment_steps += round.stepped
    for (const episode of round.episodes.slice(0, episodes - first)) {
      played.episodes.push({ ...episode, episode: played.episodes.length })
    }
    // Embedded environments answer at once: without this the event loop would stand still for the whole evaluation.
    await setImmediate()
  }
  return played
}

interface RoundOptions extends Pick<RolloutOptions, 'signal' | 'onTransition' | 'costs'> {
  rewards: boolean | undefined
  tell: (step: number, ended: number, stepped: number) => void
}

/** One reset of all rows, stepped until every row has ended once. */
async function playRound(
  policy: Policy,
  env: VecEnv,
  seed: number,
  { signal, tell, onTransition, costs: names = [OWN_COST], rewards: needed = true }: RoundOptions,
): Promise<{ episodes: EpisodeResult[]; stepped: number }> {
  const n = env.num_envs
  const rows = Array.from({ length: n }, (_, row) => row)
  const episodes = rows.map((row) => emptyEpisode(row, seed + row))
  const running = new Set(rows)
  let observations = await env.reset(episodes.map((episode) => episode.seed))
  let feedback: Feedback = { rewards: new Float32Array(n), costs: new Float32Array(n) }
  policy.reset(
    rows,
    episodes.map((episode) => episode.seed),
  )
  let stepped = 0
  let steps = 0
  for (; running.size > 0; steps += 1) {
    if (signal?.aborted) throw new DrcorlError('Cancelled', 'evaluation was cancelled')
    if (steps >= env.episode_length) {
      throw new DrcorlError('Data', `${env.id}: an episode did not end after ${steps} steps, its stated length`)
    }
    const actions = await policy.act(observations, feedback)
    requireActions(actions, policy, env)
    // The environment may write its next answer into the same array.
    const before = onTransition === undefined ? observations : observations.slice()
    const result = withRewards(await env.step(actions), needed, env)
    stepped += result.stepped ?? n
    const costs = names.map((name) => costOf(result, name, env))
    for (const row of running) {
      const episode = episodes[row]!
      episode.return += requireFinite(result.rewards[row], env, 'reward')
      episode.cost += requireFinite(costs[0]![row], env, 'cost')
      if (names.length > 1) addCosts((episode.costs ??= {}), names, costs, row, env)
      episode.length += 1
      episode.terminated = result.terminated[row] === 1
      onTransition?.(transitionOf(row, before, actions, result, env))
      if (episode.terminated || result.truncated[row] === 1) running.delete(row)
    }
    observations = result.observations
    feedback = { rewards: result.rewards, costs: costs[0]! }
    tell(steps + 1, n - running.size, stepped)
  }
  return { episodes, stepped }
}

/** @throws DrcorlError `Data` where the environment gives no rewards, and they are needed. */
function withRewards(result: StepResult, needed: boolean, env: VecEnv): StepResult {
  // A `CostEnv` may stand behind the type.
  if ((result as Partial<StepResult>).rewards !== undefined) return result
  if (!needed) return { ...result, rewards: new Float32Array(env.num_envs) }
  throw new DrcorlError('Data', `${env.id} gives no rewards`, {
    hint: 'a simulator of costs alone can be what mode hybrid-eval visits, and nothing else (docs/hybrid.md)',
  })
}

/** @throws DrcorlError `Usage` where the environment gives no cost of that name. */
function costOf({ costs, further = {} }: StepResult, name: string, env: VecEnv): Float32Array {
  const found = name === OWN_COST ? costs : own(further, name)
  if (found !== undefined) return found
  const known = [OWN_COST, ...Object.keys(further)].join(', ')
  throw new DrcorlError('Usage', `${env.id} gives no cost called ${name}; it gives ${known}`, {
    hint: 'give limits on these, or an environment whose steps have that cost (docs/environments.md#several-costs)',
  })
}

function addCosts(
  sums: Record<string, number>,
  names: readonly string[],
  costs: readonly Float32Array[],
  row: number,
  env: VecEnv,
): void {
  names.forEach((name, index) => {
    sums[name] = (sums[name] ?? 0) + requireFinite(costs[index]![row], env, name)
  })
}

function transitionOf(
  row: number,
  observations: Float32Array,
  actions: Float32Array,
  result: StepResult,
  { obs_dim, act_dim }: VecEnv,
): Transition {
  return {
    row,
    observation: observations.slice(row * obs_dim, (row + 1) * obs_dim),
    action: actions.slice(row * act_dim, (row + 1) * act_dim),
    reward: result.rewards[row]!,
    cost: result.costs[row]!,
    ...(result.further === undefined
      ? {}
      : { further: Object.fromEntries(Object.entries(result.further).map(([name, values]) => [name, values[row]!])) }),
    next_observation: result.observations.slice(row * obs_dim, (row + 1) * obs_dim),
    terminated: result.terminated[row] === 1,
    truncated: result.truncated[row] === 1,
  }
}

function emptyEpisode(episode: number, seed: number): EpisodeResult {
  return { episode, seed, return: 0, cost: 0, length: 0, terminated: false }
}

function requireFit(policy: Policy, env: VecEnv): void {
  for (const [what, has, wants] of [
    ['observations', policy.obs_dim, env.obs_dim],
    ['actions', policy.act_dim, env.act_dim],
  ] as const) {
    if (has === wants) continue
    throw new DrcorlError(
      'Shape',
      `policy ${policy.name} has ${has} ${what}, environment ${env.id} has ${wants}: it was trained for another task`,
    )
  }
}

function requireActions(actions: Float32Array, policy: Policy, env: VecEnv): void {
  if (actions.length !== env.num_envs * env.act_dim) {
    const wants = `${env.num_envs} x ${env.act_dim}`
    throw new DrcorlError('Shape', `policy ${policy.name} gave ${actions.length} action components, not ${wants}`)
  }
  const bad = actions.findIndex((value) => !Number.isFinite(value))
  if (bad < 0) return
  throw new DrcorlError('Data', `policy ${policy.name} gave the action component ${actions[bad]}, which is no number`)
}

function requireFinite(value: number | undefined, env: VecEnv, what: string): number {
  if (value !== undefined && Number.isFinite(value)) return value
  throw new DrcorlError('Data', `${env.id}: the environment gave the ${what} ${value}, which is no number`)
}
