import type { DatasetColumns } from '../native/dataset.js'

/** Transitions in columns; actions are the clamped ones that were executed. */
export type Columns = DatasetColumns

/** Zeros for so many transitions, with further costs of these names. */
export function emptyColumns(
  { obs_dim, act_dim }: Pick<Columns, 'obs_dim' | 'act_dim'>,
  transitions: number,
  source: string,
  further: readonly string[] = [],
): Columns {
  return {
    obs_dim,
    act_dim,
    observations: new Float32Array(transitions * obs_dim),
    next_observations: new Float32Array(transitions * obs_dim),
    actions: new Float32Array(transitions * act_dim),
    rewards: new Float32Array(transitions),
    costs: new Float32Array(transitions),
    ...(further.length === 0
      ? {}
      : { further: Object.fromEntries(further.map((name) => [name, new Float32Array(transitions)])) }),
    terminals: new Uint8Array(transitions),
    timeouts: new Uint8Array(transitions),
    source,
  }
}
