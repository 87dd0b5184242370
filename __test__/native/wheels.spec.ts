import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { unpackWheelFile } from '../../src/native/operation.js'
import { type Wheel, buildOf, fetchWheels } from '../../src/native/wheels.js'
import { sha256 } from '../server.js'
import { testIf } from '../test-if.js'

/** What the scripts build and pack with. */
interface Platforms {
  LIBTORCH_VERSION: string
  PLATFORMS: Record<string, { wheels: { libraries: string[] }[]; cuda?: { build: string } }>
}

const run = promisify(execFile)
const FOLDER = await mkdtemp(join(tmpdir(), 'drcorl-wheels-'))
const TAG = 'cp311-cp311-manylinux_2_28_x86_64'

test.after.always(() => rm(FOLDER, { recursive: true, force: true }))

/** Python's zipfile writes it, from a file of JSON: what it holds by name. */
const MAKE_WHEEL = `
import json, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    for name, text in json.load(open(sys.argv[2])).items(): wheel.writestr(name, text)
`

/** A wheel that pip takes; its libraries are not real, as nothing here loads them. */
async function makeWheel(folder: string, name: string, files: Record<string, string>): Promise<Wheel> {
  await mkdir(folder, { recursive: true })
  const info = `${name}-1.0.dist-info`
  const content = {
    ...files,
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: 1.0\n`,
    [`${info}/WHEEL`]: `Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: ${TAG}\n`,
    [`${info}/RECORD`]: '',
    [`${info}/licenses/LICENSE`]: `licence of ${name}`,
    [`${info}/licenses/third_party/zlib/COPYING`]: 'licence of zlib',
  }
  const file = `${name}-1.0-${TAG}.whl`
  const list = join(folder, 'files.json')
  await writeFile(list, JSON.stringify(content))
  await run('python3', ['-c', MAKE_WHEEL, join(folder, file), list])
  await rm(list)
  const bytes = await readFile(join(folder, file))
  return { requirement: `${name}==1.0`, file, bytes: bytes.length, sha256: sha256(bytes) }
}

/** pip looks in this folder alone. */
const onlyIn = (index: string): NodeJS.ProcessEnv => ({ ...process.env, PIP_NO_INDEX: '1', PIP_FIND_LINKS: index })

test('pip fetches wheels whatever Python it runs in, and what is complete is not fetched again', async (t) => {
  const index = join(FOLDER, 'index')
  const wheels = [
    await makeWheel(index, 'drcorl_first', { 'torch/lib/libc10.so': 'c10' }),
    await makeWheel(index, 'drcorl_second', { 'nvidia/lib/libcudart.so.13': 'cudart' }),
  ]
  const target = join(FOLDER, 'fetched')
  const paths = await fetchWheels(wheels, target, { env: onlyIn(index) })
  t.deepEqual(
    paths,
    wheels.map(({ file }) => join(target, file)),
  )
  for (const [i, path] of paths.entries()) t.is(sha256(await readFile(path)), wheels[i]?.sha256)

  // The second is damaged: it alone is fetched again.
  await writeFile(paths[1] ?? '', 'damaged')
  await rm(join(index, wheels[0]?.file ?? ''))
  await fetchWheels(wheels, target, { env: onlyIn(index) })
  t.is(sha256(await readFile(paths[1] ?? '')), wheels[1]?.sha256)
})

test('another file of the same name, no pip and an abort are one error each', async (t) => {
  const index = join(FOLDER, 'other')
  const wheel = await makeWheel(index, 'drcorl_other', { 'torch/lib/libc10.so': 'c10' })
  const target = join(FOLDER, 'refused')
  const refused = async (promise: Promise<unknown>): Promise<DrcorlError> =>
    t.throwsAsync(promise, { instanceOf: DrcorlError })

  const forged = await refused(fetchWheels([{ ...wheel, sha256: '0'.repeat(64) }], target, { env: onlyIn(index) }))
  t.like(forged, { code: 'Io' })
  t.regex(forged.hint ?? '', /hash/i)
  t.false((await readdir(target)).includes(wheel.file))

  const missing = await refused(fetchWheels([wheel], target, { python: join(FOLDER, 'no-python') }))
  t.like(missing, { code: 'Io' })
  t.regex(missing.hint ?? '', /Python 3 with pip/)

  const signal = AbortSignal.abort()
  t.like(await refused(fetchWheels([wheel], target, { env: onlyIn(index), signal })), {
    code: 'Cancelled',
    exitStatus: 130,
  })
})

test('of a wheel the libraries asked for and its licences are unpacked, as they lie in an official archive', async (t) => {
  const folder = join(FOLDER, 'layout')
  const files = {
    'torch/__init__.py': 'print("never run")',
    'torch/include/torch.h': 'header',
    'torch/lib/libc10.so': 'c10',
    'torch/lib/libtorch_cpu.so': 'cpu',
    'torch/lib/libtorch_python.so': 'python',
    'torch/lib/libtorch.a': 'static',
  }
  const { file } = await makeWheel(folder, 'drcorl_layout', files)
  const target = join(folder, 'out')
  await unpackWheelFile(join(folder, file), target, ['libc10.so', 'libtorch_cpu.so'], {})
  t.deepEqual((await readdir(join(target, 'lib'))).toSorted(), ['libc10.so', 'libtorch_cpu.so'])
  t.is(await readFile(join(target, 'licenses/drcorl_layout/LICENSE'), 'utf8'), 'licence of drcorl_layout')
  t.true((await stat(join(target, 'licenses/drcorl_layout/third_party/zlib/COPYING'))).isFile())
  t.deepEqual((await readdir(target)).toSorted(), ['lib', 'licenses'])

  await unpackWheelFile(join(folder, file), join(folder, 'all'), undefined, {})
  t.deepEqual((await readdir(join(folder, 'all/lib'))).toSorted(), [
    'libc10.so',
    'libtorch_cpu.so',
    'libtorch_python.so',
  ])

  const lacking = await t.throwsAsync(unpackWheelFile(join(folder, file), join(folder, 'lack'), ['libx.so'], {}))
  t.regex(lacking.message, /holds no libx\.so/)
  const cut = join(folder, 'cut.whl')
  await rename(join(folder, file), cut)
  await writeFile(cut, (await readFile(cut)).subarray(0, 300))
  const damaged = await t.throwsAsync(unpackWheelFile(cut, join(folder, 'cut'), undefined, {}), {
    instanceOf: DrcorlError,
  })
  t.like(damaged, { code: 'Data' })
})

const platforms = (): Promise<Platforms> =>
  import(new URL('../../scripts/lib/platforms.mjs', import.meta.url).href) as Promise<Platforms>

test('the manifest pins every wheel of every platform that is packaged', async (t) => {
  const { LIBTORCH_VERSION, PLATFORMS } = await platforms()
  const manifest = JSON.parse(
    await readFile(new URL('../../src/native/libtorch-manifest.json', import.meta.url), 'utf8'),
  )
  t.is(manifest.version, LIBTORCH_VERSION)
  t.deepEqual(Object.keys(manifest.builds), Object.keys(PLATFORMS))
  for (const [triple, { wheels, cuda }] of Object.entries(PLATFORMS)) {
    const builds: Record<string, Wheel[]> = manifest.builds[triple]
    t.deepEqual(Object.keys(builds), cuda === undefined ? ['cpu'] : ['cpu', cuda.build])
    for (const wheel of Object.values(builds).flat()) {
      t.regex(wheel.sha256, /^[0-9a-f]{64}$/)
      t.true(Number.isSafeInteger(wheel.bytes) && wheel.bytes > 0)
      const [name, version] = wheel.requirement.split('==')
      t.true(wheel.file.startsWith(`${name?.replaceAll('-', '_')}-${version}-`), wheel.file)
    }
    const taken = builds['cpu']?.flatMap(({ libraries = [] }) => libraries).toSorted()
    t.deepEqual(taken, wheels.flatMap(({ libraries }) => libraries).toSorted(), triple)
    for (const torch of Object.values(builds).map((list) => list.find(({ file }) => file.startsWith('torch-')))) {
      t.is(torch?.requirement, `torch==${LIBTORCH_VERSION}`)
    }
  }
})

testIf(process.platform === 'linux' && process.arch === 'x64', 'there is no CUDA build for this platform')(
  'the CUDA build of this platform has the library of CUDA',
  async (t) => {
    const { LIBTORCH_VERSION } = await platforms()
    t.is(buildOf('cu130').version, `${LIBTORCH_VERSION}+cu130`)
    t.true(buildOf('cu130').wheels.some(({ libraries }) => libraries?.includes('libtorch_cuda.so')))
  },
)
