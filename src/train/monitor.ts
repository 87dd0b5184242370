/**
 * The monitor: between two steps of training the policy plays in the environment, for learning curves of true return
 * and cost. Nothing it sees reaches the trainer, its steps are counted apart,
 * and its episodes are not those of evaluation.
 */
import { rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { makeFolder, writeJson } from '../base/files.js'
import { meanAndStd } from '../base/moments.js'
import type { TrainerStatus } from '../config/results.js'
import type { KnownTask } from '../data/dataset.js'
import { environmentOfMonitor, recordedEnvironment } from '../data/environments.js'
import type { EnvFactory, VecEnv } from '../envs/env.js'
import { environmentSteps } from '../envs/ledger.js'
import { rollout } from '../envs/rollout.js'
import type { Trainer } from '../native/trainer.js'
import { loadPolicy } from '../policy/node.js'
import type { TrainOptions } from './events.js'
import {
  MONITOR_FORMAT,
  type MonitorPoint,
  type MonitorRecord,
  type MonitorValue,
  isInterval,
  monitorSteps,
  readMonitor,
} from './monitor-file.js'
import { MONITOR_FOLDER, RUN_FILES } from './run-folder.js'
import { BESIDE } from '../policy/provenance.js'

/** Seeds of a monitor start here: far from evaluation's, and below those of visits. */
const FIRST_SEED = 2 ** 29

/** What is asked of a monitor. */
interface Asked {
  /** Updates between two points; below 1 a share of all updates. */
  every: number
  episodes: number
  keep_checkpoints: boolean
}

/** A monitor that is asked for, and where it plays; nothing is written yet. */
export interface MonitorPlan {
  asked: Asked
  costs: readonly string[] | undefined
  environment: { name: string | null; make: EnvFactory }
}

const DEFAULT_EPISODES = 10

/**
 * The monitor that `train` was asked for, or that the run in a folder has; null without one.
 *
 * @param kept of a run that is resumed.
 * @param costs names of the costs that are bounded, where they have any; all are watched.
 * @throws DrcorlError `Usage` for an interval or a number of episodes that cannot be, or where no environment is known.
 */
export function planMonitor(
  options: TrainOptions,
  task: KnownTask | null,
  kept: MonitorRecord | null,
  costs?: readonly string[],
): MonitorPlan | null {
  const { evalEvery: every = kept?.every, evalEpisodes, keepCheckpoints } = options
  if (every === undefined) {
    if (evalEpisodes === undefined && !keepCheckpoints) return null
    throw new DrcorlError(
      'Usage',
      `${keepCheckpoints ? 'keep-checkpoints' : 'eval-episodes'} is for runs with eval-every`,
    )
  }
  if (!isInterval(every)) {
    throw new DrcorlError(
      'Usage',
      `eval-every ${every} must be a whole number of updates, or a share of all above 0 and below 1`,
    )
  }
  const episodes = evalEpisodes ?? kept?.episodes ?? DEFAULT_EPISODES
  if (!Number.isSafeInteger(episodes) || episodes < 1) {
    throw new DrcorlError('Usage', `eval-episodes ${episodes} must be a whole number, 1 or more`)
  }
  const asked = options.environment ?? recordedEnvironment(kept?.environment)
  const environment = environmentOfMonitor(asked, task, costs)
  return {
    costs,
    asked: { every, episodes, keep_checkpoints: keepCheckpoints || (kept?.keep_checkpoints ?? false) },
    environment,
  }
}

export class Monitor {
  private env: VecEnv | undefined

  private constructor(
    private readonly folder: string,
    private readonly record: MonitorRecord,
    private readonly make: EnvFactory,
    private readonly costs: readonly string[] | undefined,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /**
   * Starts the monitor of a run, or goes on with the one it has.
   *
   * @throws DrcorlError `Usage` where the run has a monitor that was asked for something else.
   */
  static async open(
    folder: string,
    { asked, costs, environment: { name, make } }: MonitorPlan,
    signal: AbortSignal | undefined,
  ): Promise<Monitor> {
    const fresh: MonitorRecord = {
      format: MONITOR_FORMAT,
      ...asked,
      seed: FIRST_SEED,
      environment: name,
      points: [],
    }
    const kept = await readMonitor(folder)
    for (const key of ['every', 'episodes', 'keep_checkpoints', 'environment'] as const) {
      if (kept === null || kept[key] === fresh[key]) continue
      throw new DrcorlError('Usage', `the monitor of ${folder} has ${key} = ${kept[key]}, not ${fresh[key]}`, {
        hint: 'a resumed run keeps its monitor; for another start a new run with another --out',
      })
    }
    // Points past the checkpoint stay: training repeats itself bit by bit, and so would they.
    return new Monitor(folder, kept ?? fresh, make, costs, signal)
  }

  /** Of all points, those before a resume included. */
  get environmentSteps(): number {
    return monitorSteps(this.record)
  }

  /** True where the policy of this moment has yet to be played. */
  due(status: TrainerStatus): boolean {
    const { update, last, own } = this.at(status)
    if (!own || update === 0 || this.record.points.some((point) => point.update === update)) return false
    return update % this.interval(last) === 0 || update === last
  }

  /** Steps up to the next point, so that no call crosses one; `status` is where the call starts. */
  stepsToPoint(status: TrainerStatus): number {
    const { phases, phase_index: index, phase_step, phase_steps } = status
    if (phases[phase_step >= phase_steps ? index + 1 : index]?.stage !== 'algorithm') return Number.POSITIVE_INFINITY
    const { update, last } = this.at(status)
    const every = this.interval(last)
    return every - (update % every)
  }

  /**
   * Plays the policy that would ship if training ended here.
   *
   * @throws DrcorlError what the environment throws, `Cancelled` after the signal; the point is then still due.
   */
  async play(trainer: Trainer, status: TrainerStatus, origin: { dataset_sha256: string; date: string }) {
    const { update } = this.at(status)
    const { episodes, seed, points, keep_checkpoints: keep } = this.record
    const folder = join(this.folder, MONITOR_FOLDER, `update-${String(update).padStart(9, '0')}`)
    await makeFolder(folder)
    try {
      const [shipped] = await trainer.writePolicies(folder, origin)
      if (keep) await trainer.save(join(folder, RUN_FILES.checkpoint))
      const before = points.at(-1)
      const { sha256 } = shipped!
      const { step, phase } = status
      const here = { update, step, phase }
      const point: MonitorPoint =
        before?.sha256 === sha256
          ? { ...before, ...here, environment_steps: 0 }
          : { ...here, episodes, ...(await this.measure(join(folder, shipped!.file), episodes, seed)), sha256 }
      points.push(point)
      await writeJson(join(this.folder, RUN_FILES.monitor), this.record)
      return point
    } finally {
      if (!keep) await clearPoint(folder)
    }
  }

  async close(): Promise<void> {
    await this.env?.close?.()
    this.env = undefined
    // Where nothing is kept, the folder is empty.
    await rmdir(join(this.folder, MONITOR_FOLDER)).catch(() => undefined)
  }

  private async measure(path: string, episodes: number, seed: number) {
    const policy = await loadPolicy(path)
    const env = (this.env ??= await this.make(episodes, this.signal))
    const before = environmentSteps()
    const played = await rollout(policy, env, { episodes, seed, signal: this.signal, costs: this.costs })
    const further = this.costs?.slice(1) ?? []
    const ofCost = (name: string): MonitorValue => meanAndStd(played.episodes.map(({ costs }) => costs![name]!))
    return {
      return: meanAndStd(played.episodes.map((episode) => episode.return)),
      cost: meanAndStd(played.episodes.map((episode) => episode.cost)),
      ...(further.length === 0 ? {} : { costs: Object.fromEntries(further.map((name) => [name, ofCost(name)])) }),
      // By the ledger, from which the same number is taken off what training is said to have used.
      environment_steps: environmentSteps() - before,
    }
  }

  /** Updates so far and in all, and whether the algorithm itself made the last step. */
  private at({ phases, phase_index: index, phase_step: step }: TrainerStatus) {
    const own = phases.map(({ stage, steps }) => (stage === 'algorithm' ? steps : 0))
    const sum = (steps: readonly number[]): number => steps.reduce((total, count) => total + count, 0)
    const here = phases[index]?.stage === 'algorithm'
    return { update: sum(own.slice(0, index)) + (here ? step : 0), last: sum(own), own: here }
  }

  private interval(last: number): number {
    const { every } = this.record
    return every < 1 ? Math.max(1, Math.round(every * last)) : every
  }
}

/** The files of one point, and its folder where nothing else is in it. */
export async function clearPoint(folder: string): Promise<void> {
  const files = [RUN_FILES.policy, ...Object.values(BESIDE), RUN_FILES.checkpoint]
  await Promise.all(files.map((name) => rm(join(folder, name), { force: true })))
  await rmdir(folder).catch(() => undefined)
}

/** The environment of visits that was asked for: in mode offline `environment` is the monitor's alone. */
export const forVisits = (
  { environment, evalEvery }: TrainOptions,
  run: Record<string, unknown>,
  watched = evalEvery !== undefined,
): TrainOptions['environment'] => (watched && (run['mode'] ?? 'offline') === 'offline' ? undefined : environment)
