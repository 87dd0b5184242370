import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { TASKS, recogniseTask, requireTask } from '../../src/data/tasks.js'
import { normalizeCost, normalizeReward } from '../../src/evaluate/score.js'

/** DSRL's constants as the specification has them, read from DSRL itself. */
interface Published {
  task: string
  suite: string
  env_id: string
  dataset_file: string
  dataset_url: string
  max_episode_steps: number
  state_dim: number
  action_dim: number
  min_episode_reward: number
  max_episode_reward: number
  min_episode_cost: number
  max_episode_cost: number
  target_cost_thresholds: number[]
  density_cfg: Record<string, { cbins: number; rbins: number; max_npb: number; min_npb: number }> | null
}

const SPEC = fileURLToPath(new URL('../../../shared/spec/dsrl_tasks.json', import.meta.url))

function published(): Published[] | undefined {
  if (existsSync(SPEC)) return JSON.parse(readFileSync(SPEC, 'utf8')) as Published[]
  console.warn(`SKIPPED: ${SPEC} is absent; the table of tasks is not compared with it`)
  return undefined
}

test('the table holds what DSRL publishes, to the last digit', (t) => {
  const rows = published()
  if (rows === undefined) return t.pass()
  t.is(rows.length, 38)
  t.deepEqual(
    TASKS.map((task) => task),
    rows.map((row) => ({
      task: row.task,
      env_id: row.env_id,
      suite: row.suite,
      dataset_file: row.dataset_file,
      simulator_id: row.dataset_file.replace(/-\d+-\d+\.hdf5$/, ''),
      obs_dim: row.state_dim,
      act_dim: row.action_dim,
      episode_length: row.max_episode_steps,
      min_return: row.min_episode_reward,
      max_return: row.max_episode_reward,
      min_cost: row.min_episode_cost,
      max_cost: row.max_episode_cost,
      cost_limits: row.target_cost_thresholds,
      dataset_url: row.dataset_url,
      density: Object.fromEntries(
        Object.entries(row.density_cfg ?? {}).map(([share, grid]) => [
          share,
          { cost_bins: grid.cbins, return_bins: grid.rbins, most: grid.max_npb, least: grid.min_npb },
        ]),
      ),
    })),
  )
})

test('scores of all tasks are DSRL’s at every limit, 0 included', (t) => {
  for (const row of published() ?? []) {
    const task = requireTask(row.task)
    const { min_episode_reward: low, max_episode_reward: high } = row
    for (const reward of [low, high, 0, (low + high) / 2, 2 * high]) {
      t.is(normalizeReward(reward, task), (reward - low) / (high - low), row.task)
    }
    for (const limit of [0, 10, 20, 40, 80]) {
      const epsilon = limit === 0 ? 1 : 0
      for (const cost of [0, row.max_episode_cost / 2, row.max_episode_cost, limit]) {
        t.is(normalizeCost(cost, limit, 'dsrl'), (cost + epsilon) / (limit + epsilon), `${row.task} ${limit}`)
      }
      t.is(normalizeCost(limit, limit, 'dsrl'), 1)
    }
  }
  t.pass()
})

test('each suite has its limits, and 30 tasks have two density presets each', (t) => {
  for (const { suite, cost_limits, task } of TASKS) {
    t.deepEqual(cost_limits, suite.startsWith('safety_gymnasium') ? [20, 40, 80] : [10, 20, 40], task)
  }
  const presets = TASKS.map(({ density }) => Object.keys(density).length)
  t.deepEqual([presets.filter((n) => n === 2).length, presets.filter((n) => n === 0).length], [30, 8])
})

test('a DSRL file name tells its task, also with other data in it', (t) => {
  for (const task of TASKS) t.is(recogniseTask(`/data/${task.dataset_file}`), task)
  t.is(recogniseTask('../SafetyHopperVelocityGymnasium-v1-250-300.hdf5')?.task, 'HopperVelocity')
  t.is(recogniseTask('SafetyBallCircle-v0-80-800.hdf5')?.task, 'BallCircle')
  t.is(recogniseTask('mine.hdf5'), undefined)
  t.is(recogniseTask('SafetyBallCircle-v1-80-800.hdf5'), undefined)
})

test('a task is found by its name in any case; a mistyped one is refused with the nearest', (t) => {
  t.is(requireTask('ballcircle').task, 'BallCircle')
  t.is(requireTask('OfflineCarRun-v0').task, 'CarRun')
  const error = t.throws(() => requireTask('BalCircle'), { instanceOf: DrcorlError })
  t.like(error, { code: 'Usage', exitStatus: 2, message: 'unknown task "BalCircle"; did you mean BallCircle?' })
})
