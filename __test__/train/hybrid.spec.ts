/** Hybrid modes: who meets the environment, when, and that it is counted. */
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { sha256File } from '../../src/base/files.js'
import { readRun } from '../../src/report/run-data.js'
import { reportPage } from '../../src/report/report.js'
import type { EndEvent, TrainEvent, TrainOptions, VisitEvent } from '../../src/train/events.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import type { CostEnv, EnvFactory } from '../../src/envs/env.js'
import { pointCircle } from '../../src/envs/point-circle.js'
import { smallConfig } from '../small.js'
import { collect } from './collect.js'

const STEPS_A_VISIT = 2 * 200

/** Visits before steps 0 and 4 of the 8 of adaptation. */
const options = (out: string, mode: string): TrainOptions => ({
  dataset: 'env:point-circle?episodes=10',
  out,
  config: smallConfig('drcorl', { cost_limit: 40, mode, hybrid_interval: 4, hybrid_episodes: 2 }, { steps: 8 }),
})

const newRun = async (): Promise<string> => join(await mkdtemp(join(tmpdir(), 'drcorl-hybrid-')), 'run')

const visitsOf = (events: readonly TrainEvent[]): VisitEvent[] => events.filter((event) => event.type === 'visit')
const endOf = (events: readonly TrainEvent[]): EndEvent => events.at(-1) as EndEvent

for (const mode of ['hybrid-eval', 'hybrid-data']) {
  test.serial(
    `${mode}: visits at their steps, counted, shown, and repeated exactly after an interruption`,
    async (t) => {
      const out = await newRun()
      const events = await collect(options(out, mode))
      const visits = visitsOf(events)
      t.deepEqual(
        visits.map(({ number, episodes, environment_steps }) => [number, episodes, environment_steps]),
        [
          [0, 2, STEPS_A_VISIT],
          [1, 2, STEPS_A_VISIT],
        ],
      )
      t.is(endOf(events).environment_steps, 2 * STEPS_A_VISIT)
      const certificate = JSON.parse(await readFile(join(out, RUN_FILES.certificate), 'utf8'))
      t.is(certificate.environment_steps, 2 * STEPS_A_VISIT)
      t.is(certificate.visits[1].cost, visits[1]!.cost)
      const run = await readRun(out)
      t.is(run.result?.environment_steps?.training, 2 * STEPS_A_VISIT)
      t.true(run.metrics!.numbers('cost_measured').some(Number.isFinite))
      t.regex(reportPage(run), /Visits of the environment/)

      // Stopped in the middle of training after the first visit, and, by a signal, right at the second.
      const interrupted = await newRun()
      const controller = new AbortController()
      const first = await collect({ ...options(interrupted, mode), signal: controller.signal }, (event) => {
        if (event.type === 'progress' && event.phase === 'adaptation' && event.phase_step >= 2) controller.abort()
      })
      t.is(endOf(first).status, 'interrupted')
      const second = await collect({ out: interrupted, resume: true })
      t.is(visitsOf(first).length + visitsOf(second).length, 2)
      t.is(endOf(second).environment_steps, 2 * STEPS_A_VISIT)
      t.is(await sha256File(join(interrupted, RUN_FILES.policy)), await sha256File(join(out, RUN_FILES.policy)))
    },
  )
}

for (const mode of ['hybrid-eval', 'hybrid-data']) {
  test.serial(`${mode} under several limits: visits measure each cost`, async (t) => {
    const out = await newRun()
    const limits = { costs: 40, energy: 150 }
    const sizes = { mode, limits, hybrid_interval: 4, hybrid_episodes: 2 }
    const config = smallConfig('drcorl', sizes, { steps: 8 })
    const [visit] = visitsOf(await collect({ dataset: 'env:point-circle?episodes=10', out, config }))
    t.deepEqual(Object.keys(visit!.costs!), ['costs', 'energy'])
    t.is(visit!.costs!['costs'], visit!.cost)
    t.true(visit!.costs!['energy']! > 0)
    const run = await readRun(out)
    t.deepEqual(run.certificate!.visits![0]!.costs, visit!.costs)
    t.regex(reportPage(run), />measured energy</)
  })
}

test.serial('a simulator of costs alone is enough to measure, and for nothing else', async (t) => {
  /** The disc without its rewards. */
  const costs: EnvFactory<CostEnv> = async (rows) => {
    const env = await pointCircle(rows)
    return Object.assign(Object.create(env) as CostEnv, {
      reset: (seeds: readonly number[]) => env.reset(seeds),
      step: async (actions: Float32Array) => {
        const { rewards: _, ...rest } = await env.step(actions)
        return rest
      },
    })
  }
  const events = await collect({ ...options(await newRun(), 'hybrid-eval'), environment: costs })
  const alone = await collect(options(await newRun(), 'hybrid-eval'))
  const measured = (of: readonly TrainEvent[]) =>
    visitsOf(of).map(({ step, cost, environment_steps }) => [step, cost, environment_steps])
  t.deepEqual(measured(events), measured(alone))
  t.is(visitsOf(events)[0]!.return, 0)
  const data = collect({ ...options(await newRun(), 'hybrid-data'), environment: costs })
  t.regex(String(await t.throwsAsync(data)), /gives no rewards/)
})

test.serial('mode offline opens no environment and takes no step', async (t) => {
  const events = await collect(options(await newRun(), 'offline'))
  t.is(visitsOf(events).length, 0)
  t.is(endOf(events).environment_steps, 0)
})

test.serial('refused before anything is written', async (t) => {
  const out = await newRun()
  const refused = (asked: TrainOptions): Promise<unknown> => t.throwsAsync(collect(asked), { instanceOf: Error })
  t.regex(
    String(await refused({ ...options(out, 'offline'), environment: 'point-circle' })),
    /mode offline never opens one/,
  )
  t.regex(String(await refused({ ...options(out, 'hybrid-eval'), environment: 'nope' })), /unknown environment "nope"/)
  t.regex(
    String(
      await refused({ dataset: 'env:point-circle?episodes=10', algorithm: 'bc', out, config: { mode: 'hybrid-eval' } }),
    ),
    /bc has no use for an environment/,
  )
  await t.throwsAsync(readFile(join(out, RUN_FILES.config)))
})
