import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { type FetchOptions, type FetchResult, fetchDataset } from '../../src/data/fetch.js'
import { convertDataset } from '../../src/data/operations.js'
import { lock } from '../../src/native/lock.js'
import { start } from '../cli/spawn.js'
import { TestServer, serve, sha256 } from '../server.js'

const FOLDER = await mkdtemp(join(tmpdir(), 'drcorl-fetch-'))

/** A DSRL file with the dimensions of BallCircle (and of point-circle, whose data it holds). */
async function ballCircle(episodes = 20): Promise<Buffer> {
  const path = join(FOLDER, 'source.hdf5')
  await convertDataset(`env:point-circle?episodes=${episodes}`, path, { overwrite: true })
  return readFile(path)
}

const BYTES = await ballCircle()

async function server(t: ExecutionContext, bytes = BYTES): Promise<TestServer> {
  const started = await TestServer.start((request, response) => serve(request, response, bytes))
  t.teardown(() => started.stop())
  return started
}

async function refused(t: ExecutionContext, task: string, options: FetchOptions): Promise<DrcorlError> {
  const error = await t.throwsAsync(fetchDataset(task, { waitMs: 1, attempts: 2, ...options }))
  t.true(error instanceof DrcorlError, String(error))
  return error as DrcorlError
}

test('a fetched dataset has its official name and a record; the second call checks it', async (t) => {
  const { url, requests } = await server(t)
  const dir = join(FOLDER, 'one')
  const fetch = (options: FetchOptions = {}): Promise<FetchResult> =>
    fetchDataset('BallCircle', { dir, from: url, ...options })
  const path = join(dir, 'SafetyBallCircle-v0-80-886.hdf5')
  t.like(await fetch(), { task: 'BallCircle', path, status: 'fetched', sha256: sha256(BYTES) })
  t.deepEqual((await readdir(dir)).toSorted(), [
    `SafetyBallCircle-v0-80-886.hdf5`,
    `SafetyBallCircle-v0-80-886.hdf5.json`,
  ])
  const record = JSON.parse(await readFile(`${path}.json`, 'utf8')) as Record<string, unknown>
  t.like(record, { task: 'BallCircle', url, bytes: BYTES.length, sha256: sha256(BYTES) })

  t.like(await fetch(), { status: 'present', checked: 'its record' })
  t.is(requests.length, 1)
  await writeFile(path, BYTES.subarray(0, 1000))
  const error = await refused(t, 'BallCircle', { dir, from: url })
  t.like(error, { code: 'Data', exitStatus: 2 })
  t.regex(error.hint ?? '', /--overwrite/)
  t.like(await fetch({ overwrite: true }), { status: 'fetched' })
  t.deepEqual(await readFile(path), BYTES)
})

test('the first fetch is on trust and recorded; another file at the same address is told', async (t) => {
  let bytes = BYTES
  const other = await ballCircle(21)
  const started = await TestServer.start((request, response) => serve(request, response, bytes))
  t.teardown(() => started.stop())
  const dir = join(FOLDER, 'trust')
  const fetch = (options: FetchOptions = {}): Promise<FetchResult> =>
    fetchDataset('BallCircle', { dir, from: started.url, waitMs: 1, attempts: 2, ...options })
  const { path } = await fetch()
  bytes = other
  const error = await refused(t, 'BallCircle', { dir, from: started.url, overwrite: true })
  t.like(error, { code: 'Data', exitStatus: 2 })
  t.regex(error.message, /the file has sha256 [0-9a-f]{64}, and had [0-9a-f]{64} when it was fetched 20/)
  t.true(error.hint?.includes(`--sha256 ${sha256(other)}`))
  t.deepEqual(await readFile(path), BYTES)

  // A file of unknown origin, and a record that cannot be read: trusted once, and held to it.
  for (const record of [undefined, '{"sha', 'null', '{"sha256": 7}']) {
    await rm(`${path}.json`, { force: true })
    if (record !== undefined) await writeFile(`${path}.json`, record)
    t.like(await fetch(), { status: 'present', checked: 'nothing' })
    t.like(await fetch(), { status: 'present', checked: 'its record' })
  }
})

