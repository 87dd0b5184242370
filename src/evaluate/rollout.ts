import { setImmediate } from 'node:timers/promises'
import { DrcorlError } from '../errors.js'
import type { Feedback, Policy, VecEnv } from '../envs/env.js'

/** One evaluated episode: undiscounted sums over its steps. */
export interface EpisodeResult {
  episode: number
  /** Seed the episode was reset with. */
  seed: number
  return: number
  cost: number
  /** Steps. */
  length: number
  /** True where it ended in a terminal state, false where it was cut at the step limit. */
  terminated: boolean
}

export interface Rollout {
  episodes: EpisodeResult[]
  /** Rows stepped, those that had already ended included: what the environment really executed. */
  environment_steps: number
}

export interface RolloutOptions {
  /** Number of episodes, default one for each row. */
  episodes?: number
  /** Episode i is reset with seed + i; default 0. */
  seed?: number
  signal?: AbortSignal | undefined
}

/**
 * Plays a policy in N environments side by side. Each row counts up to its first end; rows that end early wait for the
 * others. More episodes than rows are played in several rounds.
 *
 * @throws DrcorlError `Shape` where policy and environment do not fit, `Data` where the environment or the policy
 *   answers with something that is no number, `Cancelled` after the signal.
 */
export async function rollout(policy: Policy, env: VecEnv, options: RolloutOptions = {}): Promise<Rollout> {
  const { episodes = env.numEnvs, seed = 0, signal } = options
  requireFit(policy, env)
  const played: Rollout = { episodes: [], environment_steps: 0 }
  while (played.episodes.length < episodes) {
    const first = played.episodes.length
    const round = await playRound(policy, env, seed + first, signal)
    played.environment_steps += round.steps * env.numEnvs
    for (const episode of round.episodes.slice(0, episodes - first)) {
      played.episodes.push({ ...episode, episode: played.episodes.length })
    }
    // Embedded environments answer at once: without this the event loop would stand still for the whole evaluation.
    await setImmediate()
  }
  return played
}

/** One reset of all rows, stepped until every row has ended once. */
async function playRound(
  policy: Policy,
  env: VecEnv,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<{ episodes: EpisodeResult[]; steps: number }> {
  const n = env.numEnvs
  const rows = Array.from({ length: n }, (_, row) => row)
  const episodes = rows.map((row) => emptyEpisode(row, seed + row))
  const running = new Set(rows)
  let observations = await env.reset(episodes.map((episode) => episode.seed))
  let feedback: Feedback = { rewards: new Float32Array(n), costs: new Float32Array(n) }
  policy.reset(rows)
  let steps = 0
  for (; running.size > 0; steps += 1) {
    if (signal?.aborted) throw new DrcorlError('Cancelled', 'evaluation was cancelled')
    if (steps >= env.maxEpisodeSteps) {
      throw new DrcorlError('Data', `${env.id}: an episode did not end after ${steps} steps, its stated length`)
    }
    const actions = await policy.act(observations, feedback)
    requireActions(actions, policy, env)
    const result = await env.step(actions)
    for (const row of running) {
      const episode = episodes[row]!
      episode.return += requireFinite(result.rewards[row], env, 'reward')
      episode.cost += requireFinite(result.costs[row], env, 'cost')
      episode.length += 1
      episode.terminated = result.terminated[row] === 1
      if (episode.terminated || result.truncated[row] === 1) running.delete(row)
    }
    observations = result.observations
    feedback = { rewards: result.rewards, costs: result.costs }
  }
  return { episodes, steps }
}

function emptyEpisode(episode: number, seed: number): EpisodeResult {
  return { episode, seed, return: 0, cost: 0, length: 0, terminated: false }
}

function requireFit(policy: Policy, env: VecEnv): void {
  for (const [what, has, wants] of [
    ['observations', policy.obsDim, env.obsDim],
    ['actions', policy.actDim, env.actDim],
  ] as const) {
    if (has === wants) continue
    throw new DrcorlError(
      'Shape',
      `policy ${policy.name} has ${has} ${what}, environment ${env.id} has ${wants}: it was trained for another task`,
    )
  }
}

function requireActions(actions: Float32Array, policy: Policy, env: VecEnv): void {
  if (actions.length !== env.numEnvs * env.actDim) {
    const wants = `${env.numEnvs} x ${env.actDim}`
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
