import { join, resolve } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { cacheFolder, readJson, writeJson } from '../base/files.js'
import { SUITES, type SuiteName } from './recipe.js'

const FORMAT = 'drcorl-envs/1'

/** `drcorl-envs.json`, written last: a suite that it names has been stepped. */
export interface Installation {
  format: typeof FORMAT
  /** Version of the interpreter. */
  python: string
  /** Packages as they were installed, by suite. */
  suites: Partial<Record<SuiteName, { packages: readonly string[]; verified: string }>>
}

/**
 * The folder of the Python environments: `dir`, `$DRCORL_ENVS`, or `drcorl/envs` in the user's cache folder.
 */
export function envsFolder(dir?: string): string {
  const named = dir ?? (process.env['DRCORL_ENVS'] || undefined)
  if (named !== undefined) return resolve(named)
  return join(cacheFolder(), 'envs')
}

/** The virtual environment in that folder. */
export const venvFolder = (folder: string): string => join(folder, 'python')

/** Its interpreter. */
export const venvPython = (folder: string): string => join(venvFolder(folder), 'bin', 'python')

const recordPath = (folder: string): string => join(folder, 'drcorl-envs.json')

/** What is installed in that folder; undefined where nothing is, or what is there cannot be read. */
export async function readInstallation(folder: string): Promise<Installation | undefined> {
  const found = (await readJson(recordPath(folder)).catch(() => undefined)) as Installation | null | undefined
  return found?.format === FORMAT && typeof found.suites === 'object' ? found : undefined
}

export async function writeInstallation(folder: string, record: Omit<Installation, 'format'>): Promise<void> {
  await writeJson(recordPath(folder), { format: FORMAT, ...record })
}

/** True where the suite is installed in the versions of this drcorl. */
export function hasSuite(installation: Installation | undefined, suite: SuiteName): boolean {
  const packages = installation?.suites[suite]?.packages
  return packages !== undefined && packages.join() === SUITES[suite].packages.join()
}

/**
 * The interpreter that has a suite.
 *
 * @throws DrcorlError `Environment` (exit status 2) with the command that installs it.
 */
export async function requireSuite(suite: SuiteName, folder: string, what: string): Promise<string> {
  if (hasSuite(await readInstallation(folder), suite)) return venvPython(folder)
  throw new DrcorlError('Environment', `${what} needs ${SUITES[suite].label}, which is not installed in ${folder}`, {
    exitStatus: 2,
    hint: `install it: npx drcorl envs install --suite ${suite}`,
  })
}
