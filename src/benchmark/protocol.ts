/** The protocol of the paper's Table 1: its tasks, limits and seeds, and one budget for all. */
import { DrcorlError } from '../base/errors.js'
import { loadSchema } from '../config/schema.js'
import { locateDataset } from '../data/locate.js'
import type { Target } from './plan.js'
import { published } from './published.js'
import { taskTargets } from './targets.js'

/** Presets of the protocol, in the order in which they are looked for: full sizes and budgets, faults repaired. */
const PRESETS = ['long', 'fixed', 'paper']

/** What the protocol says where nothing else is asked for. */
export interface Protocol {
  targets: Target[]
  /** Tasks of the paper's table whose data are not on this machine. */
  absent: string[]
  seeds: number[]
  preset: string
}

/**
 * @param names tasks to keep to; default all of the table whose data are present.
 * @throws DrcorlError `Io` (exit status 2) where none is, `Environment` where the simulator of one is not installed.
 */
export async function table1Protocol(names: readonly string[] | undefined): Promise<Protocol> {
  const { tasks, seeds, limits, default_limit } = published().table_1
  const all = Object.keys(tasks)
  const absent = names === undefined ? await withoutData(all) : []
  const present = names ?? all.filter((name) => !absent.includes(name))
  if (present.length === 0) {
    throw new DrcorlError('Io', `the data of none of the table's tasks are on this machine: ${absent.join(', ')}`, {
      exitStatus: 2,
      hint: `fetch some: drcorl data fetch ${absent[0]}; or name a folder: DRCORL_DATA=FOLDER`,
    })
  }
  const targets = (await taskTargets(present)).map((target): Target => {
    return Object.assign(target, { cost_limits: [limits[target.name] ?? default_limit] })
  })
  const known = new Set(Object.values(loadSchema().algorithms).flatMap(({ presets }) => Object.keys(presets)))
  const preset = PRESETS.filter((name) => known.has(name)).join(',')
  return { targets, absent, seeds: Array.from({ length: seeds }, (_, seed) => seed), preset }
}

async function withoutData(tasks: readonly string[]): Promise<string[]> {
  const found = await Promise.all(
    tasks.map((task) =>
      locateDataset(task).then(
        () => true,
        (error: unknown) => {
          // Several files of one task are a question to the user, and not a missing one.
          if (error instanceof DrcorlError && error.code === 'Io') return false
          throw error
        },
      ),
    ),
  )
  return tasks.filter((_, index) => !found[index])
}
