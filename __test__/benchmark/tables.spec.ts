import test from 'ava'
import type { RunPhase } from '../../src/config/results.js'
import { type FinishedCell, type Measurement, measure, score } from '../../src/benchmark/summary.js'
import { csv, gridOf, latex, markdown, terminalTables } from '../../src/benchmark/tables.js'

const one = (over: Partial<Measurement>): Measurement => ({
  target: 'A',
  algorithm: 'x',
  label: 'X',
  policy: 'used',
  cost_limit: 10,
  seed: 0,
  judge: 'environment',
  return: 100,
  cost: 5,
  model_return: 90,
  model_cost: 6,
  model_cost_upper: 7,
  fqe_return: null,
  fqe_cost: null,
  normalized_reward: 0.5,
  normalized_cost: 0.5,
  within_limit: 20,
  episodes: 20,
  verdict: 'certified',
  update_steps: 100,
  training_seconds: 2,
  reused_seconds: null,
  training_environment_steps: 0,
  ...over,
})

const MEASURED = [
  one({ normalized_cost: 0.5 }),
  one({ normalized_cost: 1.1, cost_limit: 20, normalized_reward: 0.7 }),
  one({ algorithm: 'y_&', label: 'Y & Z', normalized_reward: 0.9, normalized_cost: 1.2, verdict: 'not certified' }),
  one({ algorithm: 'z', label: 'Z', normalized_reward: 0.2, normalized_cost: 0 }),
  one({ algorithm: 'z', label: 'Z', policy: 'selected', normalized_reward: 0.95, normalized_cost: 0 }),
  one({ target: 'B', normalized_reward: 0.1, normalized_cost: 0.9 }),
  one({ target: 'B', algorithm: 'z', label: 'Z', normalized_reward: 0.3, normalized_cost: 0.2 }),
]

test('runs are normalised by their own limit first, then averaged over limits and seeds', (t) => {
  const x = score(MEASURED).find((found) => found.target === 'A' && found.algorithm === 'x')!
  t.is(x.runs, 2)
  t.true(Math.abs(x.reward! - 0.6) < 1e-12)
  t.true(Math.abs(x.cost - 0.8) < 1e-12)
  t.true(x.safe, 'one run over its limit does not decide, the mean does')
  t.is(x.certified, 2)
  t.is(x.certified_safe, 2)
})

test('best is the highest reward among the safe policies to use, never an unsafe one and never a candidate', (t) => {
  const best = score(MEASURED).filter((found) => found.best)
  t.deepEqual(
    best.map(({ target, algorithm, policy }) => [target, algorithm, policy]),
    [
      ['A', 'x', 'used'],
      ['B', 'z', 'used'],
    ],
  )
})

test('the average exists only for an algorithm with a result on every target', (t) => {
  const grid = gridOf(score(MEASURED))
  t.deepEqual(grid.targets, ['A', 'B'])
  t.is(grid.average('y_&'), undefined)
  t.true(Math.abs(grid.average('z')!.reward! - 0.25) < 1e-12)
})

test('Markdown and LaTeX: bold safe, best marked, missing cells, names escaped', (t) => {
  const scores = score(MEASURED)
  const md = markdown(scores, MEASURED, '# T').split('\n')
  t.true(md.includes('| A | **0.60*** | **0.80** | 0.90 | 1.20 | **0.20** | **0.00** |'))
  t.true(md.includes('| B | **0.10** | **0.90** | – | – | **0.30*** | **0.20** |'))
  t.true(md.includes('| Average | **0.35** | **0.85** | – | – | **0.25** | **0.10** |'))
  t.true(md.includes('| A | X | 10 | 0 | certified | 6.00 (7.00) | 5.00 | 20/20 | 90.0 | 100.0 | 2 s |'))
  const tex = latex(scores)
  t.true(tex.includes('\\multicolumn{2}{c}{Y \\& Z}'))
  t.true(tex.includes('A & \\underline{\\textbf{0.60}} & \\textbf{0.80} & 0.90 & 1.20'))
})

