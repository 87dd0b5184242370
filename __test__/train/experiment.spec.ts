import { access, mkdtemp, readFile, readdir, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError, type ErrorCode } from '../../src/base/errors.js'
import { sha256File } from '../../src/base/files.js'
import { loadDataset } from '../../src/data/dataset.js'
import { makeDataset } from '../../src/envs/scripted.js'
import { Trainer } from '../../src/native/trainer.js'
import type { EndEvent, TrainEvent, TrainOptions } from '../../src/train/events.js'
import { train } from '../../src/train/experiment.js'
import { RUN_FILES, readRecord } from '../../src/train/run-folder.js'
import { SMALL } from '../small.js'
import { collect } from './collect.js'

const temporaryFolder = async (): Promise<string> => join(await mkdtemp(join(tmpdir(), 'drcorl-train-')), 'run')

const endOf = (events: readonly TrainEvent[]): EndEvent => {
  const last = events.at(-1)
  if (last?.type !== 'end') throw new Error(`the last event is ${last?.type}`)
  return last
}

const policyHash = (folder: string): Promise<string> => sha256File(join(folder, RUN_FILES.policy))
const certificateText = (folder: string): Promise<string> => readFile(join(folder, RUN_FILES.certificate), 'utf8')

let reference: Promise<string> | undefined

/** The folder of one uninterrupted small run. */
function uninterrupted(): Promise<string> {
  reference ??= temporaryFolder().then(async (out) => {
    await collect({ ...SMALL, out })
    return out
  })
  return reference
}

async function sameResult(t: ExecutionContext, folder: string): Promise<void> {
  const wanted = await uninterrupted()
  t.is(await policyHash(folder), await policyHash(wanted))
  t.is(await certificateText(folder), await certificateText(wanted))
}

async function refused(t: ExecutionContext, options: TrainOptions, code: ErrorCode, message: RegExp): Promise<void> {
  const error = await t.throwsAsync(collect(options), { instanceOf: DrcorlError })
  t.is((error as DrcorlError).code, code)
  t.is((error as DrcorlError).exitStatus, 2)
  t.regex(error?.message ?? '', message)
}

test('a run tells its story in events and leaves a complete folder', async (t) => {
  const out = await temporaryFolder()
  const events = await collect({ ...SMALL, out })
  const start = events[0]
  if (start?.type !== 'start') return t.fail('the first event must be start')
  t.like(start, { run_dir: out, algorithm: 'bc', preset: null, resumed: false, step: 0 })
  t.deepEqual(
    start.phases.map(({ name }) => name),
    ['cloning', 'audit', 'certificate'],
  )
  t.is(start.steps, 40 + 21 + 11)
  t.is(start.config['update_steps'], 40)
  t.is(start.run['seed'], 0, 'defaults are resolved')

  const end = endOf(events)
  t.like(end, { status: 'done', code: null, run_dir: out, step: 72, environment_steps: 0 })
  // Models of twenty steps replay no episode, so nothing vouches for the policy.
  t.is(end.certificate?.verdict, 'not certified')
  t.true(end.certificate?.reasons?.every((reason) => reason.length > 0))
  const checkpoints = events.filter((event) => event.type === 'checkpoint').map((event) => event.step)
  t.deepEqual(checkpoints, [40, 61, 72], 'one at the end of each phase')
  t.is(events.filter((event) => event.type === 'certificate').length, 1)

  const files = [RUN_FILES.config, RUN_FILES.metrics, RUN_FILES.checkpoint, RUN_FILES.policy, RUN_FILES.certificate]
  t.deepEqual((await readdir(out)).toSorted(), [...files, RUN_FILES.result, RUN_FILES.datasetEpisodes].toSorted())
  const result = JSON.parse(await readFile(join(out, RUN_FILES.result), 'utf8')) as Record<string, unknown>
  t.like(result, { status: 'done', steps: 72, environment_steps: { training: 0 }, policies: [RUN_FILES.policy] })
  const record = await readRecord(out)
  t.like(record.dataset, {
    source: 'env:point-circle?episodes=20&seed=0',
    kind: 'env',
    transitions: 4000,
    episodes: 20,
  })
  t.like(record.task, { env: 'point-circle', episode_length: 200 })
})

test('metrics.csv has a row for each stretch of steps, whatever the speed', async (t) => {
  const text = await readFile(join(await uninterrupted(), RUN_FILES.metrics), 'utf8')
  const rows = text
    .trimEnd()
    .split('\n')
    .map((line) => line.split(','))
  t.deepEqual(rows[0]?.slice(0, 4), ['step', 'phase', 'phase_step', 'seconds'])
  t.true(rows[0]?.includes('actor_loss'))
  t.deepEqual(
    rows.slice(1).map(([step]) => Number(step)),
    Array.from({ length: 72 }, (_, index) => index + 1),
  )
  t.deepEqual(rows[25]?.slice(0, 3), ['25', 'cloning', '25'])
})

