import { mkdir, mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError, type ErrorCode } from '../../src/base/errors.js'
import { writeJson } from '../../src/base/files.js'
import { environmentSteps } from '../../src/envs/ledger.js'
import { evaluate } from '../../src/evaluate/evaluate.js'
import { exportPolicy } from '../../src/export/export.js'
import type { TrainEvent, TrainOptions } from '../../src/train/events.js'
import { train } from '../../src/train/experiment.js'
import { RUN_FILES, readRecord } from '../../src/train/run-folder.js'
import { createRunFolder, lockRun } from '../../src/train/run-lock.js'
import { smallConfig } from '../small.js'
import { collect } from './collect.js'

/** Cloning and no audit. */
const SMALL: TrainOptions = {
  dataset: 'env:point-circle?episodes=5',
  algorithm: 'bc',
  preset: 'none',
  config: smallConfig('bc', { cost_limit: 10, audit_members: 0, update_steps: 20, fqe_steps: 0 }),
}

const temporaryFolder = async (): Promise<string> => join(await mkdtemp(join(tmpdir(), 'drcorl-folder-')), 'run')

async function trained(options: TrainOptions = SMALL): Promise<string> {
  const out = await temporaryFolder()
  await collect({ ...options, out })
  return out
}

/** Trains until its first checkpoint. */
async function interrupted(options: TrainOptions = SMALL): Promise<string> {
  const out = await temporaryFolder()
  for await (const event of train({ ...options, out })) if (event.type === 'progress' && event.step >= 5) break
  return out
}

async function refused(
  t: ExecutionContext,
  work: Promise<unknown>,
  code: ErrorCode,
  exitStatus: number,
  message: RegExp,
): Promise<void> {
  const error = await t.throwsAsync(work, { instanceOf: DrcorlError })
  t.like(error, { code, exitStatus })
  t.regex(error?.message ?? '', message)
}

/** Changes `config.json` as an editor would. */
async function edit(folder: string, change: (record: Awaited<ReturnType<typeof readRecord>>) => void): Promise<void> {
  const record = await readRecord(folder)
  change(record)
  await writeJson(join(folder, RUN_FILES.config), record)
}

const resume = (out: string): Promise<TrainEvent[]> => collect({ out, resume: true })

test('resume refuses a config.json that the checkpoint was not trained with, by key', async (t) => {
  const out = await interrupted()
  await edit(out, ({ run }) => (run['cost_limit'] = 100))
  await refused(t, resume(out), 'Data', 2, /cost_limit = 10, but config\.json beside it says 100/)
  await edit(out, ({ run }) => delete run['cost_limit'])
  await refused(t, resume(out), 'Data', 2, /cost_limit = 10, but config\.json beside it says none/)
  await edit(out, ({ run, config }) => {
    run['cost_limit'] = 10
    config['update_steps'] = 21
  })
  await refused(t, resume(out), 'Data', 2, /update_steps = 20, but config\.json beside it says 21/)
  await edit(out, ({ config }) => (config['update_steps'] = 20))
  t.like((await resume(out)).at(-1), { type: 'end', status: 'done' })
})

test('resume refuses the checkpoint of another run, and of another algorithm', async (t) => {
  const out = await interrupted()
  const [seed, algorithm] = [
    await interrupted({ ...SMALL, config: { ...SMALL.config, seed: 7 } as TrainOptions['config'] }),
    await interrupted({
      ...SMALL,
      algorithm: 'bc_safe',
      // Some episodes of the data have to be within it.
      config: { ...SMALL.config, cost_limit: 60 } as TrainOptions['config'],
    }),
  ]
  const own = await readFile(join(out, RUN_FILES.checkpoint))
  for (const [other, message] of [
    [seed, /seed = 7, but config\.json beside it says 0/],
    [algorithm, /algorithm = "bc_safe", but config\.json beside it says "bc"/],
  ] as const) {
    await writeFile(join(out, RUN_FILES.checkpoint), await readFile(join(other, RUN_FILES.checkpoint)))
    await refused(t, resume(out), 'Data', 2, message)
  }
  await writeFile(join(out, RUN_FILES.checkpoint), own)
  t.like((await resume(out)).at(-1), { type: 'end', status: 'done' })
})

