/** The package as the documentation's snippets import it, with the steps and networks of training made small. */
import { loadSchema, parametersFor } from '../src/config/schema.js'
import { type TrainEvent, type TrainOptions, train as trainFully } from '../src/index.js'

export * from '../src/index.js'

/** Numbers of steps and sizes of batches by the names that parameters have everywhere, each as small as it may be. */
export function smallParameters(algorithm = 'drcorl'): Record<string, number> {
  const names = parametersFor(loadSchema(), algorithm).map(({ name }) => name)
  const small = names.flatMap((name): [string, number][] => {
    if (name.endsWith('_steps')) return [[name, 6]]
    return /(^|_)(batch|batch_size|rollouts)$/.test(name) ? [[name, 8]] : []
  })
  return Object.fromEntries(small)
}

/** Trains as asked, but for what `smallParameters` makes small; what a snippet names itself stays as written. */
export function train(options: TrainOptions): AsyncGenerator<TrainEvent, void, void> {
  return trainFully({ ...options, config: { ...smallParameters(options.algorithm), ...options.config } })
}
