/**
 * Which libtorch is used. Places are looked at in a fixed order, the first that is not empty is taken, and one that
 * does not fit is refused rather than passed over: what is in use must never depend on what happened to fail.
 */
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { RuntimeAddon } from '../../index.d.ts'
import { DrcorlError, messageOf } from '../base/errors.js'
import { cacheFolder } from '../base/files.js'
import { libraryNames, tripleOf } from './platform.js'

const run = promisify(execFile)
const require = createRequire(import.meta.url)

/** Major and minor version the core is built for: its binary interface changes with each minor. */
export const LIBTORCH_VERSION = '2.13'

export const INSTALL_LIBTORCH = 'run: npx drcorl torch install'

export type LibtorchOrigin = 'DRCORL_LIBTORCH' | 'python' | 'cache' | 'npm' | 'checkout'

/** One place where libtorch may lie. */
export interface LibtorchPlace {
  origin: LibtorchOrigin
  /** In words, for messages. */
  label: string
  /** Holds `lib/`; null where the place could not even be named. */
  folder: string | null
  /** Version as found there; null where there is none. */
  version: string | null
  /** It has the CUDA libraries. */
  cuda: boolean
  /** Why it cannot be used; null where it can. A place where nothing is, is `absent`. */
  problem: string | null
  absent: boolean
}

/** The libtorch of this process. */
export interface Libtorch extends LibtorchPlace {
  folder: string
  version: string
  problem: null
}

export interface LibtorchInUse extends Libtorch {
  /**
   * Why its CUDA libraries could not be opened, in the words of the system's loader;
   * null where they were, or there are none.
   */
  cudaProblem: string | null
}

let inUse: LibtorchInUse | undefined

/** What was opened; undefined before the first command that needs it. */
export const libtorchInUse = (): LibtorchInUse | undefined => inUse

/**
 * Folder that `drcorl torch install` fills; its name holds the version, so that an update of drcorl finds no wrong one.
 */
export function libtorchCache(env: NodeJS.ProcessEnv = process.env): string {
  return join(cacheFolder(env), `libtorch-${LIBTORCH_VERSION}`)
}

/**
 * Every place in the order of choice, with what is there.
 * `DRCORL_LIBTORCH` is a decision: where it is set, it is the only place.
 *
 * @param root of the package.
 */
export async function libtorchPlaces(root: string, env: NodeJS.ProcessEnv = process.env): Promise<LibtorchPlace[]> {
  const asked = env['DRCORL_LIBTORCH']
  if (asked === 'python') return [await pythonPlace(env)]
  if (asked) return [inspect('DRCORL_LIBTORCH', `DRCORL_LIBTORCH=${asked}`, resolve(asked), true)]
  const places = [inspect('cache', 'the cache of `drcorl torch install`', libtorchCache(env)), npmPlace()]
  if (existsSync(join(root, 'Cargo.toml'))) {
    const built = env['LIBTORCH']
    const folder = built ? resolve(built) : join(root, 'vendor', 'libtorch')
    places.push(inspect('checkout', built ? `LIBTORCH=${built} of this checkout` : 'vendor/libtorch', folder))
  }
  return places
}

/**
 * The libtorch to use.
 *
 * @throws DrcorlError `Addon` (exit status 1) where there is none or the one to use does not fit, with what to run.
 */
export async function chooseLibtorch(root: string, env: NodeJS.ProcessEnv = process.env): Promise<Libtorch> {
  const places = await libtorchPlaces(root, env)
  const place = places.find(({ absent }) => !absent)
  if (place === undefined) {
    const hint = places.some(({ origin }) => origin === 'checkout') ? 'run: npm run setup' : INSTALL_LIBTORCH
    throw new DrcorlError('Addon', `libtorch ${LIBTORCH_VERSION} is not on this machine, and training needs it`, {
      hint,
    })
  }
  const { folder, version, problem } = place
  if (problem !== null || folder === null || version === null) {
    throw new DrcorlError('Addon', `${place.label}: ${problem ?? 'no libtorch'}`, { hint: remedyFor(place) })
  }
  return { ...place, folder, version, problem: null }
}

/** What to do about a place that cannot be used. */
export function remedyFor({ origin }: LibtorchPlace): string {
  const remedies: Record<LibtorchOrigin, string> = {
    DRCORL_LIBTORCH: `name a folder with libtorch ${LIBTORCH_VERSION}, or unset DRCORL_LIBTORCH`,
    python: `run: python3 -m pip install "torch==${LIBTORCH_VERSION}.*"; or unset DRCORL_LIBTORCH`,
    cache: 'run: npx drcorl torch install --overwrite',
    npm: `run: npm install @drcorl/libtorch-cpu-${tripleOf(process.platform, process.arch) ?? 'PLATFORM'}@${LIBTORCH_VERSION}`,
    checkout: 'run: npm run setup',
  }
  return remedies[origin]
}

