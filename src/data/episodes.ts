import type { NativeDataset } from '../native/dataset.js'

/** Sums over one episode of a dataset, undiscounted. */
export interface DatasetEpisode {
  return: number
  cost: number
  /** Transitions. */
  length: number
  /** Sums of further costs by their names, where any were asked for. */
  further?: Readonly<Record<string, number>>
}

/**
 * The column of a cost in `episodes.csv` and `dataset_episodes.csv`: of a further one by its name, else of the first.
 */
export const costColumn = (further?: string): string => (further === undefined ? 'cost' : `cost_${further}`)

/**
 * Episodes in their order: each ends at a terminal or timeout; rows after the last end make one more.
 *
 * @param further columns of the dataset to sum beside its cost.
 */
export function datasetEpisodes(dataset: NativeDataset, further: readonly string[] = []): DatasetEpisode[] {
  const { returns, costs, lengths } = dataset.episodes()
  const sums = further.map((name) => [name, furtherSums(name, dataset, lengths)] as const)
  return Array.from(returns, (value, index) => ({
    return: value,
    cost: costs[index] ?? 0,
    length: lengths[index] ?? 0,
    ...(sums.length === 0 ? {} : { further: Object.fromEntries(sums.map(([name, all]) => [name, all[index]!])) }),
  }))
}

/** Sums of a further column over each of the episodes, which have these lengths. */
export function furtherSums(name: string, dataset: NativeDataset, lengths: ArrayLike<number>): number[] {
  const values = new Float32Array(dataset.shape().rows)
  dataset.copyValues(`further/${name}`, 0, values)
  let start = 0
  return Array.from(lengths, (length) =>
    values.subarray(start, (start += length)).reduce((sum, value) => sum + value, 0),
  )
}

/** `dataset_episodes.csv` of a run folder, so that a report can show the data without the dataset. */
export function datasetEpisodesCsv(episodes: readonly DatasetEpisode[]): string {
  const further = Object.keys(episodes[0]?.further ?? {})
  const short = (value: number): number => Number(value.toPrecision(7))
  const header = ['return', 'cost', 'length', ...further.map((name) => costColumn(name))]
  const rows = episodes.map((e) => [
    short(e.return),
    e.cost,
    e.length,
    ...further.map((name) => short(e.further![name]!)),
  ])
  return `${[header, ...rows].map((row) => row.join(',')).join('\n')}\n`
}
