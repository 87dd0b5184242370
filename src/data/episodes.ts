import type { NativeDataset } from '../native/dataset.js'

/** Sums over one episode of a dataset, undiscounted. */
export interface DatasetEpisode {
  return: number
  cost: number
  /** Transitions. */
  length: number
}

/** Episodes in their order: each ends at a terminal or timeout; rows after the last end make one more. */
export function datasetEpisodes(dataset: NativeDataset): DatasetEpisode[] {
  const { returns, costs, lengths } = dataset.episodes()
  return Array.from(returns, (value, index) => ({
    return: value,
    cost: costs[index] ?? 0,
    length: lengths[index] ?? 0,
  }))
}

/** `dataset_episodes.csv` of a run folder, so that a report can show the data without the dataset. */
export function datasetEpisodesCsv(episodes: readonly DatasetEpisode[]): string {
  const rows = episodes.map((e) => `${Number(e.return.toPrecision(7))},${e.cost},${e.length}`)
  return `${['return,cost,length', ...rows].join('\n')}\n`
}
