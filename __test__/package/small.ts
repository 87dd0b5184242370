/** What makes a run small, of any algorithm. It lies here because it is also used where drcorl is installed. */
import type { Parameter } from 'drcorl'

/** Steps of every phase, widths of networks, rows of a batch, steps between two things. */
export interface Sizes {
  steps?: number
  width?: number
  batch?: number
  interval?: number
}

/** What a planner's decisions grow with: steps of a plan, noise levels, plans to choose from. */
const planned: Record<string, number> = { horizon: 8, noise_levels: 3, plans: 2 }

/**
 * Values for the parameters that decide how long a run takes,
 * known by the names they have everywhere (docs/architecture.md).
 *
 * @param more values that a test needs as they are.
 */
export function small(
  parameters: readonly Pick<Parameter, 'name' | 'types'>[],
  more: Record<string, unknown> = {},
  { steps = 6, width = 8, batch = 8, interval = 2 }: Sizes = {},
): Record<string, unknown> {
  const sized = parameters.flatMap(({ name, types }): [name: string, value: unknown][] => {
    if (name.endsWith('_steps')) return [[name, steps]]
    if (name.endsWith('_hidden')) return [[name, types.has('array') ? [width, width] : width]]
    if (name.endsWith('_interval')) return [[name, interval]]
    if (name in planned) return [[name, planned[name]]]
    return /(^|_)(batch|batch_size|rollouts)$/.test(name) ? [[name, batch]] : []
  })
  return { ...Object.fromEntries(sized), ...more }
}
