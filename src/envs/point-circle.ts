import { type PointState, type PointTask, PointMassEnv } from './point-mass.js'
import type { VecEnv } from './env.js'

/**
 * `point-circle`: a point mass is rewarded for running counter-clockwise on a circle of radius R, and pays cost 1
 * in every step that ends with |x| > X_LIM. After SafetyPointCircle of Safety-Gymnasium (same R and x_lim) with the
 * reward of the Bullet-Safety-Gym circle tasks. X_LIM < R, so the full circle is unsafe (46 % of it lies outside) and
 * the best safe behavior is a clipped circle: arcs above and below, straight runs along the two limits.
 *
 * 200 steps of 0.1 s. Actions: force in x and y, each in [-1, 1].
 * A further cost, `energy`: the squared norm of the action, from 0 to 2 a step.
 * Observations: x, y, vx, vy, r - R, radial speed, tangential speed (> 0 is counter-clockwise), X_LIM - |x|.
 */
export const CIRCLE_RADIUS = 1.5
export const X_LIM = 1.125

/** The arena reaches to 2 R: a policy that runs away stays in sight of the data. */
const ARENA = 2 * CIRCLE_RADIUS
/** Softens 1/r at the centre, where the tangential direction is undefined, so that observations stay smooth there. */
const SOFT = 0.01

const polar = (s: PointState): { r: number; radial: number; tangential: number } => {
  const r = Math.sqrt(s.x * s.x + s.y * s.y)
  const soft = Math.sqrt(r * r + SOFT)
  return { r, radial: (s.x * s.vx + s.y * s.vy) / soft, tangential: (s.x * s.vy - s.y * s.vx) / soft }
}

export const pointCircleTask: PointTask = {
  id: 'point-circle',
  obs_dim: 8,
  episode_length: 200,
  motion: { dt: 0.1, force: 3, drag: 0.5, maxSpeed: 2.5 },

  start: (random) => ({
    x: random.between(-0.8, 0.8),
    y: random.between(-1.2, 1.2),
    vx: random.between(-0.1, 0.1),
    vy: random.between(-0.1, 0.1),
  }),

  observe(s, out, offset) {
    const { r, radial, tangential } = polar(s)
    out[offset] = s.x
    out[offset + 1] = s.y
    out[offset + 2] = s.vx
    out[offset + 3] = s.vy
    out[offset + 4] = r - CIRCLE_RADIUS
    out[offset + 5] = radial
    out[offset + 6] = tangential
    out[offset + 7] = X_LIM - Math.abs(s.x)
  },

  /** Tangential speed over 1 + distance to the circle (Bullet-Safety-Gym circle reward), at most maxSpeed. */
  reward(s) {
    const { r, tangential } = polar(s)
    return tangential / (1 + Math.abs(r - CIRCLE_RADIUS))
  },

  cost: (s) => (Math.abs(s.x) > X_LIM ? 1 : 0),

  further: { energy: (ax, ay) => ax * ax + ay * ay },

  confine(s) {
    if (Math.abs(s.x) > ARENA) {
      s.x = Math.sign(s.x) * ARENA
      s.vx = 0
    }
    if (Math.abs(s.y) > ARENA) {
      s.y = Math.sign(s.y) * ARENA
      s.vy = 0
    }
  },
}

/** @param num_envs N, episodes stepped side by side. */
export const pointCircle = (num_envs: number): VecEnv => new PointMassEnv(pointCircleTask, num_envs)
