import { type PointTask, PointMassEnv } from './point-mass.js'
import type { VecEnv } from './env.js'

/**
 * `point-run`: a point mass is rewarded for its speed in x, and pays cost 1 in every step that ends faster than
 * SPEED_LIM or outside the corridor |y| <= Y_LIM. After the run tasks of Bullet-Safety-Gym. The motion allows 2.5 m/s,
 * so the fastest run is unsafe; the best safe behavior holds the speed limit in the middle of the corridor.
 *
 * 100 steps of 0.1 s. Actions: force in x and y, each in [-1, 1].
 * Observations: y, vx, vy, speed - SPEED_LIM, Y_LIM - |y|. Position x is left out: nothing depends on it.
 */
export const SPEED_LIM = 1.5
export const Y_LIM = 0.5

/** Walls of the corridor's surroundings: no policy drifts sideways out of sight of the data. */
const ARENA_Y = 2

const speedOf = (s: { vx: number; vy: number }): number => Math.sqrt(s.vx * s.vx + s.vy * s.vy)

export const pointRunTask: PointTask = {
  id: 'point-run',
  obs_dim: 5,
  episode_length: 100,
  motion: { dt: 0.1, force: 2, drag: 0.5, maxSpeed: 2.5 },

  start: (random) => ({
    x: 0,
    y: random.between(-0.4, 0.4),
    vx: random.between(-0.1, 0.1),
    vy: random.between(-0.2, 0.2),
  }),

  observe(s, out, offset) {
    out[offset] = s.y
    out[offset + 1] = s.vx
    out[offset + 2] = s.vy
    out[offset + 3] = speedOf(s) - SPEED_LIM
    out[offset + 4] = Y_LIM - Math.abs(s.y)
  },

  reward: (s) => s.vx,

  cost: (s) => (speedOf(s) > SPEED_LIM || Math.abs(s.y) > Y_LIM ? 1 : 0),

  confine(s) {
    if (Math.abs(s.y) > ARENA_Y) {
      s.y = Math.sign(s.y) * ARENA_Y
      s.vy = 0
    }
  },
}

/** @param num_envs N, episodes stepped side by side. */
export const pointRun = (num_envs: number): VecEnv => new PointMassEnv(pointRunTask, num_envs)
