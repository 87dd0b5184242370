/** The command from its own process: worker processes, tables, repetition, refusals, Ctrl-C. */
import { readFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { RUN_FILES, readRecord } from '../../src/train/run-folder.js'
import { drcorl, start, temporaryFolder } from '../cli/spawn.js'
import { withData } from '../data-files.js'
import { smallConfig } from '../small.js'

const TINY = ['--set', 'update_steps=20', 'model_steps=20', '--set', 'fqe_steps=5', '--episodes', '3', '--json']
const benchmark = (out: string, ...more: string[]): string[] => [
  'benchmark',
  '--tasks',
  'point-circle',
  '--cost-limits',
  '40',
  '--seeds',
  '0',
  '--jobs',
  '2',
  '--out',
  out,
  ...TINY,
  ...more,
]

test('trains and judges side by side, keeps what is done, refuses a folder of other parameters', async (t) => {
  const out = await temporaryFolder()
  const first = await drcorl(...benchmark(out, '--algorithms', 'bc,bc_safe'))
  t.is(first.status, 0, first.stderr)
  const result = JSON.parse(first.stdout)
  t.is(result.done, 2)
  t.deepEqual(
    result.scores.map(({ algorithm, judge, runs, update_steps }: Record<string, unknown>) => [
      algorithm,
      judge,
      runs,
      update_steps,
    ]),
    [
      ['bc', 'environment', 1, 20],
      ['bc_safe', 'environment', 1, 20],
    ],
  )
  t.true(result.measurements.every((one: Record<string, unknown>) => one['training_environment_steps'] === 0))
  for (const path of Object.values<string>(result.files)) t.true((await stat(path)).size > 0)
  t.regex(await readFile(result.files.report, 'utf8'), /Cost limit 40/)

  // The models behind the certificate are made once, or twice to the same bits by two that began together.
  const shared = (await readdir(join(out, 'point-circle'))).filter((name) => name.startsWith('audit-'))
  t.is(shared.length, 1)
  const limit30 = benchmark(out, '--algorithms', 'bc').map((word) => (word === '40' ? '30' : word))
  const third = await drcorl(...limit30)
  t.is(third.status, 0, third.stderr)
  const taken = JSON.parse(await readFile(join(out, 'point-circle', 'bc', 'l30-s0', RUN_FILES.config), 'utf8'))
  t.is(taken.audit_models.file, shared[0])
  const { measurements, ledger } = JSON.parse(third.stdout)
  t.is(measurements[0].reused_seconds, taken.audit_models.seconds)
  t.is(ledger[0].seconds, measurements[0].training_seconds + taken.audit_models.seconds)

  const policy = join(out, 'point-circle', 'bc', 'l40-s0', RUN_FILES.policy)
  const before = (await stat(policy)).mtimeMs
  const again = await drcorl(...benchmark(out, '--algorithms', 'bc,bc_safe'))
  t.is(again.status, 0)
  t.regex(again.stderr, /bc limit 40 seed 0: kept/)
  t.is((await stat(policy)).mtimeMs, before)
  t.deepEqual(JSON.parse(again.stdout).scores, result.scores)

  const other = await drcorl(...benchmark(out, '--algorithms', 'bc', '--set', 'batch_size=7'))
  t.is(other.status, 2)
  t.regex(JSON.parse(other.stdout).failures[0].message, /batch_size = 7 differs from the run in/)
})

test('a cell that fails leaves the others', async (t) => {
  const out = await temporaryFolder()
  const finished = await drcorl(...benchmark(out, '--algorithms', 'bc,bc_safe', '--set', 'bc_safe.update_steps=0'))
  const result = JSON.parse(finished.stdout)
  t.is(finished.status, 1)
  t.is(result.done, 1)
  t.is(result.failures[0].code, 'Config')
  t.regex(result.failures[0].message, /update_steps/)
  t.is(result.error.message, '1 of 2 runs failed')
})

const MODEL_JUDGES = 'a dataset alone is judged by model rollouts, and the table says so'
withData('SafetyBallCircle-v0-80-800.hdf5', MODEL_JUDGES, async (t, ballCircle) => {
  const out = await temporaryFolder()
  const words = ['--dataset', ballCircle, '--cost-limits', '10', '--seeds', '0', '--algorithms', 'bc', '--out', out]
  const finished = await drcorl('benchmark', ...words, ...TINY)
  t.is(finished.status, 0, finished.stderr)
  const { scores, measurements, files } = JSON.parse(finished.stdout)
  t.is(scores[0].judge, 'model')
  t.is(measurements[0].episodes, null)
  t.true(Number.isFinite(measurements[0].fqe_cost))
  t.regex(await readFile(files.markdown, 'utf8'), /no environment was used/)
})

test('Ctrl-C checkpoints the running cells; the same command goes on', async (t) => {
  const out = await temporaryFolder()
  const words = benchmark(out, '--algorithms', 'bc', '--set', 'update_steps=200000')
  const run = start(words)
  await run.waitFor(/cloning/)
  run.child.kill('SIGINT')
  const stopped = await run.finished
  t.is(stopped.status, 130, stopped.stderr)
  t.is(JSON.parse(stopped.stdout).error.code, 'Cancelled')
  await stat(join(out, 'point-circle', 'bc', 'l40-s0', RUN_FILES.checkpoint))
  t.regex(stopped.stderr, /bc limit 40 seed 0: stopped/)
})

test('refused without starting anything', async (t) => {
  const out = await temporaryFolder()
  for (const [words, message] of [
    [['benchmark'], /needs --tasks or --dataset/],
    [['benchmark', '--dataset', 'x.hdf5'], /give --cost-limits/],
    [['benchmark', '--tasks', 'point-circle', '--seeds', '0,x'], /"x" is not a number/],
    [['benchmark', '--tasks', 'point-circle', '--jobs', '0'], /--jobs 0 must be/],
    [['benchmark', '--tasks', 'point-circle,'], /an entry is empty/],
  ] as const) {
    const finished = await drcorl(...words, '--out', join(out, 'none'))
    t.is(finished.status, 2)
    t.regex(finished.stderr, message)
    await t.throwsAsync(stat(join(out, 'none')))
  }
})

const SHARED = smallConfig('drcorl', { audit_members: 2 })
const SHARED_SET = Object.entries(SHARED).map(([name, value]) => `${name}=${String(value)}`)
const WORDS = 'benchmark --tasks point-circle --algorithms drcorl --seeds 0 --jobs 2 --episodes 2 --preset none --json'
const limits = (out: string, limit: string): string[] =>
  WORDS.split(' ').concat('--cost-limits', limit, '--out', out, '--set', SHARED_SET)

test('several limits share one pretraining, and each ends as it would alone', async (t) => {
  const [together, apart] = [await temporaryFolder(), await temporaryFolder()]
  const all = await drcorl(...limits(together, '10,20,40'))
  t.is(all.status, 0, all.stderr + all.stdout)
  const { scores, measurements, files } = JSON.parse(all.stdout)
  const at = (out: string, limit: number): string => join(out, 'point-circle', 'drcorl', `l${limit}-s0`)
  const records = await Promise.all([10, 20, 40].map((limit) => readRecord(at(together, limit))))
  t.deepEqual(
    records.map(({ reused }) => reused?.run),
    [undefined, 'l10-s0', 'l10-s0'],
  )
  for (const limit of [20, 40]) {
    const alone = await drcorl(...limits(apart, String(limit)))
    t.is(alone.status, 0, alone.stderr)
    for (const file of [RUN_FILES.checkpoint, RUN_FILES.policy, RUN_FILES.certificate, RUN_FILES.episodes]) {
      t.deepEqual(await readFile(join(at(together, limit), file)), await readFile(join(at(apart, limit), file)), file)
    }
  }
  const used = measurements.filter(({ policy }: { policy: string }) => policy === 'used')
  t.deepEqual(
    used.map((one: Record<string, unknown>) => one['reused_seconds'] !== null),
    [false, true, true],
  )
  const [score] = scores
  t.true(score.training_seconds_alone > score.training_seconds)
  t.regex(await readFile(files.markdown, 'utf8'), /\d s \(\d+ s alone\)/)
})
