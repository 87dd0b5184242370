import test from 'ava'
import type { Feedback, Policy, StepResult, VecEnv } from '../../src/envs/env.js'
import { environmentSteps } from '../../src/envs/ledger.js'
import { pointCircle } from '../../src/envs/point-circle.js'
import { evaluate, episodesCsv } from '../../src/evaluate/evaluate.js'
import { rollout } from '../../src/envs/rollout.js'

/** Row i pays reward 1 and cost i each step and ends after `lengths[i]` steps; then it restarts and pays 1000. */
class Countdown implements VecEnv {
  readonly id = 'countdown'
  readonly obs_dim = 1
  readonly act_dim = 1
  readonly episode_length = 10
  readonly seeds: number[][] = []
  private steps = 0

  constructor(
    private readonly lengths: number[],
    private readonly poison = Number.NaN,
  ) {}

  get num_envs(): number {
    return this.lengths.length
  }

  reset(seeds: readonly number[]): Promise<Float32Array> {
    this.seeds.push([...seeds])
    this.steps = 0
    return Promise.resolve(new Float32Array(this.num_envs))
  }

  step(): Promise<StepResult> {
    this.steps += 1
    const over = this.lengths.map((length) => this.steps > length)
    const ends = this.lengths.map((length) => (this.steps === length ? 1 : 0))
    return Promise.resolve({
      observations: new Float32Array(this.num_envs).fill(this.steps),
      rewards: Float32Array.from(over, (past) => (this.steps === this.poison ? Number.NaN : past ? 1000 : 1)),
      costs: Float32Array.from(over, (past, row) => (past ? 1000 : row)),
      terminated: Uint8Array.from(ends, (end, row) => (row % 2 === 1 ? end : 0)),
      truncated: Uint8Array.from(ends, (end, row) => (row % 2 === 0 ? end : 0)),
    })
  }
}

class Constant implements Policy {
  readonly name = 'constant'
  readonly feedback: Feedback[] = []
  readonly resets: number[][] = []

  constructor(
    readonly obs_dim: number,
    readonly act_dim: number,
    private readonly value: number,
    private readonly components = 0,
  ) {}

  reset(rows: readonly number[]): void {
    this.resets.push([...rows])
  }

  act(observations: Float32Array, feedback: Feedback): Float32Array {
    this.feedback.push({ rewards: feedback.rewards.slice(), costs: feedback.costs.slice() })
    const rows = observations.length / this.obs_dim
    return new Float32Array(this.components || rows * this.act_dim).fill(this.value)
  }
}

test('each row counts to its first end, and every executed step is counted', async (t) => {
  const { episodes, environment_steps } = await rollout(new Constant(1, 1, 0), new Countdown([3, 5, 1]), { seed: 40 })
  t.deepEqual(episodes, [
    { episode: 0, seed: 40, return: 3, cost: 0, length: 3, terminated: false },
    { episode: 1, seed: 41, return: 5, cost: 5, length: 5, terminated: true },
    { episode: 2, seed: 42, return: 1, cost: 2, length: 1, terminated: false },
  ])
  t.is(environment_steps, 15)
})

test('more episodes than rows: further rounds with the next seeds, the surplus is dropped', async (t) => {
  const env = new Countdown([2, 2])
  const policy = new Constant(1, 1, 0)
  const { episodes, environment_steps } = await rollout(policy, env, { episodes: 5 })
  t.deepEqual(
    episodes.map(({ episode, seed }) => [episode, seed]),
    [
      [0, 0],
      [1, 1],
      [2, 2],
      [3, 3],
      [4, 4],
    ],
  )
  t.deepEqual(env.seeds, [
    [0, 1],
    [2, 3],
    [4, 5],
  ])
  t.deepEqual(policy.resets, [
    [0, 1],
    [0, 1],
    [0, 1],
  ])
  t.is(environment_steps, 12)
})

test('the policy is told the last reward and cost, zero at first', async (t) => {
  const policy = new Constant(1, 1, 0)
  await rollout(policy, new Countdown([2, 2]))
  t.deepEqual(
    policy.feedback.map(({ rewards, costs }) => [[...rewards], [...costs]]),
    [
      [
        [0, 0],
        [0, 0],
      ],
      [
        [1, 1],
        [0, 1],
      ],
    ],
  )
})

