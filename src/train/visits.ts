/** Hybrid modes: the policy under training plays in the environment, and what it met goes back to the trainer. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import type { EnvFactory, VecEnv } from '../envs/env.js'
import { loadPolicy } from '../policy/node.js'
import { type EpisodeResult, type Transition, rollout } from '../envs/rollout.js'
import { type DatasetColumns, datasetFromColumns } from '../native/dataset.js'
import type { DueVisit } from '../config/results.js'
import type { Trainer } from '../native/trainer.js'
import { VISITOR, temporaryFile } from './run-folder.js'

/** Seeds of visits start here, far from those of evaluation: nothing is tuned on the episodes that measure. */
const FIRST_SEED = 2 ** 30
/** Seeds kept free for the episodes of one visit. */
const SEEDS_A_VISIT = 1000

/** What one visit found, for the log. */
export interface VisitResult {
  number: number
  episodes: number
  /** Means over the episodes; a return of 0 where a simulator of costs alone was visited. */
  return: number
  cost: number
  /** Every cost that has a limit by its name, where several have; `cost` is the first. */
  costs?: Record<string, number>
  /** As the environment executed them. */
  environment_steps: number
}

/** Plays the visits of one run; the environment is opened at the first and stays open. */
export class Visitor {
  /** Of all visits of this process. */
  environmentSteps = 0
  private env: VecEnv | undefined

  constructor(
    private readonly make: EnvFactory,
    private readonly folder: string,
    private readonly signal: AbortSignal | undefined,
    /** Names of the costs that are bounded, where they have any. */
    private readonly costs?: readonly string[],
  ) {}

  /**
   * Plays the visit that is due and hands it in.
   * The same visit of the same run plays the same episodes, also after a resume.
   *
   * @throws DrcorlError what the environment throws, `Cancelled` after the signal; the visit is then still due.
   */
  async visit(trainer: Trainer, due: DueVisit): Promise<VisitResult> {
    const { number, episodes, transitions } = due
    const env = (this.env ??= await this.make(episodes, this.signal))
    const path = join(this.folder, temporaryFile(VISITOR))
    await trainer.writeVisitor(path)
    const policy = await loadPolicy(path).finally(() => rm(path, { force: true }))
    const met: Transition[] = []
    const played = await rollout(policy, env, {
      episodes,
      seed: FIRST_SEED + number * SEEDS_A_VISIT,
      signal: this.signal,
      costs: this.costs,
      // What only measures is asked for costs.
      rewards: transitions,
      ...(transitions ? { onTransition: (transition: Transition) => met.push(transition) } : {}),
    })
    await trainer.visited(
      played.episodes.map(({ return: ret, cost, costs, length }) => ({ return: ret, cost, costs, length })),
      transitions
        ? await datasetFromColumns(columnsOf(met, env, `visit ${number} of ${this.folder}`), this.costs)
        : undefined,
      this.costs,
    )
    const mean = (of: (episode: EpisodeResult) => number): number =>
      played.episodes.reduce((sum, episode) => sum + of(episode), 0) / played.episodes.length
    const named = Object.keys(played.episodes[0]?.costs ?? {})
    this.environmentSteps += played.environment_steps
    return {
      number,
      episodes,
      return: mean((episode) => episode.return),
      cost: mean((episode) => episode.cost),
      ...(named.length === 0
        ? {}
        : { costs: Object.fromEntries(named.map((name) => [name, mean(({ costs }) => costs![name]!)])) }),
      environment_steps: played.environment_steps,
    }
  }

  async close(): Promise<void> {
    await this.env?.close?.()
    this.env = undefined
  }
}

/**
 * Transitions as a dataset: episode after episode, although they were met side by side.
 *
 * @throws DrcorlError `Data` where steps give other further costs than the environment lists.
 */
export function columnsOf(met: readonly Transition[], env: VecEnv, source: string): DatasetColumns {
  const { obs_dim, act_dim, further_costs = [] } = env
  const ordered = met.toSorted((a, b) => a.row - b.row)
  const flat = (width: number, of: (transition: Transition) => Float32Array): Float32Array => {
    const column = new Float32Array(ordered.length * width)
    ordered.forEach((transition, index) => column.set(of(transition), index * width))
    return column
  }
  const given = Object.keys(ordered[0]?.further ?? {})
  if (given.toSorted().join() !== further_costs.toSorted().join()) {
    const [listed, found] = [further_costs, given].map((names) => names.join(', ') || 'none')
    const message = `${env.id}: its steps give the further costs ${found}, and further_costs lists ${listed}`
    throw new DrcorlError('Data', message, { hint: 'let further_costs list what every step gives', exitStatus: 2 })
  }
  const further = given.map((name): [string, Float32Array] => [
    name,
    Float32Array.from(ordered, (one) => one.further![name]!),
  ])
  return {
    obs_dim,
    act_dim,
    observations: flat(obs_dim, (one) => one.observation),
    next_observations: flat(obs_dim, (one) => one.next_observation),
    actions: flat(act_dim, (one) => one.action),
    rewards: Float32Array.from(ordered, (one) => one.reward),
    costs: Float32Array.from(ordered, (one) => one.cost),
    ...(further.length === 0 ? {} : { further: Object.fromEntries(further) }),
    terminals: Uint8Array.from(ordered, (one) => Number(one.terminated)),
    timeouts: Uint8Array.from(ordered, (one) => Number(one.truncated)),
    source,
  }
}
