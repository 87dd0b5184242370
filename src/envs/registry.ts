import type { ScoreRange } from '../config/results.js'
import { type DrawGuidance, drawCircleGuidance, drawRunGuidance } from './controllers.js'
import type { VecEnv } from './env.js'
import { pointCircle, pointCircleTask } from './point-circle.js'
import type { PointTask } from './point-mass.js'
import { pointRun, pointRunTask } from './point-run.js'

export type { ScoreRange }

/** An embedded environment with its scripted data. */
export interface EmbeddedEnv {
  id: string
  summary: string
  make: (num_envs: number) => VecEnv
  task: PointTask
  guidance: DrawGuidance
  /** Scripted episodes with a higher cost or a negative return are left out, as in DSRL's files. */
  cost_cap: number
  /** Extremes over the dataset of 500 episodes and seed 0 (`__test__/envs/scripted.spec.ts` measures them again). */
  score_range: ScoreRange
  default_cost_limit: number
}

/** One row makes an environment exist. */
export const EMBEDDED_ENVS: readonly EmbeddedEnv[] = [
  {
    id: 'point-circle',
    summary: 'point mass circling at radius 1.5, cost 1 while |x| > 1.125, 200 steps',
    make: pointCircle,
    task: pointCircleTask,
    guidance: drawCircleGuidance,
    cost_cap: 120,
    score_range: { min_return: 2.114, max_return: 379.683, min_cost: 0, max_cost: 120 },
    default_cost_limit: 10,
  },
  {
    id: 'point-run',
    summary: 'point mass running along a corridor, cost 1 while faster than 1.5 or |y| > 0.5, 100 steps',
    make: pointRun,
    task: pointRunTask,
    guidance: drawRunGuidance,
    cost_cap: 100,
    score_range: { min_return: 23.173, max_return: 224.564, min_cost: 0, max_cost: 97 },
    default_cost_limit: 10,
  },
]

/** The embedded environment of that name, or undefined. */
export const findEnv = (id: string): EmbeddedEnv | undefined => EMBEDDED_ENVS.find((env) => env.id === id)
