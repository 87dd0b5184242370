import type { TrainEvent, TrainOptions } from '../../src/train/events.js'
import { train } from '../../src/train/experiment.js'

/** Every event of a run, told to `see` as it comes. */
export async function collect(options: TrainOptions, see?: (event: TrainEvent) => void): Promise<TrainEvent[]> {
  const events: TrainEvent[] = []
  for await (const event of train(options)) {
    events.push(event)
    see?.(event)
  }
  return events
}
