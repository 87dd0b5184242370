/** Run where drcorl was installed: the README's example, with fewer steps. */
import { quickstart } from '../../examples/quickstart.js'

const evaluation = await quickstart({
  out: 'runs/quickstart',
  overwrite: true,
  algorithm: 'bc',
  config: { update_steps: 20, model_steps: 10, model_rollouts: 2, fqe_steps: 2 },
})
if (evaluation.episodes !== 20) throw new Error(`played ${evaluation.episodes} episodes`)
