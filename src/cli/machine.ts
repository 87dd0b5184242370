/**
 * What this installation can do on this machine, and what to run where something is missing. Needs nothing to be there.
 */
import { createRequire } from 'node:module'
import { cpus, totalmem } from 'node:os'
import { dirname } from 'node:path'
import { toDrcorlError } from '../base/errors.js'
import { VERSION } from '../base/version.js'
import { envsFolder, hasSuite, readInstallation } from '../envs/installed.js'
import { findPython } from '../envs/interpreter.js'
import { SUITES, SUITE_NAMES } from '../envs/recipe.js'
import { type AddonName, ROOT, addonSource, loadCore, loadRuntime } from '../native/addons.js'
import { cudaOf } from '../native/device.js'
import { type CoreEnvironment, coreEnvironment, cpuFeatures } from '../native/environment.js'
import { INSTALL_LIBTORCH, type LibtorchPlace, libtorchInUse, libtorchPlaces, remedyFor } from '../native/libtorch.js'
import { glibcVersion, refusal, thisHost } from '../native/platform.js'

/** What every report on this machine starts with. */
export interface Machine {
  drcorl: string
  node: string
  platform: string
  cpu: string
  cpus: number
  memory_gib: number
}

export interface Check {
  name: string
  /** `missing` keeps something from working, `optional` only what needs it. */
  state: 'ok' | 'missing' | 'optional'
  found: string
  /** What to do; null where nothing is to be done. */
  remedy: string | null
}

export interface Diagnosis {
  machine: Machine
  checks: Check[]
  /** Places where libtorch was looked for, in the order of choice. */
  libtorch: (Pick<LibtorchPlace, 'origin' | 'folder' | 'version' | 'cuda' | 'problem'> & { chosen: boolean })[]
  devices: string[]
  cpu_features: string[]
  /** Policies can be played and datasets read; trainers can run. */
  ready: { policies: boolean; training: boolean }
}

const OLDEST_NODE = [20, 19] as const
/** What official libtorch is built against. */
const OLDEST_GLIBC = [2, 28] as const

export function machine(): Machine {
  return {
    drcorl: VERSION,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: cpus().length,
    memory_gib: Number((totalmem() / 2 ** 30).toFixed(1)),
  }
}

/** Looks at everything that a run may need. Never throws for what it finds. */
export async function diagnose(): Promise<Diagnosis> {
  const runtime = await attempt('runtime addon', runtimeFound)
  const features = runtime.state === 'ok' ? cpuFeatures() : []
  const places = await libtorchPlaces(ROOT)
  const chosen = places.find(({ absent }) => !absent)
  const libtorch = libtorchCheck(chosen)
  const core = libtorch.state === 'ok' ? await attempt('core addon', coreFound) : CORE_WAITS
  const environment = core.state === 'ok' ? await coreEnvironment() : undefined
  return {
    machine: machine(),
    checks: [
      platformCheck(),
      nodeCheck(),
      runtime,
      ...(runtime.state === 'ok' ? [cpuCheck(features)] : []),
      libtorch,
      core,
      ...(environment === undefined ? [] : [deviceCheck(environment)]),
      await attempt('Python', pythonFound, 'optional'),
      await environmentsCheck(),
    ],
    libtorch: places.map(({ origin, folder, version, cuda, problem }, index) => {
      return { origin, folder, version, cuda, problem, chosen: places[index] === chosen }
    }),
    devices: environment?.devices ?? [],
    cpu_features: features,
    ready: { policies: runtime.state === 'ok', training: core.state === 'ok' },
  }
}

/** What `find` says it found, or its error with the remedy. */
async function attempt(
  name: string,
  find: () => string | Promise<string>,
  otherwise: Check['state'] = 'missing',
): Promise<Check> {
  try {
    return { name, state: 'ok', found: await find(), remedy: null }
  } catch (error) {
    const { message, hint } = toDrcorlError(error)
    return { name, state: otherwise, found: message, remedy: hint ?? null }
  }
}

