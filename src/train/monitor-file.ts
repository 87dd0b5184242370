/** What the monitor of a run saw, as it is kept in the run folder. Read by reports too, so it needs no environment. */
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, readJson } from '../base/files.js'
import { RUN_FILES } from './run-folder.js'

export const MONITOR_FORMAT = 'drcorl-monitor/1'

/** Mean and standard deviation over the episodes of one point. */
export interface MonitorValue {
  mean: number
  /** Null for one episode. */
  std: number | null
}

/** The policy of one moment, played. */
export interface MonitorPoint {
  /** The algorithm's own steps so far; those of the trainer's models are not counted. */
  update: number
  /** Of the run. */
  step: number
  phase: string
  episodes: number
  return: MonitorValue
  cost: MonitorValue
  /** Taken for this point; 0 where the policy was that of the point before, whose episodes then stand for both. */
  environment_steps: number
  /** Of the policy file that was played: the one that would ship if training ended here. */
  sha256: string
}

/** `monitor.json`. */
export interface MonitorRecord {
  format: typeof MONITOR_FORMAT
  /** As asked: a number of updates, or a share of all where it is below 1. */
  every: number
  episodes: number
  /** Of the first episode of every point; evaluation starts at another. */
  seed: number
  environment: string | null
  /** Policies and checkpoints of the points are kept. */
  keep_checkpoints: boolean
  points: MonitorPoint[]
}

/** Whether a monitor can play so often: after every so many updates, or after a share of all. */
export const isInterval = (every: number): boolean => every > 0 && (every < 1 || Number.isSafeInteger(every))

/** Environment steps the monitor has taken in all. */
export const monitorSteps = ({ points }: Pick<MonitorRecord, 'points'>): number =>
  points.reduce((sum, point) => sum + point.environment_steps, 0)

/**
 * The monitor of a run; null where it has none.
 *
 * @throws DrcorlError `Data` for a file that is damaged.
 */
export async function readMonitor(folder: string): Promise<MonitorRecord | null> {
  const path = join(folder, RUN_FILES.monitor)
  if (!(await exists(path))) return null
  const record = (await readJson(path)) as MonitorRecord | null
  const wrong = (what: string): DrcorlError => new DrcorlError('Data', `${path} is damaged: ${what}`)
  if (record?.format !== MONITOR_FORMAT) throw wrong(`it is not of format "${MONITOR_FORMAT}"`)
  if (!Array.isArray(record.points)) throw wrong('it has no points')
  const whole = ({ update, return: ret, cost, environment_steps: steps, sha256 }: Partial<MonitorPoint>): boolean =>
    [update, ret?.mean, cost?.mean, steps].every(Number.isFinite) && typeof sha256 === 'string'
  const damaged = record.points.findIndex((point) => !whole(point ?? {}))
  if (damaged >= 0) throw wrong(`point ${damaged} lacks a number`)
  for (const name of ['every', 'episodes', 'seed'] as const) {
    if (!Number.isFinite(record[name])) throw wrong(`${name} is no number`)
  }
  return record
}
