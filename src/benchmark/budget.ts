/** One budget for all algorithms. */
import { resolveConfig } from '../config/load.js'
import { type Schema, loadSchema, parametersFor } from '../config/schema.js'

/**
 * Every count of updates of an algorithm, by the names of parameters (`.._steps`), times the budget, one at least.
 * Those of the models behind the certificate are the run's and stay.
 */
export function scaledSteps(
  { algorithm, preset, task }: { algorithm: string; preset: string; task?: string | undefined },
  budget: number,
  schema: Schema = loadSchema(),
): Record<string, number> {
  if (budget === 1) return {}
  const { config } = resolveConfig({ schema, algorithm, preset, task })
  const minimum = new Map(parametersFor(schema, algorithm).map((one) => [one.name, one.minimum ?? 0]))
  const steps = Object.entries(config).filter(
    (entry): entry is [string, number] => entry[0].endsWith('_steps') && typeof entry[1] === 'number' && entry[1] > 0,
  )
  return Object.fromEntries(
    steps.map(([name, count]) => [name, Math.max(1, minimum.get(name) ?? 1, Math.round(count * budget))]),
  )
}
