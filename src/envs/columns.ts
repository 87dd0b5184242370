/** Transitions in columns, the shape the addon's `NativeDataset.fromColumns` takes. T transitions. */
export interface Columns {
  obs_dim: number
  act_dim: number
  /** [T*S] */
  observations: Float32Array
  /** [T*S] */
  next_observations: Float32Array
  /** [T*A], the clamped action that was executed. */
  actions: Float32Array
  /** [T] */
  rewards: Float32Array
  /** [T] */
  costs: Float32Array
  /** [T], 1 where the episode ended in a terminal state. */
  terminals: Uint8Array
  /** [T], 1 where the episode was cut at its step limit. */
  timeouts: Uint8Array
  /** Where the transitions come from, enough to make them again. */
  source: string
}

/** Zeros for so many transitions. */
export function emptyColumns(
  { obs_dim, act_dim }: Pick<Columns, 'obs_dim' | 'act_dim'>,
  transitions: number,
  source: string,
): Columns {
  return {
    obs_dim,
    act_dim,
    observations: new Float32Array(transitions * obs_dim),
    next_observations: new Float32Array(transitions * obs_dim),
    actions: new Float32Array(transitions * act_dim),
    rewards: new Float32Array(transitions),
    costs: new Float32Array(transitions),
    terminals: new Uint8Array(transitions),
    timeouts: new Uint8Array(transitions),
    source,
  }
}