test('how steps are grouped into calls changes nothing: a checkpoint after every call, the same bits', async (t) => {
  const out = await temporaryFolder()
  const events = await collect({ ...SMALL, out, checkpointSeconds: 1e-9 })
  t.true(events.filter((event) => event.type === 'checkpoint').length > 3)
  await sameResult(t, out)
})

for (const [phase, at] of [
  ['cloning', 1],
  ['cloning', 33],
  ['audit', 7],
  ['certificate', 4],
] as const) {
  test(`aborted in ${phase} after step ${at} and resumed: bit-identical`, async (t) => {
    const out = await temporaryFolder()
    const controller = new AbortController()
    const events = await collect({ ...SMALL, out, signal: controller.signal }, (event) => {
      if (event.type === 'progress' && event.phase === phase && event.phase_step >= at) controller.abort()
    })
    const end = endOf(events)
    t.like(end, { status: 'interrupted', code: 'Cancelled', certificate: null })
    t.is(events.at(-2)?.type, 'checkpoint')
    await t.throwsAsync(access(join(out, RUN_FILES.result)))

    const resumed = await collect({ out, resume: true })
    t.like(resumed[0], { type: 'start', resumed: true, step: end.step })
    t.is(endOf(resumed).status, 'done')
    await sameResult(t, out)
    const steps = (await readFile(join(out, RUN_FILES.metrics), 'utf8')).trimEnd().split('\n').slice(1).map(parseFloat)
    t.deepEqual(
      steps,
      Array.from({ length: 72 }, (_, index) => index + 1),
      'no row is lost or written twice',
    )
  })
}

test('aborting while a call is under way ends it at once', async (t) => {
  const out = await temporaryFolder()
  const controller = new AbortController()
  const config = { ...SMALL.config, update_steps: 1e9, audit_members: 0 }
  const events = await collect({ ...SMALL, config, out, signal: controller.signal }, (event) => {
    // The next call is already under way when a timer fires.
    if (event.type === 'progress' && event.step > 10) setTimeout(() => controller.abort(), 1)
  })
  t.like(endOf(events), { status: 'interrupted', code: 'Cancelled' })
  t.is(events.at(-2)?.type, 'checkpoint')
})

test('a signal aborted before the start writes the configuration and trains nothing', async (t) => {
  const out = await temporaryFolder()
  const events = await collect({ ...SMALL, out, signal: AbortSignal.abort() })
  t.deepEqual(
    events.map((event) => event.type),
    ['start', 'end'],
  )
  await collect({ out, resume: true })
  await sameResult(t, out)
})

test('leaving the loop early leaves a checkpoint', async (t) => {
  const out = await temporaryFolder()
  for await (const event of train({ ...SMALL, out })) if (event.type === 'progress' && event.step === 25) break
  const resumed = await collect({ out, resume: true })
  t.like(resumed[0], { step: 25 })
  await sameResult(t, out)
})

test('without a checkpoint resume starts at the first step; a finished run resumes to its end', async (t) => {
  const out = await temporaryFolder()
  await collect({ ...SMALL, out })
  await writeFile(join(out, '.metrics.csv.1-0a1b.tmp'), 'half a fi')
  t.like((await collect({ out, resume: true }))[0], { step: 72 })
  t.false((await readdir(out)).some((name) => name.endsWith('.tmp')))
  await unlink(join(out, RUN_FILES.checkpoint))
  t.like((await collect({ out, resume: true }))[0], { step: 0 })
  await sameResult(t, out)
})

test('a folder in use is refused; overwrite replaces the run and nothing else', async (t) => {
  const out = await temporaryFolder()
  const before = { ...SMALL, config: { ...SMALL.config, seed: 5 } }
  await collect({ ...before, out })
  await writeFile(join(out, 'notes.txt'), 'mine')
  await refused(t, { ...SMALL, out }, 'Usage', /not empty/)
  await collect({ ...SMALL, out, overwrite: true })
  await sameResult(t, out)
  t.is(await readFile(join(out, 'notes.txt'), 'utf8'), 'mine')
})

