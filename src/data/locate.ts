/** Where datasets lie on this machine. */
import { readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { DrcorlError, codeOf, describeFsError } from '../base/errors.js'
import { cacheFolder } from '../base/files.js'
import { type Task, isPart, recogniseTask, requireTask } from './tasks.js'

interface DataFolder {
  path: string
  /** How messages call it. */
  origin: string
}

/**
 * Folders that are searched, in this order: `$DRCORL_DATA`, `$DSRL_DATASET_DIR` (DSRL's own variable), and
 * `drcorl/datasets` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`).
 */
export function dataFolders(env: NodeJS.ProcessEnv = process.env): DataFolder[] {
  const named = ['DRCORL_DATA', 'DSRL_DATASET_DIR'].flatMap((name): DataFolder[] => {
    const value = env[name]
    return value ? [{ path: resolve(value), origin: `$${name}` }] : []
  })
  const cache = join(cacheFolder(env), 'datasets')
  return [...named, { path: cache, origin: 'the cache' }]
}

/**
 * The dataset file of a task: in the first folder that has one, the official file, else the one whose name carries the
 * task (`SafetyBallCircle-v0-80-800.hdf5` for BallCircle).
 *
 * @throws DrcorlError `Usage` for an unknown task or several candidates;
 *   `Io` (exit status 2) with the folders searched.
 */
export async function locateDataset(name: string, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const task = requireTask(name)
  const searched: string[] = []
  for (const { path, origin } of dataFolders(env)) {
    const names = await namesIn(path)
    if (typeof names === 'string') {
      searched.push(`${path} (${origin}: ${names})`)
      continue
    }
    const found = candidate(task, names, path)
    if (found !== undefined) return join(path, found)
    searched.push(`${path} (${origin})`)
  }
  throw new DrcorlError('Io', `there is no dataset of task ${task.task} in ${searched.join(', ')}`, {
    exitStatus: 2,
    hint: `fetch it: drcorl data fetch ${task.task}; or name a file: --dataset FILE; or a folder: DRCORL_DATA=FOLDER`,
  })
}

function candidate(task: Task, names: readonly string[], folder: string): string | undefined {
  if (names.includes(task.dataset_file)) return task.dataset_file
  const others = names.filter((name) => recogniseTask(name) === task && !isPart(name)).toSorted()
  if (others.length > 1) {
    throw new DrcorlError(
      'Usage',
      `${folder} holds ${others.length} datasets of task ${task.task}: ${others.join(', ')}`,
      {
        hint: `choose one: --dataset ${join(folder, others[0] ?? '')}`,
      },
    )
  }
  return others[0]
}

/** Names in a folder, or why it has none. */
async function namesIn(folder: string): Promise<string[] | string> {
  try {
    return await readdir(folder)
  } catch (error) {
    return codeOf(error) === 'ENOENT' ? 'absent' : describeFsError(error)
  }
}