test('resume refuses a checkpoint of which any bit is another, and one without a digest, and goes on with the right one', async (t) => {
  const out = await interrupted()
  const path = join(out, RUN_FILES.checkpoint)
  const own = await readFile(path)
  const places = Array.from({ length: 12 }, (_, i) => Math.floor(((i + 0.5) * own.length) / 12))
  for (const at of [0, 8, ...places, own.length - 1]) {
    const other = Buffer.from(own)
    other[at] = other[at]! ^ (1 << (at % 8))
    await writeFile(path, other)
    await refused(t, resume(out), 'Data', 2, /checkpoint\.safetensors/)
  }
  const before = Buffer.from(own.toString('latin1').replace('drcorl-checkpoint/2', 'drcorl-checkpoint/1'), 'latin1')
  await writeFile(path, before)
  await refused(t, resume(out), 'Data', 2, /has no sha256 of its content\); .*start again with --overwrite/)
  await writeFile(path, own)
  t.like((await resume(out)).at(-1), { type: 'end', status: 'done' })
})

test('one process at a time writes into a run folder: the second is told who, and changes nothing', async (t) => {
  const out = await trained()
  const before = await readdir(out)
  const unlock = await lockRun(out, 'training', '')
  const message = new RegExp(`process ${process.pid} on \\S+ is training in .* already, since \\d{4}-`)
  for (const work of [
    collect({ ...SMALL, out, overwrite: true }),
    resume(out),
    collect({ ...SMALL, out }),
    evaluate({ run: out, episodes: 1 }),
  ]) {
    await refused(t, work, 'Busy', 1, message)
  }
  unlock()
  t.deepEqual((await readdir(out)).toSorted(), before.toSorted())
  t.like((await resume(out)).at(-1), { status: 'done' })
})

test('a run that cannot be written is found before anything is played, with a remedy', async (t) => {
  const out = await trained()
  // A folder in the lock's place: nobody can write it, root included.
  await mkdir(join(out, '.lock'))
  const before = environmentSteps()
  const error = await t.throwsAsync(evaluate({ run: out, episodes: 1 }), { instanceOf: DrcorlError })
  t.like(error, { code: 'Io', exitStatus: 2 })
  t.regex(error?.message ?? '', /the run folder .* cannot be written: /)
  t.regex(error?.hint ?? '', /drcorl evaluate .*policy\.safetensors/)
  t.is(environmentSteps(), before)
})

test('two runs at once into one folder: one trains, one is refused', async (t) => {
  const out = await trained()
  for (const options of [
    { ...SMALL, out, overwrite: true },
    { out, resume: true },
  ]) {
    const ends = await Promise.allSettled([collect(options), collect(options)])
    const statuses = ends.map((end) => (end.status === 'fulfilled' ? 'done' : (end.reason as DrcorlError).code))
    t.deepEqual(statuses.toSorted(), ['Busy', 'done'])
    t.deepEqual(
      (await readdir(out)).filter((name) => name.startsWith('.')),
      [],
    )
  }
})

test('a run that fails gives its folder back', async (t) => {
  const out = await trained()
  await refused(t, collect({ ...SMALL, out }), 'Usage', 2, /not empty/)
  await refused(t, collect({ out, resume: true, config: { cost_limit: 3 } }), 'Usage', 2, /cost_limit/)
  await t.notThrowsAsync(async () => (await lockRun(out, 'testing', ''))())
})

test('folders that nobody named never meet, not in the same second either', async (t) => {
  const fallback = join(await temporaryFolder(), 'runs', 'bc-x-20260101-000000')
  const made = await Promise.all(Array.from({ length: 20 }, () => createRunFolder(undefined, fallback, false)))
  const names = made.map(({ folder }) => basename(folder))
  t.is(new Set(names).size, 20)
  t.true(names.includes('bc-x-20260101-000000') && names.includes('bc-x-20260101-000000-20'))
  for (const { unlock } of made) unlock()
})

