/** A run folder in the hands of one process. Apart from `run-folder.ts`, so that a report needs no addon. */
import { readdir, rm, rmdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { DrcorlError, codeOf, messageOf } from '../base/errors.js'
import { makeFolder, makeNewFolder, readJson } from '../base/files.js'
import { EXPORT_FOLDER, EXPORT_FORMATS, TFJS_FILES, exportName } from '../export/names.js'
import { type Unlock, lock } from '../native/lock.js'
import { clearPoint } from './monitor.js'
import { BESIDE } from '../policy/provenance.js'
import { MONITOR_FOLDER, RUN_FILES, RUN_FORMAT, type RunRecord, isOfRun } from './run-folder.js'

/** There as long as a process writes into the folder. */
const LOCK_FILE = '.lock'

/**
 * Keeps other processes from writing into a run folder.
 *
 * @param what this process is doing, for the message to another, e.g. `training`.
 * @param remedy what to do where nothing can be written.
 * @throws DrcorlError `Busy` naming who does, `Io` (exit status 2) where nothing can be written.
 */
export async function lockRun(folder: string, what: string, remedy: string): Promise<Unlock> {
  try {
    return await lock(join(folder, LOCK_FILE), `${what} in ${folder}`)
  } catch (error) {
    if (codeOf(error) !== 'Io') throw error
    throw new DrcorlError('Io', `the run folder ${folder} cannot be written: ${messageOf(error)}`, {
      cause: error,
      exitStatus: 2,
      hint: remedy,
    })
  }
}

/**
 * Makes and locks the folder of a new run. One that is there must be empty, unless `overwrite`: then the files of the
 * earlier run and the exports of its policies, and no others, are removed.
 *
 * @param out undefined for one that nobody has, named after `fallback`.
 * @throws DrcorlError `Usage` for a folder in use, `Busy` while a process writes into it, `Io` (exit status 2) where no
 *   folder can be made.
 */
export async function createRunFolder(
  out: string | undefined,
  fallback: string,
  overwrite: boolean,
): Promise<{ folder: string; unlock: Unlock }> {
  const folder = out ?? (await makeNewFolder(fallback, 'run folder'))
  if (out !== undefined) await makeFolder(out, 'run folder')
  const unlock = await lockRun(folder, 'training', 'name another place with --out')
  try {
    await clear(folder, overwrite)
    return { folder, unlock }
  } catch (error) {
    unlock()
    throw error
  }
}

async function clear(folder: string, overwrite: boolean): Promise<void> {
  const present = (await readdir(folder)).filter((name) => name !== LOCK_FILE)
  if (present.length === 0) return
  if (!overwrite) {
    throw new DrcorlError('Usage', `the run folder ${folder} is not empty`, {
      hint: 'go on with that run: --resume; start anew in it: --overwrite; or name another folder with --out',
    })
  }
  const old = present.filter(isOfRun)
  if (old.length === 0) return
  await requireOwnRun(folder, old)
  await clearExports(join(folder, EXPORT_FOLDER))
  await clearMonitor(join(folder, MONITOR_FOLDER))
  // The record goes last: what is left of a removal that was cut short is still known to be of a run.
  await Promise.all(old.filter((name) => name !== RUN_FILES.config).map((name) => rm(join(folder, name))))
  await rm(join(folder, RUN_FILES.config), { force: true })
}

/** Removes the exports of an earlier run's policies, and their folders where nothing else is in them. */
async function clearExports(folder: string): Promise<void> {
  const stems = [RUN_FILES.policy, ...Object.values(BESIDE)].map((name) => basename(name, '.safetensors'))
  const files = (['safetensors', 'onnx'] as const).flatMap((format) => stems.map((stem) => exportName(stem, format)))
  const tfjs = Object.values(TFJS_FILES).map((name) => join(EXPORT_FORMATS.tfjs, name))
  await Promise.all([...files, ...tfjs].map((name) => rm(join(folder, name), { force: true })))
  for (const emptied of [join(folder, EXPORT_FORMATS.tfjs), folder]) await rmdir(emptied).catch(() => undefined)
}

/** Removes what an earlier run's monitor kept, and the folder where nothing else is in it. */
async function clearMonitor(folder: string): Promise<void> {
  const points = (await readdir(folder).catch(() => [])).filter((name) => /^update-\d+$/.test(name))
  await Promise.all(points.map((name) => clearPoint(join(folder, name))))
  await rmdir(folder).catch(() => undefined)
}

/** A run writes its record first, so files without one are somebody else's, whatever their names. */
async function requireOwnRun(folder: string, old: readonly string[]): Promise<void> {
  if (await isRun(folder)) return
  throw new DrcorlError('Usage', `${folder} holds no run of drcorl, so its ${old.join(', ')} cannot be overwritten`, {
    hint: 'move them away, or name another folder with --out',
  })
}

async function isRun(folder: string): Promise<boolean> {
  const record = await readJson(join(folder, RUN_FILES.config)).catch(() => null)
  return (record as RunRecord | null)?.format === RUN_FORMAT
}
