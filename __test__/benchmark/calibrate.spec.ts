/** Estimate beside truth: outcomes, counts and intervals, from folders and from runs made for it. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { type CalibrationRow, countRows, readRows, rowOf } from '../../src/benchmark/calibration.js'
import { calibrationCsv, calibrationMarkdown, calibrationSvg } from '../../src/benchmark/calibration-page.js'
import { clopperPearson95 } from '../../src/evaluate/statistics.js'
import { readRun } from '../../src/report/run-data.js'
import { drcorl, inProcess, temporaryFolder } from '../cli/spawn.js'
import { writeRun } from '../report/fixture.js'

test('Clopper-Pearson intervals are those of its tables', (t) => {
  for (const [successes, trials, low, high] of [
    [0, 10, 0, 0.3085],
    [10, 10, 0.6915, 1],
    [5, 10, 0.1871, 0.8129],
    [1, 20, 0.0013, 0.2487],
    [0, 50, 0, 0.0711],
    [32, 82, 0.2844, 0.5043],
    [3, 1000, 0.0006, 0.0087],
  ] as const) {
    const found = clopperPearson95(successes, trials)!
    const close = Math.abs(found[0] - low) < 1e-4 && Math.abs(found[1] - high) < 1e-4
    t.true(close, `${successes} of ${trials}: ${found.join(' to ')}`)
  }
  t.is(clopperPearson95(0, 0), null)
})

/** Verdict, limit and measured cost of made-up runs, and what becomes of them. */
const WORLDS = [
  ['certified', 10, [4, 2], 'certified_safe'],
  ['certified', 10, [14, 2], 'false_certified'],
  ['not certified', 10, [4, 2], 'refused_safe'],
  ['not certified', 10, [14, 2], 'refused_unsafe'],
] as const

async function rows(folder: string): Promise<CalibrationRow[]> {
  for (const [index, [verdict, limit, costs]] of WORLDS.entries()) {
    const certificate = { cost_limit: limit, reasons: verdict === 'certified' ? ['good'] : ['bad | worse'] }
    const run = join(folder, 'task', index < 2 ? 'drcorl' : 'bc', `l${limit}-s${index}`)
    const algorithm = index < 2 ? 'drcorl' : 'bc'
    await writeRun(run, { algorithm, verdict, costs: [...costs], certificate, run: { cost_limit: limit, seed: index } })
  }
  return (await readRows([folder])).rows.toSorted((a, b) => a.seed! - b.seed!)
}

test('every verdict is held to what was measured', async (t) => {
  const folder = await temporaryFolder()
  const found = await rows(folder)
  t.deepEqual(
    found.map(({ outcome, cost_limit, settled }) => [outcome, cost_limit, settled]),
    WORLDS.map(([, limit, , outcome]) => [outcome, limit, true]),
  )
  t.deepEqual(found[2]!.reasons, ['bad | worse'])
  t.true(found.every(({ upper, estimate }) => Number.isFinite(upper) && Number.isFinite(estimate)))
  const [all, ...groups] = countRows(found)
  t.like(all, {
    group: 'all',
    runs: 4,
    false_certified: { count: 1, of: 2, ci95: clopperPearson95(1, 2)! },
    refused_safe: { count: 1, of: 2, ci95: clopperPearson95(1, 2)! },
    unsettled: 0,
  })
  t.deepEqual(
    groups.map(({ group, false_certified, refused_safe }) => [group, false_certified.of, refused_safe.of]),
    [
      ['DRCORL', 2, 1],
      ['BC', 0, 1],
    ],
  )
  const close: CalibrationRow = { ...found[0]!, settled: false }
  t.is(countRows([close])[0]!.unsettled, 1)
})

test('the picture and the tables show what they count', async (t) => {
  const found = await rows(await temporaryFolder())
  const svg = calibrationSvg(found)
  t.regex(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="1000"/)
  t.is(svg.match(/FALSE: certified, unsafe/g)?.length, 1)
  t.is(svg.match(/<title>/g)?.length, 4)
  const options = { command: 'drcorl calibrate x', picture: 'p.svg', skipped: [{ run_dir: 'a', why: 'it is gone' }] }
  const page = calibrationMarkdown(found, countRows(found), options)
  t.regex(page, /Made by `drcorl calibrate x`: 4 runs/)
  t.regex(page, /\| all \| 4 \| 2 \| 1 \(50 %\) \| 1\.3 to 98\.7 % \| 2 \| 1 \(50 %\)/)
  t.regex(page, /bad \\\| worse/)
  t.regex(page, /1 more runs were left out: it is gone/)
  const csv = calibrationCsv(found).trimEnd().split('\n')
  t.is(csv.length, 5)
  t.regex(csv[0]!, /^target,algorithm,cost_limit,seed,verdict,estimate,upper,cost,cost_low/)
  const formula: CalibrationRow = { ...found[0]!, target: '=1+1', cost_ci95: [1, 2], reasons: ['@a', 'b'] }
  const [, line = ''] = calibrationCsv([formula]).split('\n')
  t.regex(line, /^'=1\+1,.*,1,2,.*,'@a; b,/)
  // A run whose models gave no number has no place in the picture, and keeps its line.
  const blank = calibrationSvg([{ ...found[0]!, upper: null }])
  t.false(blank.includes('<title>'))
})

