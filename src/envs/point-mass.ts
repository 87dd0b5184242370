import type { StepResult, VecEnv } from './env.js'
import { countSteps } from './ledger.js'
import { Random } from './random.js'

/** Position and velocity of one point mass in the plane. */
export interface PointState {
  x: number
  y: number
  vx: number
  vy: number
}

/** Constants of the motion shared by the embedded tasks; metres and seconds. */
export interface Motion {
  /** Seconds of one step. */
  dt: number
  /** Acceleration of a full action, m/s^2. */
  force: number
  /** Linear drag, 1/s. */
  drag: number
  /** Speed is cut to this, m/s: no sequence of actions makes the motion leave the range the data covers. */
  maxSpeed: number
}

/** One task on the point mass: everything that is not the motion itself. */
export interface PointTask {
  readonly id: string
  readonly obs_dim: number
  readonly episode_length: number
  readonly motion: Motion
  /** Draws the first state of an episode. */
  start(random: Random): PointState
  /** Writes the S observations of a state at `out[offset]`. */
  observe(state: PointState, out: Float32Array, offset: number): void
  /** Reward of arriving in this state. */
  reward(state: PointState): number
  /** Cost of arriving in this state. */
  cost(state: PointState): number
  /** Further costs of a step by their names, from the action as it was executed. */
  readonly further?: Readonly<Record<string, (ax: number, ay: number) => number>>
  /** Keeps the state inside the arena, in place. */
  confine(state: PointState): void
}

const ACT_DIM = 2

/** As it is executed: inside the box. */
export const clampAction = (value: number): number => (value > 1 ? 1 : value > -1 ? value : -1)

/** Semi-implicit Euler: velocity first, then position with the new velocity. Changes `state`. */
export function advance(task: PointTask, state: PointState, ax: number, ay: number): void {
  const { dt, force, drag, maxSpeed } = task.motion
  state.vx += dt * (force * clampAction(ax) - drag * state.vx)
  state.vy += dt * (force * clampAction(ay) - drag * state.vy)
  const speed = Math.sqrt(state.vx * state.vx + state.vy * state.vy)
  if (speed > maxSpeed) {
    state.vx *= maxSpeed / speed
    state.vy *= maxSpeed / speed
  }
  state.x += dt * state.vx
  state.y += dt * state.vy
  task.confine(state)
}

/** N copies of a point-mass task, in plain TypeScript. A row that ended goes on moving until the next reset. */
export class PointMassEnv implements VecEnv {
  readonly id: string
  readonly obs_dim: number
  readonly act_dim = ACT_DIM
  readonly episode_length: number
  readonly further_costs: readonly string[]
  private readonly states: PointState[]
  private elapsed = 0

  constructor(
    private readonly task: PointTask,
    readonly num_envs: number,
  ) {
    if (!Number.isInteger(num_envs) || num_envs < 1) {
      throw new RangeError(`${task.id}: num_envs must be a positive integer, got ${num_envs}`)
    }
    this.id = task.id
    this.obs_dim = task.obs_dim
    this.episode_length = task.episode_length
    this.further_costs = Object.keys(task.further ?? {})
    this.states = Array.from({ length: num_envs }, () => ({ x: 0, y: 0, vx: 0, vy: 0 }))
  }

  reset(seeds: readonly number[]): Float32Array {
    if (seeds.length !== this.num_envs) {
      throw new RangeError(`${this.id}: ${this.num_envs} seeds expected, one for each environment, got ${seeds.length}`)
    }
    this.elapsed = 0
    seeds.forEach((seed, row) => {
      this.states[row] = this.task.start(new Random(seed))
    })
    return this.observations()
  }

  step(actions: Float32Array): StepResult {
    const n = this.num_envs
    if (actions.length !== n * ACT_DIM) {
      throw new RangeError(
        `${this.id}: actions of length ${n * ACT_DIM} expected (${n} x ${ACT_DIM}), got ${actions.length}`,
      )
    }
    this.elapsed += 1
    countSteps(n)
    const rewards = new Float32Array(n)
    const costs = new Float32Array(n)
    const signals = Object.entries(this.task.further ?? {})
    const further = Object.fromEntries(signals.map(([name]) => [name, new Float32Array(n)]))
    this.states.forEach((state, row) => {
      const [ax, ay] = [actions[row * ACT_DIM] ?? 0, actions[row * ACT_DIM + 1] ?? 0]
      advance(this.task, state, ax, ay)
      for (const [name, signal] of signals) further[name]![row] = signal(clampAction(ax), clampAction(ay))
      rewards[row] = this.task.reward(state)
      costs[row] = this.task.cost(state)
    })
    const truncated = new Uint8Array(n).fill(this.elapsed >= this.episode_length ? 1 : 0)
    const observations = this.observations()
    const own = signals.length === 0 ? {} : { further }
    return { observations, rewards, costs, ...own, terminated: new Uint8Array(n), truncated }
  }

  private observations(): Float32Array {
    const out = new Float32Array(this.num_envs * this.obs_dim)
    this.states.forEach((state, row) => this.task.observe(state, out, row * this.obs_dim))
    return out
  }
}
