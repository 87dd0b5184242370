// Where libtorch is, and how it gets there.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ROOT, runQuietly, StepError } from './run.mjs'

/** The one version the `tch` crate accepts. */
const VERSION = '2.13.0'
const WHEELS = [`torch==${VERSION}`, 'nvidia-cuda-runtime==13.0.*', 'nvidia-cuda-cupti==13.0.*']
// The wheels are unpacked, never installed: what is fetched must not depend on the Python that happens to be here. Older
// pips take a platform literally, so every glibc up to torch's own is named.
const GLIBC_MINORS = [28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17]
const PLATFORMS = [...GLIBC_MINORS.map((minor) => `manylinux_2_${minor}_x86_64`), 'manylinux2014_x86_64']

const VENDORED = join(ROOT, 'vendor/libtorch')

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

/** True when there is nothing to do. Throws when `LIBTORCH` names a folder that cannot serve. */
export function libtorchIsThere() {
  if (!process.env.LIBTORCH) return versionIn(VENDORED) === VERSION
  const folder = libtorchDir()
  if (!existsSync(join(folder, 'lib/libtorch_cpu.so'))) {
    throw new StepError(
      `LIBTORCH=${folder}: no lib/libtorch_cpu.so inside. Unset LIBTORCH to let setup fetch libtorch.`,
    )
  }
  const version = versionIn(folder)
  if (version !== null && !version.startsWith(VERSION)) {
    throw new StepError(
      `LIBTORCH=${folder}: version ${version}, needed ${VERSION}. Unset LIBTORCH to let setup fetch it.`,
    )
  }
  return true
}

/** Fetches the wheels and unpacks them to vendor/libtorch, which appears whole or not at all. */
export async function fetchLibtorch() {
  const wheels = join(ROOT, 'vendor/wheels')
  const scratch = join(ROOT, 'vendor/wheels.tmp')
  const partial = join(ROOT, 'vendor/libtorch.partial')
  rmSync(scratch, { recursive: true, force: true })
  rmSync(partial, { recursive: true, force: true })
  mkdirSync(scratch, { recursive: true })
  const platforms = PLATFORMS.flatMap((name) => ['--platform', name])
  const selection = [
    '--no-deps',
    '--only-binary=:all:',
    '--implementation',
    'cp',
    '--python-version',
    '3.11',
    ...platforms,
  ]
  await runQuietly('download', 'python3', ['-m', 'pip', 'download', ...selection, '--dest', wheels, ...WHEELS], {
    // pip downloads to TMPDIR first: there is room here, and its size is the progress.
    env: { TMPDIR: scratch },
    note: () => `${Math.round(megabytes(scratch) + megabytes(wheels))} MB of about 560`,
  })
  await runQuietly('unpack', 'python3', ['scripts/libtorch.py', wheels, partial, VERSION])
  rmSync(VENDORED, { recursive: true, force: true })
  renameSync(partial, VENDORED)
  rmSync(wheels, { recursive: true, force: true })
  rmSync(scratch, { recursive: true, force: true })
}