test('the CSV holds one line a run and policy', (t) => {
  const lines = csv(MEASURED).trimEnd().split('\n')
  t.is(lines.length, MEASURED.length + 1)
  t.is(lines[1], 'A,x,used,10,0,environment,100,5,90,6,7,,,0.5,0.5,20,20,certified,100,2,,0')
})

test('text that a spreadsheet would take for a formula is quoted, numbers are not', (t) => {
  const formula = one({ target: '=HYPERLINK("x")', algorithm: '@a', label: '+b', policy: '-c' as never, return: -1 })
  const [, line = ''] = csv([formula]).split('\n')
  t.true(line.startsWith(`"'=HYPERLINK(""x"")",'@a,'-c,`), line)
  t.notRegex(line, /(^|,)"?[=+@]/)
})

/** What a run's folder says, in an environment's absence. */
function offline(mean: number, upper: number, verdict: string, limit = 10): Measurement {
  const model_rollout = { cost: { mean, std: 1, upper }, return: { mean: 5, std: 0 } }
  const certificate = { verdict, estimates: { model_rollout }, policies: { selected: { model_rollout } } }
  const run = { record: { task: null }, certificate, evaluation: null, result: null }
  const cell = { target: { name: 'A', env: null }, algorithm: 'x', cost_limit: limit, seed: 0 }
  return measure({ cell, run } as unknown as FinishedCell)[0]!
}

test('without an environment the upper cost is judged, and only certificates make a policy safe', (t) => {
  const cases: [measured: Measurement, cost: number, safe: string][] = [
    // The mean is within the limit, what the certificate goes by is not.
    [offline(9, 31, 'not certified'), 3.1, 'not certified'],
    [offline(3, 9, 'not certified'), 0.9, 'not certified'],
    [offline(3, 7, 'certified'), 0.7, 'certified'],
  ]
  for (const [measured, cost, safe] of cases) {
    t.like(measured, { judge: 'model', normalized_cost: cost, cost: 10 * cost })
    const [one] = score([measured])
    t.like(one, { cost, safe: safe === 'certified', best: safe === 'certified' })
    const [, row = ''] = terminalTables([one!]).split('\n').slice(2)
    t.regex(row, new RegExp(` ${safe} `))
    t.notRegex(row, / yes /)
  }
  const mixed = score([offline(3, 7, 'certified'), offline(3, 7, 'not certified')])
  t.like(mixed[0], { cost: 0.7, certified: 1, safe: false })
  t.regex(terminalTables(mixed), /the cost is the upper value .* every run is certified/)
})

test('a table judged by models says so', (t) => {
  const judged = score([one({ judge: 'model', normalized_reward: null })])
  t.regex(terminalTables(judged), /no environment was used/)
  t.is(judged[0]!.reward, null)
})

/** Updates of a run with these phases. */
function updates(phases: Partial<RunPhase>[]): number | null | undefined {
  const means = { return: { mean: 1 }, cost: { mean: 2 } }
  const run = { record: { task: null }, certificate: null, evaluation: means, result: { phases } }
  const cell = { target: { name: 'A', env: 'point-circle' }, algorithm: 'x', cost_limit: 10, seed: 0 }
  return measure({ cell, run } as unknown as FinishedCell)[0]?.update_steps
}

test('updates are the steps of the algorithm, by the stage of a phase and not by its name', (t) => {
  const phases: Omit<RunPhase, 'left_out'>[] = [
    { name: 'model', steps: 5, stage: 'model' },
    { name: 'audit', steps: 30, stage: 'algorithm' },
    { name: 'learning', steps: 40, stage: 'algorithm' },
    { name: 'audit', steps: 7, stage: 'audit' },
    { name: 'certificate', steps: 3, stage: 'certificate' },
  ]
  t.is(updates(phases), 70)
  t.is(updates(phases.map(({ name, steps }) => ({ name, steps }))), 40, 'an older run says no stage')
})
