/** Runs of several limits from one pretraining: the same bits as each alone, and what is refused. */
import { copyFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError, type ErrorCode } from '../../src/base/errors.js'
import { sha256File } from '../../src/base/files.js'
import { loadSchema } from '../../src/config/schema.js'
import { readRun } from '../../src/report/run-data.js'
import { phasesOf } from '../../src/report/curves.js'
import { writeReport } from '../../src/report/report.js'
import type { TrainEvent, TrainOptions } from '../../src/train/events.js'
import { RUN_FILES, readRecord } from '../../src/train/run-folder.js'
import { SMALL, smallConfig } from '../small.js'
import { collect } from './collect.js'

const DATASET = 'env:point-circle?episodes=20'

const folder = async (name = 'run'): Promise<string> => join(await mkdtemp(join(tmpdir(), 'drcorl-reuse-')), name)

const options = (out: string, more: Record<string, unknown> = {}, also: Partial<TrainOptions> = {}): TrainOptions => {
  const config = smallConfig('drcorl', { cost_limit: 10, audit_members: 2, ...more })
  return { dataset: DATASET, algorithm: 'drcorl', preset: 'none', config, out, ...also } as TrainOptions
}

let first: Promise<{ out: string; events: TrainEvent[] }> | undefined

/** A run of limit 10, which makes its pretraining. */
function source(): Promise<{ out: string; events: TrainEvent[] }> {
  first ??= folder('source').then(async (out) => ({ out, events: await collect(options(out)) }))
  return first
}

const OF_RESULT = [RUN_FILES.checkpoint, RUN_FILES.policy, RUN_FILES.certificate]

async function sameResult(t: ExecutionContext, one: string, other: string): Promise<void> {
  for (const file of OF_RESULT) t.is(await sha256File(join(one, file)), await sha256File(join(other, file)), file)
}

const startOf = (events: readonly TrainEvent[]): Extract<TrainEvent, { type: 'start' }> => {
  const [event] = events
  if (event?.type !== 'start') throw new Error(`the first event is ${event?.type}`)
  return event
}

async function refused(t: ExecutionContext, asked: TrainOptions, code: ErrorCode, message: RegExp): Promise<void> {
  const error = await t.throwsAsync(collect(asked), { instanceOf: DrcorlError })
  t.is((error as DrcorlError).code, code)
  t.is((error as DrcorlError).exitStatus, 2)
  t.regex(error?.message ?? '', message)
}

test('a run keeps its pretraining where adaptation begins, once', async (t) => {
  const { out, events } = await source()
  const kept = events.filter((event) => event.type === 'pretraining')
  const { phases, reused } = startOf(events)
  const before = phases.slice(
    0,
    phases.findIndex(({ name }) => name === loadSchema().algorithms['drcorl']!.pretraining!.before),
  )
  t.deepEqual(kept, [
    {
      type: 'pretraining',
      path: join(out, RUN_FILES.pretraining),
      step: before.reduce((sum, { steps }) => sum + steps, 0),
    },
  ])
  t.is(reused, null)
  t.is((await readRecord(out)).reused, undefined)
})

for (const limit of [10, 40]) {
  test(`a run of limit ${limit} that takes it over is the run alone, in every bit`, async (t) => {
    const { out: from } = await source()
    const [alone, taken] = [await folder(), await folder()]
    await collect(options(alone, { cost_limit: limit }))
    const events = await collect(options(taken, { cost_limit: limit }, { reuse: from }))
    await sameResult(t, taken, alone)
    const { step, reused, resumed } = startOf(events)
    const sha256 = await sha256File(join(from, RUN_FILES.pretraining))
    t.like(reused, { run: 'source', sha256, step })
    t.true(reused!.seconds! > 0)
    t.false(resumed)
    t.deepEqual((await readRecord(taken)).reused, reused)
    t.false((await readdir(taken)).includes(RUN_FILES.pretraining))
    const rows = (await readFile(join(taken, RUN_FILES.metrics), 'utf8')).trimEnd().split('\n').slice(1).map(parseFloat)
    t.deepEqual(
      rows,
      Array.from({ length: rows.length }, (_, index) => step + 1 + index),
    )
    t.like((await readRun(taken)).result, { steps: (await readRun(alone)).result!.steps })
    const text = await readFile(await writeReport(taken), 'utf8')
    t.regex(text, /of training, after the pretraining of source/)
    const [adaptation] = phasesOf((await readRun(taken)).metrics!)
    t.deepEqual([adaptation!.name, adaptation!.from, adaptation!.to - step], ['adaptation', step, 6])
  })
}

