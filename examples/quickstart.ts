/**
 * From a dataset and a cost limit to a safe policy, from TypeScript.
 *
 * Run it from the repository after `npm run setup`: node --import=@oxc-node/core/register examples/quickstart.ts
 * It takes a few minutes on one core.
 */
import { pathToFileURL } from 'node:url'
import { type Evaluation, type TrainOptions, evaluate, loadDataset, train } from 'drcorl'

/** @param options change what is trained, for example `{ preset: 'paper' }` or `{ config: { seed: 1 } }`. */
export async function quickstart(options: Partial<TrainOptions> = {}): Promise<Evaluation> {
  // The scripted data of an embedded environment; a path such as 'SafetyBallCircle-v0-80-886.hdf5' works the same.
  const dataset = await loadDataset('env:point-circle')
  console.log(`${dataset.summary.transitions} transitions in ${dataset.summary.episodes} episodes`)

  let run = ''
  const config = { cost_limit: 10, ...options.config }
  for await (const event of train({ dataset, preset: 'quick', ...options, config })) {
    if (event.type === 'start') run = event.run_dir
    if (event.type === 'progress' && event.phase_step === event.phase_steps) console.log(`${event.phase}: done`)
    if (event.type === 'certificate') console.log(`${event.certificate.verdict}:`, event.certificate.reasons)
  }

  // Training touched no environment; only now does the policy meet one.
  const { evaluation } = await evaluate({ run, episodes: 20 })
  console.log(
    `return ${evaluation.return.mean.toFixed(1)}, cost ${evaluation.cost.mean.toFixed(1)} (limit 10), in ${run}`,
  )
  return evaluation
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await quickstart()
