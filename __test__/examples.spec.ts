import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { quickstart } from '../examples/quickstart.js'

test('the quickstart runs as printed, here with fewer steps', async (t) => {
  const out = join(await mkdtemp(join(tmpdir(), 'drcorl-quickstart-')), 'run')
  const evaluation = await quickstart({
    out,
    algorithm: 'bc',
    config: { update_steps: 20, model_steps: 10, model_rollouts: 2, fqe_steps: 2 },
  })
  t.like(evaluation, { env: 'point-circle', episodes: 20, cost_limit: 10 })
  t.true(Number.isFinite(evaluation.return.mean) && evaluation.cost.mean >= 0)
})
