/** The mixture of iterates beside the policy to use: written, judged, measured, shown, and one iterate an episode. */
import { access, mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { evaluate } from '../../src/evaluate/evaluate.js'
import { loadPolicy } from '../../src/policy/node.js'
import { readSafetensors } from '../../src/policy/safetensors.js'
import { readRun } from '../../src/report/run-data.js'
import { measure } from '../../src/benchmark/summary.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { inProcess } from '../cli/spawn.js'
import { smallConfig, trained } from '../small.js'

/** With a limit that no estimate meets: every step is one on reward and counts. */
async function run(name: string, more: Record<string, unknown>): Promise<string> {
  const out = join(await mkdtemp(join(tmpdir(), 'drcorl-mixture-')), name)
  const config = smallConfig('drcorl', { cost_limit: 1e6, gate: 'critic_ucb', adaptation_steps: 30, ...more })
  await trained({ dataset: 'env:point-circle?episodes=10', algorithm: 'drcorl', config, out })
  return out
}

test('a run leaves a mixture that evaluate plays beside its policy or alone', async (t) => {
  const folder = await run('kept', {})
  const { metadata, tensors } = readSafetensors(await readFile(join(folder, RUN_FILES.mixture)), 'mixture')
  t.deepEqual([metadata.get('kind'), metadata.get('name')], ['mixture', 'mixture'])
  const weights = [...tensors.get('weights')!.values]
  t.true(weights.length > 1 && weights.length <= 8 && Math.abs(weights.reduce((a, b) => a + b) - 1) < 1e-6)

  const both = await inProcess('evaluate', folder, '--episodes', '12', '--json')
  const evaluation = JSON.parse(both.stdout) as Awaited<ReturnType<typeof evaluate>>['evaluation']
  t.is(evaluation.mixture?.policy, RUN_FILES.mixture)
  t.is(evaluation.mixture?.episodes, 12)
  const alone = await inProcess('evaluate', folder, '--policy', 'mixture', '--episodes', '12', '--json')
  const measured = JSON.parse(alone.stdout) as typeof evaluation
  t.deepEqual([measured.policy, measured.cost_limit], [RUN_FILES.mixture, 1e6])
  t.deepEqual(measured.return, evaluation.mixture?.return, 'the seeds of the episodes say who plays')
  t.regex((await inProcess('evaluate', folder, '--episodes', '2')).stdout, /policy\.mixture\.safetensors/)

  t.regex(await readFile(join(folder, RUN_FILES.report), 'utf8'), /mixture of iterates/)
  const data = await readRun(folder)
  t.true('mixture' in (data.certificate?.policies ?? {}))
  const cell = { target: { name: 'x', env: 'point-circle' }, algorithm: 'drcorl', cost_limit: 1e6, seed: 0 }
  const measurements = measure({ cell, run: data } as unknown as Parameters<typeof measure>[0])
  const policies = new Set(measurements.map(({ policy }) => policy))
  t.true(policies.has('used') && policies.has('mixture'))
})

test('an episode is played by the iterate that its seed draws', async (t) => {
  const folder = await run('seeds', { mixture_iterates: 4 })
  const policy = await loadPolicy(join(folder, RUN_FILES.mixture))
  const observation = new Float32Array(policy.obs_dim)
  const at = (seed: number): string => {
    policy.reset([0], [seed])
    return policy.act(observation).join()
  }
  const drawn = Array.from({ length: 40 }, (_, seed) => at(seed))
  t.true(new Set(drawn).size > 1)
  t.is(at(3), drawn[3])
})

test('a run that keeps no iterates says so', async (t) => {
  const folder = await run('none', { mixture_iterates: 0 })
  await t.throwsAsync(access(join(folder, RUN_FILES.mixture)))
  const { evaluation } = await evaluate({ run: folder, episodes: 1 })
  t.is(evaluation.mixture, null)
  const refused = await inProcess('evaluate', folder, '--policy', 'mixture', '--episodes', '1')
  t.is(refused.status, 2)
  t.regex(refused.stderr, /holds no policy\.mixture\.safetensors/)
})
