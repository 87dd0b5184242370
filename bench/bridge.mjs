// What the bridge costs: the same rollout, the same number of environments in one process,
// once in plain Python and once from Node.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { ROOT } from '../scripts/lib/run.mjs'

/** Of the plain rollout's time, at most. */
const TARGET_OVERHEAD = 0.15
const TASKS = ['BallCircle', 'CarRun', 'PointGoal1', 'HopperVelocity']
const ROWS = 20
const STEPS = 100
/** Alternating, so that what else runs on the machine weighs on both. */
const ROUNDS = 6
/** Of the times of a step of all environments: low, for the steps that no other process interrupted. */
const QUANTILE = 0.1

/** One entry a task, or none where the environments are not installed. */
export async function bridge(drcorl) {
  const folder = process.env.DRCORL_ENVS ?? join(ROOT, 'target/envs')
  const entries = []
  for (const name of TASKS) {
    try {
      entries.push(await compare(drcorl, name, folder))
    } catch (error) {
      if (error.code !== 'Environment' || error.exitStatus !== 2) throw error
      console.error(`bridge not measured: ${error.message}`)
      return []
    }
  }
  return entries
}

async function compare({ openTask, TASKS: tasks }, name, dir) {
  const env = await openTask(name, { num_envs: ROWS, workers: 1, dir })
  const plain = plainRollout(tasks.find(({ task }) => task === name).simulator_id, join(dir, 'python/bin/python'))
  try {
    const seconds = { bridge: [], plain: [] }
    for (let round = 0; round < ROUNDS; round += 1) {
      seconds.plain.push(...(await plain.play()))
      seconds.bridge.push(...(await bridgeRollout(env)))
    }
    const [ours, plainly] = [quantile(seconds.bridge), quantile(seconds.plain)]
    const overhead = ours / plainly - 1
    return {
      name: `${name}, ${ROWS} environments`,
      us: ours * 1e6,
      plain_us: plainly * 1e6,
      overhead,
      target_overhead: TARGET_OVERHEAD,
      met: overhead <= TARGET_OVERHEAD,
    }
  } finally {
    plain.end()
    await env.close()
  }
}

async function bridgeRollout(env) {
  await env.reset(Array.from({ length: ROWS }, (_, row) => row))
  const actions = Array.from({ length: STEPS }, (_, t) =>
    Float32Array.from({ length: ROWS * env.act_dim }, (_, i) => ((7 * t + 3 * (i % env.act_dim)) % 11) / 5 - 1),
  )
  const seconds = []
  for (const action of actions) {
    const start = performance.now()
    const { stepped } = await env.step(action)
    // From the first end on there is less to do in a step, and the pipe weighs more.
    if (stepped < ROWS) break
    seconds.push((performance.now() - start) / 1000)
  }
  return seconds
}

const quantile = (values) => values.toSorted((a, b) => a - b)[Math.floor(QUANTILE * values.length)]

function plainRollout(id, python) {
  const script = join(ROOT, 'bench/rollout.py')
  const child = spawn(python, [script, id, String(ROWS), String(STEPS)], { stdio: ['pipe', 'pipe', 'ignore'] })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  return {
    async play() {
      child.stdin.write('\n')
      return (await lines.next()).value.split(' ').map(Number)
    },
    end: () => child.kill(),
  }
}
