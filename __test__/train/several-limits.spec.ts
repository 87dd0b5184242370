/** Limits on several costs, from the columns of a file to the report. */
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { readLimits } from '../../src/config/limits.js'
import { resolveConfig } from '../../src/config/load.js'
import { loadDataset } from '../../src/data/dataset.js'
import { convertDataset, filterDataset, splitDataset } from '../../src/data/operations.js'
import type { VecEnv } from '../../src/envs/env.js'
import { pointCircle } from '../../src/envs/point-circle.js'
import { makeDataset } from '../../src/envs/scripted.js'
import { certify } from '../../src/evaluate/certify.js'
import { evaluate } from '../../src/evaluate/evaluate.js'
import { recordDataset } from '../../src/record/record.js'
import { writeReport } from '../../src/report/report.js'
import { readMonitor } from '../../src/train/monitor-file.js'
import { smallConfig, trained } from '../small.js'

const DATA = 'env:point-circle?episodes=20'
const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'drcorl-limits-'))
const two = { costs: 10, energy: 150 }

async function refused(t: ExecutionContext, work: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await t.throwsAsync(work, { instanceOf: DrcorlError })
  t.regex(error.message, message)
  t.is(error.exitStatus, 2)
}

test('further columns are recorded, kept by every operation on files, and listed', async (t) => {
  const place = await folder()
  const at = (name: string): string => join(place, name)
  await recordDataset(at('recorded.hdf5'), {
    policies: [{ policy: 'random' }],
    env: 'point-circle',
    episodes: 10,
    rows: 4,
  })
  await convertDataset(DATA, at('scripted.hdf5'))
  await filterDataset(at('scripted.hdf5'), at('noisy.hdf5'), { noise: 0.1 })
  await splitDataset(at('recorded.hdf5'), { train: at('train.hdf5'), held_out: at('held.hdf5') })
  for (const name of ['recorded.hdf5', 'scripted.hdf5', 'noisy.hdf5', 'train.hdf5', 'held.hdf5']) {
    const { native, summary } = await loadDataset(at(name), { costs: [] })
    t.deepEqual(native.shape().costs, ['costs', 'energy'], name)
    t.deepEqual(
      summary.further?.map((column) => column.name),
      ['energy'],
    )
    const [ax, ay] = native.columns().actions
    const energy = new Float32Array(1)
    t.is(native.copyValues('further/energy', 0, energy), 1)
    t.true(Math.abs(energy[0]! - (ax! * ax! + ay! * ay!)) < 1e-5, name)
  }
  const plain = await loadDataset(at('scripted.hdf5'))
  t.deepEqual(plain.native.shape().costs, ['costs'])
  t.is(plain.summary.further, undefined)
  const energy = await loadDataset(at('scripted.hdf5'), { costs: ['energy'] })
  t.deepEqual(energy.native.shape().costs, ['energy'])
  t.deepEqual(energy.native.columns().costs, makeDataset('point-circle', { episodes: 20 }).further!['energy'])
  const known = /scripted\.hdf5: speed: is no column of one number a step \(those are: costs, energy\); give a limit to/
  await refused(t, loadDataset(at('scripted.hdf5'), { costs: ['energy', 'speed'] }), known)
})

test('limits are read from flags and files, and take the place of cost_limit', (t) => {
  t.deepEqual(Object.entries(readLimits(['b=5', 'a=0.5'])), [
    ['b', 5],
    ['a', 0.5],
  ])
  for (const bad of [['b'], ['=5'], ['b=x'], ['b=1', 'b=2']])
    t.throws(() => readLimits(bad), { instanceOf: DrcorlError })
  const resolve = (file: object, flags: object = {}) =>
    resolveConfig({ file: { path: 'exp.yaml', values: { ...file } }, flags: { ...flags } })
  const { run } = resolve({ limits: { cost: 5, energy: 200 } })
  t.deepEqual(
    [run['cost_limit'], Object.entries(run['limits'] as object)],
    [
      5,
      [
        ['costs', 5],
        ['energy', 200],
      ],
    ],
  )
  t.is(resolve({ cost_limit: 7, limits: {} }).run['cost_limit'], 7)
  t.is(resolve({ cost_limit: 7 }, { limits: { energy: 9 } }).run['cost_limit'], 9, 'flags win')
  t.deepEqual(resolve(run).run['limits'], run['limits'], 'a stored configuration repeats itself')
  const both = {
    message: /cost_limit is 7 \(from flag --cost_limit\), and limits bounds energy \(from file exp\.yaml\)/,
  }
  t.throws(() => resolve({ limits: { energy: 9 } }, { cost_limit: 7 }), { instanceOf: DrcorlError, ...both })
  t.throws(() => resolve({ limits: { energy: 1, 7: 1 } }), { message: /a cost called 7, which has no place/ })
  t.is(resolve({ limits: { 7: 1 } }).run['cost_limit'], 1)
  t.throws(() => resolve({ limits: { energy: -1 } }), { message: /limits is .* give up to 8 names with numbers/ })
})