test('--overwrite removes what a run has written, and no other file', async (t) => {
  const out = await trained()
  const foreign = ['.env.tmp', '.metrics.csv.tmp', '.notes.12.tmp', 'notes.txt', 'policy.onnx']
  for (const name of foreign) await writeFile(join(out, name), 'mine')
  const half = ['.metrics.csv.123-0a1b2c3d.tmp', '.checkpoint.safetensors.123.tmp', '.visitor.safetensors.123.tmp']
  for (const name of half) await writeFile(join(out, name), 'half a fi')
  const { unlock } = await createRunFolder(out, '', true)
  unlock()
  t.deepEqual((await readdir(out)).toSorted(), foreign)
})

test('--overwrite refuses files of the same names that no run has written, by name', async (t) => {
  for (const content of ['{"port": 80}', 'not JSON', undefined]) {
    const out = await temporaryFolder()
    await mkdir(out, { recursive: true })
    if (content !== undefined) await writeFile(join(out, RUN_FILES.config), content)
    await writeFile(join(out, RUN_FILES.result), 'mine')
    const before = await readdir(out)
    await refused(t, collect({ ...SMALL, out, overwrite: true }), 'Usage', 2, /holds no run of drcorl.*result\.json/)
    t.deepEqual(await readdir(out), before)
    t.is(await readFile(join(out, RUN_FILES.result), 'utf8'), 'mine')
  }
})

test('a record opens no code: it names embedded environments and tasks, and anything else has to be asked for', async (t) => {
  const out = await trained()
  const evil = 'evil:X-v0'
  for (const env of [evil, 'os', '']) {
    await edit(out, (record) => Object.assign(record.task!, { env }))
    await refused(t, evaluate({ run: out, episodes: 1 }), 'Usage', 2, /no environment is known/)
  }
  await edit(out, (record) => Object.assign(record.task!, { env: 7 }))
  await refused(t, evaluate({ run: out, episodes: 1 }), 'Data', 2, /damaged: task\.env is 7, but must be/)
  const hybrid = await temporaryFolder()
  const visiting = { cost_limit: 60, mode: 'hybrid-eval', hybrid_interval: 4, hybrid_episodes: 1 }
  const config = smallConfig('drcorl', visiting, { steps: 8 })
  for await (const event of train({ ...SMALL, algorithm: 'drcorl', config, out: hybrid })) {
    if (event.type === 'start') break
  }
  await edit(hybrid, (record) => Object.assign(record, { environment: evil }))
  await refused(t, resume(hybrid), 'Usage', 2, /names the environment "evil:X-v0"/)
  const watched = await interrupted()
  const monitor = { format: 'drcorl-monitor/1', every: 4, episodes: 1, seed: 1, keep_checkpoints: false, points: [] }
  await writeJson(join(watched, RUN_FILES.monitor), { ...monitor, environment: evil })
  await refused(t, resume(watched), 'Usage', 2, /names the environment "evil:X-v0"/)
})

test('--overwrite removes the exports of the earlier policies, and nothing else where they lie', async (t) => {
  const policy = join(await trained(), RUN_FILES.policy)
  for (const kept of [[], ['notes.txt', join('tfjs', 'mine.bin')]]) {
    const out = await trained()
    const place = join(out, 'export')
    for (const [format, name] of [
      ['onnx', 'policy.onnx'],
      ['onnx', 'policy.selected.onnx'],
      ['safetensors', 'policy.safetensors'],
      ['tfjs', 'tfjs'],
    ] as const) {
      await exportPolicy({ policy, format, out: join(place, name) })
    }
    for (const name of kept) await writeFile(join(place, name), 'mine')
    const { unlock } = await createRunFolder(out, '', true)
    unlock()
    t.deepEqual(await readdir(out), kept.length === 0 ? [] : ['export'])
    if (kept.length > 0)
      t.deepEqual((await readdir(place, { recursive: true })).toSorted(), [...kept, 'tfjs'].toSorted())
  }
})
