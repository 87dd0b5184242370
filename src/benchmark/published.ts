/** Numbers that the paper printed, to be laid beside ours and marked as its own. Read once, like the schema. */
import { readFileSync } from 'node:fs'

/** One system of the paper's Figure 2a. */
export interface PublishedTime {
  /** For 1,000 decisions. */
  seconds: number
  /** As plotted. */
  score: number
  safe: boolean
}

/** Published numbers, by the registry's names of algorithms. */
export interface Published {
  source: string
  figure_2a: { about: string; algorithms: Record<string, PublishedTime> }
  figure_2b: { about: string; algorithms: string[]; cost_limits: number[] }
  table_1: {
    about: string
    seeds: number
    default_limit: number
    limits: Record<string, number>
    limits_about: string
    /** Normalised reward and cost, by task and algorithm. */
    tasks: Record<string, Record<string, [reward: number, cost: number]>>
  }
}

let cached: Published | undefined

export function published(): Published {
  cached ??= JSON.parse(readFileSync(new URL('./published.json', import.meta.url), 'utf8')) as Published
  return cached
}
