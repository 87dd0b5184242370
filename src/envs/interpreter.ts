import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { DrcorlError } from '../base/errors.js'
import { PYTHON_VERSIONS } from './recipe.js'

const run = promisify(execFile)
const ASK_TIMEOUT_MS = 20_000

export interface Interpreter {
  /** What to start. */
  command: string
  /** For example `3.11.7`. */
  version: string
}

/**
 * A Python that the packages have wheels for.
 *
 * @param asked a command or path; default the first that fits of python3.11, python3.10 and python3.
 * @throws DrcorlError `Usage` where the one asked for does not fit, `Environment` (exit status 2) where none is found.
 */
export async function findPython(asked?: string): Promise<Interpreter> {
  const candidates =
    asked === undefined ? [...PYTHON_VERSIONS.map((version) => `python${version}`), 'python3'] : [asked]
  const seen: string[] = []
  for (const command of candidates) {
    const version = await versionOf(command)
    if (version !== undefined && fits(version)) return { command, version }
    seen.push(`${command}: ${version ?? 'not there, or it does not run'}`)
  }
  const wanted = PYTHON_VERSIONS.join(' or ')
  if (asked !== undefined) {
    throw new DrcorlError('Usage', `Python ${wanted} is needed; ${seen[0]}`, {
      hint: 'the packages have no wheels for other versions',
    })
  }
  throw new DrcorlError('Environment', `Python ${wanted} is needed and was not found (${seen.join('; ')})`, {
    exitStatus: 2,
    hint: 'install one, for instance: sudo apt install python3.11-venv; or name it with --python',
  })
}

const fits = (version: string): boolean => PYTHON_VERSIONS.some((wanted) => version.startsWith(`${wanted}.`))

async function versionOf(command: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(command, ['-c', 'import platform; print(platform.python_version())'], {
      timeout: ASK_TIMEOUT_MS,
    })
    return stdout.trim()
  } catch {
    return undefined
  }
}
