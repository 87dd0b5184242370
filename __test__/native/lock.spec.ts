import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readdir, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { lock } from '../../src/native/lock.js'
import { testIf } from '../test-if.js'

const CONTENDER = fileURLToPath(new URL('contender.ts', import.meta.url))
const NODE = [`--import=${import.meta.resolve('@oxc-node/core/register')}`, CONTENDER]
const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'drcorl-lock-'))

test('a second holder is refused with Busy, naming process, host and since when', async (t) => {
  const path = join(await folder(), 'a.lock')
  const unlock = await lock(path, 'testing')
  const error = await t.throwsAsync(lock(path, 'testing too'), { instanceOf: DrcorlError })
  t.like(error, { code: 'Busy', exitStatus: 1 })
  const since = /since (\S+)$/.exec(error?.message ?? '')?.[1] ?? ''
  t.is(error?.message, `process ${process.pid} on ${hostname()} is testing already, since ${since}`)
  t.true(Math.abs(Date.now() - Date.parse(since)) < 60_000)
  unlock()
  unlock()
  ;(await lock(path, 'testing again'))()
})

test('a lock given back leaves no file; one that a dead process left keeps nobody out', async (t) => {
  const dir = await folder()
  const path = join(dir, 'a.lock')
  // The process id is one that lives: it is not the file that locks.
  await writeFile(path, JSON.stringify({ pid: process.pid, host: hostname(), since: '2026-01-01', what: 'gone' }))
  ;(await lock(path, 'testing'))()
  t.deepEqual(await readdir(dir), [])
})

const isRoot = process.getuid?.() === 0
testIf(!isRoot, 'root may write everywhere')('a place that cannot be written is bad input, by path', async (t) => {
  const dir = await folder()
  await chmod(dir, 0o500)
  const error = await t.throwsAsync(lock(join(dir, 'a.lock'), 'testing'), { instanceOf: DrcorlError })
  t.like(error, { code: 'Io', exitStatus: 2 })
  t.regex(error?.message ?? '', /cannot write .*a\.lock: Permission denied/)
})

test('many processes, some of them killed as they hold the lock: never two holders, and none is shut out', async (t) => {
  const dir = await folder()
  const path = join(dir, 'a.lock')
  const run = (rounds: number): Promise<{ stdout: string }> =>
    promisify(execFile)(process.execPath, [...NODE, path, join(dir, 'alone'), String(rounds)])
  const killed = Array.from({ length: 4 }, () => t.throwsAsync(run(0), { message: /Command failed/ }))
  const contenders = Array.from({ length: 6 }, () => run(200))
  await Promise.all(killed)
  const waits = (await Promise.all(contenders)).map(({ stdout }) => Number(stdout))
  t.true(waits.reduce((sum, count) => sum + count, 0) > 0, 'they have met')
  t.deepEqual(await readdir(dir), [])
})
