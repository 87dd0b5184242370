/** The smallest run of any algorithm: few steps, narrow networks, small batches, by the names parameters have everywhere. */
import { type Parameter, loadSchema, parametersFor } from '../src/config/schema.js'

function tiny({ name, types }: Parameter): [name: string, value: unknown][] {
  if (name.endsWith('_steps')) return [[name, 6]]
  if (name.endsWith('_hidden')) return [[name, types.has('array') ? [8, 8] : 8]]
  if (name.endsWith('_interval')) return [[name, 2]]
  return /(^|_)(batch|batch_size|rollouts)$/.test(name) ? [[name, 8]] : []
}

export const tinyConfig = (algorithm: string): Record<string, unknown> =>
  Object.fromEntries(parametersFor(loadSchema(), algorithm).flatMap(tiny))
