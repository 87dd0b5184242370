/** The theory on small processes with known answers. The whole check runs in the command's own test. */
import test from 'ava'
import { Random } from '../../src/envs/random.js'
import { adapt } from '../../src/theory/adaptation.js'
import { evaluate, fork, occupancy, randomCmdp, uniformPolicy } from '../../src/theory/cmdp.js'
import { convergence, overIterations, plateau, slope, unbalanced, weights } from '../../src/theory/convergence.js'
import { loadSolver } from '../../src/theory/optimum.js'
import { criticError, run, schedule } from '../../src/theory/runs.js'
import { closeness, instances, mixture, naturalGradient, program } from '../../src/theory/statements.js'
import { inProcess, temporaryFolder } from '../cli/spawn.js'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

const solve = await loadSolver()
const { feasible } = instances(
  [
    [4, 3],
    [6, 2],
  ],
  2,
  0.9,
  0,
  solve,
)

test('values of a process that can be summed by hand', (t) => {
  const cmdp = fork(0.9)
  const short = evaluate(cmdp, Float64Array.of(1, 0, 1, 0))
  t.true(Math.abs(short.reward.value - 10) < 1e-12)
  t.true(Math.abs(short.cost.value - 10) < 1e-12)
  const long = evaluate(cmdp, Float64Array.of(0, 1, 0, 1))
  t.true(Math.abs(long.reward.value - 6) < 1e-12)
  t.true(Math.abs(long.cost.value - 1) < 1e-12)
  const d = occupancy(cmdp, Float64Array.of(0, 1, 0, 1))
  t.deepEqual(
    [...d].map((p) => Number(p.toFixed(12))),
    [0.1, 0.9],
  )
})

test('the optimum keeps the limit exactly where reward and cost want opposite actions', (t) => {
  // A share p of short steps costs (p + 0.1 (1 - p)) / (1 - gamma) and pays (p + 0.6 (1 - p)) / (1 - gamma):
  // p = 1/3 at limit 4.
  const best = solve(fork(0.9))!
  t.true(Math.abs(best.value - 10 * (1 / 3 + 0.6 * (2 / 3))) < 1e-9)
  t.is(program(feasible).verdict, 'holds')
})

test('a limit that no policy keeps has no optimum', (t) => {
  t.is(solve({ ...fork(0.9), cost_limit: 0.9 }), null)
  const drawn = { ...randomCmdp(4, 3, 0.9, new Random(1)), cost_limit: -1 }
  t.is(solve(drawn), null)
})

test('identity, improvement and per-step bound of the natural gradient', (t) => {
  for (const statement of naturalGradient(feasible, 0)) t.is(statement.verdict, 'holds', statement.name)
})

test('Proposition 3.1 in 1,000 pairs', (t) => {
  const { verdict, found } = closeness(feasible, 1000, 0)
  t.is(verdict, 'holds')
  t.true(Number(/([\d.]+) in 1000/.exec(found)![1]) > 0.1, 'pairs that never come near their bound test nothing')
})

test('the cases partition the iterations, and the mixture is worth the mean of its iterates', (t) => {
  t.is(mixture(feasible).verdict, 'holds')
  const { counts } = adapt(feasible[0]!.cmdp, schedule(feasible[0]!.cmdp, 150))
  t.is(
    Object.values(counts).reduce((sum, count) => sum + count, 0),
    150,
  )
})

test('gap and violation fall as 1/sqrt(T) and stay within what the proof allows', async (t) => {
  const iterations = [100, 1000, 10_000]
  const runs = await overIterations(feasible.slice(0, 2), iterations, () => Promise.resolve())
  for (const statement of convergence(runs, iterations)) t.is(statement.verdict, 'holds', statement.name)
})

test('a rate that is not there is not found', (t) => {
  t.is(slope([1, 10, 100], [1, 1, 1]), 0)
  t.true(Math.abs(slope([1, 10, 100], [1, 0.1, 0.01])! + 1) < 1e-12)
  t.is(slope([1, 10], [1, -1]), null)
})

test('wrong critics leave a plateau in proportion, and a run that hides their error breaks the inequality', (t) => {
  const errors = [0, 0.05, 0.2]
  const rows = feasible.map((instance, index) =>
    errors.map((size) => {
      const error = criticError(instance.cmdp, size, new Random(index))
      return run(instance, { ...schedule(instance.cmdp, 500), error }, size)
    }),
  )
  for (const statement of plateau(rows, errors)) t.not(statement.verdict, 'does not hold as printed', statement.name)
  const hidden = feasible.map((instance, index) => {
    const error = criticError(instance.cmdp, 2, new Random(index))
    return run(instance, { ...schedule(instance.cmdp, 500), error }, 0).excess
  })
  t.true(Math.max(...hidden) > 1e-3)
})

test('the weights of conflicting gradients have no bound', (t) => {
  t.is(weights(0.9, 200, solve).verdict, 'does not hold as printed')
  const { weight } = adapt(unbalanced(0.9), { ...schedule(fork(0.9), 50), clip: Number.POSITIVE_INFINITY })
  t.true(weight > 10)
})

test('a state without occupancy gets the uniform policy', (t) => {
  const best = solve(feasible[1]!.cmdp)!
  t.is(best.policy.length, uniformPolicy(feasible[1]!.cmdp).length)
  for (let s = 0; s < 4; s++) {
    t.true(Math.abs(best.policy.subarray(s * 3, s * 3 + 3).reduce((sum, p) => sum + p, 0) - 1) < 1e-9)
  }
})

test('drcorl theory prints a verdict for every statement, twice the same, and writes its page', async (t) => {
  const page = join(await temporaryFolder(), 'theory.html')
  const small = ['--sizes', '4x3', '--instances', '1', '--iterations', '100,1000', '--pairs', '50']
  const first = await inProcess('theory', ...small, '--out', page, '--json')
  t.is(first.status, 0)
  const { statements } = JSON.parse(first.stdout) as { statements: { verdict: string }[] }
  t.is(statements.length, 15)
  t.is(statements.filter(({ verdict }) => verdict === 'does not hold as printed').length, 2)
  const html = await readFile(page, 'utf8')
  t.regex(html, /Proposition 3\.1/)
  t.is(html.match(/<figure>/g)?.length, 4)
  t.is((await inProcess('theory', ...small, '--out', page, '--json')).stdout, first.stdout)
})

for (const [flag, value, pattern] of [
  ['--sizes', '4by3', /not of the form STATESxACTIONS/],
  ['--sizes', '1000x3', /from 2 to 100/],
  ['--iterations', '100,50', /must increase/],
  ['--gamma', '1', /from 0\.1 to 0\.99/],
  ['--critic-error', 'big', /is not a number/],
] as const) {
  test(`${flag} ${value} is refused`, async (t) => {
    const { status, stderr } = await inProcess('theory', flag, value)
    t.is(status, 2)
    t.regex(stderr, pattern)
  })
}
