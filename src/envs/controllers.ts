import type { Motion, PointState } from './point-mass.js'
import { CIRCLE_RADIUS, X_LIM } from './point-circle.js'
import { SPEED_LIM, Y_LIM } from './point-run.js'
import type { Random } from './random.js'

/** Desired velocity in a state, m/s; the shared tracking law turns it into an action. */
export type Guidance = (state: PointState) => [vx: number, vy: number]

/** Draws one guidance law: good or bad, careful or careless. */
export type DrawGuidance = (random: Random) => Guidance

/** How well a controller follows its guidance: time constant of the velocity error (s) and action noise. */
export interface Skill {
  lag: number
  noise: number
}

/** Correlation of the action noise from one step to the next: shakes the path instead of averaging out. */
const NOISE_CORRELATION = 0.7

const clamp = (value: number): number => Math.min(1, Math.max(-1, value))

/** A controller with memory of its noise: state in, action in [-1, 1]^2 out. */
export function makeController(guide: Guidance, skill: Skill, motion: Motion, random: Random): Guidance {
  let nx = 0
  let ny = 0
  const scale = skill.noise * Math.sqrt(1 - NOISE_CORRELATION ** 2)
  return (s) => {
    const [wx, wy] = guide(s)
    nx = NOISE_CORRELATION * nx + scale * random.normal()
    ny = NOISE_CORRELATION * ny + scale * random.normal()
    const ax = ((wx - s.vx) / skill.lag + motion.drag * s.vx) / motion.force
    const ay = ((wy - s.vy) / skill.lag + motion.drag * s.vy) / motion.force
    return [clamp(ax + nx), clamp(ay + ny)]
  }
}

/** Follows a circle of its own radius and speed; about half of them respect an own limit on |x|, near or far. */
export const drawCircleGuidance: DrawGuidance = (random) => {
  const radius = random.between(0.7, 1.2) * CIRCLE_RADIUS
  const speed = random.between(0.2, 2)
  const turn = random.chance(0.06) ? -1 : 1
  const heading = 0.2 * random.normal()
  const pull = random.between(0.5, 2)
  const limit = random.chance(0.4) ? random.between(0.5, 1.2) * X_LIM : Number.POSITIVE_INFINITY
  const cos = Math.cos(heading) * turn
  const sin = Math.sin(heading)
  return (s) => {
    const r = Math.sqrt(s.x * s.x + s.y * s.y) + 1e-3
    const outward = pull * (radius - r) + speed * sin
    let vx = (-s.y * speed * cos + s.x * outward) / r
    const vy = (s.x * speed * cos + s.y * outward) / r
    // A barrier: the closer to its own limit, the slower towards it.
    vx = Math.min(2 * (limit - s.x), Math.max(-2 * (limit + s.x), vx))
    return [vx, vy]
  }
}

/** Runs at its own speed along its own lane, with a heading error. */
export const drawRunGuidance: DrawGuidance = (random) => {
  const speed = random.between(0.3, 1.65) * SPEED_LIM
  const lane = random.between(-1.4, 1.4) * Y_LIM * (random.chance(0.5) ? 0.4 : 1)
  const heading = 0.15 * random.normal()
  const pull = random.between(0.3, 2)
  return (s) => [speed * Math.cos(heading), speed * Math.sin(heading) + pull * (lane - s.y)]
}
