/** The protocol of the paper's Table 1: tasks, limits, seeds, one budget, the ledger, the published numbers. */
import { readFile, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { besideTable } from '../../src/benchmark/beside.js'
import { scaledSteps } from '../../src/benchmark/budget.js'
import { table1Protocol } from '../../src/benchmark/protocol.js'
import { published } from '../../src/benchmark/published.js'
import type { Score } from '../../src/benchmark/summary.js'
import { loadSchema } from '../../src/config/schema.js'
import { TASKS } from '../../src/data/tasks.js'
import { readTrainedNetworks } from '../../src/train/checkpoint.js'
import { drcorl, inProcess, temporaryFolder } from '../cli/spawn.js'
import { installedPython } from '../envs/real.js'
import { serialIf } from '../test-if.js'

const python = await installedPython()
const { table_1: table, figure_2a: times, figure_2b: limits } = published()
const names = Object.keys(loadSchema().algorithms)

test('what the paper printed is of tasks and algorithms that exist', (t) => {
  const tasks = Object.keys(table.tasks)
  t.is(tasks.length, 13)
  for (const task of [...tasks, ...Object.keys(table.limits)])
    t.true(
      TASKS.some((one) => one.task === task),
      task,
    )
  const printed = [
    ...Object.values(table.tasks).flatMap(Object.keys),
    ...Object.keys(times.algorithms),
    ...limits.algorithms,
  ]
  for (const name of printed) t.true(names.includes(name), name)
  // Means over the 13 tasks, from the table as printed.
  const mean = (name: string, of: 0 | 1): string =>
    (Object.values(table.tasks).reduce((sum, row) => sum + row[name]![of], 0) / 13).toFixed(3)
  t.deepEqual([mean('drcorl', 0), mean('drcorl', 1)], ['0.796', '0.344'])
  t.deepEqual([mean('bc_safe', 0), mean('cpq', 0)], ['0.598', '0.392'])
})

test('a budget scales every count of updates alike, and none of the models around', (t) => {
  for (const name of names) {
    const preset = Object.keys(loadSchema().algorithms[name]!.presets)[0]!
    const [half, whole] = [scaledSteps({ algorithm: name, preset }, 0.5), scaledSteps({ algorithm: name, preset }, 2)]
    t.true(Object.keys(half).length > 0, name)
    for (const [step, count] of Object.entries(half)) {
      t.true(step.endsWith('_steps'))
      t.true(Math.abs(whole[step]! - 4 * count) <= 4, `${name} ${step}`)
    }
    t.false('model_steps' in half || 'fqe_steps' in half)
    t.true(Object.values(scaledSteps({ algorithm: name, preset }, 1e-9)).every((count) => count === 1))
    t.deepEqual(scaledSteps({ algorithm: name, preset }, 1), {})
  }
})

test('a budget scales what a preset has for the task', (t) => {
  const steps = (task?: string): unknown =>
    scaledSteps({ algorithm: 'drcorl', preset: 'release', task }, 0.5)['adaptation_steps']
  t.deepEqual([steps(), steps('Walker2dVelocity')], [1000, 4000])
})

test('seeds, limits and presets are those of the protocol', async (t) => {
  const { targets, seeds, preset, absent } = await table1Protocol(['point-circle'])
  t.deepEqual([targets[0]!.cost_limits, seeds, absent], [[10], [0, 1, 2, 3, 4], []])
  t.regex(preset, /\bfixed,paper$/)
})

async function dataOf(...files: string[]): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'drcorl-table1-'))
  for (const file of files) await writeFile(join(folder, file), '')
  Object.assign(process.env, { DRCORL_DATA: folder, XDG_CACHE_HOME: folder })
  delete process.env['DSRL_DATASET_DIR']
}