test('no larger file is taken than the task can have, and no password shown', async (t) => {
  const { url } = await server(t)
  const from = url.replace('//', '//me:sesam@')
  const dir = join(FOLDER, 'limits')
  const small = await refused(t, 'BallCircle', { dir, from, mostBytes: 1000 })
  t.regex(small.message, /at most 1000 are taken/)
  t.regex((await refused(t, 'BallCircle', { dir, from, mostBytes: 0.5 })).message, /--max-bytes 0.5 must be/)
  const bad = await refused(t, 'BallCircle', { dir, from: 'ftp://me:sesam@host/x' })
  for (const { message } of [small, bad]) t.notRegex(message, /sesam/)
  const result = await fetchDataset('BallCircle', { dir, from })
  t.notRegex(JSON.stringify(result) + (await readFile(`${result.path}.json`, 'utf8')), /sesam/)
})

test('data of another collection keep their own name', async (t) => {
  const { url } = await server(t)
  const from = url.replace('data.hdf5', 'SafetyBallCircle-v0-80-20.hdf5')
  const { path } = await fetchDataset('BallCircle', { dir: join(FOLDER, 'other'), from })
  t.true(path.endsWith('/SafetyBallCircle-v0-80-20.hdf5'))
})

test('a file that is damaged, no dataset, or another task’s is refused and removed', async (t) => {
  const cases: [bytes: Buffer, task: string, message: RegExp][] = [
    [Buffer.from('<html>sign in first</html>'), 'BallCircle', /is not an HDF5 file/],
    [BYTES.subarray(0, BYTES.length - 100), 'BallCircle', /is truncated/],
    [BYTES, 'CarRun', /observations of 8 entries and actions of 2, task CarRun 7 and 2/],
  ]
  for (const [bytes, task, message] of cases) {
    const { url } = await server(t, bytes)
    const dir = await mkdtemp(join(FOLDER, 'bad-'))
    const error = await refused(t, task, { dir, from: url })
    t.like(error, { code: 'Data', exitStatus: 2 })
    t.regex(error.message, message)
    t.deepEqual(await readdir(dir), [])
  }
})

test('bad requests are refused before anything is asked or written', async (t) => {
  const cases: [task: string, options: FetchOptions, message: RegExp][] = [
    ['BalCircle', {}, /did you mean BallCircle/],
    ['BallCircle', { from: 'data.hdf5' }, /no http or https address/],
    ['BallCircle', { from: 'ftp://x/y' }, /no http or https address/],
    ['BallCircle', { sha256: 'abc' }, /64 hexadecimal digits/],
    ['BallCircle', { dir: join(FOLDER, 'source.hdf5') }, /cannot make the folder/],
  ]
  for (const [task, options, message] of cases) {
    const error = await refused(t, task, { dir: join(FOLDER, 'never'), ...options })
    t.is(error.exitStatus, 2)
    t.regex(error.message, message)
  }
  t.false((await readdir(FOLDER)).includes('never'))
})

test('two processes do not write the same file; a lock left by a dead one is taken over', async (t) => {
  const { url } = await server(t)
  const dir = await mkdtemp(join(FOLDER, 'lock-'))
  const file = join(dir, 'SafetyBallCircle-v0-80-886.hdf5.lock')
  const unlock = await lock(file, 'fetching this file')
  t.regex((await refused(t, 'BallCircle', { dir, from: url })).message, /is fetching this file already/)
  unlock()
  await writeFile(file, '4194305')
  t.is((await fetchDataset('BallCircle', { dir, from: url })).status, 'fetched')
})

test('Ctrl-C keeps what is there: status 130, and the same command goes on', async (t) => {
  const slow = await TestServer.start((request, response, attempt) => {
    if (attempt > 1) return serve(request, response, BYTES)
    response.writeHead(200, { 'content-length': BYTES.length, etag: '"v1"' })
    return response.write(BYTES.subarray(0, 50_000))
  })
  t.teardown(() => slow.stop())
  const dir = await mkdtemp(join(FOLDER, 'interrupt-'))
  const words = ['data', 'fetch', 'BallCircle', '--dir', dir, '--from', slow.url, '--json']
  const { child, finished, waitFor } = start(words)
  await waitFor(/BallCircle/)
  const part = join(dir, 'SafetyBallCircle-v0-80-886.hdf5.part')
  while ((await stat(part).catch(() => ({ size: 0 }))).size < 50_000) await delay(20)
  child.kill('SIGINT')
  const { status, stdout } = await finished
  t.is(status, 130)
  t.like((JSON.parse(stdout) as { error: object }).error, { code: 'Cancelled' })
  const again = await start(words).finished
  t.is(again.status, 0, again.stderr)
  t.like(JSON.parse(again.stdout), { status: 'fetched', sha256: sha256(BYTES) })
  t.is(slow.requests[1]?.range, 'bytes=50000-')
})
