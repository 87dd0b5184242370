// Python as the scripts use it: for its packages, never installed into it.
import { existsSync, rmSync } from 'node:fs'
import { delimiter } from 'node:path'
import { ask, runQuietly } from './run.mjs'
import { hashOf, isFresh, setStamp } from './stamp.mjs'

/** Windows knows no python3. */
export const PYTHON = process.platform === 'win32' ? 'python' : 'python3'
export const PIP = ['-m', 'pip', '--disable-pip-version-check', '--quiet']

/**
 * Puts packages and what they need into a folder for PYTHONPATH, not a virtual environment: Debian's Python has venv in
 * a package of its own.
 * @param {string} stamp name of the step in setup-stamp.json
 * @param {string[]} requirements
 * @param {string} folder
 * @param {string} modules imported once, to see that they load: names between commas
 * @returns {Promise<string | null>} the requirements, null where they were there already
 */
export async function pipInstall(stamp, requirements, folder, modules) {
  const hash = hashOf([], [...requirements, ask(PYTHON, ['--version']) ?? ''])
  if (isFresh(stamp, hash) && existsSync(folder)) return null
  rmSync(folder, { recursive: true, force: true })
  const flags = ['install', '--only-binary=:all:', '--target', folder]
  await runQuietly('pip install', PYTHON, [...PIP, ...flags, ...requirements])
  const path = [folder, process.env.PYTHONPATH].filter(Boolean).join(delimiter)
  await runQuietly('load', PYTHON, ['-c', `import ${modules}`], { env: { PYTHONPATH: path } })
  setStamp(stamp, hash)
  return requirements.join(', ')
}