/**
 * Opens the libraries of libtorch, so that the core finds them by their names. Opened once, they stay.
 *
 * @throws DrcorlError `Addon` where they do not load, or this process has another libtorch, which two would end.
 */
export function preloadLibtorch(libtorch: Libtorch, preload: RuntimeAddon['preload']): void {
  const { required, cuda } = libraryNames()
  const path = (name: string): string => join(libtorch.folder, 'lib', name)
  try {
    preload(required.map(path))
  } catch (error) {
    const reason = firstLine(error)
    const hint = reason.includes(SECOND) ? 'use one libtorch in a process, or another process' : remedyFor(libtorch)
    throw new DrcorlError('Addon', `${libtorch.label} does not load: ${reason}`, { cause: error, hint })
  }
  if (inUse !== undefined) return
  let cudaProblem: string | null = null
  try {
    if (libtorch.cuda) preload(cuda.map(path))
  } catch (error) {
    // The CPU part works without it: a run that asks for CUDA is refused with this reason.
    cudaProblem = firstLine(error)
  }
  inUse = { ...libtorch, cudaProblem }
}

/** Of the message of the addon: crates/runtime/src/preload.rs. */
const SECOND = 'another one is in use in this process already'

const firstLine = (error: unknown): string => (messageOf(error).split('\n')[0] ?? '').replace(/^Io: /, '')

/** What a folder holds, whoever named it; nothing is loaded from it. */
export function inspectLibtorch(folder: string): Pick<LibtorchPlace, 'version' | 'cuda' | 'problem'> {
  return inspect('DRCORL_LIBTORCH', folder, folder, true)
}

function inspect(origin: LibtorchOrigin, label: string, folder: string, named = false): LibtorchPlace {
  const place = { origin, label, folder, version: null, cuda: false, problem: null, absent: false }
  if (!existsSync(folder)) return { ...place, absent: !named, problem: `there is no folder ${folder}` }
  const { required, cuda } = libraryNames()
  const missing = required.find((name) => !existsSync(join(folder, 'lib', name)))
  if (missing !== undefined) return { ...place, problem: `${folder} holds no lib/${missing}` }
  const version = versionIn(folder)
  if (version === undefined) {
    return { ...place, problem: `${folder} does not tell its version: it has neither build-version nor version.py` }
  }
  const found = { ...place, version, cuda: cuda.every((name) => existsSync(join(folder, 'lib', name))) }
  if (version.split('.').slice(0, 2).join('.') === LIBTORCH_VERSION) return found
  return { ...found, problem: `${folder} is libtorch ${version}, and this drcorl needs ${LIBTORCH_VERSION}` }
}

/** `build-version` of an archive, `version.py` of a Python package, or the version of an npm package. */
function versionIn(folder: string): string | undefined {
  const read = (name: string): string | undefined => {
    try {
      return readFileSync(join(folder, name), 'utf8')
    } catch {
      return undefined
    }
  }
  const found =
    read('build-version') ??
    /^__version__ *(?::.*)?= *['"]([^'"]+)/m.exec(read('version.py') ?? '')?.[1] ??
    /"version": *"([^"]+)"/.exec(read('package.json') ?? '')?.[1]
  return found?.trim() || undefined
}

function npmPlace(): LibtorchPlace {
  const name = `@drcorl/libtorch-cpu-${tripleOf(process.platform, process.arch) ?? 'PLATFORM'}`
  try {
    return inspect('npm', `the package ${name}`, dirname(require.resolve(`${name}/package.json`)))
  } catch {
    const problem = 'it is not installed'
    return {
      origin: 'npm',
      label: `the package ${name}`,
      folder: null,
      version: null,
      cuda: false,
      problem,
      absent: true,
    }
  }
}

/** Finds the package without importing it, which would take seconds. */
const ASK_PYTHON =
  'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")'
const ASK_TIMEOUT_MS = 20_000

/** The interpreter whose pip fetches, and whose torch `DRCORL_LIBTORCH=python` means. */
export function pythonCommand(env: NodeJS.ProcessEnv = process.env): string {
  return env['DRCORL_PYTHON'] || (process.platform === 'win32' ? 'python' : 'python3')
}

/**
 * The torch of `python3` on the PATH, which in an activated environment is that environment's;
 * `DRCORL_PYTHON` names another.
 */
async function pythonPlace(env: NodeJS.ProcessEnv): Promise<LibtorchPlace> {
  const python = pythonCommand(env)
  const label = `DRCORL_LIBTORCH=python (${python})`
  const nothing = (problem: string): LibtorchPlace => {
    return { origin: 'python', label, folder: null, version: null, cuda: false, problem, absent: false }
  }
  try {
    const { stdout } = await run(python, ['-c', ASK_PYTHON], { timeout: ASK_TIMEOUT_MS, env })
    const folder = stdout.trim()
    return folder === '' ? nothing('this Python has no package torch') : inspect('python', label, folder, true)
  } catch (error) {
    return nothing(`the interpreter does not run: ${firstLine(error)}`)
  }
}
