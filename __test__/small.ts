/**
 * Runs made small, of any algorithm: every test that trains for what happens, not for what is learnt,
 * takes them from here.
 */
import { loadSchema, parametersFor } from '../src/config/schema.js'
import type { EndEvent, TrainOptions } from '../src/train/events.js'
import { train } from '../src/train/experiment.js'
import { type Sizes, small } from './package/small.js'

/** @param more values that a test needs as they are. */
export const smallConfig = (
  algorithm: string,
  more: Record<string, unknown> = {},
  sizes: Sizes = {},
): Record<string, unknown> => small(parametersFor(loadSchema(), algorithm), more, sizes)

/** The same as flags of the command line. */
export const smallFlags = (...asked: Parameters<typeof smallConfig>): string[] =>
  Object.entries(smallConfig(...asked)).flatMap(([name, value]) => [`--${name}`, String(value)])

/**
 * Trains to the end.
 *
 * @throws where the run does not end as done.
 */
export async function trained(options: TrainOptions): Promise<EndEvent> {
  for await (const event of train(options)) if (event.type === 'end' && event.status === 'done') return event
  throw new Error('the run did not end as done')
}

/** Three phases of some dozen steps: cloning, the models of the audit, the certificate. */
export const SMALL: TrainOptions = {
  dataset: 'env:point-circle?episodes=20',
  algorithm: 'bc',
  preset: 'none',
  config: smallConfig('bc', {
    cost_limit: 10,
    audit_members: 2,
    update_steps: 40,
    model_steps: 20,
    audit_steps: null,
    fqe_steps: 10,
  }),
}
