import type { NativeColumns } from '../../src/native/dataset.js'

export const EPISODE = 20
export const EPISODES = 30

/** Two observations, one action; values are smooth functions of the row, so that every column is finite and varied. */
export function columns(): NativeColumns {
  const rows = EPISODE * EPISODES
  const fill = (length: number, rate: number) => Float32Array.from({ length }, (_, i) => Math.sin(rate * i))
  const last = (_: unknown, row: number) => (row % EPISODE === EPISODE - 1 ? 1 : 0)
  return {
    obs_dim: 2,
    act_dim: 1,
    observations: fill(rows * 2, 0.11),
    next_observations: fill(rows * 2, 0.13),
    actions: fill(rows, 0.17),
    rewards: fill(rows, 0.19),
    costs: Float32Array.from({ length: rows }, (_, row) => (row % 7 === 0 ? 1 : 0)),
    terminals: new Uint8Array(rows),
    timeouts: Uint8Array.from({ length: rows }, last),
    source: 'made in the test',
  }
}
