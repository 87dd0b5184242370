import { createHash } from 'node:crypto'
import { chmod, mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { DrcorlError, toDrcorlError } from '../../src/base/errors.js'
import { makeFolder, makeNewFolder, readJson, sha256File, writeAtomic, writeJson } from '../../src/base/files.js'
import { testIf } from '../test-if.js'

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'drcorl-files-'))

test('writeAtomic replaces a file and leaves nothing else', async (t) => {
  const dir = await folder()
  const path = join(dir, 'a.txt')
  await writeAtomic(path, 'old')
  await writeAtomic(path, 'new')
  t.is(await readFile(path, 'utf8'), 'new')
  t.deepEqual(await readdir(dir), ['a.txt'])
})

test('writeAtomic: many writers at once end with one whole file', async (t) => {
  const path = join(await folder(), 'a.txt')
  const contents = Array.from({ length: 20 }, (_, index) => String(index).repeat(50_000))
  await Promise.all(contents.map((content) => writeAtomic(path, content)))
  t.true(contents.includes(await readFile(path, 'utf8')))
})

test('a folder that does not exist is an Io error naming the file', async (t) => {
  const path = join(await folder(), 'missing', 'a.json')
  const error = await t.throwsAsync(writeJson(path, {}), { instanceOf: DrcorlError })
  t.like(error, { code: 'Io', exitStatus: 1 })
  t.true(error?.message.includes(path))
})

test('makeFolder makes what is missing, and refuses a file in its way, by path', async (t) => {
  const dir = await folder()
  for (let time = 0; time < 2; time += 1) await makeFolder(join(dir, 'a', 'b', 'c'))
  t.deepEqual(await readdir(join(dir, 'a', 'b')), ['c'])
  await writeFile(join(dir, 'file'), '')
  const inTheWay = { code: 'Io', message: /cannot make the run folder .*file: it is a file/ }
  await t.throwsAsync(makeFolder(join(dir, 'file'), 'run folder'), inTheWay)
  await t.throwsAsync(makeFolder(join(dir, 'file', 'x')), { code: 'Io', message: /is not a folder|it is a file/ })
})

const onLinux = testIf(process.platform === 'linux', 'only Linux has /proc')
onLinux('makeFolder ends where no folder can be made, and says so', async (t) => {
  for (const path of ['/proc/self/x', '/proc/self/x/y/z', '/sys/x/y']) {
    const error = await t.throwsAsync(makeFolder(path), { instanceOf: DrcorlError })
    t.like(error, { code: 'Io', exitStatus: 2 })
    t.true(error?.message.startsWith(`cannot make the folder ${path}: `))
  }
})

test('makeNewFolder gives everybody a folder of their own', async (t) => {
  const path = join(await folder(), 'runs', 'a')
  const made = await Promise.all(Array.from({ length: 10 }, () => makeNewFolder(path)))
  t.deepEqual(made.toSorted(), [path, ...Array.from({ length: 9 }, (_, i) => `${path}-${i + 2}`)].toSorted())
})

test('sha256File agrees with the hash of the bytes, over several chunks', async (t) => {
  const path = join(await folder(), 'big')
  const bytes = Buffer.alloc(2_500_000, 'drcorl')
  await writeFile(path, bytes)
  t.is(await sha256File(path), createHash('sha256').update(bytes).digest('hex'))
})

test('an input file that is missing or no JSON is bad input', async (t) => {
  const dir = await folder()
  await writeFile(join(dir, 'bad.json'), '{')
  const cases: [name: string, code: string][] = [
    ['absent.json', 'Io'],
    ['bad.json', 'Data'],
  ]
  for (const [name, code] of cases) {
    const error = await t.throwsAsync(readJson(join(dir, name)), { instanceOf: DrcorlError })
    t.like(error, { code, exitStatus: 2 })
    t.true(error?.message.includes(name))
  }
})

const unprivileged = testIf(process.getuid?.() !== 0, 'root reads everything')
unprivileged('an input file that may not be read is bad input', async (t) => {
  const path = join(await folder(), 'secret.json')
  await writeFile(path, '{}')
  await chmod(path, 0)
  const error = await t.throwsAsync(readJson(path), { instanceOf: DrcorlError })
  t.like(error, { code: 'Io', exitStatus: 2 })
  t.true(error?.message.includes('secret.json'))
})

test('codes decide the exit status', (t) => {
  const statuses = ['Config', 'Shape', 'Data', 'Usage', 'NotCertified', 'Cancelled', 'Interrupted', 'Diverged', 'Io']
  const wanted = [2, 2, 2, 2, 3, 130, 130, 1, 1]
  t.deepEqual(
    statuses.map((code) => toDrcorlError(Object.assign(new Error('x'), { code })).exitStatus),
    // The addon never throws the CLI's own codes: those come out as Internal.
    wanted.map((status, index) =>
      ['Usage', 'NotCertified', 'Interrupted'].includes(statuses[index] ?? '') ? 1 : status,
    ),
  )
  t.is(new DrcorlError('Usage', 'x').exitStatus, 2)
  t.is(new DrcorlError('NotCertified', 'x').exitStatus, 3)
  t.is(new DrcorlError('Interrupted', 'x').exitStatus, 130)
  t.is(new DrcorlError('Io', 'x', { exitStatus: 2 }).exitStatus, 2)
})

test('toDrcorlError keeps code, message and cause', (t) => {
  const native = Object.assign(new Error('Diverged: critic loss is NaN at step 12'), { code: 'Diverged' })
  const error = toDrcorlError(native)
  t.like(error, { code: 'Diverged', message: 'critic loss is NaN at step 12', cause: native })
  t.is(toDrcorlError(error), error)
  t.like(toDrcorlError('text'), { code: 'Internal', message: 'text', exitStatus: 1 })
  t.like(toDrcorlError(Object.assign(new Error('x'), { code: 'ENOENT' })), { code: 'Internal' })
})
