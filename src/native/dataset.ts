/** Datasets in native memory; none of it needs libtorch. */
import type { NativeColumns, NativeDataset, NativeEpisodes, NativeShape } from '../../index.d.ts'
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

/** Checks columns made in JavaScript and copies them into native memory; `costs` as for `openDataset`. */
export async function datasetFromColumns(columns: NativeColumns, costs?: readonly string[]): Promise<NativeDataset> {
  const { NativeDataset: Native } = loadRuntime()
  return guard(() => Native.fromColumns(columns, costs && [...costs]), { exitStatus: 2 })
}
