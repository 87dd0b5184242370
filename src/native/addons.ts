/**
 * The two addons: `runtime` plays policies and works on dataset files, `core` trains and needs libtorch. Each is a file
 * in the root of a checkout, or the npm package of this platform; each is loaded at first use.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { CoreAddon, RuntimeAddon } from '../../index.d.ts'
import { DrcorlError, codeOf, messageOf } from '../base/errors.js'
import { VERSION } from '../base/version.js'
import { chooseLibtorch, preloadLibtorch } from './libtorch.js'
import { type Host, refusal, thisHost, tripleOf } from './platform.js'

export type AddonName = 'runtime' | 'core'

/** Root of the package: one folder above both src/ and dist/. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const FILE_STEMS: Readonly<Record<AddonName, string>> = { runtime: 'drcorl-runtime', core: 'drcorl' }

const require = createRequire(import.meta.url)

/** True in a clone of the repository, where addons are built rather than installed. */
export const isCheckout = (): boolean => existsSync(join(ROOT, 'Cargo.toml'))

/** What to load an addon by: a file of a checkout, or the name of its npm package. */
export function addonSource(name: AddonName): { file?: string; package?: string } {
  const triple = tripleOf(process.platform, process.arch)
  if (triple === undefined) return {}
  const file = join(ROOT, `${FILE_STEMS[name]}.${triple}.node`)
  return existsSync(file) ? { file } : { package: `@drcorl/${name}-${triple}` }
}

let runtime: RuntimeAddon | undefined
let core: Promise<CoreAddon> | undefined

/**
 * Loads the addon without libtorch.
 *
 * @throws DrcorlError `Addon` (exit status 1) in one sentence, with the command that cures it.
 */
export function loadRuntime(): RuntimeAddon {
  runtime ??= load('runtime') as RuntimeAddon
  return runtime
}

/**
 * Chooses libtorch, opens its libraries, and loads the addon that is linked against them.
 *
 * @throws DrcorlError `Addon` (exit status 1) where one of the three is missing or does not fit,
 *   with the command that cures it.
 */
export function loadCore(): Promise<CoreAddon> {
  core ??= openCore().catch((error: unknown) => {
    core = undefined
    throw error
  })
  return core
}

async function openCore(): Promise<CoreAddon> {
  const { preload } = loadRuntime()
  preloadLibtorch(await chooseLibtorch(ROOT), preload)
  return load('core') as CoreAddon
}

function load(name: AddonName): unknown {
  const source = addonSource(name)
  try {
    const from = source.file ?? source.package
    if (from === undefined) throw new Error('no package for this platform')
    return require(from)
  } catch (error) {
    throw addonError(name, source, error, thisHost(), isCheckout())
  }
}

/** Why an addon did not load, and the command that cures it. */
export function addonError(
  name: AddonName,
  { file, package: packageName }: ReturnType<typeof addonSource>,
  cause: unknown,
  host: Host,
  checkout: boolean,
): DrcorlError {
  const refused = refusal(host)
  if (refused !== undefined) return refused
  const absent = codeOf(cause) === 'MODULE_NOT_FOUND'
  const what = file ?? packageName ?? name
  const message = absent
    ? `the native package ${what} is not installed`
    : `the native addon ${what} does not load: ${messageOf(cause).split('\n')[0]}`
  const install = `run: npm install ${packageName ?? `@drcorl/${name}-${host.platform}-${host.arch}`}@${VERSION}`
  return new DrcorlError('Addon', message, { cause, hint: checkout ? 'run: npm run setup' : install })
}
