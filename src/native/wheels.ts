/**
 * libtorch from Python's wheels, which are the same libraries PyTorch publishes as archives. pip fetches them, so the
 * user's index, proxy and credentials count; each must be the very file that this release of drcorl was made with.
 */
import { readFileSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, makeFolder, sha256File, writeAtomic } from '../base/files.js'
import { runPip } from '../net/pip.js'
import { pythonCommand } from './libtorch.js'
import { tripleOf } from './platform.js'
import { own } from '../base/own.js'

/** One file of a package index. */
export interface Wheel {
  /** As pip takes it, with the version: `torch==2.13.0`. */
  requirement: string
  /** Its name says which Python and which systems it is for. */
  file: string
  bytes: number
  sha256: string
  /** Libraries to take from it; all where this is absent. */
  libraries?: string[]
}

/** Written by `scripts/libtorch-manifest.mjs`: the wheels of each build (`cpu`, `cu130`) of each platform. */
interface Manifest {
  version: string
  builds: Record<string, Record<string, Wheel[]>>
}

export interface FetchOptions {
  signal?: AbortSignal | undefined
  /** Bytes of all wheels. */
  onProgress?: ((bytes: number, total: number) => void) | undefined
  /** Default: `DRCORL_PYTHON`, else `python3`. */
  python?: string | undefined
  env?: NodeJS.ProcessEnv | undefined
}

/** Of all of them together. */
export const bytesOf = (wheels: readonly Wheel[]): number => wheels.reduce((sum, { bytes }) => sum + bytes, 0)

/** Between two looks at what pip has written. */
const POLL_MS = 250

/** A build of libtorch, such as `2.13.0+cu130`, and what it is made of. */
export interface Build {
  version: string
  wheels: readonly Wheel[]
}

/**
 * A build of libtorch (`cpu`, `cu130`) for this platform.
 *
 * @throws DrcorlError `Usage` where there is no such build.
 */
export function buildOf(name: string): Build {
  const manifest = readFileSync(new URL('libtorch-manifest.json', import.meta.url), 'utf8')
  const { version, builds } = JSON.parse(manifest) as Manifest
  const triple = tripleOf(process.platform, process.arch) ?? ''
  const known = own(builds, triple) ?? {}
  const wheels = own(known, name)
  if (wheels !== undefined) return { version: `${version}+${name}`, wheels }
  const names = Object.keys(known)
  const there = names.length > 0 ? `; there are: ${names.join(', ')}` : ''
  throw new DrcorlError('Usage', `libtorch ${version} has no build "${name}" for ${triple}${there}`, {
    hint: 'name an archive: --from FILE; or use the torch of a Python: DRCORL_LIBTORCH=python',
  })
}

/**
 * Fetches the wheels to a folder, one by one: those that are complete are not fetched again.
 *
 * @returns their paths.
 * @throws DrcorlError `Io` with pip's last lines, `Cancelled`.
 */
export async function fetchWheels(
  wheels: readonly Wheel[],
  folder: string,
  { signal, onProgress, env = process.env, python = pythonCommand(env) }: FetchOptions = {},
): Promise<string[]> {
  // pip writes what is not complete to the system's temporary folder: here it has room, and its size is the progress.
  const scratch = join(folder, 'tmp')
  const list = join(folder, 'wheel.txt')
  await makeFolder(scratch)
  const total = bytesOf(wheels)
  const report = (): void => {
    void sizeOf(folder).then((bytes) => onProgress?.(Math.min(bytes, total), total))
  }
  const timer = setInterval(report, POLL_MS)
  try {
    for (const wheel of wheels) {
      if (await isComplete(join(folder, wheel.file), wheel)) continue
      await writeAtomic(list, `${wheel.requirement} --hash=sha256:${wheel.sha256}\n`)
      const args = [...tagsOf(wheel.file), '--dest', folder, '--requirement', list]
      await runPip(`fetching ${wheel.file}`, python, 'download', args, {
        code: 'Io',
        hint: 'it takes Python 3 with pip and a package index; the command can be run again. Without: --from FILE|URL',
        env: { ...env, TMPDIR: scratch, TEMP: scratch, TMP: scratch },
        signal,
      })
    }
  } finally {
    clearInterval(timer)
    await Promise.all([rm(scratch, { recursive: true, force: true }), rm(list, { force: true })])
  }
  return wheels.map(({ file }) => join(folder, file))
}

async function isComplete(path: string, { sha256 }: Wheel): Promise<boolean> {
  return (await exists(path)) && (await sha256File(path)) === sha256
}

/** Options that let pip take a wheel whatever Python it runs in: the tags at the end of its name. */
function tagsOf(file: string): string[] {
  const [python = '', , platforms = ''] = file
    .replace(/\.whl$/, '')
    .split('-')
    .slice(-3)
  const version = /^cp3(\d+)$/.exec(python)?.[1]
  const tags = platforms.split('.').map((platform) => `--platform=${platform}`)
  // A wheel of py3 is for every one.
  return [...tags, '--implementation=cp', ...(version === undefined ? [] : [`--python-version=3.${version}`])]
}

async function sizeOf(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = entries.filter((entry) => entry.isFile())
  const sizes = files.map(({ parentPath, name }) => stat(join(parentPath, name)).then(({ size }) => size))
  // A file may go between the listing and the look at it.
  return (await Promise.allSettled(sizes)).reduce(
    (sum, size) => sum + (size.status === 'fulfilled' ? size.value : 0),
    0,
  )
}
