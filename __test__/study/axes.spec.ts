import test from 'ava'
import { planCells } from '../../src/benchmark/plan.js'
import { taskTargets } from '../../src/benchmark/targets.js'
import { algorithmsWith, limitsOf, readAxes, variantsOf } from '../../src/study/axes.js'
import { STUDIES } from '../../src/study/studies.js'

test('texts become axes, and all combinations variants', (t) => {
  const axes = readAxes(['slack_above+slack_below=0.1,0.3', 'actor_hidden=8,8;16,16', 'cost_limit=10,20'])
  t.deepEqual(limitsOf(axes), [10, 20])
  t.deepEqual(
    variantsOf(axes)!.map(({ name }) => name),
    [
      'slack_above+slack_below=0.1 actor_hidden=8,8',
      'slack_above+slack_below=0.1 actor_hidden=16,16',
      'slack_above+slack_below=0.3 actor_hidden=8,8',
      'slack_above+slack_below=0.3 actor_hidden=16,16',
    ],
  )
  t.deepEqual(variantsOf(axes)![3]!.set, ['slack_above=0.3', 'slack_below=0.3', 'actor_hidden=16,16'])
  t.is(variantsOf(readAxes(['cost_limit=10,20'])), undefined)
  t.is(limitsOf(readAxes([])), undefined)
})

for (const [text, message] of [
  [['nothing'], /"nothing" is not of the form NAME=VALUE,VALUE/],
  [['a=1,,2'], /is not of the form/],
  [['a=1,1'], /has 1 twice/],
  [['a=1', 'b+a=1'], /a is varied twice/],
  [['seed=1,2'], /--seeds/],
  [['cost_limit+gamma=1,2'], /cost_limit is an axis of its own/],
  [['cost_limit=1,x'], /"x" is not a number/],
  [['nothing_at_all=1,2'], /no algorithm has all of nothing_at_all/],
] as const) {
  test(`refused: ${text.join(' ')}`, (t) => {
    const call = (): void => {
      const axes = readAxes(text)
      limitsOf(axes)
      algorithmsWith(axes)
    }
    t.throws(call, { code: 'Usage', message })
  })
}

test('every study of the table varies parameters that exist, with values they take', async (t) => {
  const targets = await taskTargets(['point-circle'])
  for (const study of STUDIES) {
    const axes = readAxes(study.vary)
    const algorithms = study.algorithms ?? algorithmsWith(axes)
    const variants = variantsOf(axes)
    const cells = planCells({ targets, algorithms, seeds: [0], variants, cost_limits: limitsOf(axes), out: 'o' })
    t.true(cells.length >= algorithms.length, study.name)
    t.is(new Set(cells.map(({ folder }) => folder)).size, cells.length, study.name)
  }
})

test('a variant reaches the parameters, and the names of folders stay names', async (t) => {
  const targets = await taskTargets(['point-circle'])
  const variants = variantsOf(readAxes(['actor_hidden=8,8;[16,16]']))
  const plan = { targets, algorithms: ['bc'], seeds: [0], out: 'o', watch: { every: 5, episodes: 2 } }
  const cells = planCells({ ...plan, variants })
  t.deepEqual(
    cells.map(({ config }) => config['actor_hidden']),
    [
      [8, 8],
      [16, 16],
    ],
  )
  t.is(cells[0]!.folder, 'o/point-circle/bc/actor_hidden=8,8/l10-s0')
  t.is(cells[1]!.folder, 'o/point-circle/bc/actor_hidden=_16,16_/l10-s0')
  t.deepEqual(cells[0]!.watch, { every: 5, episodes: 2 })
  const lacking = variantsOf(readAxes(['slack_above=0.1']))
  t.throws(() => planCells({ ...plan, variants: lacking }), { message: /--vary "slack_above=0.1" names no parameter/ })
  const blind = { ...plan, targets: [{ ...targets[0]!, env: null }] }
  t.throws(() => planCells(blind), { message: /has no environment to watch policies in/ })
  t.is(planCells({ ...plan, preset: 'osrl,quick' })[0]!.preset, 'osrl')
})
