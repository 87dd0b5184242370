import test from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { loadDataset } from '../../src/data/dataset.js'
import { TASKS } from '../../src/data/tasks.js'
import { makeDataset } from '../../src/envs/scripted.js'
import { dataFile } from '../data-files.js'

/** File, task, transitions, episodes, best return at cost <= 10: the table that came with the files. */
const RECORDED = [
  ['SafetyBallCircle-v0-80-800.hdf5', 'BallCircle', 160_000, 800, 736],
  ['SafetyCarRun-v0-40-650.hdf5', 'CarRun', 130_000, 650, 566],
  ['SafetyHopperVelocityGymnasium-v1-250-300.hdf5', 'HopperVelocity', 196_198, 300, 1574],
  ['SafetyPointGoal1Gymnasium-v0-100-165.hdf5', 'PointGoal1', 165_000, 165, 25.5],
] as const

for (const [name, task, transitions, episodes, best] of RECORDED) {
  test(`${name}: counts, task and best safe return`, async (t) => {
    const file = dataFile(name)
    if (file === undefined) return t.pass()
    const dataset = await loadDataset(file)
    const known = TASKS.find((row) => row.task === task)
    t.like(dataset, { kind: 'file', source: file, stem: name.replace('.hdf5', '') })
    t.like(dataset.summary, { transitions, episodes, obs_dim: known?.obs_dim, act_dim: known?.act_dim })
    t.like(dataset.task, { task, env: null, episode_length: known?.episode_length, max_return: known?.max_return })
    t.true(dataset.summary.episode_length.max <= (known?.episode_length ?? 0))
    t.true(Math.abs((dataset.summary.best_returns[0]?.best_return ?? 0) - best) < 0.6)
    t.regex(dataset.sha256, /^[0-9a-f]{64}$/)
  })
}

test('a stated episode length that the file exceeds is refused, with the length', async (t) => {
  const file = dataFile('SafetyBallCircle-v0-80-800.hdf5')
  if (file === undefined) return t.pass()
  const error = await t.throwsAsync(loadDataset(file, { episode_length: 150 }), { instanceOf: DrcorlError })
  t.like(error, { code: 'Data', exitStatus: 2 })
  t.regex(error?.message ?? '', /SafetyBallCircle.*(150.*200|200.*150)/)
  t.is((await loadDataset(file, { episode_length: 200 })).summary.episodes, 800)
})

test('env: sources name environment, episodes and seed; the same name gives the same bytes', async (t) => {
  const dataset = await loadDataset('env:point-run?episodes=4&seed=3')
  t.like(dataset, { kind: 'env', stem: 'point-run', source: 'env:point-run?episodes=4&seed=3' })
  t.like(dataset.task, { task: 'point-run', env: 'point-run', episode_length: 100 })
  t.like(dataset.summary, { transitions: 400, episodes: 4, obs_dim: 5 })
  t.is((await loadDataset('env:point-run?episodes=4&seed=3')).sha256, dataset.sha256)
  t.not((await loadDataset('env:point-run?episodes=4&seed=4')).sha256, dataset.sha256)
  t.is(await loadDataset(dataset), dataset)
})

test('columns are checked: a bad length or value is named', async (t) => {
  const columns = makeDataset('point-run', { episodes: 2 })
  t.is((await loadDataset(columns)).summary.transitions, 200)
  const short = { ...columns, rewards: columns.rewards.slice(1) }
  const nan = { ...columns, costs: columns.costs.map((cost, row) => (row === 7 ? Number.NaN : cost)) }
  for (const [bad, message] of [
    [short, /rewards.*199/],
    [nan, /costs.*NaN/],
  ] as const) {
    const error = await t.throwsAsync(loadDataset(bad), { instanceOf: DrcorlError })
    t.is((error as DrcorlError).exitStatus, 2)
    t.regex(error?.message ?? '', message)
  }
})

test('unknown environments and settings are refused with the known ones', async (t) => {
  const cases: [source: string, message: RegExp][] = [
    ['env:', /point-circle/],
    ['env:cart-pole', /cart-pole.*point-circle/],
    ['env:point-run?sed=1', /"sed".*episodes, seed/],
    ['env:point-run?seed=-1', /seed/],
    ['env:point-run?episodes=1e9', /episodes/],
  ]
  for (const [source, message] of cases) {
    const error = await t.throwsAsync(loadDataset(source), { instanceOf: DrcorlError, message })
    t.like(error, { code: 'Config', exitStatus: 2 })
  }
})
