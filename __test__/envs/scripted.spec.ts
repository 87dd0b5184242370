import test from 'ava'
import type { StepResult } from '../../src/envs/env.js'
import { EMBEDDED_ENVS, findEnv } from '../../src/envs/registry.js'
import { type Columns, makeDataset } from '../../src/envs/scripted.js'

interface Episode {
  ret: number
  cost: number
}

function episodesOf(columns: Columns): Episode[] {
  const episodes: Episode[] = []
  let current = { ret: 0, cost: 0 }
  for (const [row, reward] of columns.rewards.entries()) {
    current.ret += reward
    current.cost += columns.costs[row]!
    if (columns.timeouts[row] === 0) continue
    episodes.push(current)
    current = { ret: 0, cost: 0 }
  }
  return episodes
}

const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length

for (const { id, task, cost_cap, score_range, default_cost_limit } of EMBEDDED_ENVS) {
  test(`${id}: columns have the stated lengths, finite values, actions in the box, one time-out an episode`, (t) => {
    const columns = makeDataset(id, { episodes: 12, seed: 4 })
    const rows = 12 * task.episode_length
    t.is(columns.observations.length, rows * task.obs_dim)
    t.is(columns.next_observations.length, rows * task.obs_dim)
    t.is(columns.actions.length, rows * 2)
    for (const column of [columns.rewards, columns.costs, columns.terminals, columns.timeouts])
      t.is(column.length, rows)
    t.true([...columns.observations, ...columns.next_observations].every(Number.isFinite))
    t.true(columns.actions.every((action) => Math.abs(action) <= 1))
    t.true(columns.terminals.every((flag) => flag === 0))
    t.is(episodesOf(columns).length, 12)
    t.is(columns.source, `env:${id}?episodes=12&seed=4`)
  })

  test(`${id}: same seed, same bytes; other seed, other data`, (t) => {
    t.deepEqual(makeDataset(id, { episodes: 6, seed: 1 }), makeDataset(id, { episodes: 6, seed: 1 }))
    t.notDeepEqual(makeDataset(id, { episodes: 6, seed: 1 }).rewards, makeDataset(id, { episodes: 6, seed: 2 }).rewards)
  })

  test(`${id}: next observations are the observations of the next row within an episode`, (t) => {
    const { observations, next_observations, obs_dim } = makeDataset(id, { episodes: 2 })
    const last = task.episode_length - 1
    t.deepEqual(next_observations.slice(0, last * obs_dim), observations.slice(obs_dim, (last + 1) * obs_dim))
  })

  test(`${id}: the default data spans the score range and leaves room above the mean safe return`, (t) => {
    const episodes = episodesOf(makeDataset(id))
    const returns = episodes.map((episode) => episode.ret)
    const costs = episodes.map((episode) => episode.cost)
    const safe = episodes.filter((episode) => episode.cost <= default_cost_limit).map((episode) => episode.ret)
    t.is(Number(Math.min(...returns).toFixed(3)), score_range.min_return)
    t.is(Number(Math.max(...returns).toFixed(3)), score_range.max_return)
    t.is(Math.min(...costs), score_range.min_cost)
    t.is(Math.max(...costs), score_range.max_cost)
    t.true(Math.max(...costs) <= cost_cap)
    t.true(safe.length >= 50 && safe.length <= 150, `${safe.length} safe episodes`)
    t.true(mean(costs) > 2 * default_cost_limit, 'most of the data is unsafe')
    t.true(Math.max(...safe) >= 1.5 * mean(safe), 'the best safe episode is far above the mean safe one')
    t.true(Math.max(...returns) > 1.2 * Math.max(...safe), 'the limit costs return')
  })
}

test('recorded transitions obey the environment: replaying an action from its state gives the recorded step', (t) => {
  const columns = makeDataset('point-circle', { episodes: 1 })
  const { task } = findEnv('point-circle')!
  const [x = 0, y = 0, vx = 0, vy = 0] = columns.observations
  const env = findEnv('point-circle')!.make(1)
  env.reset([0])
  Object.assign((env as unknown as { states: object[] }).states[0]!, { x, y, vx, vy })
  const { rewards, costs } = env.step(columns.actions.slice(0, 2)) as StepResult
  t.true(Math.abs(rewards[0]! - columns.rewards[0]!) < 1e-5)
  t.is(costs[0], columns.costs[0])
  t.is(task.obs_dim, columns.obs_dim)
})

test('bad requests are refused by name and value', (t) => {
  t.throws(() => makeDataset('point-cirle'), { message: /'point-cirle'; there are: point-circle, point-run/ })
  t.throws(() => makeDataset('point-run', { episodes: 0 }), { message: /episodes .* got 0/ })
  t.throws(() => makeDataset('point-run', { episodes: Number.NaN }), { message: /got NaN/ })
  t.throws(() => makeDataset('point-run', { seed: -1 }), { message: /seed .* got -1/ })
})
