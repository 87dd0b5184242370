/** Event files, read back by the readers they are for: TensorBoard's own, and tfjs-node's writer beside ours. */
import { appendFile, mkdtemp, readFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import test from 'ava'
import { knownSchema, metricsOf } from '../../src/config/schema.js'
import { evaluate } from '../../src/evaluate/evaluate.js'
import type { TrainEvent, TrainOptions } from '../../src/train/events.js'
import { train } from '../../src/train/experiment.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { EventFile, crc32c, descriptionsOf, eventFiles, tagOf } from '../../src/train/tensorboard.js'
import { SMALL } from '../small.js'
import { testIf } from '../test-if.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PACKAGES = join(ROOT, 'target/tensorboard')
const RUNTIMES = join(ROOT, 'target/runtimes')
const TFJS_NODE = join(RUNTIMES, 'node_modules/@tensorflow/tfjs-node/lib/napi-v8/tfjs_binding.node')
const READER = fileURLToPath(new URL('python/read_events.py', import.meta.url))
const run = promisify(execFile)

const declared = metricsOf(SMALL.algorithm ?? 'drcorl')

type Curves = Record<string, [step: number, value: number][]>
interface ReadEvent {
  step: number
  file_version: string
  start: boolean
  values: [tag: string, value: number][]
}

const temporaryFolder = (): Promise<string> => mkdtemp(join(tmpdir(), 'drcorl-tensorboard-'))

const readBack = testIf(existsSync(PACKAGES), `${PACKAGES} is absent: node scripts/tensorboard.mjs`)
const bothPackages = existsSync(PACKAGES) && existsSync(TFJS_NODE)
const besideTfjs = testIf(bothPackages, `${TFJS_NODE} or ${PACKAGES} is absent: node scripts/runtimes.mjs`)

/** What TensorBoard's Python package reads. */
async function read<T>(path: string): Promise<T> {
  const env = { ...process.env, PYTHONPATH: [PACKAGES, process.env['PYTHONPATH']].filter(Boolean).join(delimiter) }
  const { stdout } = await run('python3', [READER, path], { env, maxBuffer: 1 << 26 })
  return JSON.parse(stdout) as T
}

async function collect(options: TrainOptions, until?: (event: TrainEvent) => boolean): Promise<void> {
  for await (const event of train(options)) if (until?.(event)) return
}

/** The curves that metrics.csv holds, under the tags of event files, values as float32. */
async function curvesOfCsv(folder: string): Promise<Curves> {
  const [header = '', ...lines] = (await readFile(join(folder, RUN_FILES.metrics), 'utf8')).trimEnd().split('\n')
  const names = header.split(',')
  const curves: Curves = {}
  for (const line of lines) {
    const cells = line.split(',')
    names.forEach((name, column) => {
      const cell = cells[column]
      if (column < 4 || !cell) return
      ;(curves[tagOf(name, declared)] ??= []).push([Number(cells[0]), Math.fround(Number(cell))])
    })
  }
  return curves
}

const trained = (curves: Curves): Curves =>
  Object.fromEntries(Object.entries(curves).filter(([tag]) => !/^(time|eval)\//.test(tag)))

test('the checksum is CRC-32C: the values of RFC 3720, appendix B.4', (t) => {
  t.is(crc32c(new Uint8Array(32)), 0x8a9136aa)
  t.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43)
  t.is(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e)
})

readBack('TensorBoard reads every metric of a run at its gradient step, and the times', async (t) => {
  const out = await temporaryFolder()
  await collect({ ...SMALL, out, tensorboard: true })
  const curves = await read<Curves>(out)
  t.deepEqual(trained(curves), await curvesOfCsv(out))
  t.true('loss/actor_loss' in curves)
  t.true(curves['time/seconds']!.every(([, seconds]) => seconds > 0))
  t.true('time/steps_per_second' in curves)
})

test('a metric stands under its role, and its meaning and unit go with the first value of its tag', async (t) => {
  const all = Object.values(knownSchema()!.algorithms).flatMap(({ metrics }) => metrics)
  t.true(all.length > 20)
  for (const metric of all) t.is(tagOf(metric.name, [metric]), `${metric.role}/${metric.name}`)
  const out = await temporaryFolder()
  const metric = {
    name: 'cost_estimate',
    role: 'estimate',
    unit: 'cost an episode',
    meaning: 'What it costs.',
  } as const
  const events = await EventFile.create(out, undefined, descriptionsOf([metric]))
  for (const step of [1, 2]) events.add(step, { [tagOf('cost_estimate', [metric])]: step, 'time/seconds': step })
  await events.close()
  const content = await readFile(join(out, (await eventFiles(out))[0]!), 'latin1')
  t.is(content.split('estimate/cost_estimate').length - 1, 2)
  t.is(content.split('What it costs. Unit: cost an episode.').length - 1, 1)
})

test('without the option no event file is written', async (t) => {
  const out = await temporaryFolder()
  await collect({ ...SMALL, out })
  t.deepEqual(await eventFiles(out), [])
})

readBack('a resumed run goes on: nothing twice, nothing lost, also behind a record cut short', async (t) => {
  const out = await temporaryFolder()
  let checkpoint = 0
  let after = 0
  await collect({ ...SMALL, out, tensorboard: true, checkpointSeconds: 1e6 }, (event) => {
    if (event.type === 'checkpoint') checkpoint ||= event.step
    if (event.type === 'progress' && checkpoint > 0) after = event.step
    return after > checkpoint
  })
  const [first = ''] = await eventFiles(out)
  await appendFile(join(out, first), Buffer.from([200, 0, 0, 0, 0, 0, 0, 0, 1, 2]))
  await collect({ out, resume: true })
  const files = await eventFiles(out)
  t.is(files.length, 2)
  const curves = await read<Curves>(out)
  t.deepEqual(trained(curves), await curvesOfCsv(out))
})

readBack('rows after the checkpoint are void once a run goes on from it', async (t) => {
  const out = await temporaryFolder()
  const killed = await EventFile.create(out)
  for (const step of [10, 20, 30]) killed.add(step, { 'train/loss': step })
  await killed.close()
  const resumed = await EventFile.create(out, 20)
  resumed.add(30, { 'train/loss': -30 })
  await resumed.close()
  const curves = await read<Curves>(out)
  t.deepEqual(curves, { 'train/loss': [[10, 10], [20, 20], [30, -30]] }) // prettier-ignore
})

readBack('an evaluation of a run with event files adds its tags at the run’s last step', async (t) => {
  const out = await temporaryFolder()
  await collect({ ...SMALL, out, tensorboard: true })
  const { evaluation } = await evaluate({ run: out, episodes: 2 })
  const curves = await read<Curves>(out)
  const { steps } = JSON.parse(await readFile(join(out, RUN_FILES.result), 'utf8')) as { steps: number }
  t.deepEqual(curves['eval/reward'], [[steps, Math.fround(evaluation.return.mean)]])
  t.deepEqual(curves['eval/cost'], [[steps, Math.fround(evaluation.cost.mean)]])
  t.deepEqual(curves['eval/length'], [[steps, Math.fround(evaluation.length.mean)]])
  t.deepEqual(curves['eval/normalized_cost'], [[steps, Math.fround(evaluation.normalized_cost!.dsrl)]])
})

readBack('steps beyond 32 bits and many values of one event survive', async (t) => {
  const out = await temporaryFolder()
  const events = await EventFile.create(out)
  const many = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`train/${index}`, index / 3]))
  events.add(2 ** 40 + 3, many)
  await events.close()
  const found = await read<ReadEvent[]>(join(out, (await eventFiles(out))[0]!))
  t.is(found[0]?.file_version, 'brain.Event:2')
  t.is(found[1]?.step, 2 ** 40 + 3)
  t.deepEqual(
    found[1]?.values,
    Object.entries(many).map(([tag, value]) => [tag, Math.fround(value)]),
  )
})

besideTfjs('the scalars are those that tfjs-node’s summaryFileWriter writes', async (t) => {
  const points = [1, 2, 300, 70_000].map((step) => ['train/loss', Math.sin(step) / 3, step] as const)
  const theirs = await temporaryFolder()
  const script = `
    const tf = require('@tensorflow/tfjs-node')
    const writer = tf.node.summaryFileWriter(process.argv[1])
    for (const [tag, value, step] of ${JSON.stringify(points)}) writer.scalar(tag, value, step)
    writer.flush()`
  await run(process.execPath, ['-e', script, theirs], { cwd: RUNTIMES })
  const ours = await temporaryFolder()
  const events = await EventFile.create(ours)
  for (const [tag, value, step] of points) events.add(step, { [tag]: value })
  await events.close()
  const [a, b] = await Promise.all(
    [ours, theirs].map(async (folder) => read<ReadEvent[]>(join(folder, (await eventFiles(folder))[0]!))),
  )
  t.deepEqual(a, b)
})
