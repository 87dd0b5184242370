import test from 'ava'
import { planCells } from '../../src/benchmark/plan.js'
import { taskTargets } from '../../src/benchmark/targets.js'

const TARGETS = await taskTargets(['point-circle'])

const plan = (over: Partial<Parameters<typeof planCells>[0]>): ReturnType<typeof planCells> =>
  planCells({ targets: TARGETS, algorithms: ['bc', 'drcorl'], seeds: [0, 1], out: 'o', ...over })

test('every target, algorithm, limit and seed is a cell with a folder of its own', (t) => {
  const cells = plan({ cost_limits: [10, 20] })
  t.is(cells.length, 8)
  t.is(new Set(cells.map(({ folder }) => folder)).size, 8)
  t.is(cells[0]!.folder, 'o/point-circle/bc/l10-s0')
  t.deepEqual(cells.at(-1)!.config, { cost_limit: 20, seed: 1 })
})

test('parameters go to the algorithms that have them', (t) => {
  const cells = plan({ seeds: [0], set: ['update_steps=7', 'drcorl.gate_interval=3', 'fqe_steps=5'] })
  t.deepEqual(cells[0]!.config, { update_steps: 7, fqe_steps: 5, cost_limit: 10, seed: 0 })
  t.deepEqual(cells[1]!.config, { gate_interval: 3, fqe_steps: 5, cost_limit: 10, seed: 0 })
})

test('a preset reaches the algorithms that have it, the others keep their first', (t) => {
  t.deepEqual(
    plan({ seeds: [0], preset: 'paper' }).map(({ preset }) => preset),
    ['fixed', 'paper'],
  )
})

for (const [name, over, message] of [
  ['algorithm', { algorithms: ['nope'] }, /"nope" is unknown; known: .*drcorl/],
  ['preset', { preset: 'nope' }, /--preset: "nope" is unknown/],
  ['parameter', { set: ['nope=1'] }, /names no parameter of bc, drcorl/],
  ['parameter of another algorithm', { set: ['bc.gate_interval=1'] }, /names no parameter of bc/],
  ['limit by --set', { set: ['cost_limit=1'] }, /names no parameter/],
  ['empty plan', { seeds: [] }, /the benchmark is empty/],
] as const) {
  test(`refused before anything runs: ${name}`, (t) => {
    t.throws(() => plan({ ...over } as Parameters<typeof plan>[0]), { message })
  })
}

test('refused: an unknown task', async (t) => {
  await t.throwsAsync(taskTargets(['Nope']), { message: /unknown task "Nope"/ })
})
