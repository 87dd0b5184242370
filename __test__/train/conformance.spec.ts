/** What every registered algorithm must keep, whatever it learns; a new one is tested by being in the registry. */
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { type Parameter, loadSchema, parametersFor } from '../../src/config/schema.js'
import { evaluate } from '../../src/evaluate/evaluate.js'
import { loadPolicy } from '../../src/envs/policy-file.js'
import { makeDataset } from '../../src/envs/scripted.js'
import { sha256File } from '../../src/files.js'
import { type TrainEvent, type TrainOptions, train } from '../../src/train/experiment.js'
import { RUN_FILES } from '../../src/train/run-folder.js'

const DATASET = 'env:point-circle?episodes=10'

/** The smallest run: few steps, narrow networks, small batches, by the names parameters have everywhere. */
function tiny({ name, types }: Parameter): [name: string, value: unknown][] {
  if (name.endsWith('_steps')) return [[name, 6]]
  if (name.endsWith('_hidden')) return [[name, types.has('array') ? [8, 8] : 8]]
  if (name.endsWith('_interval')) return [[name, 2]]
  return /(^|_)(batch|batch_size|rollouts)$/.test(name) ? [[name, 8]] : []
}

const newRun = async (): Promise<string> => join(await mkdtemp(join(tmpdir(), 'drcorl-conformance-')), 'run')
const policyHash = (run: string): Promise<string> => sha256File(join(run, RUN_FILES.policy))

async function collect(options: TrainOptions, see?: (event: TrainEvent) => void): Promise<TrainEvent[]> {
  const events: TrainEvent[] = []
  for await (const event of train(options)) {
    events.push(event)
    see?.(event)
  }
  return events
}

const schema = loadSchema()

for (const algorithm of Object.keys(schema.algorithms)) {
  for (const preset of [...Object.keys(schema.algorithms[algorithm]?.presets ?? {}), 'none']) {
    const config = Object.fromEntries(parametersFor(schema, algorithm).flatMap(tiny))
    // Scripted data is mostly unsafe: with this limit some of ten episodes are within it.
    const options = { dataset: DATASET, algorithm, preset, config: { ...config, cost_limit: 40 } }

    test(`${algorithm}, preset ${preset}: trains, repeats bit by bit, resumes from every phase, acts in the box`, async (t) => {
      const out = await newRun()
      const events = await collect({ ...options, out })
      const start = events[0]
      if (start?.type !== 'start') return t.fail()
      for (const event of events) {
        if (event.type === 'progress') t.true(Object.values(event.metrics).every(Number.isFinite), event.phase)
      }
      const wanted = await policyHash(out)

      for (const { name } of start.phases) {
        const interrupted = await newRun()
        const controller = new AbortController()
        await collect({ ...options, out: interrupted, signal: controller.signal }, (event) => {
          if (event.type === 'progress' && event.phase === name && event.phase_step >= 3) controller.abort()
        })
        await collect({ out: interrupted, resume: true })
        t.is(await policyHash(interrupted), wanted, `interrupted in ${name}`)
        const certificates = await Promise.all(
          [out, interrupted].map((run) => readFile(join(run, RUN_FILES.certificate), 'utf8')),
        )
        t.is(certificates[0], certificates[1])
      }

      const { actions, observations, actDim } = makeDataset('point-circle', { episodes: 10 })
      const policy = await loadPolicy(join(out, RUN_FILES.policy))
      const answer = await policy.act(observations, { rewards: new Float32Array(), costs: new Float32Array() })
      for (let component = 0; component < actDim; component += 1) {
        const own = (array: Float32Array): Float32Array => array.filter((_, index) => index % actDim === component)
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

    test(`${algorithm}, preset ${preset}: another seed gives another policy`, async (t) => {
      const runs = await Promise.all([newRun(), newRun()])
      for (const [seed, out] of runs.entries()) await collect({ ...options, out, config: { ...options.config, seed } })
      t.not(await policyHash(runs[0]!), await policyHash(runs[1]!))
    })
  }
}