test('what does not fit is refused with its numbers', async (t) => {
  const env = new Countdown([2])
  const refuse = (policy: Policy, broken = env): Promise<unknown> => rollout(policy, broken)
  await t.throwsAsync(refuse(new Constant(2, 1, 0)), { code: 'Shape', message: /has 2 observations.*has 1/ })
  await t.throwsAsync(refuse(new Constant(1, 3, 0)), { code: 'Shape', message: /has 3 actions/ })
  await t.throwsAsync(refuse(new Constant(1, 1, 0, 4)), { code: 'Shape', message: /gave 4 action components/ })
  await t.throwsAsync(refuse(new Constant(1, 1, Number.NaN)), { code: 'Data', message: /NaN/ })
  await t.throwsAsync(refuse(new Constant(1, 1, 0), new Countdown([2], 2)), { code: 'Data', message: /reward NaN/ })
  await t.throwsAsync(refuse(new Constant(1, 1, 0), new Countdown([99])), { message: /did not end after 10 steps/ })
  const signal = AbortSignal.abort()
  await t.throwsAsync(rollout(new Constant(1, 1, 0), env, { signal }), { code: 'Cancelled' })
})

test('the same seed gives the same evaluation, whatever the number of rows', async (t) => {
  const policy = new Constant(8, 2, 0.3)
  const wide = await rollout(policy, pointCircle(4), { seed: 7 })
  const narrow = await rollout(policy, pointCircle(1), { episodes: 4, seed: 7 })
  t.deepEqual(wide.episodes, narrow.episodes)
})

// Serial: the ledger counts every environment of the process.
test.serial('evaluate: statistics, scores, limit and ledger of a policy object', async (t) => {
  const before = environmentSteps()
  const policy = new Constant(8, 2, 0)
  const { evaluation, episodes } = await evaluate({ policy, env: 'point-circle', episodes: 3, cost_limit: 0 })
  t.is(evaluation.episodes, 3)
  t.is(evaluation.environment_steps, 600)
  t.is(environmentSteps() - before, 600)
  t.is(evaluation.length.mean, 200)
  t.deepEqual(evaluation.within_limit, { episodes: 3, share: 1 })
  t.true(evaluation.safe)
  t.deepEqual(evaluation.normalized_cost, { dsrl: 1, paper: 1, release: 0 })
  t.is(evaluation.sha256, null)
  t.is(evaluation.selected, null)
  const lines = episodesCsv(episodes).trimEnd().split('\n')
  t.is(lines[0], 'policy,episode,seed,return,cost,length,terminated')
  t.is(lines.length, 4)
  t.regex(lines[1]!, /^constant,0,0,-?[\d.e-]+,0,200,0$/)
})

test('evaluate: without a limit or a score range there is no verdict, not a made-up one', async (t) => {
  const { evaluation } = await evaluate({ policy: new Constant(1, 1, 0), env: () => new Countdown([2]), episodes: 1 })
  t.is(evaluation.env, 'countdown')
  t.is(evaluation.normalized_reward, null)
  t.is(evaluation.normalized_cost, null)
  t.is(evaluation.within_limit, null)
  t.is(evaluation.safe, null)
})

test('evaluate: bad requests are refused', async (t) => {
  const policy = new Constant(8, 2, 0)
  await t.throwsAsync(evaluate({}), { code: 'Usage', message: /a run folder or a policy/ })
  await t.throwsAsync(evaluate({ policy }), { code: 'Usage', message: /no environment is named.*point-circle/ })
  await t.throwsAsync(evaluate({ policy, env: 'moon' }), { code: 'Usage', message: /unknown environment "moon"/ })
  const env = 'point-circle'
  await t.throwsAsync(evaluate({ policy, env, episodes: 0 }), { code: 'Usage', message: /episodes 0/ })
  await t.throwsAsync(evaluate({ policy, env, seed: 0.5 }), { code: 'Usage', message: /seed 0.5/ })
  await t.throwsAsync(evaluate({ policy, env, cost_limit: -1 }), { code: 'Usage', message: /cost limit -1/ })
  await t.throwsAsync(evaluate({ run: '/no/such/run' }), { code: 'Io', message: /not a run folder/ })
})
