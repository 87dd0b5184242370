/**
 * The package as the documentation's snippets import it, with training made small;
 * what a snippet names itself stays as written.
 */
import { type TrainEvent, type TrainOptions, train as trainFully } from '../src/index.js'
import { smallConfig } from './small.js'

export * from '../src/index.js'

export function train(options: TrainOptions): AsyncGenerator<TrainEvent, void, void> {
  return trainFully({ ...options, config: smallConfig(options.algorithm ?? 'drcorl', options.config) })
}
