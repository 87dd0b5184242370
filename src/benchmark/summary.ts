/** From the run folders of a benchmark to the numbers of its tables. Reads files only. */
import { groupBy } from '../base/groups.js'
import type { Certificate, LimitEvaluation, RunPhase } from '../config/results.js'
import type { Stored } from '../config/stored.js'
import { summarize } from '../evaluate/statistics.js'
import { normalizeCost, normalizeReward } from '../evaluate/score.js'
import { labelOf } from '../report/compare.js'
import { type RunData, readRun } from '../report/run-data.js'
import type { Cell } from './plan.js'

/**
 * Who measured: episodes in the environment; or rollouts of the certificate's models, of which the upper cost counts,
 * because their mean has been a third of the truth.
 */
export type Judge = 'environment' | 'model'

/** One policy of one run. */
export interface Measurement {
  target: string
  algorithm: string
  label: string
  /**
   * `used` is the policy that ships, `selected` the candidate chosen by the offline estimate,
   * `mixture` that of iterates.
   */
  policy: 'used' | 'selected' | 'mixture'
  cost_limit: number
  seed: number
  judge: Judge
  return: number
  cost: number
  /** What the certificate had said before anything was played: means over the auditing models' rollouts. */
  model_return: number | null
  model_cost: number | null
  /** Mean cost plus `certificate_k` standard deviations over the models. */
  model_cost_upper: number | null
  fqe_return: number | null
  fqe_cost: number | null
  normalized_reward: number | null
  /** DSRL's convention, by the run's own limit. */
  normalized_cost: number
  within_limit: number | null
  episodes: number | null
  verdict: Certificate['verdict'] | null
  /** Gradient steps of the algorithm itself; those of models, audit and certificate are not counted. */
  update_steps: number | null
  training_seconds: number | null
  /** What the pretraining that it took over had taken another run, which these seconds are without; null for none. */
  reused_seconds: number | null
  training_environment_steps: number | null
}

/** A target and an algorithm over all limits and seeds. */
export interface Score {
  target: string
  algorithm: string
  label: string
  policy: Measurement['policy']
  judge: Judge
  runs: number
  /** Mean over runs, each normalised first; null where the target has no score range. */
  reward: number | null
  reward_std: number | null
  cost: number
  cost_std: number | null
  return: number
  /** Normalised cost at most 1; where models judge, every run is certified besides. */
  safe: boolean
  /** Highest reward among the safe ones of its target. */
  best: boolean
  /** Runs with a certificate. */
  certified: number
  /** Those of them whose cost was at most the limit. */
  certified_safe: number
  update_steps: number | null
  /** Mean over runs; what several share counts once. */
  training_seconds: number | null
  /** The same had every run made its own pretraining; null where all did. */
  training_seconds_alone: number | null
}

/** The trainer's own phases, as runs have them that do not say whose a phase is. */
const TRAINERS = new Set(['model', 'audit', 'certificate'])

const isUpdate = ({ name = '', stage }: Stored<RunPhase>): boolean =>
  stage === undefined ? !TRAINERS.has(name) : stage === 'algorithm'

/** A finished cell with what its folder says. */
export interface FinishedCell {
  cell: Cell
  run: RunData
}

export const readCells = (cells: readonly Cell[]): Promise<FinishedCell[]> =>
  Promise.all(cells.map(async (cell) => ({ cell, run: await readRun(cell.folder) })))

/** The measurements of one cell: the policy to use and, where the run kept them, those beside it. */
export function measure({ cell, run }: FinishedCell): Measurement[] {
  const range = run.record.task
  const measurements: Measurement[] = []
  for (const policy of ['used', 'selected', 'mixture'] as const) {
    const offline = estimates(run, policy)
    const judged = cell.target.env === null ? byModel(offline) : byEnvironment(run, policy)
    if (judged === null) continue
    measurements.push({
      target: cell.target.name,
      algorithm: cell.algorithm,
      label: labelOf(cell.algorithm),
      policy,
      cost_limit: cell.cost_limit,
      seed: cell.seed,
      ...judged,
      ...offline,
      normalized_reward: range === null ? null : normalizeReward(judged.return, range),
      normalized_cost: normalizeCost(judged.cost, cell.cost_limit, 'dsrl'),
      ...training(run),
    })
  }
  return [...measurements, ...atOtherLimits({ cell, run }, measurements[0])]
}

/** The policy to use at the limits it was not trained with: no certificate and no offline estimate is for these. */
function atOtherLimits({ cell, run }: FinishedCell, own: Measurement | undefined): Measurement[] {
  if (own === undefined || own.judge !== 'environment') return []
  const range = run.record.task
  const others = (run.evaluation?.by_limit ?? []).filter((one) => one.cost_limit !== cell.cost_limit)
  const nothing = { model_return: null, model_cost: null, model_cost_upper: null, fqe_return: null, fqe_cost: null }
  const at = ({ cost_limit, return: ret, cost, within_limit: within, episodes }: LimitEvaluation): Measurement => ({
    ...own,
    ...nothing,
    cost_limit,
    return: ret.mean,
    cost: cost.mean,
    within_limit: within?.episodes ?? null,
    episodes,
    normalized_reward: range === null ? null : normalizeReward(ret.mean, range),
    normalized_cost: normalizeCost(cost.mean, cost_limit, 'dsrl'),
    verdict: null,
  })
  return others.map(at)
}

