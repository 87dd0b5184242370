/**
 * Environments of your own, in TypeScript and in Python: record data in one, learn from the data,
 * play the policy in both.
 *
 * Run it from the repository after `npm run setup` and `npx drcorl envs install`:
 * node --import=@oxc-node/core/register examples/own-environment.ts
 */
import { pathToFileURL } from 'node:url'
import { type Evaluation, type NativeColumns, type StepResult, type VecEnv, evaluate, train } from 'drcorl'

const LENGTH = 60
const LIMIT = 1

/** The cart of speed_limit.py as a VecEnv: N carts, flat arrays. */
export class SpeedLimit implements VecEnv {
  readonly id = 'speed-limit'
  readonly obs_dim = 2
  readonly act_dim = 1
  readonly episode_length = LENGTH
  private readonly state: Float32Array
  private elapsed = 0

  constructor(readonly num_envs: number) {
    this.state = new Float32Array(num_envs * 2)
  }

  /** The same seed must give the same episode: here it sets position and speed. */
  reset(seeds: readonly number[]): Float32Array {
    this.elapsed = 0
    seeds.forEach((seed, row) => this.state.set([((seed % 21) - 10) / 100, ((seed % 17) - 8) / 80], row * 2))
    return this.state.slice()
  }

  step(actions: Float32Array): StepResult {
    this.elapsed += 1
    const rewards = new Float32Array(this.num_envs)
    const costs = new Float32Array(this.num_envs)
    for (let row = 0; row < this.num_envs; row += 1) {
      const force = Math.min(1, Math.max(-1, actions[row]!))
      const speed = (this.state[row * 2 + 1]! += 0.1 * force)
      this.state[row * 2]! += 0.1 * speed
      rewards[row] = speed
      costs[row] = Math.abs(speed) > LIMIT ? 1 : 0
    }
    const truncated = new Uint8Array(this.num_envs).fill(this.elapsed >= LENGTH ? 1 : 0)
    return { observations: this.state.slice(), rewards, costs, terminated: new Uint8Array(this.num_envs), truncated }
  }
}

/** Episodes of carts that each hold a speed of their own, some of them above the limit. */
function record(episodes: number): NativeColumns {
  const rows = episodes * LENGTH
  const columns = {
    obs_dim: 2,
    act_dim: 1,
    observations: new Float32Array(rows * 2),
    next_observations: new Float32Array(rows * 2),
    actions: new Float32Array(rows),
    rewards: new Float32Array(rows),
    costs: new Float32Array(rows),
    terminals: new Uint8Array(rows),
    timeouts: new Uint8Array(rows),
    source: 'speed-limit',
  }
  const env = new SpeedLimit(1)
  for (let episode = 0; episode < episodes; episode += 1) {
    const wanted = 0.3 + (1.2 * episode) / episodes
    let observation = env.reset([episode])
    for (let step = 0; step < LENGTH; step += 1) {
      const row = episode * LENGTH + step
      const action = Math.min(1, Math.max(-1, 4 * (wanted - observation[1]!) + 0.3 * Math.sin(row)))
      const { observations, rewards, costs, truncated } = env.step(Float32Array.of(action))
      columns.observations.set(observation, row * 2)
      columns.next_observations.set(observations, row * 2)
      columns.actions[row] = action
      columns.rewards[row] = rewards[0]!
      columns.costs[row] = costs[0]!
      columns.timeouts[row] = truncated[0]!
      observation = observations
    }
  }
  return columns
}

/** @param options what is trained, where to, and which environments are played. */
export async function ownEnvironment({
  config = {},
  out = undefined as string | undefined,
  python = true,
} = {}): Promise<Evaluation[]> {
  let run = ''
  const dataset = record(120)
  for await (const event of train({ dataset, algorithm: 'bc_safe', config: { cost_limit: 5, ...config }, out })) {
    if (event.type === 'start') run = event.run_dir
  }
  const evaluations: Evaluation[] = []
  for (const env of [
    (rows: number) => new SpeedLimit(rows),
    ...(python ? ['examples.speed_limit:SpeedLimit-v0'] : []),
  ]) {
    const { evaluation } = await evaluate({ run, env, episodes: 10 })
    const { return: ret, cost } = evaluation
    console.log(`${evaluation.env}: return ${ret.mean.toFixed(1)}, cost ${cost.mean.toFixed(1)} (limit 5)`)
    evaluations.push(evaluation)
  }
  return evaluations
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await ownEnvironment()
