/**
 * The real environments, installed by `drcorl envs install`: they are those of the datasets,
 * and the bridge adds nothing to them.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { findEnvironment, openTask, suiteOf } from '../../src/data/environments.js'
import { loadDataset } from '../../src/data/dataset.js'
import { TASKS } from '../../src/data/tasks.js'
import type { VecEnv } from '../../src/envs/env.js'
import { environmentSteps } from '../../src/envs/ledger.js'
import type { NativeColumns } from '../../src/native/dataset.js'
import { dataFile } from '../data-files.js'
import { MODULES, installedPython } from './real.js'

process.env['PYTHONPATH'] = MODULES
const python = await installedPython()
const real = python === undefined ? test.serial.skip : test.serial

/** Asks python/reference.py. */
async function ask<T>(...args: (string | number)[]): Promise<T> {
  const script = join(MODULES, 'reference.py')
  const { stdout } = await promisify(execFile)(python!, [script, ...args.map(String)], { maxBuffer: 1 << 28 })
  return JSON.parse(stdout) as T
}

/** One episode as reference.py gives it. */
type Trace = [first: number[], ...steps: [observation: number[], reward: number, cost: number][]]

/** The same actions as in reference.py, in every row. */
const actionsOf = (step: number, env: VecEnv): Float32Array =>
  Float32Array.from({ length: env.num_envs * env.act_dim }, (_, i) => ((7 * step + 3 * (i % env.act_dim)) % 11) / 5 - 1)

async function traces(env: VecEnv, steps: number, seeds: number[]): Promise<Trace[]> {
  const rows = (values: Float32Array, row: number): number[] => [
    ...values.subarray(row * env.obs_dim, (row + 1) * env.obs_dim),
  ]
  const first = await env.reset(seeds)
  const played = seeds.map((_, row): Trace => [rows(first, row)])
  const running = new Set(seeds.keys())
  for (let step = 0; step < steps; step += 1) {
    const { observations, rewards, costs, terminated, truncated } = await env.step(actionsOf(step, env))
    for (const row of running) {
      played[row]!.push([rows(observations, row), rewards[row]!, costs[row]!])
      if (terminated[row] === 1 || truncated[row] === 1) running.delete(row)
    }
  }
  return played
}

for (const [name, steps] of [
  ['BallCircle', 60],
  ['CarRun', 60],
  ['DroneRun', 30],
  ['PointGoal1', 60],
  ['HopperVelocity', 200],
] as const) {
  real(`${name}: the episodes of plain Python, number by number, on any worker and after any history`, async (t) => {
    const { simulator_id: id } = TASKS.find(({ task }) => task === name)!
    const seeds = [5, 6, 5]
    const plain = await ask<Trace[]>('episodes', id, steps, 5, 6)
    const expected = [...plain, plain[0]!]
    t.notDeepEqual(plain[0], plain[1])
    for (const workers of [1, 2]) {
      const env = await openTask(name, { num_envs: 3, workers })
      await traces(env, 20, [1, 2, 9])
      t.deepEqual(await traces(env, steps, seeds), expected, `${workers} workers`)
      t.deepEqual(await traces(env, steps, seeds), expected, `${workers} workers, again`)
      await env.close()
    }
  })
}

real(
  'an environment that draws from the global generators of numpy and Python does not hear its neighbours',
  async (t) => {
    const play = async (workers: number, seeds: number[]): Promise<Trace[]> => {
      const env = await findEnvironment('misbehaving:Walk-v0', { workers }).make(seeds.length)
      const played = await traces(env, 10, seeds)
      await env.close?.()
      return played
    }
    const [alone] = await play(1, [3])
    for (const workers of [1, 2, 4]) t.deepEqual((await play(workers, [0, 1, 3, 4]))[2], alone, `${workers} workers`)
    t.notDeepEqual((await play(1, [4]))[0], alone)
  },
)