type Judged = Pick<Measurement, 'judge' | 'return' | 'cost' | 'within_limit' | 'episodes'>
type Offline = Pick<Measurement, 'model_return' | 'model_cost' | 'model_cost_upper' | 'fqe_return' | 'fqe_cost'>

function byEnvironment({ evaluation }: RunData, policy: Measurement['policy']): Judged | null {
  const measured = policy === 'used' ? evaluation : (evaluation?.[policy] ?? null)
  if (measured === null) return null
  const { return: ret, cost, within_limit: within, episodes } = measured
  return { judge: 'environment', return: ret.mean, cost: cost.mean, within_limit: within?.episodes ?? null, episodes }
}

function byModel({ model_return: ret, model_cost_upper: cost }: Offline): Judged | null {
  if (ret === null || cost === null) return null
  return { judge: 'model', return: ret, cost, within_limit: null, episodes: null }
}

function estimates({ certificate }: RunData, policy: Measurement['policy']): Offline {
  const { model_rollout: model, fqe } =
    (policy === 'used' ? certificate?.estimates : certificate?.policies?.[policy]) ?? {}
  return {
    model_return: model?.return?.mean ?? null,
    model_cost: model?.cost?.mean ?? null,
    model_cost_upper: model?.cost?.upper ?? null,
    fqe_return: fqe?.return?.mean ?? null,
    fqe_cost: fqe?.cost?.mean ?? null,
  }
}

type Training = Pick<
  Measurement,
  'verdict' | 'update_steps' | 'training_seconds' | 'reused_seconds' | 'training_environment_steps'
>

function training({ certificate, record, result }: RunData): Training {
  const own = result?.phases?.filter(isUpdate)
  return {
    verdict: certificate?.verdict ?? null,
    update_steps: own?.reduce((sum, { steps = 0 }) => sum + steps, 0) ?? null,
    training_seconds: result?.wall_seconds ?? null,
    reused_seconds: sumOf(record.reused?.seconds, record.audit_models?.seconds),
    training_environment_steps: result?.environment_steps?.training ?? null,
  }
}

/** Of those that are known; null where none is. */
function sumOf(...seconds: (number | null | undefined)[]): number | null {
  const known = seconds.filter((one) => typeof one === 'number')
  return known.length === 0 ? null : known.reduce((sum, one) => sum + one, 0)
}

/** Table 1's protocol: normalise every run by its own limit, then average over limits and seeds. */
export function score(measurements: readonly Measurement[]): Score[] {
  const groups = groupBy(measurements, ({ target, algorithm, policy }) => [target, algorithm, policy].join('/'))
  const scores = [...groups.values()].map(scoreOf)
  for (const target of new Set(scores.map((one) => one.target))) {
    const used = scores.filter((one) => one.target === target && one.policy === 'used' && one.safe)
    const best = used.reduce<Score | null>((top, one) => (top === null || merit(one) > merit(top) ? one : top), null)
    if (best !== null) best.best = true
  }
  return scores
}

const merit = ({ reward, return: ret }: Score): number => reward ?? ret

function scoreOf(group: Measurement[]): Score {
  const first = group[0]!
  const rewards = group.map((one) => one.normalized_reward).filter((value) => value !== null)
  const reward = rewards.length === group.length ? summarize(rewards) : null
  const cost = summarize(group.map((one) => one.normalized_cost))
  // The verdict is on the policy to use.
  const certified = group.filter((one) => one.verdict === 'certified' && one.policy === 'used')
  const mean = (values: (number | null)[]): number | null =>
    values.some((value) => value === null) ? null : summarize(values as number[]).mean
  return {
    target: first.target,
    algorithm: first.algorithm,
    label: first.label,
    policy: first.policy,
    judge: first.judge,
    runs: group.length,
    reward: reward?.mean ?? null,
    reward_std: reward?.std ?? null,
    cost: cost.mean,
    cost_std: cost.std,
    return: summarize(group.map((one) => one.return)).mean,
    safe: cost.mean <= 1 && (first.judge === 'environment' || certified.length === group.length),
    best: false,
    certified: certified.length,
    certified_safe: certified.filter((one) => one.cost <= one.cost_limit).length,
    update_steps: mean(group.map((one) => one.update_steps)),
    training_seconds: mean(group.map((one) => one.training_seconds)),
    training_seconds_alone: group.every((one) => one.reused_seconds === null)
      ? null
      : mean(group.map(({ training_seconds: own, reused_seconds: more }) => (own === null ? null : own + (more ?? 0)))),
  }
}
