/** Optional peers: packages that play exported policies, imported only when one is played and never required. */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { DrcorlError, messageOf } from '../base/errors.js'

/**
 * Imports a package from where drcorl lies, else from the current folder: `npx` keeps drcorl in a cache of its own,
 * away from the user's packages.
 *
 * @returns null where it is not installed.
 * @throws DrcorlError `Runtime` where it is installed and does not load.
 */
export async function importPeer<T>(name: string): Promise<T | null> {
  for (const from of [import.meta.url, pathToFileURL(join(process.cwd(), 'package.json'))]) {
    let path: string
    try {
      path = createRequire(from).resolve(name)
    } catch {
      continue
    }
    try {
      const module = (await import(pathToFileURL(path).href)) as { default?: T } & T
      return module.default ?? module
    } catch (error) {
      const why = messageOf(error).split('\n')[0]
      throw new DrcorlError('Runtime', `${name} is installed at ${path} and does not load: ${why}`, {
        cause: error,
        hint: 'see: docs/policies.md',
      })
    }
  }
  return null
}

/** What to say where none of the packages is installed that `what` needs. */
export function missingPeer(what: string, names: readonly string[]): DrcorlError {
  const which = names.join(' or ')
  return new DrcorlError('Runtime', `${what} needs ${which}, which is not installed`, {
    hint: `run: npm install ${names.at(-1)}`,
  })
}
