/** Lock files: two processes must not write the same thing. */
import { open, readFile, rm } from 'node:fs/promises'
import { DrcorlError, codeOf, describeFsError } from './errors.js'

/**
 * Takes a lock by making its file, which holds this process's id. A lock whose process is gone is taken over.
 *
 * @param path of the lock file.
 * @param what another process may be doing, for the message, e.g. `fetching this file`.
 * @returns a function that gives the lock back.
 * @throws DrcorlError `Busy` (exit status 1) with the owner's process id,
 *   `Io` (exit status 2) where no file can be made.
 */
export async function lock(path: string, what: string): Promise<() => Promise<void>> {
  // Twice: after the first refusal by a dead owner the file is gone,
  // and a second refusal means that somebody was quicker.
  for (let attempt = 0; ; attempt += 1) {
    try {
      const file = await open(path, 'wx')
      await file.writeFile(String(process.pid))
      await file.close()
      return () => rm(path, { force: true })
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') {
        throw new DrcorlError('Io', `cannot write ${path}: ${describeFsError(error)}`, { cause: error, exitStatus: 2 })
      }
      const owner = Number(await readFile(path, 'utf8').catch(() => ''))
      if (attempt > 0 || isAlive(owner)) {
        throw new DrcorlError('Busy', `process ${owner} is ${what} already`, {
          hint: `wait for it; if there is none, remove ${path}`,
        })
      }
      await rm(path, { force: true })
    }
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid < 1) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return codeOf(error) === 'EPERM'
  }
}
