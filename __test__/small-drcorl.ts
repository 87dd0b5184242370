/** The package as the documentation's snippets import it, with the steps and networks of training made small. */
import { loadSchema, parametersFor } from '../src/config/schema.js'
import { type TrainEvent, type TrainOptions, train as trainFully } from '../src/index.js'

export * from '../src/index.js'

/** Trains as asked, but for numbers of steps, batches and widths: those that a snippet names itself stay as written. */
export function train(options: TrainOptions): AsyncGenerator<TrainEvent, void, void> {
  const names = parametersFor(loadSchema(), options.algorithm ?? 'drcorl').map(({ name }) => name)
  const small = names.flatMap((name): [string, unknown][] => {
    if (name.endsWith('_steps')) return [[name, 6]]
    return /(^|_)(batch|batch_size|rollouts)$/.test(name) ? [[name, 8]] : []
  })
  return trainFully({ ...options, config: { ...Object.fromEntries(small), ...options.config } })
}
