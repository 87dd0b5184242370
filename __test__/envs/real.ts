/** The installed environments, for tests that play them: `npm test` installs them by `drcorl envs install`. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { hasSuite, readInstallation, venvPython } from '../../src/envs/installed.js'
import { SUITE_NAMES } from '../../src/envs/recipe.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const FOLDER = process.env['DRCORL_ENVS'] ?? join(ROOT, 'target/envs')

/** Python modules of the tests. */
export const MODULES = fileURLToPath(new URL('python', import.meta.url))

/** The interpreter with all suites, or undefined. */
export async function installedPython(): Promise<string | undefined> {
  const installation = await readInstallation(FOLDER)
  if (SUITE_NAMES.every((suite) => hasSuite(installation, suite))) {
    process.env['DRCORL_ENVS'] = FOLDER
    return venvPython(FOLDER)
  }
  return undefined
}

/** Marks every process started from now on by this one, whatever becomes of its parents. */
export function markProcesses(mark: string): void {
  process.env['DRCORL_TEST_MARK'] = mark
}

/** Processes with that mark that are alive or zombies, this one left out. */
export function markedProcesses(mark: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => read(`/proc/${pid}/environ`).includes(`DRCORL_TEST_MARK=${mark}\0`))
    .map(Number)
}

/** Children of this process that have ended and were not waited for. */
export function zombies(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      const [state, parent] = read(`/proc/${pid}/stat`)
        .replace(/^.*\) /, '')
        .split(' ')
      return state === 'Z' && Number(parent) === process.pid
    })
    .map(Number)
}

/** A process may be gone by the time its file is read. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
