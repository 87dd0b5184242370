import type { TrainOptions } from '../../src/train/events.js'

/** Three phases of some dozen steps on tiny networks: everything a run does, in a second. */
export const SMALL: TrainOptions = {
  dataset: 'env:point-circle?episodes=20',
  algorithm: 'bc',
  preset: 'none',
  config: {
    cost_limit: 10,
    update_steps: 40,
    batch_size: 16,
    actor_hidden: [8, 8],
    audit_members: 2,
    model_steps: 20,
    model_hidden: [8],
    model_rollouts: 4,
    fqe_steps: 10,
  },
}