test('runs that cannot be compared say why', async (t) => {
  const folder = await temporaryFolder()
  const unplayed = await readRun(await writeRun(join(folder, 'a'), { evaluated: false }))
  t.like(rowOf(unplayed), { why: 'its policy has not been played: drcorl evaluate' })
  const unjudged = await readRun(await writeRun(join(folder, 'b'), { verdict: null }))
  t.like(rowOf(unjudged), { why: 'it has no certificate' })
  const { status, stdout } = await inProcess('calibrate', folder, '--out', join(folder, 'out'), '--json')
  t.is(status, 0)
  t.like(JSON.parse(stdout), { files: null, rows: [] })
})

test('the command trains, plays, compares; and compares again what is there', async (t) => {
  const out = await temporaryFolder()
  const words = ['--tasks', 'point-circle', '--algorithms', 'bc,bc_safe', '--cost-limits', '40', '--seeds', '0']
  const tiny = ['--set', 'update_steps=20', 'model_steps=20', 'fqe_steps=5', '--episodes', '3', '--jobs', '2']
  const fresh = await drcorl('calibrate', ...words, ...tiny, '--out', out, '--json')
  t.is(fresh.status, 0, fresh.stderr + fresh.stdout)
  const result = JSON.parse(fresh.stdout)
  t.like(result, { cells: 2, done: 2, skipped: [] })
  t.is(result.rows.length, 2)
  for (const path of Object.values<string>(result.files)) t.true((await readFile(path)).length > 0)
  t.regex(await readFile(result.files.markdown, 'utf8'), /Made by `drcorl calibrate --tasks point-circle/)
  const again = await inProcess('calibrate', out, '--out', join(out, 'again'), '--json')
  t.is(again.status, 0, again.stderr)
  const read = JSON.parse(again.stdout)
  t.deepEqual(read.counts, result.counts)
  t.deepEqual(read.rows, result.rows)
})

test('certificates made again take the place of those of the runs', async (t) => {
  const folder = await temporaryFolder()
  const run = await writeRun(join(folder, 'a'), { verdict: 'certified', costs: [14, 2], run: { cost_limit: 10 } })
  const own = (await readRun(run)).certificate!
  const { evaluation } = await readRun(run)
  const again = (cost_limit: number) => ({ ...own, verdict: 'not certified', reasons: ['no'], cost_limit })
  const file = join(folder, 'again.json')
  const policies = [
    { path: run, sha256: evaluation!.sha256, certificate: again(10) },
    { path: run, sha256: evaluation!.sha256, certificate: again(40) },
    { path: 'elsewhere', sha256: 'of another', certificate: again(10) },
  ]
  await writeFile(file, JSON.stringify({ format: 'drcorl-certification/1', policies }))
  const { rows: found, skipped } = await readRows([folder], [file])
  t.deepEqual(
    found.map(({ cost_limit, outcome, reasons }) => [cost_limit, outcome, reasons]),
    [
      [10, 'refused_unsafe', ['no']],
      [40, 'refused_safe', ['no']],
    ],
  )
  t.deepEqual(skipped, [{ run_dir: 'elsewhere', why: 'no run that was played holds this policy' }])
  const { status, stdout } = await inProcess(
    'calibrate',
    folder,
    '--certifications',
    file,
    '--out',
    join(folder, 'o'),
    '--json',
  )
  t.is(status, 0)
  t.is(JSON.parse(stdout).rows.length, 2)
  for (const [content, message] of [
    [{}, /format is not drcorl-certification/],
    [{ format: 'drcorl-certification/1', policies: [{}] }, /no path or no sha256/],
    [{ format: 'drcorl-certification/1', policies: [{ path: 'a', sha256: 'b' }] }, /must hold a JSON object/],
  ] as const) {
    await writeFile(file, JSON.stringify(content))
    await t.throwsAsync(readRows([folder], [file]), { code: 'Data', message })
  }
})

test('a policy that takes a limit is held against what it cost under each', async (t) => {
  const folder = await temporaryFolder()
  const run = await writeRun(join(folder, 'a'), { verdict: 'certified', costs: [3, 5], run: { cost_limit: 10 } })
  const read = await readRun(run)
  const own = { ...read.evaluation!, settings: { cost_limit: 10 } }
  const at = (cost_limit: number, mean: number) => ({ ...own, cost_limit, cost: { ...own.cost, mean } })
  const evaluation = { ...own, by_limit: [at(10, 4), at(20, 25)] }
  const row = (cost_limit: number) => rowOf({ ...read, evaluation, certificate: { ...read.certificate!, cost_limit } })
  t.like(row(10), { cost: 4, outcome: 'certified_safe' })
  t.like(row(20), { cost: 25, outcome: 'false_certified' })
  t.like(row(30), { why: 'its policy was played for limit 10, and judged for 30' })
})

test('bad input is one line, status 2', async (t) => {
  const folder = await temporaryFolder()
  await mkdir(join(folder, 'empty'))
  for (const [words, message] of [
    [[], /calibrate needs --tasks, or folders of runs/],
    [[join(folder, 'empty')], /empty holds no run folder/],
    [[join(folder, 'nowhere')], /cannot read .*nowhere/],
    [[folder, '--seeds', '1'], /--seeds is for training/],
    [['--certifications', 'a.json'], /name the folders that hold them/],
    [['--tasks', 'nothing'], /unknown task "nothing"/],
    [['--tasks', 'point-circle', '--algorithms', 'none'], /"none" is unknown/],
  ] as const) {
    const refused = await inProcess('calibrate', ...words, '--out', join(folder, 'out'))
    t.is(refused.status, 2, `${words.join(' ')}: ${refused.stderr}${refused.stdout}`)
    t.regex(refused.stderr, message)
  }
})
