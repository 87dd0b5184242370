import test from 'ava'
import { TASKS, recogniseTask } from '../../src/data/tasks.js'

test('the table holds the 38 tasks of DSRL, each number in its place', (t) => {
  t.is(TASKS.length, 38)
  t.is(new Set(TASKS.map((task) => task.task)).size, 38)
  t.is(new Set(TASKS.map((task) => task.dataset_file)).size, 38)
  for (const task of TASKS) {
    t.true(task.obs_dim > 0 && task.act_dim > 0 && task.episode_length >= 100, task.task)
    t.true(task.max_return > task.min_return && task.max_cost > task.min_cost, task.task)
    t.is(task.cost_limits.length, 3)
    t.true(task.cost_limits.every(Number.isInteger), task.task)
  }
  t.deepEqual(
    TASKS.find((task) => task.task === 'BallCircle'),
    {
      task: 'BallCircle',
      env_id: 'OfflineBallCircle-v0',
      suite: 'bullet_safety_gym',
      dataset_file: 'SafetyBallCircle-v0-80-886.hdf5',
      simulator_id: 'SafetyBallCircle-v0',
      obs_dim: 8,
      act_dim: 2,
      episode_length: 200,
      min_return: 0.38312244415283203,
      max_return: 881.46337890625,
      min_cost: 0,
      max_cost: 80,
      cost_limits: [10, 20, 40],
    },
  )
})

test('a DSRL file name tells its task, also with other data in it', (t) => {
  for (const task of TASKS) t.is(recogniseTask(`/data/${task.dataset_file}`), task)
  t.is(recogniseTask('../SafetyHopperVelocityGymnasium-v1-250-300.hdf5')?.task, 'HopperVelocity')
  t.is(recogniseTask('SafetyBallCircle-v0-80-800.hdf5')?.task, 'BallCircle')
  t.is(recogniseTask('mine.hdf5'), undefined)
  t.is(recogniseTask('SafetyBallCircle-v1-80-800.hdf5'), undefined)
})
