/** One policy at several limits, for every algorithm whose policy takes one. */
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { planCells } from '../../src/benchmark/plan.js'
import { DrcorlError } from '../../src/base/errors.js'
import { loadSchema } from '../../src/config/schema.js'
import { evaluate } from '../../src/evaluate/evaluate.js'
import { train } from '../../src/train/experiment.js'
import { smallConfig } from '../small.js'

const { algorithms } = loadSchema()
const taking = Object.keys(algorithms).filter((name) => algorithms[name]!.takes_limit)

async function trained(algorithm: string): Promise<string> {
  const run = join(await mkdtemp(join(tmpdir(), 'drcorl-limits-')), 'run')
  const config = smallConfig(algorithm, { cost_limit: 40, fqe_steps: 0 })
  const events = train({ dataset: 'env:point-circle?episodes=10', algorithm, config, out: run })
  const told: string[] = []
  for await (const { type } of events) told.push(type)
  if (told.at(-1) !== 'end') throw new Error(`the run ended with ${told.at(-1)}`)
  return run
}

test('some algorithms take a limit and some do not', (t) => {
  t.true(taking.includes('cdt') && taking.includes('caps'))
  t.false(taking.includes('bc'))
})

for (const algorithm of taking) {
  test(`${algorithm}: each of several limits is played as it is alone`, async (t) => {
    const run = await trained(algorithm)
    const { evaluation, episodes } = await evaluate({ run, episodes: 2, cost_limits: [3, 40] })
    t.deepEqual(
      evaluation.by_limit?.map((one) => one.cost_limit),
      [3, 40],
    )
    t.is(evaluation.cost_limit, 3)
    t.deepEqual(evaluation.settings, { cost_limit: 3 })
    t.deepEqual(evaluation.by_limit![0]!.return, evaluation.return)
    for (const { cost_limit, return: ret, cost, within_limit } of evaluation.by_limit!) {
      const alone = await evaluate({
        policy: join(run, 'policy.safetensors'),
        env: 'point-circle',
        episodes: 2,
        settings: { cost_limit },
      })
      t.deepEqual(
        [ret, cost, within_limit],
        [alone.evaluation.return, alone.evaluation.cost, alone.evaluation.within_limit],
      )
    }
    t.deepEqual(
      episodes.map(({ policy }) => policy).filter((name) => !name.includes('selected')),
      ['policy.safetensors', 'policy.safetensors@40'],
    )
    t.regex(await readFile(join(run, 'episodes.csv'), 'utf8'), /^policy\.safetensors@40,1,/m)
  })
}

test('several limits are refused where they mean nothing', async (t) => {
  const run = await trained('bc')
  for (const [options, message] of [
    [{ run, cost_limits: [3, 40] }, /takes no limit: it keeps to the one it was trained with/],
    [{ run, cost_limits: [] }, /cost_limits is empty/],
    [{ run, cost_limits: [3, 3] }, /has 3 twice/],
    [{ run, cost_limits: [-1] }, /cost limit -1 must be a number, 0 or more/],
    [{ run, cost_limits: [3], cost_limit: 2 }, /both given/],
  ] as const) {
    const error = await t.throwsAsync<DrcorlError>(evaluate({ ...options, episodes: 1 }), { instanceOf: DrcorlError })
    t.is(error?.code, 'Usage')
    t.regex(error?.message ?? '', message)
  }
})

test('a benchmark trains a policy that takes a limit once for all of them', (t) => {
  const target = { name: 'A', dataset: 'env:point-circle', env: 'point-circle' as string | null, cost_limits: [10, 20] }
  const plan = (env: string | null) =>
    planCells({ targets: [{ ...target, env }], algorithms: ['bc', 'cdt'], seeds: [0, 1], out: 'out' }).map(
      ({ algorithm, cost_limit, cost_limits, seed }) => [algorithm, cost_limit, cost_limits.join(' '), seed],
    )
  const each = (algorithm: string) =>
    [10, 20].flatMap((limit) => [0, 1].map((seed) => [algorithm, limit, `${limit}`, seed]))
  t.deepEqual(plan('point-circle'), [...each('bc'), ['cdt', 10, '10 20', 0], ['cdt', 10, '10 20', 1]])
  t.deepEqual(plan(null), [...each('bc'), ...each('cdt')], 'models judge by the limit of the run')
})
