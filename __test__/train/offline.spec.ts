// Training is offline. A file of its own, so that the process-wide counter of environment steps is its alone.
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { loadSchema } from '../../src/config/schema.js'
import { pointCircle } from '../../src/envs/point-circle.js'
import { environmentSteps } from '../../src/envs/ledger.js'
import { makeDataset } from '../../src/envs/scripted.js'
import { train } from '../../src/train/experiment.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { smallConfig } from '../small.js'

for (const algorithm of Object.keys(loadSchema().algorithms)) {
  test.serial(`${algorithm} takes no environment step, by a counter that does count`, async (t) => {
    // The scripted data are made before training: making them does step the environment.
    const dataset = makeDataset('point-circle', { episodes: 20, seed: 0 })
    const before = environmentSteps()
    const out = join(await mkdtemp(join(tmpdir(), 'drcorl-offline-')), 'run')
    let reported = -1
    const config = smallConfig(algorithm, { cost_limit: 10 })
    for await (const event of train({ dataset, algorithm, preset: 'none', config, out })) {
      if (event.type === 'end') reported = event.environment_steps
    }
    t.is(environmentSteps() - before, 0)
    t.is(reported, 0)
    const result = JSON.parse(await readFile(join(out, RUN_FILES.result), 'utf8')) as Record<string, unknown>
    t.deepEqual(result['environment_steps'], { training: 0 })

    const env = pointCircle(3)
    env.reset([1, 2, 3])
    env.step(new Float32Array(6))
    t.is(environmentSteps() - before, 3)
  })
}