test.serial('without any data it says what to fetch', async (t) => {
  await dataOf()
  await t.throwsAsync(table1Protocol(undefined), { code: 'Io', message: /none of the table's tasks .* CarGoal1/ })
})

const playable = serialIf(python !== undefined, 'the environments are not installed: drcorl envs install')
playable('tasks without data are left out, and told', async (t) => {
  await dataOf('SafetyCarRun-v0-40-651.hdf5', 'SafetyBallCircle-v0-80-886.hdf5')
  const { targets, absent } = await table1Protocol(undefined)
  t.deepEqual(
    targets.map(({ name, cost_limits }) => [name, cost_limits]),
    [
      ['CarRun', [30]],
      ['BallCircle', [10]],
    ],
  )
  t.is(absent.length, 11)
})

test('the published table stands beside ours, marked, whichever side lacks a number', (t) => {
  const one: Score = {
    target: 'BallCircle',
    algorithm: 'drcorl',
    label: 'DRCORL',
    policy: 'used',
    judge: 'environment',
    runs: 3,
    reward: 0.7,
    reward_std: null,
    cost: 0.9,
    cost_std: null,
    return: 1,
    safe: true,
    best: true,
    certified: 0,
    certified_safe: 0,
    update_steps: null,
    training_seconds: null,
    training_seconds_alone: null,
  }
  const { header, rows } = besideTable([one, { ...one, algorithm: 'trebi', safe: false }])
  t.is(header.filter((name) => name.startsWith('PAPER')).length, 2)
  t.is(rows.length, 10)
  t.deepEqual(rows[0], ['BallCircle', 'DRCORL', '0.70', '0.90 safe', '3', '0.78', '0.00 safe'])
  t.deepEqual(rows[1]!.slice(2), ['0.70', '0.90', '3', '–', '–'])
  t.deepEqual(rows.find(([, name]) => name === 'BC-Safe')!.slice(2), ['–', '–', '–', '0.55', '0.93 safe'])
})

test.serial('the command runs it at a budget, with the ledger', async (t) => {
  const out = await temporaryFolder()
  const small = ['model_steps=20', 'fqe_steps=5', 'bc.actor_hidden=8,8', 'bc_safe.actor_hidden=8,8']
  const words = ['--protocol', 'table1', '--tasks', 'point-circle', '--algorithms', 'bc,bc_safe', '--seeds', '0']
  const more = ['--budget', '0.0002', '--beside', 'paper', '--episodes', '2', '--jobs', '2', '--json', '--out', out]
  const { status, stdout, stderr } = await drcorl('benchmark', ...words, ...more, '--set', ...small)
  t.is(status, 0, stderr + stdout)
  const { ledger, scores, files, absent } = JSON.parse(stdout)
  t.deepEqual([scores.length, absent], [2, []])
  t.like(ledger[0], { algorithm: 'bc', preset: 'fixed', updates: 20, rows: 20 * 512, environment_steps: 0 })
  // 8 observations, two layers of 8, 2 actions.
  t.deepEqual(ledger[0].networks, [{ name: 'policy', parameters: 8 * 8 + 8 + 8 * 8 + 8 + 8 * 2 + 2 }])
  const page = await readFile(files.markdown, 'utf8')
  t.regex(page, /## Step parity/)
  t.regex(page, /## Beside the published table/)
  t.regex(page, /--protocol table1 --budget 0.0002 --beside paper/)
  t.regex(await readFile(files.report, 'utf8'), /Step parity/)
  t.is((await readFile(files.ledger, 'utf8')).trimEnd().split('\n').length, 3)
})

test('bad input is one line, status 2', async (t) => {
  for (const [words, message] of [
    [['--protocol', 'table2'], /Choices: "table1"/],
    [['--protocol', 'table1', '--budget', '0'], /--budget 0: give a number above 0/],
    [['--protocol', 'table1', '--dataset', 'x.hdf5'], /mutually exclusive/],
  ] as const) {
    const tasks = words.includes('--dataset' as never) ? [] : ['--tasks', 'point-circle']
    const { status, stderr } = await inProcess('benchmark', ...words, ...tasks, '--out', '/dev/null/x')
    t.is(status, 2, words.join(' '))
    t.regex(stderr, message)
  }
  t.deepEqual(await readTrainedNetworks('/nowhere'), [])
})
