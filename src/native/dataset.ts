/** Datasets in native memory; none of it needs libtorch. */
import type { NativeColumns, NativeDataset, NativeEpisodes, NativeShape } from '../../index.d.ts'
import { DrcorlError } from '../base/errors.js'
import { OWN_COST } from '../config/limits.js'
import { loadRuntime } from './addons.js'
import { guard } from './guard.js'

export type { NativeColumns, NativeDataset, NativeEpisodes, NativeShape }

/**
 * Reads and checks a DSRL HDF5 file in Rust.
 *
 * @param episode_length steps; an episode longer than this is refused.
 * @param maxMemory bytes; a file that would take more is refused before it is read.
 * @param costs columns of one number a step that are its costs, the first in the place of `costs`; left out `costs`
 *   alone is, and for an empty list every such column is read beside it.
 * @throws DrcorlError `Data` or `Io`, both exit status 2, naming file, key and value.
 */
export async function openDataset(
  path: string,
  episode_length?: number,
  maxMemory?: number,
  costs?: readonly string[],
): Promise<NativeDataset> {
  const { NativeDataset: Native } = loadRuntime()
  return guard(() => Native.open(path, episode_length, maxMemory, costs && [...costs]), { exitStatus: 2 })
}

/** Transitions in columns, and further numbers a step by their names, `[N]` each: costs of their own. */
export interface DatasetColumns extends NativeColumns {
  further?: Readonly<Record<string, Float32Array>>
}

/**
 * Checks columns made in JavaScript and copies them into native memory.
 *
 * @param names as `costs` of `openDataset`, of columns that are there; left out or empty all are kept, `costs` first.
 * @throws DrcorlError `Data`, exit status 2, naming column and value, or a name that is no column.
 */
export async function datasetFromColumns(
  columns: DatasetColumns,
  names: readonly string[] = [],
): Promise<NativeDataset> {
  const { NativeDataset: Native } = loadRuntime()
  const { further = {}, ...fixed } = columns
  const known = new Map([[OWN_COST, columns.costs], ...Object.entries(further).toSorted(byName)])
  const chosen = names.length === 0 ? [...known] : names.map((name) => [name, costOf(known, name, columns)] as const)
  const [[cost, costs], ...others] = chosen as [readonly [string, Float32Array], ...[string, Float32Array][]]
  const more = others.map(([name, values]) => ({ name, values }))
  const own = cost === OWN_COST ? undefined : cost
  return guard(() => Native.fromColumns({ ...fixed, costs }, more, own), { exitStatus: 2 })
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]): number => (a < b ? -1 : 1)

function costOf(known: ReadonlyMap<string, Float32Array>, name: string, { source }: NativeColumns): Float32Array {
  const found = known.get(name)
  if (found !== undefined) return found
  const those = [...known.keys()].join(', ')
  throw new DrcorlError('Data', `${source}: ${name}: is no column of one number a step (those are: ${those})`, {
    hint: 'give a limit to one of these, or add the column',
  })
}
