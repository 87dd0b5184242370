import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { ownEnvironment } from '../examples/own-environment.js'
import { quickstart } from '../examples/quickstart.js'
import { installedPython } from './envs/real.js'
import { smallConfig } from './small.js'

const python = await installedPython()

test('the quickstart runs as printed, here with fewer steps', async (t) => {
  const out = join(await mkdtemp(join(tmpdir(), 'drcorl-quickstart-')), 'run')
  const evaluation = await quickstart({
    out,
    algorithm: 'bc',
    config: smallConfig('bc'),
  })
  t.like(evaluation, { env: 'point-circle', episodes: 20, cost_limit: 10 })
  t.true(Number.isFinite(evaluation.return.mean) && evaluation.cost.mean >= 0)
})

test('environments of one’s own, in TypeScript and in Python: the example runs as printed', async (t) => {
  const out = join(await mkdtemp(join(tmpdir(), 'drcorl-own-')), 'run')
  const config = { update_steps: 1500, model_steps: 10, model_rollouts: 2, fqe_steps: 2 }
  const evaluations = await ownEnvironment({ out, config, python: python !== undefined })
  t.deepEqual(
    evaluations.map(({ env }) => env),
    ['speed-limit', ...(python === undefined ? [] : ['examples.speed_limit:SpeedLimit-v0'])],
  )
  // The same cart: what was learnt from the one holds in the other.
  for (const evaluation of evaluations) {
    t.true(evaluation.return.mean > 15, `return ${evaluation.return.mean}`)
    t.true(evaluation.safe, `cost ${evaluation.cost.mean}`)
  }
})
