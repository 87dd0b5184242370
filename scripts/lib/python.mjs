// Python as the scripts use it: for its packages, never installed into it.
import { existsSync, rmSync } from 'node:fs'
import { delimiter } from 'node:path'
import { ask, runQuietly } from './run.mjs'
import { hashOf, isFresh, setStamp } from './stamp.mjs'

/** Windows knows no python3. */
export const PYTHON = process.platform === 'win32' ? 'python' : 'python3'
export const PIP = ['-m', 'pip', '--disable-pip-version-check', '--quiet']

/**
 * Puts a package and what it needs into a folder for PYTHONPATH, not a virtual environment: Debian's Python has venv in
 * a package of its own.
 * @param {string} stamp name of the step in setup-stamp.json
 * @param {string} requirement
 * @param {string} folder
 * @param {string} module imported once, to see that it loads
 * @returns {Promise<string | null>} the requirement, null where it was there already
 */
export async function pipInstall(stamp, requirement, folder, module) {
  const hash = hashOf([], [requirement, ask(PYTHON, ['--version']) ?? ''])
  if (isFresh(stamp, hash) && existsSync(folder)) return null
  rmSync(folder, { recursive: true, force: true })
  await runQuietly('pip install', PYTHON, [...PIP, 'install', '--only-binary=:all:', '--target', folder, requirement])
  const path = [folder, process.env.PYTHONPATH].filter(Boolean).join(delimiter)
  await runQuietly('load', PYTHON, ['-c', `import ${module}`], { env: { PYTHONPATH: path } })
  setStamp(stamp, hash)
  return requirement
}
