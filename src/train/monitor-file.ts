/** What the monitor of a run saw, as it is kept in the run folder. Read by reports too, so it needs no environment. */
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, readJson } from '../base/files.js'
import type { JsonSchema } from '../config/schema.js'
import { requireSchema } from '../config/stored.js'
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
  /** Further costs that are bounded, by their names. */
  costs?: Record<string, MonitorValue>
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

/** Of an object in which everything must be there, but for what is optional. */
const whole = (properties: Record<string, JsonSchema>, optional: Record<string, JsonSchema> = {}): JsonSchema => ({
  type: 'object',
  properties: { ...properties, ...optional },
  required: Object.keys(properties),
})

const COUNT: JsonSchema = { type: 'integer', minimum: 0 }
const VALUE = whole({ mean: { type: 'number' }, std: { type: ['number', 'null'] } })
const POINT = whole(
  {
    update: COUNT,
    step: COUNT,
    phase: { type: 'string' },
    episodes: COUNT,
    return: VALUE,
    cost: VALUE,
    environment_steps: COUNT,
    sha256: { type: 'string' },
  },
  { costs: { type: 'object', additionalProperties: VALUE } },
)
const SCHEMA = whole({
  format: { type: 'string' },
  every: { type: 'number', minimum: 0 },
  episodes: COUNT,
  seed: COUNT,
  environment: { type: ['string', 'null'] },
  keep_checkpoints: { type: 'boolean' },
  points: { type: 'array', items: POINT },
})

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
  if (record?.format !== MONITOR_FORMAT) {
    throw new DrcorlError('Data', `${path} is damaged: it is not of format "${MONITOR_FORMAT}"`)
  }
  requireSchema(SCHEMA, record, path)
  return record
}
