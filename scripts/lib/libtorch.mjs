// Where libtorch is, and how it gets there.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { LIBTORCH_VERSION as VERSION, PLATFORMS, hostTriple, wheelSelection } from './platforms.mjs'
import { PIP, PYTHON } from './python.mjs'
import { ROOT, runQuietly, StepError } from './run.mjs'

const VENDORED = join(ROOT, 'vendor/libtorch')
/** Every wheel of every build, with size and checksum; `drcorl torch install` reads it too. */
export const MANIFEST = join(ROOT, 'src/native/libtorch-manifest.json')

/** The libtorch to build and run with: `LIBTORCH` of the environment, else vendor/libtorch. */
export function libtorchDir() {
  return process.env.LIBTORCH ? resolve(process.env.LIBTORCH) : VENDORED
}

/** Environment of commands that build or run against libtorch. */
export function libtorchEnv() {
  const lib = join(libtorchDir(), 'lib')
  return {
    LIBTORCH: libtorchDir(),
    LD_LIBRARY_PATH: [lib, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':'),
  }
}

/** The version of a complete folder, or null. */
function versionIn(folder) {
  try {
    return readFileSync(join(folder, 'build-version'), 'utf8').trim()
  } catch {
    // Written last by libtorch.py: without it the folder is incomplete.
    return null
  }
}

function megabytes(folder) {
  if (!existsSync(folder)) return 0
  return (
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .reduce(
        (sum, entry) => sum + (statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0),
        0,
      ) / 1e6
  )
}

/** Whether what is packed from the folder can carry its licences: those of every wheel, the third parties' included. */
export const hasLicences = (folder) => existsSync(join(folder, 'licenses/torch/third_party'))

/** True when there is nothing to do. Throws when `LIBTORCH` names a folder that cannot serve. */
export function libtorchIsThere() {
  if (!process.env.LIBTORCH) return versionIn(VENDORED) === VERSION && hasLicences(VENDORED)
  const folder = libtorchDir()
  const { libtorch } = PLATFORMS[hostTriple()]
  if (!existsSync(join(folder, 'lib', libtorch))) {
    throw new StepError(`LIBTORCH=${folder}: no lib/${libtorch} inside. Unset LIBTORCH to let setup fetch libtorch.`)
  }
  const version = versionIn(folder)
  if (version !== null && !version.startsWith(VERSION)) {
    throw new StepError(
      `LIBTORCH=${folder}: version ${version}, needed ${VERSION}. Unset LIBTORCH to let setup fetch it.`,
    )
  }
  return true
}

/** The wheels of the CPU build for this machine, as pip takes them: each must be the file that the manifest names. */
function pinned() {
  const wheels = JSON.parse(readFileSync(MANIFEST, 'utf8')).builds[hostTriple()].cpu
  const requirements = wheels.map(({ requirement, sha256 }) => `${requirement} --hash=sha256:${sha256}\n`).join('')
  return { requirements, total: wheels.reduce((sum, { bytes }) => sum + bytes, 0) }
}

/** Fetches the wheels and unpacks them to vendor/libtorch, which appears whole or not at all. */
export async function fetchLibtorch() {
  const wheels = join(ROOT, 'vendor/wheels')
  const scratch = join(ROOT, 'vendor/wheels.tmp')
  const partial = join(ROOT, 'vendor/libtorch.partial')
  rmSync(scratch, { recursive: true, force: true })
  rmSync(partial, { recursive: true, force: true })
  mkdirSync(scratch, { recursive: true })
  const { tags, wheels: contents } = PLATFORMS[hostTriple()]
  const { total, requirements } = pinned()
  const list = join(scratch, 'requirements.txt')
  writeFileSync(list, requirements)
  const args = [...PIP, 'download', ...wheelSelection(tags), '--no-deps', '--dest', wheels, '--requirement', list]
  await runQuietly('download', PYTHON, args, {
    // pip downloads to TMPDIR first: there is room here, and its size is the progress.
    env: { TMPDIR: scratch },
    note: () => `${Math.round(megabytes(scratch) + megabytes(wheels))} of ${Math.round(total / 1e6)} MB`,
  })
  await runQuietly('unpack', PYTHON, ['scripts/libtorch.py', wheels, partial, VERSION, JSON.stringify(contents)])
  rmSync(VENDORED, { recursive: true, force: true })
  renameSync(partial, VENDORED)
  rmSync(wheels, { recursive: true, force: true })
  rmSync(scratch, { recursive: true, force: true })
}