function platformCheck(): Check {
  const host = thisHost()
  const name = 'platform'
  const refused = refusal(host)
  if (refused !== undefined) return { name, state: 'missing', found: refused.message, remedy: refused.hint ?? null }
  const glibc = glibcVersion()
  const found = `${host.platform}-${host.arch}${glibc === undefined ? '' : `, glibc ${glibc}`}`
  if (glibc === undefined || !older(glibc, OLDEST_GLIBC)) return { name, state: 'ok', found, remedy: null }
  return { name, state: 'missing', found, remedy: `libtorch needs glibc ${OLDEST_GLIBC.join('.')}: use a newer image` }
}

function nodeCheck(): Check {
  const old = older(process.versions.node, OLDEST_NODE)
  const remedy = old ? `install Node ${OLDEST_NODE.join('.')} or newer` : null
  return { name: 'Node', state: old ? 'missing' : 'ok', found: process.version, remedy }
}

function older(version: string, [major, minor]: readonly [number, number]): boolean {
  const [isMajor = 0, isMinor = 0] = version.split('.').map(Number)
  return isMajor < major || (isMajor === major && isMinor < minor)
}

function runtimeFound(): string {
  loadRuntime()
  return originOf('runtime')
}

async function coreFound(): Promise<string> {
  await loadCore()
  return originOf('core')
}

/** The core addon cannot even be tried without libtorch. */
const CORE_WAITS: Check = { name: 'core addon', state: 'missing', found: 'not tried: it needs libtorch', remedy: null }

/** The file or the package that an addon came from. */
function originOf(name: AddonName): string {
  const { file, package: packageName } = addonSource(name)
  return file ?? `${packageName} ${packageVersion(packageName ?? '')}`
}

function packageVersion(name: string): string {
  try {
    const require = createRequire(import.meta.url)
    return (require(`${name}/package.json`) as { version: string }).version
  } catch {
    return 'of unknown version'
  }
}

function cpuCheck(features: readonly string[]): Check {
  const fast = features.length > 0 || process.arch !== 'x64'
  const remedy = fast ? null : 'everything works, several times slower than with AVX2'
  return { name: 'CPU features', state: 'ok', found: features.join(', ') || 'none that matter', remedy }
}

/** The place that was chosen, and why. */
function libtorchCheck(chosen: LibtorchPlace | undefined): Check {
  const name = 'libtorch'
  if (chosen === undefined) {
    return { name, state: 'missing', found: 'neither in the cache nor as a package', remedy: INSTALL_LIBTORCH }
  }
  const { label, folder, version, cuda, problem } = chosen
  if (problem !== null) return { name, state: 'missing', found: `${label}: ${problem}`, remedy: remedyFor(chosen) }
  const where = folder !== null && dirname(folder) !== folder ? ` in ${folder}` : ''
  const found = `${version}${cuda ? ' with CUDA' : ''}${where}, the first that was found: ${label}`
  return { name, state: 'ok', found, remedy: null }
}

function deviceCheck({ devices }: CoreEnvironment): Check {
  const cuda = cudaOf(libtorchInUse(), devices)
  const found = `${devices.join(', ')} (${cuda.why})`
  return { name: 'devices', state: cuda.remedy === null ? 'ok' : 'optional', found, remedy: cuda.remedy }
}

async function pythonFound(): Promise<string> {
  const { command, version } = await findPython()
  return `${version} (${command})`
}

async function environmentsCheck(): Promise<Check> {
  const folder = envsFolder()
  const installation = await readInstallation(folder)
  const [present, absent] = [true, false].map((wanted) =>
    SUITE_NAMES.filter((suite) => hasSuite(installation, suite) === wanted),
  )
  const labels = (present ?? []).map((suite) => SUITES[suite].label)
  const found = `${labels.join(', ') || 'none'} in ${folder}; the embedded ones need nothing`
  const missing = absent ?? []
  if (missing.length === 0) return { name: 'environments', state: 'ok', found, remedy: null }
  const suite = missing.length === 1 ? ` --suite ${missing[0]}` : ''
  return { name: 'environments', state: 'optional', found, remedy: `run: npx drcorl envs install${suite}` }
}