test('one with another course of adaptation takes it over too, whose phases are others', async (t) => {
  const { out: from } = await source()
  const [alone, taken] = [await folder(), await folder()]
  const both = { reward_critic: 'both', reward_updates_per_step: 1 }
  await collect(options(alone, both))
  const { phases } = startOf(await collect(options(taken, both, { reuse: from })))
  t.true(phases.length > startOf((await source()).events).phases.length)
  await sameResult(t, taken, alone)
})

test('a run that took it over is resumed as any other, without the folder it came from', async (t) => {
  const { out } = await source()
  const from = await folder('away')
  await collect(options(from)).then(() => rm(join(from, RUN_FILES.metrics)))
  const [alone, taken] = [await folder(), await folder()]
  await collect(options(alone, { slack_above: 0.5 }))
  const controller = new AbortController()
  const events = await collect(
    options(taken, { slack_above: 0.5 }, { reuse: from, signal: controller.signal }),
    (event) => {
      if (event.type === 'start') controller.abort()
    },
  )
  t.is(startOf(events).reused!.seconds, null, 'its metrics are gone')
  t.like(events.at(-1), { type: 'end', status: 'interrupted' })
  await rm(from, { recursive: true })
  t.true(startOf(await collect({ out: taken, resume: true })).resumed)
  await sameResult(t, taken, alone)
  await refused(t, { out: taken, resume: true, reuse: out }, 'Usage', /reuse is for a new run/)
})

test('one that was killed before it had a checkpoint makes its own, to the same bits', async (t) => {
  const { out: from } = await source()
  const [alone, taken] = [await folder(), await folder()]
  await collect(options(alone, { cost_limit: 20 }))
  await collect(options(taken, { cost_limit: 20 }, { reuse: from }))
  for (const file of [...OF_RESULT, RUN_FILES.result, RUN_FILES.metrics]) await rm(join(taken, file))
  t.is(startOf(await collect({ out: taken, resume: true })).reused, null)
  t.is((await readRecord(taken)).reused, undefined)
  await sameResult(t, taken, alone)
})

test('refused by name: what shaped the pretraining, other data, another algorithm, no pretraining', async (t) => {
  const { out: from } = await source()
  const out = await folder()
  const reuse = { reuse: from }
  const asked = (more: Record<string, unknown>, also: Partial<TrainOptions> = {}): TrainOptions =>
    options(out, more, { ...reuse, ...also })
  await refused(
    t,
    asked({ gamma: 0.9 }),
    'Config',
    /^gamma is 0.9, but 0.99 in .*pretraining\.safetensors.*\(from config\.gamma\)$/,
  )
  await refused(t, asked({ seed: 1 }), 'Config', /^seed is 1, but 0 in /)
  await refused(t, asked({}, { dataset: 'env:point-circle?episodes=21' }), 'Data', /was trained on/)
  await refused(t, { ...SMALL, out, ...reuse }, 'Usage', /^bc has no pretraining that could be reused; drcorl has$/)
  await refused(t, asked({}, { reuse: join(out, 'nowhere') }), 'Io', /is not a run folder/)
  await refused(t, asked({}, { out: from, overwrite: true }), 'Usage', /both the run to take the pretraining from/)
  const bc = await folder()
  await collect({ ...SMALL, out: bc })
  await refused(t, asked({}, { reuse: bc }), 'Usage', /is of bc, not of drcorl/)
  const taken = await folder()
  await collect(options(taken, {}, reuse))
  await refused(t, asked({}, { reuse: taken }), 'Io', /holds no pretraining\.safetensors: it took over that of source/)

  const damaged = await folder()
  await collect(options(damaged))
  const file = join(damaged, RUN_FILES.pretraining)
  const bytes = await readFile(file)
  bytes[bytes.length - 1]! ^= 1
  await writeFile(file, bytes)
  await refused(t, asked({}, { reuse: damaged }), 'Data', /pretraining\.safetensors/)
  await copyFile(join(damaged, RUN_FILES.checkpoint), file)
  await refused(t, asked({}, { reuse: damaged }), 'Data', /was not saved where the pretraining ends/)
  await rm(file)
  await refused(t, asked({}, { reuse: damaged }), 'Io', /its training has not come so far/)
  await t.throwsAsync(readdir(out), undefined, 'nothing was written')
})
