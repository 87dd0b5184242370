/** What every registered algorithm must keep, whatever it learns; a new one is tested by being in the registry. */
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { loadSchema, parametersFor } from '../../src/config/schema.js'
import { evaluate } from '../../src/evaluate/evaluate.js'
import type { Policy } from '../../src/envs/env.js'
import { loadPolicy } from '../../src/policy/node.js'
import { makeDataset } from '../../src/envs/scripted.js'
import { DrcorlError } from '../../src/base/errors.js'
import { sha256File } from '../../src/base/files.js'
import type { TrainEvent, TrainOptions } from '../../src/train/events.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { smallConfig } from '../small.js'
import { collect } from './collect.js'

const DATASET = 'env:point-circle?episodes=10'

const newRun = async (): Promise<string> => join(await mkdtemp(join(tmpdir(), 'drcorl-conformance-')), 'run')
const policyHash = (run: string): Promise<string> => sha256File(join(run, RUN_FILES.policy))

function stopper(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController()
  return { signal: controller.signal, abort: () => controller.abort() }
}

/** Rewards and costs of row `row` after step `step`, any but always the same. */
const answer = (row: number, step: number): [reward: number, cost: number] => [Math.sin(row + step), (row + step) % 2]

/**
 * Plays `steps` steps of the given rows side by side from fresh episodes;
 * every row keeps looking at its own observation.
 */
async function play(
  policy: Policy,
  all: Float32Array,
  rows: readonly number[],
  steps: number,
): Promise<Float32Array[]> {
  const { obs_dim } = policy
  const observations = Float32Array.from(rows.flatMap((row) => [...all.subarray(row * obs_dim, (row + 1) * obs_dim)]))
  policy.reset(rows.map((_, index) => index))
  const actions: Float32Array[] = []
  for (let step = 0; step < steps; step += 1) {
    const last = rows.map((row) => (step === 0 ? [0, 0] : answer(row, step - 1)))
    const rewards = Float32Array.from(last, ([reward]) => reward!)
    const costs = Float32Array.from(last, ([, cost]) => cost!)
    actions.push(Float32Array.from(await policy.act(observations, { rewards, costs })))
  }
  return actions
}

const schema = loadSchema()

