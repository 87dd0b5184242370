/** Runs in and below folders. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { type RunData, readRun } from '../report/run-data.js'
import { holdsRun } from '../train/run-folder.js'

/** Folders below one of runs this many steps deep are looked into: OUT/TASK/ALGORITHM/VARIANT/lL-sS has four. */
const DEPTH = 6

/**
 * All runs in and below some folders, in the order of their paths, each once.
 *
 * @throws DrcorlError `Io` (exit status 2) for a folder that cannot be read or holds no run, `Data` for damaged files.
 */
export async function readRunsBelow(folders: readonly string[]): Promise<RunData[]> {
  const found = await Promise.all(folders.map((folder) => runsBelow(folder, DEPTH)))
  folders.forEach((folder, index) => {
    if (found[index]!.length > 0) return
    throw new DrcorlError('Io', `${folder} holds no run folder`, { exitStatus: 2, hint: 'name folders of runs' })
  })
  const runs: RunData[] = []
  for (const folder of new Set(found.flat())) runs.push(await readRun(folder))
  return runs
}

async function runsBelow(folder: string, depth: number): Promise<string[]> {
  if (await holdsRun(folder)) return [folder]
  if (depth === 0) return []
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    throw new DrcorlError('Io', `cannot read ${folder}`, { cause: error, exitStatus: 2 })
  })
  const below = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name))
  return (await Promise.all(below.toSorted().map((one) => runsBelow(one, depth - 1)))).flat()
}