real('every task that can be installed has the sizes and the length of its dataset', async (t) => {
  const tasks = TASKS.filter((task) => suiteOf(task) !== undefined)
  t.is(tasks.length, 29)
  for (const { task, act_dim } of tasks) {
    const env = await openTask(task, { num_envs: 1, workers: 1 })
    t.deepEqual([env.action_low, env.action_high], [Array(act_dim).fill(-1), Array(act_dim).fill(1)], task)
    await env.reset([0])
    const { observations, costs } = await env.step(new Float32Array(act_dim))
    t.true(observations.every(Number.isFinite) && costs[0]! >= 0, task)
    await env.close()
  }
  await t.throwsAsync(openTask('easymean', { num_envs: 1 }), { code: 'Environment', message: /metadrive cannot be/ })
  await t.throwsAsync(openTask('BallCirkle', { num_envs: 1 }), { code: 'Usage', message: /unknown environment/ })
})

real('another version of an environment, with other sizes, is refused', async (t) => {
  const { openPythonEnv } = await import('../../src/envs/python.js')
  const expected = { obs_dim: 7, act_dim: 2, episode_length: 200 }
  const source = {
    name: 'CarRun',
    suite: 'bullet_safety_gym',
    id: 'SafetyBallCircle-v0',
    python: python!,
    expected,
  } as const
  await t.throwsAsync(openPythonEnv(source, { num_envs: 1 }), { message: /has 8 observations, DSRL's task has 7/ })
})

real('episodes have their stated length; rows that have ended rest and are not counted', async (t) => {
  const ball = await openTask('BallCircle', { num_envs: 2, workers: 1 })
  await ball.reset([0, 1])
  const before = environmentSteps()
  for (let step = 1; step <= 200; step += 1) {
    const { truncated, terminated } = await ball.step(actionsOf(step, ball))
    t.deepEqual([...truncated, ...terminated], step === 200 ? [1, 1, 0, 0] : [0, 0, 0, 0])
  }
  t.is((await ball.step(actionsOf(0, ball))).stepped, 0)
  t.is(environmentSteps() - before, 400)
  await ball.close()

  const hopper = await openTask('HopperVelocity', { num_envs: 8, workers: 2 })
  await hopper.reset([0, 1, 2, 3, 4, 5, 6, 7])
  let ended = 0
  for (let step = 0; ended < 8 && step < 1000; step += 1) {
    const { terminated, stepped, rewards } = await hopper.step(actionsOf(step, hopper))
    t.is(stepped, 8 - ended)
    t.is(rewards.filter((reward) => reward === 0).length >= ended, true)
    ended += terminated.filter(Boolean).length
  }
  t.is(ended, 8, 'a hopper that is shaken falls')
  await hopper.close()
})

real('the plain sky of Safety-Gymnasium changes no byte of an episode', async (t) => {
  const ids = ['SafetyPointGoal1Gymnasium-v0', 'SafetyCarButton1Gymnasium-v0', 'SafetyPointCircle2Gymnasium-v0']
  const found = await ask<Record<string, [string, string]>>('skies', 80, ...ids)
  for (const id of ids) t.is(found[id]![1], found[id]![0], id)
})

/** Every `every`-th transition of a dataset, as files for reference.py, or all of the first ones. */
async function excerpt(columns: NativeColumns, count: number, every = 1): Promise<Excerpt> {
  const folder = await mkdtemp(join(tmpdir(), 'drcorl-transitions-'))
  const pick = (values: Float32Array, width: number): Float32Array =>
    Float32Array.from({ length: count * width }, (_, i) => values[Math.floor(i / width) * every * width + (i % width)]!)
  const { obs_dim, act_dim } = columns
  const taken = {
    observations: pick(columns.observations, obs_dim),
    next_observations: pick(columns.next_observations, obs_dim),
    actions: pick(columns.actions, act_dim),
  }
  for (const [name, values] of Object.entries(taken)) await writeFile(join(folder, name), new Uint8Array(values.buffer))
  const flags = (values: Uint8Array): number[] => Array.from({ length: count }, (_, i) => values[i * every]!)
  return {
    folder,
    obs_dim,
    act_dim,
    next: taken.next_observations,
    rewards: pick(columns.rewards, 1),
    costs: pick(columns.costs, 1),
    terminals: flags(columns.terminals as Uint8Array),
  }
}

interface Excerpt {
  folder: string
  obs_dim: number
  act_dim: number
  next: Float32Array
  rewards: Float32Array
  costs: Float32Array
  terminals: number[]
}

/** Rows of `predict`: next observation, reward, cost, terminal. */
type Prediction = [number[], number, number, boolean]

const columnsOf = async (path: string): Promise<NativeColumns> => (await loadDataset(path)).native.columns()

const quantile = (values: number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]!

/** Of the absolute differences, the one that this share of the values stays under. */
const errorAt = (share: number, found: number[], logged: ArrayLike<number>): number =>
  quantile(
    found.map((value, index) => Math.abs(value - logged[index]!)),
    share,
  )

/** Test on a recorded dataset and a real environment; says aloud that it is left out where one of them is absent. */
function onData(title: string, file: string, body: (t: ExecutionContext, path: string) => Promise<void>): void {
  const path = dataFile(file)
  if (path === undefined) test.skip(title, () => undefined)
  else real(title, (t) => body(t, path))
}

onData(
  'BallCircle: from logged states, logged actions give the logged steps',
  'SafetyBallCircle-v0-80-800.hdf5',
  async (t, path) => {
    const logged = await excerpt(await columnsOf(path), 500, 31)
    const found = await ask<Prediction[]>('predict', 'BallCircle', logged.folder, logged.obs_dim, logged.act_dim)
    // The height of the ball is not observed: the few steps in which it is in the air after a hit at the wall come out
    // otherwise.
    t.true(
      errorAt(
        0.95,
        found.flatMap(([next]) => next),
        logged.next,
      ) < 1e-5,
    )
    t.true(
      errorAt(
        0.95,
        found.map(([, reward]) => reward),
        logged.rewards,
      ) < 1e-4,
    )
    t.deepEqual(
      found.map(([, , cost]) => cost),
      [...logged.costs],
    )
  },
)

onData(
  'BallCircle: whole logged episodes, open loop, give the logged returns and costs',
  'SafetyBallCircle-v0-80-800.hdf5',
  async (t, path) => {
    const columns = await columnsOf(path)
    const logged = await excerpt(columns, 4000)
    const found = await ask<[number, number][]>('replay', logged.folder, logged.obs_dim, logged.act_dim, 200)
    const sums = (values: Float32Array): number[] =>
      found.map((_, episode) => values.slice(episode * 200, (episode + 1) * 200).reduce((sum, value) => sum + value, 0))
    t.true(
      errorAt(
        0.9,
        found.map(([ret]) => ret),
        sums(logged.rewards),
      ) < 0.5,
    )
    t.true(
      errorAt(
        0.9,
        found.map(([, cost]) => cost),
        sums(logged.costs),
      ) === 0,
    )
  },
)

onData(
  'HopperVelocity: from logged states, logged actions give the logged steps',
  'SafetyHopperVelocityGymnasium-v1-250-300.hdf5',
  async (t, path) => {
    const logged = await excerpt(await columnsOf(path), 500, 31)
    const found = await ask<Prediction[]>('predict', 'HopperVelocity', logged.folder, logged.obs_dim, logged.act_dim)
    // The file keeps 12 bits of an observation, and contacts are stiff.
    t.true(
      errorAt(
        0.9,
        found.flatMap(([next]) => next),
        logged.next,
      ) < 5e-3,
    )
    t.true(
      errorAt(
        0.95,
        found.map(([, reward]) => reward),
        logged.rewards,
      ) < 5e-3,
    )
    t.true(found.filter(([, , cost], row) => cost === logged.costs[row]).length >= 0.99 * found.length)
    t.true(
      found.filter(([, , , terminal], row) => Number(terminal) === logged.terminals[row]).length >= 0.99 * found.length,
    )
  },
)

onData(
  'CarRun: the environment gives logged transitions the logged rewards and costs',
  'SafetyCarRun-v0-40-650.hdf5',
  async (t, path) => {
    const logged = await excerpt(await columnsOf(path), 500, 31)
    const found = await ask<[number, number][]>('judge', logged.folder, logged.obs_dim, logged.act_dim)
    t.true(
      errorAt(
        0.98,
        found.map(([reward]) => reward),
        logged.rewards,
      ) < 1e-3,
    )
    t.deepEqual(
      found.map(([, cost]) => cost),
      [...logged.costs],
    )
    t.true(logged.costs.includes(1))
  },
)

/** Where accelerometer, velocimeter, gyro and magnetometer end in an observation of PointGoal1. */
const LIDARS = 12
/** Lidar of the hazards in an observation of PointGoal1, and what it reads at a hazard's edge: 1 - size / range. */
const HAZARDS = { first: 28, end: 44 }
const EDGE = 1 - 0.2 / 3

onData(
  'PointGoal1: replayed actions stay in the ranges of the data, and the cost is the same function of the lidar',
  'SafetyPointGoal1Gymnasium-v0-100-165.hdf5',
  async (t, path) => {
    const columns = await columnsOf(path)
    const { obs_dim } = columns
    const env = await openTask('PointGoal1', { num_envs: 4, workers: 2 })
    await env.reset([0, 1, 2, 3])
    const seen: { observation: Float32Array; reward: number; cost: number }[] = []
    for (let step = 0; step < 1000; step += 1) {
      const actions = Float32Array.from(
        { length: 8 },
        (_, i) => columns.actions[(Math.floor(i / 2) * 1000 + step) * 2 + (i % 2)]!,
      )
      const { observations, rewards, costs } = await env.step(actions)
      for (let row = 0; row < 4; row += 1) {
        const observation = observations.slice(row * obs_dim, (row + 1) * obs_dim)
        seen.push({ observation, reward: rewards[row]!, cost: costs[row]! })
      }
    }
    await env.close()

    const agrees = (observation: Float32Array, cost: number): boolean =>
      Math.max(...observation.subarray(HAZARDS.first, HAZARDS.end)) >= EDGE - 2e-4 === (cost === 1)
    const logged = Array.from({ length: 20_000 }, (_, i) => i * 8).map((row) => ({
      observation: columns.next_observations.subarray(row * obs_dim, (row + 1) * obs_dim),
      reward: columns.rewards[row]!,
      cost: columns.costs[row]!,
    }))
    for (const rows of [seen, logged]) {
      const right = rows.filter(({ observation, cost }) => agrees(observation, cost)).length
      t.true(right >= 0.995 * rows.length, `${right} of ${rows.length}`)
      t.true(rows.some(({ cost }) => cost === 1))
    }
    // What the robot feels depends on its motion; what its lidars see, on where a policy that looks would have gone.
    for (let i = 0; i < LIDARS; i += 1) {
      const values = (rows: typeof seen): number[] => rows.map(({ observation }) => observation[i]!)
      const [low, high] = [quantile(values(logged), 0.01), quantile(values(logged), 0.99)]
      const [seenLow, seenHigh] = [quantile(values(seen), 0.01), quantile(values(seen), 0.99)]
      const room = 0.3 * (high - low) + 1e-3
      const both = `component ${i}: ${seenLow} to ${seenHigh}, data ${low} to ${high}`
      t.true(seenLow > low - room && seenHigh < high + room, both)
      t.true(seenHigh - seenLow >= 0.3 * (high - low), both)
    }
    t.true(seen.every(({ observation }) => observation.subarray(LIDARS).every((value) => value >= 0 && value <= 1)))
    const speed = (rows: typeof seen): number =>
      quantile(
        rows.map(({ reward }) => Math.abs(reward)),
        0.95,
      )
    t.true(speed(seen) < 2 * speed(logged) && speed(seen) > 0.3 * speed(logged))
  },
)