for (const algorithm of Object.keys(schema.algorithms)) {
  for (const preset of [...Object.keys(schema.algorithms[algorithm]?.presets ?? {}), 'none']) {
    // Scripted data is mostly unsafe: with this limit some of ten episodes are within it.
    const options = { dataset: DATASET, algorithm, preset, config: smallConfig(algorithm, { cost_limit: 40 }) }

    // Trained once for all tests that look at what came of it.
    let made: Promise<{ out: string; events: TrainEvent[] }> | undefined
    const whole = (): NonNullable<typeof made> =>
      (made ??= newRun().then(async (out) => ({ out, events: await collect({ ...options, out }) })))

    test(`${algorithm}, preset ${preset}: trains, repeats bit by bit, resumes from every phase, acts in the box`, async (t) => {
      const { out, events } = await whole()
      const start = events[0]
      if (start?.type !== 'start') return t.fail()
      for (const event of events) {
        if (event.type === 'progress') t.true(Object.values(event.metrics).every(Number.isFinite), event.phase)
      }

      // One more run, interrupted in each phase and taken up again.
      const interrupted = await newRun()
      const [seen, parts] = [new Set<string>(), start.phases.length + 1]
      for (let part = 0; part < parts; part += 1) {
        const { signal, abort } = stopper()
        const place: TrainOptions = part === 0 ? { ...options, out: interrupted } : { out: interrupted, resume: true }
        await collect({ ...place, signal }, (event) => {
          if (event.type !== 'progress' || seen.has(event.phase) || event.phase_step < Math.min(3, event.phase_steps))
            return
          seen.add(event.phase)
          abort()
        })
      }
      const where = `interrupted in ${[...seen].join(', ')}`
      t.deepEqual(
        [...seen],
        start.phases.map(({ name }) => name),
      )
      t.is(await policyHash(interrupted), await policyHash(out), where)
      const certificates = await Promise.all(
        [out, interrupted].map((run) => readFile(join(run, RUN_FILES.certificate), 'utf8')),
      )
      t.is(certificates[0], certificates[1], where)

      const { actions, observations, act_dim } = makeDataset('point-circle', { episodes: 10 })
      const policy = await loadPolicy(join(out, RUN_FILES.policy))
      const answer = await policy.act(observations, { rewards: new Float32Array(), costs: new Float32Array() })
      for (let component = 0; component < act_dim; component += 1) {
        const own = (array: Float32Array): Float32Array => array.filter((_, index) => index % act_dim === component)
        const [logged, given] = [own(actions), own(answer)]
        t.true(
          given.every(
            (a) => a >= logged.reduce((x, y) => Math.min(x, y)) && a <= logged.reduce((x, y) => Math.max(x, y)),
          ),
        )
      }
      const { evaluation } = await evaluate({ run: out, episodes: 3 })
      t.is(evaluation.episodes, 3)
    })

    test(`${algorithm}, preset ${preset}: acts alike in batches of 1, 7 and 1000, and forgets an episode row by row`, async (t) => {
      const path = join((await whole()).out, RUN_FILES.policy)
      const [policy, again] = [await loadPolicy(path), await loadPolicy(path)]
      const { observations } = makeDataset('point-circle', { episodes: 10 })
      const rows = Array.from({ length: 1000 }, (_, row) => row)
      const together = await play(policy, observations, rows, 3)
      t.deepEqual(await play(again, observations, rows, 3), together, 'loaded twice')
      for (const some of [rows.slice(0, 7), [3], [999]]) {
        const alone = await play(policy, observations, some, 3)
        for (const [step, actions] of together.entries()) {
          const expected = some.flatMap((row) => [
            ...actions.subarray(row * policy.act_dim, (row + 1) * policy.act_dim),
          ])
          t.deepEqual([...alone[step]!], expected, `batch of ${some.length}, step ${step}`)
        }
      }
      // Row 1 starts again while row 0 goes on.
      const { obs_dim, act_dim } = policy
      const pair = observations.subarray(0, 2 * obs_dim)
      const zeros = { rewards: new Float32Array(2), costs: new Float32Array(2) }
      policy.reset([0, 1])
      const first = Float32Array.from(await policy.act(pair, zeros))
      const second = Float32Array.from(await policy.act(pair, zeros))
      policy.reset([0, 1])
      await policy.act(pair, zeros)
      policy.reset([1])
      const mixed = await policy.act(pair, zeros)
      t.deepEqual([...mixed], [...second.subarray(0, act_dim), ...first.subarray(act_dim)])
    })

    // Serial: beside others it would measure them.
    test.serial(
      `${algorithm}, preset ${preset}: stops within a second of being cancelled, with a checkpoint`,
      async (t) => {
        const out = await newRun()
        const endless = Object.fromEntries(
          Object.entries(options.config).map(([name, value]) => [name, name.endsWith('_steps') ? 1_000_000 : value]),
        )
        const controller = new AbortController()
        let cancelled = 0
        await collect({ ...options, out, config: endless, signal: controller.signal }, (event) => {
          if (event.type !== 'progress' || cancelled > 0) return
          cancelled = Date.now()
          controller.abort()
        })
        t.true(cancelled > 0)
        t.true(Date.now() - cancelled < 1000)
        t.true((await readFile(join(out, RUN_FILES.checkpoint))).length > 0)
      },
    )

    test(`${algorithm}, preset ${preset}: another seed gives another policy`, async (t) => {
      const out = await newRun()
      await collect({ ...options, out, config: { ...options.config, seed: 1 } })
      t.not(await policyHash(out), await policyHash((await whole()).out))
    })
  }
  test(`${algorithm}: refuses values outside a parameter's range, of another type, and names it does not know`, async (t) => {
    const refuse = async (name: string, value: unknown): Promise<void> => {
      const error = await t.throwsAsync<DrcorlError>(
        collect({ dataset: DATASET, algorithm, out: await newRun(), config: { [name]: value } }),
        { instanceOf: DrcorlError },
        `${name}: ${String(value)}`,
      )
      t.is(error?.exitStatus, 2, name)
      t.true(error?.message.includes(name), error?.message)
    }
    await refuse('no_such_parameter', 1)
    for (const parameter of parametersFor(schema, algorithm)) {
      const { name, minimum, maximum, exclusiveMinimum, exclusiveMaximum, choices } = parameter
      if (minimum !== undefined) await refuse(name, minimum - 1)
      if (maximum !== undefined) await refuse(name, maximum + 1)
      if (exclusiveMinimum !== undefined) await refuse(name, exclusiveMinimum)
      if (exclusiveMaximum !== undefined) await refuse(name, exclusiveMaximum)
      if (choices.length > 0) await refuse(name, 'no_such_choice')
      if (name.endsWith('_lr')) await refuse(name, 0)
      if (name.endsWith('_hidden')) await refuse(name, parameter.types.has('array') ? [] : 0)
      await refuse(name, { of: 'another type' })
    }
  })
}