test('resume refuses other parameters, other data and damaged files, each by name', async (t) => {
  const out = await temporaryFolder()
  await collect({ ...SMALL, out })
  await refused(t, { out, resume: true, config: { cost_limit: 11 } }, 'Usage', /cost_limit = 11 differs.*has 10/)
  await refused(t, { out, resume: true, algorithm: 'drcorl' }, 'Usage', /algorithm = "drcorl" differs/)
  await refused(t, { out, resume: true, dataset: 'env:point-circle?episodes=21' }, 'Data', /sha256/)
  await refused(t, { resume: true }, 'Usage', /needs the folder/)
  t.is(endOf(await collect({ out, resume: true, config: { cost_limit: 10 } })).status, 'done')

  await truncate(join(out, RUN_FILES.checkpoint), 500)
  await refused(t, { out, resume: true }, 'Data', /checkpoint\.safetensors/)
  await writeFile(join(out, RUN_FILES.config), '{"format": "other"}')
  await refused(t, { out, resume: true }, 'Data', /config\.json is not of format/)
  await writeFile(join(out, RUN_FILES.config), '{"format": "drcorl-run/1", "run": {}}')
  await refused(t, { out, resume: true }, 'Data', /config\.json is damaged: it has no created/)
})

test('bad data and bad parameters write nothing', async (t) => {
  const out = await temporaryFolder()
  const text = join(await mkdtemp(join(tmpdir(), 'drcorl-data-')), 'a.hdf5')
  await writeFile(text, 'not HDF5')
  await refused(t, { ...SMALL, out, dataset: text }, 'Data', /a\.hdf5/)
  await refused(t, { ...SMALL, out, dataset: `${text}.missing` }, 'Io', /no such file/)
  await refused(t, { ...SMALL, out, dataset: 'env:point-circle?size=3' }, 'Config', /"size".*episodes, seed/)
  await refused(
    t,
    { ...SMALL, out, dataset: 'env:point-circle?episodes=x' },
    'Config',
    /episodes must be a whole number/,
  )
  await refused(
    t,
    { ...SMALL, out, config: { ...SMALL.config, actor_lr: 0 } },
    'Config',
    /actor_lr.*from config\.actor_lr/,
  )
  await refused(t, { ...SMALL, out, config: { ...SMALL.config, device: 'cuda:99' } }, 'Config', /device.*cuda:99/)
  await t.throwsAsync(access(out))
})

test('an episode longer than the stated length is refused by name', async (t) => {
  const columns = makeDataset('point-circle', { episodes: 2 })
  const config = { ...SMALL.config, episode_length: 100 }
  await refused(t, { ...SMALL, dataset: columns, config, out: await temporaryFolder() }, 'Data', /200.*100|100.*200/)
})

test('divergence names loss and step and keeps the last good checkpoint', async (t) => {
  const out = await temporaryFolder()
  const config = { ...SMALL.config, model_lr: 1e6 }
  const error = await t.throwsAsync(collect({ ...SMALL, config, out }), { instanceOf: DrcorlError })
  t.like(error, { code: 'Diverged', exitStatus: 1 })
  t.regex(error?.message ?? '', /loss.*step \d+.*checkpoint of step 40/s)
  // It is resumable, and diverges again for the same reason.
  const again = await t.throwsAsync(collect({ out, resume: true }), { instanceOf: DrcorlError })
  t.like(again, { code: 'Diverged' })
})

test('columns train like a file of them, and the same data has the same hash', async (t) => {
  const out = await temporaryFolder()
  const columns = makeDataset('point-circle', { episodes: 20 })
  const dataset = await loadDataset(columns)
  t.is(dataset.sha256, (await loadDataset('env:point-circle?episodes=20')).sha256)
  t.like(dataset.summary, { transitions: 4000, obs_dim: 8, act_dim: 2, episodes: 20 })
  await collect({ ...SMALL, dataset, out })
  t.is(await policyHash(out), await policyHash(await uninterrupted()))
  await refused(t, { out, resume: true }, 'Usage', /trained on columns/)
  t.is(endOf(await collect({ out, resume: true, dataset: columns })).status, 'done')
})

test('the event loop goes on while steps are taken: a timer ends a run that would never end', async (t) => {
  const dataset = await loadDataset('env:point-circle?episodes=20')
  const config = { update_steps: 1e9, batch_size: 16, actor_hidden: [8, 8] }
  const trainer = await Trainer.create(dataset.native, { algorithm: 'bc', run: { audit_members: 0 }, config })
  // A second, of which the first step takes a tenth on a busy machine.
  const enough = 200
  let ticks = 0
  const timer = setInterval(() => {
    ticks += 1
    if (ticks === enough) trainer.cancel()
  }, 5)
  const status = await trainer.run(1e12)
  clearInterval(timer)
  t.true(status.cancelled && !status.done)
  t.true(status.step > 0)
  t.true(ticks >= enough)
  trainer.dispose()
})
