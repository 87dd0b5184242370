import { execFile } from 'node:child_process'
import { existsSync, symlinkSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { loadRuntime } from '../../src/native/addons.js'
import { type Cuda, cudaOf, deviceFor } from '../../src/native/device.js'
import { type Libtorch, chooseLibtorch, libtorchPlaces, preloadLibtorch } from '../../src/native/libtorch.js'
import { libraryNames } from '../../src/native/platform.js'
import { serialIf } from '../test-if.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const VENDORED = resolve(process.env['LIBTORCH'] || join(ROOT, 'vendor/libtorch'))
const folder = await mkdtemp(join(tmpdir(), 'drcorl-libtorch-'))
const run = promisify(execFile)

/** A folder with the real libraries under a version of the test's choice. */
async function libtorch(name: string, version: string | null, file = 'build-version'): Promise<string> {
  const path = join(folder, name)
  await mkdir(path, { recursive: true })
  symlinkSync(join(VENDORED, 'lib'), join(path, 'lib'))
  if (version !== null) await writeFile(join(path, file), version)
  return path
}

/** An environment in which nothing is found unless the test puts it there. */
const bare = (more: Record<string, string> = {}): NodeJS.ProcessEnv => {
  return { PATH: process.env['PATH'], XDG_CACHE_HOME: join(folder, 'no-cache'), ...more }
}

async function refused(t: ExecutionContext, env: NodeJS.ProcessEnv, root = folder): Promise<DrcorlError> {
  const error = await t.throwsAsync(chooseLibtorch(root, env), { instanceOf: DrcorlError })
  t.like(error, { code: 'Addon', exitStatus: 1 })
  t.truthy(error.hint)
  return error
}

test('DRCORL_LIBTORCH wins, then the cache, then the checkout', async (t) => {
  const named = await libtorch('named', '2.13.1')
  const cache = join(folder, 'cache')
  const cached = await libtorch('cache/drcorl/libtorch-2.13', '2.13.0+cu130\n')
  const checkout = join(folder, 'checkout')
  const vendored = await libtorch('checkout/vendor/libtorch', '2.13.0')
  await writeFile(join(checkout, 'Cargo.toml'), '')
  const choose = (env: Record<string, string>) => chooseLibtorch(checkout, bare(env))
  t.like(await choose({ DRCORL_LIBTORCH: named, XDG_CACHE_HOME: cache }), {
    origin: 'DRCORL_LIBTORCH',
    version: '2.13.1',
  })
  t.like(await choose({ XDG_CACHE_HOME: cache }), {
    origin: 'cache',
    folder: cached,
    version: '2.13.0+cu130',
    cuda: false,
  })
  t.like(await choose({}), { origin: 'checkout', folder: vendored })
  t.like(await choose({ LIBTORCH: named }), { origin: 'checkout', folder: named })
  const places = await libtorchPlaces(checkout, bare())
  t.deepEqual(
    places.map(({ origin, absent }) => [origin, absent]),
    [
      ['cache', true],
      ['npm', true],
      ['checkout', false],
    ],
  )
})

test('nowhere: one sentence says what to run', async (t) => {
  const error = await refused(t, bare())
  t.is(error.message, 'libtorch 2.13 is not on this machine, and training needs it')
  t.is(error.hint, 'run: npx drcorl torch install')
})

test('another version, a folder without libraries or version, and no folder are refused by name', async (t) => {
  const old = await libtorch('old', '2.12.1+cpu')
  t.regex(
    (await refused(t, bare({ DRCORL_LIBTORCH: old }))).message,
    /old is libtorch 2\.12\.1\+cpu, and this drcorl needs 2\.13/,
  )
  const silent = await libtorch('silent', null)
  t.regex((await refused(t, bare({ DRCORL_LIBTORCH: silent }))).message, /does not tell its version/)
  await mkdir(join(folder, 'empty'))
  t.regex((await refused(t, bare({ DRCORL_LIBTORCH: join(folder, 'empty') }))).message, /holds no lib\/libc10\.so/)
  t.regex((await refused(t, bare({ DRCORL_LIBTORCH: '/nowhere' }))).message, /there is no folder \/nowhere/)
})

test('a cache of another version is refused, not passed over', async (t) => {
  await libtorch('wrong/drcorl/libtorch-2.13', '2.14.0')
  const error = await refused(t, bare({ XDG_CACHE_HOME: join(folder, 'wrong') }))
  t.regex(error.message, /2\.14\.0/)
  t.regex(error.hint ?? '', /torch install --overwrite/)
})

/**
 * A Python that finds a package `torch` with the real libraries and the version file that torch has;
 * its code is not there.
 */
async function pythonWith(version: string): Promise<string> {
  const site = join(folder, `site-${version}`)
  await libtorch(
    `site-${version}/torch`,
    `from typing import Optional\n__version__ = '${version}'\ndebug = False\n`,
    'version.py',
  )
  await writeFile(join(site, 'torch/__init__.py'), 'raise ImportError("torch must be found, not imported")\n')
  const python = join(site, 'python')
  await writeFile(python, `#!/bin/sh\nPYTHONPATH='${site}' exec python3 "$@"\n`)
  await chmod(python, 0o755)
  return python
}

test('python: the torch of the interpreter is found without importing it, and its version read', async (t) => {
  const python = await pythonWith('2.13.0+cu130')
  const found = await chooseLibtorch(folder, bare({ DRCORL_LIBTORCH: 'python', DRCORL_PYTHON: python }))
  t.like(found, { origin: 'python', version: '2.13.0+cu130', folder: join(folder, 'site-2.13.0+cu130/torch') })
  const old = bare({ DRCORL_LIBTORCH: 'python', DRCORL_PYTHON: await pythonWith('2.9.1') })
  t.regex((await refused(t, old)).message, /is libtorch 2\.9\.1/)
})

test('python: an interpreter without torch, and one that is none, are refused', async (t) => {
  const without = join(folder, 'isolated')
  await writeFile(without, '#!/bin/sh\nexec python3 -I -S "$@"\n')
  await chmod(without, 0o755)
  const ask = (python: string) => bare({ DRCORL_LIBTORCH: 'python', DRCORL_PYTHON: python })
  const error = await refused(t, ask(without))
  t.regex(error.message, /has no package torch/)
  t.regex(error.hint ?? '', /pip install "torch==2\.13\.\*"/)
  t.regex((await refused(t, ask('/nowhere/python'))).message, /does not run/)
})

/** Loads the core in a process of its own, as a libtorch can be opened once only; prints what it is. */
const LOAD = `
  const { loadCore } = await import('${join(ROOT, 'src/native/addons.ts')}')
  const { libtorchInUse } = await import('${join(ROOT, 'src/native/libtorch.ts')}')
  const { readFileSync } = await import('node:fs')
  const core = await loadCore().then((core) => JSON.parse(core.environment()), ({ code, message, hint }) => ({ code, message, hint }))
  const mapped = readFileSync('/proc/self/maps', 'utf8').match(/\\S*libtorch_cpu\\S*/)?.[0] ?? null
  console.log(JSON.stringify({ core, inUse: libtorchInUse() ?? null, mapped }))
`

async function load(
  env: NodeJS.ProcessEnv,
): Promise<{ core: Record<string, unknown>; inUse: unknown; mapped: string | null }> {
  const args = ['--import=@oxc-node/core/register', '--input-type=module', '-e', LOAD]
  const { stdout } = await run(process.execPath, args, { cwd: ROOT, env })
  return JSON.parse(stdout) as Awaited<ReturnType<typeof load>>
}

test('the core runs on the libtorch that was chosen, wherever that lies', async (t) => {
  const elsewhere = await libtorch('elsewhere', '2.13.0')
  const { core, inUse, mapped } = await load(bare({ DRCORL_LIBTORCH: elsewhere }))
  t.like(core, { libtorch: '2.13.0', devices: ['cpu'] })
  t.like(inUse, { origin: 'DRCORL_LIBTORCH', folder: elsewhere, cudaProblem: null })
  t.truthy(mapped)
  const python = await pythonWith('2.13.0')
  const second = await load(bare({ DRCORL_LIBTORCH: 'python', DRCORL_PYTHON: python }))
  t.like(second.core, { devices: ['cpu'] })
})

test('a wrong version is refused before anything of it is loaded', async (t) => {
  const { core, mapped } = await load(bare({ DRCORL_LIBTORCH: await libtorch('older', '2.11.0') }))
  t.is(core['code'], 'Addon')
  t.is(mapped, null)
})

test('CUDA libraries that do not load leave the CPU, and the reason is kept', async (t) => {
  const path = join(folder, 'half-cuda')
  await mkdir(join(path, 'lib'), { recursive: true })
  for (const name of ['libc10.so', 'libtorch_cpu.so', 'libgomp.so.1', 'libcudart.so.13', 'libcupti.so.13']) {
    const real = join(VENDORED, 'lib', name)
    if (existsSync(real)) symlinkSync(real, join(path, 'lib', name))
  }
  for (const name of ['libc10_cuda.so', 'libtorch_cuda.so']) await writeFile(join(path, 'lib', name), 'no library')
  await writeFile(join(path, 'build-version'), '2.13.0+cu130')
  const { core, inUse } = await load(bare({ DRCORL_LIBTORCH: path }))
  t.like(core, { devices: ['cpu'] })
  t.regex((inUse as { cudaProblem: string }).cudaProblem, /libc10_cuda\.so/)
})

const place = {
  origin: 'cache',
  label: 'the cache',
  folder: '/x',
  version: '2.13.0+cu130',
  cuda: true,
  problem: null,
  absent: false,
  cudaProblem: null,
} as const

test('auto takes CUDA where it is, else the CPU, and says why', (t) => {
  const two = cudaOf(place, ['cpu', 'cuda:0', 'cuda:1'])
  t.deepEqual(deviceFor('auto', two), { device: 'cuda:0', why: 'auto: libtorch sees cuda:0, cuda:1' })
  const reasons: [Cuda, RegExp][] = [
    [cudaOf({ ...place, cuda: false }, ['cpu']), /is a CPU build/],
    [cudaOf(place, ['cpu']), /has CUDA and finds no device/],
    [cudaOf({ ...place, cudaProblem: 'libcuda.so.1: no such file' }, ['cpu']), /do not load: libcuda\.so\.1/],
  ]
  for (const [cuda, why] of reasons) {
    t.is(deviceFor('auto', cuda).device, 'cpu')
    t.regex(deviceFor('auto', cuda).why, why)
    const error = t.throws(() => deviceFor('cuda', cuda), { instanceOf: DrcorlError })
    t.like(error, { code: 'Config', exitStatus: 2 })
    t.regex(error.message, why)
    t.truthy(error.hint)
  }
})

test('a device is taken by its number, and never replaced', (t) => {
  const two = cudaOf(place, ['cpu', 'cuda:0', 'cuda:1'])
  t.is(deviceFor('cuda', two).device, 'cuda:0')
  t.is(deviceFor('cuda:1', two).device, 'cuda:1')
  t.is(deviceFor('cpu', two).device, 'cpu')
  const error = t.throws(() => deviceFor('cuda:2', two), { instanceOf: DrcorlError })
  t.regex(error.message, /device is cuda:2, and it is not there: libtorch sees cuda:0, cuda:1/)
})

/** A folder whose libraries have the names of libtorch's and are small ones of the system. */
async function standIn(name: string): Promise<Libtorch> {
  const small = /\S*\/libm\.so\S*|\S*\/libm-\S*\.so/.exec(await readFile('/proc/self/maps', 'utf8'))![0]
  const path = join(folder, name)
  await mkdir(join(path, 'lib'), { recursive: true })
  for (const library of libraryNames().required) await copyFile(small, join(path, 'lib', library))
  const place = { origin: 'DRCORL_LIBTORCH', label: `DRCORL_LIBTORCH=${path}`, version: '2.13.0', cuda: false } as const
  return { ...place, folder: path, problem: null, absent: false }
}

const linux = serialIf(process.platform === 'linux', 'only Linux lists the files of a process')
linux('a second libtorch in one process is refused, whoever opened the first', async (t) => {
  const { preload } = loadRuntime()
  const [first, second] = await Promise.all(['first', 'second'].map(standIn))
  const error = (libtorch: Libtorch): DrcorlError =>
    t.throws(() => preloadLibtorch(libtorch, preload), { instanceOf: DrcorlError })
  // As another package does, or another copy of this one: nothing in JavaScript knows of it.
  preload([join(first!.folder, 'lib', libraryNames().required[1]!)])
  const foreign = error(second!)
  preloadLibtorch(first!, preload)
  preloadLibtorch(first!, preload)
  for (const refusal of [foreign, error(second!)]) {
    t.like(refusal, { code: 'Addon', exitStatus: 1 })
    t.true(refusal.message.includes(first!.folder) && refusal.message.includes(second!.folder), refusal.message)
    t.regex(refusal.hint ?? '', /one libtorch/)
  }
})
