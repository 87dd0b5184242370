import type { NativeColumns } from '../native.js'

/** Sums over one episode of a dataset, undiscounted. */
export interface DatasetEpisode {
  return: number
  cost: number
  /** Transitions. */
  length: number
}

/** Episodes of columns in their order: each ends at a terminal or time-out; rows after the last end make one more. */
export function datasetEpisodes(columns: NativeColumns): DatasetEpisode[] {
  const { rewards, costs, terminals, timeouts } = columns
  const episodes: DatasetEpisode[] = []
  let current: DatasetEpisode = { return: 0, cost: 0, length: 0 }
  for (let row = 0; row < rewards.length; row += 1) {
    current.return += rewards[row]!
    current.cost += costs[row]!
    current.length += 1
    if (terminals[row] === 0 && timeouts[row] === 0) continue
    episodes.push(current)
    current = { return: 0, cost: 0, length: 0 }
  }
  if (current.length > 0) episodes.push(current)
  return episodes
}

/** `dataset_episodes.csv` of a run folder, so that a report can show the data without the dataset. */
export function datasetEpisodesCsv(columns: NativeColumns): string {
  const rows = datasetEpisodes(columns).map((e) => `${Number(e.return.toPrecision(7))},${e.cost},${e.length}`)
  return `${['return,cost,length', ...rows].join('\n')}\n`
}