test('DRCORL under two limits: certificate, evaluation and report speak of each', async (t) => {
  const out = join(await folder(), 'run')
  const config = smallConfig('drcorl', { limits: two, audit_members: 2, gate: 'max' })
  const watched = { evalEvery: 0.5, evalEpisodes: 2 }
  const { certificate } = await trained({ dataset: DATA, algorithm: 'drcorl', config, out, ...watched })
  t.deepEqual(
    certificate!.costs!.map((cost) => [cost.name, cost.cost_limit]),
    [
      ['costs', 10],
      ['energy', 150],
    ],
  )
  t.is(certificate!.cost_limit, 10)
  t.true(certificate!.refusals.every(({ cost }) => cost === undefined || cost === 'costs' || cost === 'energy'))

  const { evaluation, episodes } = await evaluate({ run: out, episodes: 3 })
  const [first, second] = evaluation.costs!
  t.deepEqual([first!.cost, first!.safe], [evaluation.cost, evaluation.safe])
  const sums = episodes[0]!.episodes.map(({ costs }) => costs!['energy']!)
  t.true(sums.every((sum) => sum > 0 && sum <= 400))
  t.is(second!.cost.max, Math.max(...sums))
  t.is(second!.safe, second!.cost.mean <= 150)
  // Whatever shows the first cost shows the others.
  const lines = async (name: string): Promise<string[]> =>
    (await readFile(join(out, name), 'utf8')).trimEnd().split('\n')
  const [header, ...rows] = await lines('episodes.csv')
  t.is(header, 'policy,episode,seed,return,cost,length,terminated,cost_energy')
  t.deepEqual(
    rows.slice(0, 3).map((row) => Number(row.split(',')[7])),
    sums,
  )
  const logged = await lines('dataset_episodes.csv')
  t.is(logged[0], 'return,cost,length,cost_energy')
  const { further } = makeDataset('point-circle', { episodes: 20 })
  const spent = logged.slice(1).reduce((sum, row) => sum + Number(row.split(',')[3]), 0)
  t.true(Math.abs(spent - further!['energy']!.reduce((sum, value) => sum + value, 0)) < 0.1)
  const { points } = (await readMonitor(out))!
  t.true(points.length > 0 && points.every(({ costs }) => costs!['energy']!.mean > 0))
  const report = await readFile(await writeReport(out), 'utf8')
  for (const text of ['Every cost', 'Cost energy', 'limit 150', '<figcaption>Cost energy</figcaption>', 'cost energy'])
    t.true(report.includes(text), text)

  const other = await evaluate({ run: out, episodes: 2, limits: { energy: 1 } })
  t.deepEqual([other.evaluation.cost_limit, other.evaluation.safe, other.evaluation.costs], [1, false, undefined])
  await refused(
    t,
    evaluate({ run: out, cost_limit: 5 }),
    /a cost limit is given, and limits by name are too: costs 10, energy 150/,
  )
  const poor = (rows: number): VecEnv => {
    const env = pointCircle(rows)
    const step = (actions: Float32Array) => ({ ...(env.step(actions) as object), further: undefined }) as never
    return { ...env, id: 'poor', obs_dim: env.obs_dim, reset: (seeds) => env.reset(seeds), step }
  }
  await refused(t, evaluate({ run: out, env: poor, episodes: 2 }), /poor gives no cost called energy; it gives costs/)

  const again = await certify({ policies: out, config: { limits: { energy: 150, costs: 10 } } })
  t.deepEqual(
    again.policies[0]!.certificate.costs!.map(({ name }) => name),
    ['energy', 'costs'],
  )
  // A policy file says which costs its limits are on.
  const sizes = { model_steps: 4, self_test_steps: 4, fqe_steps: 4 }
  const policies = join(out, 'policy.safetensors')
  const { run } = await certify({ policies, dataset: DATA, config: sizes })
  t.deepEqual(run['limits'], two)
})

test('a single limit by its name is a run under a cost limit on that column', async (t) => {
  const place = await folder()
  const sizes = { audit_members: 0, fqe_steps: 0 }
  const run = async (name: string, dataset: Parameters<typeof loadDataset>[0], more: object) => {
    const out = join(place, name)
    const config = smallConfig('drcorl', { ...sizes, ...more })
    await trained({ dataset, algorithm: 'drcorl', config, out })
    return readFile(join(out, 'policy.safetensors'), 'latin1')
  }
  const tensors = (file: string): string => file.slice(8 + Buffer.from(file, 'latin1').readUInt32LE(0))
  const plain = await run('plain', DATA, { cost_limit: 10 })
  t.is(tensors(await run('named', DATA, { limits: { costs: 10 } })), tensors(plain))
  const { further, ...columns } = makeDataset('point-circle', { episodes: 20 })
  const energy = await run('energy', DATA, { limits: { energy: 150 } })
  const moved = await run('moved', { ...columns, costs: further!['energy']! }, { cost_limit: 150 })
  t.is(tensors(energy), tensors(moved))
  const highest = async (name: string): Promise<number> => {
    const text = await readFile(join(place, name, 'certificate.json'), 'utf8')
    return (JSON.parse(text) as { data: { highest_cost: number } }).data.highest_cost
  }
  t.is(await highest('energy'), await highest('moved'))
  t.not(await highest('energy'), await highest('plain'))
})

test('what learns under one limit refuses several in a sentence', async (t) => {
  const several = (algorithm: string, more: object = {}) =>
    trained({ dataset: DATA, algorithm, config: smallConfig(algorithm, { limits: two, ...more }) })
  await refused(
    t,
    several('bcq_lag'),
    /^limits is \{"costs":10.*bcq_lag learns under one limit; give one, or choose .*drcorl/,
  )
  await refused(t, several('drcorl', { cost_step: 'lagrangian_fixed' }), /drcorl learns under one limit/)
  const loaded = await loadDataset(DATA)
  const limits = { energy: 5 }
  const own = trained({ dataset: loaded, algorithm: 'bc', config: smallConfig('bc', { limits }) })
  await refused(t, own, /limits bounds energy, but the dataset was loaded with the costs costs/)
})
