import test from 'ava'
import { TASKS } from '../../src/data/tasks.js'
import { COST_CONVENTIONS, normalizeCost, normalizeReward } from '../../src/evaluate/score.js'
import { summarize, tQuantile975 } from '../../src/evaluate/statistics.js'

const close = (a: number, b: number): boolean => Math.abs(a - b) < 1e-9

// By hand, limit 0 included.
for (const [cost, limit, dsrl, paper, release] of [
  [5, 10, 0.5, 5.1 / 10.1, 5 / 10.1],
  [10, 10, 1, 1, 10 / 10.1],
  [24.1, 10, 2.41, 24.2 / 10.1, 24.1 / 10.1],
  [0, 10, 0, 0.1 / 10.1, 0],
  [0, 0, 1, 1, 0],
  [3, 0, 4, 31, 30],
  [0.5, 1, 0.5, 0.6 / 1.1, 0.5 / 1.1],
] as const) {
  test(`cost ${cost} at limit ${limit} by the three conventions`, (t) => {
    const [a, b, c] = COST_CONVENTIONS.map((convention) => normalizeCost(cost, limit, convention))
    t.true(close(a!, dsrl), `dsrl ${a}`)
    t.true(close(b!, paper), `paper ${b}`)
    t.true(close(c!, release), `release ${c}`)
  })
}

test('rewards by the constants of the DSRL table', (t) => {
  const score = (name: string, ret: number): number =>
    normalizeReward(
      ret,
      TASKS.find(({ task }) => task === name)!,
    )
  t.is(score('BallCircle', 0.38312244415283203), 0)
  t.is(score('BallCircle', 881.46337890625), 1)
  t.true(Math.abs(score('BallCircle', 640) - 0.726) < 1e-3)
  t.true(Math.abs(score('CarRun', 543) - 0.915) < 1e-3)
  t.true(score('PointCircle1', 15.3) < 0)
})

test('scores: a negative limit, no limit and an empty range are refused', (t) => {
  t.throws(() => normalizeCost(1, -1, 'dsrl'), { code: 'Config', message: /cost_limit -1/ })
  t.throws(() => normalizeCost(1, Number.NaN, 'paper'), { code: 'Config' })
  t.throws(() => normalizeReward(1, { min_return: 2, max_return: 2 }), {
    code: 'Config',
    message: /below max_return 2/,
  })
})

test('statistics: hand case, one value, even and odd medians', (t) => {
  const { mean, std, ci95, median, min, max } = summarize([1, 2, 3, 6])
  t.is(mean, 3)
  t.true(close(std!, Math.sqrt(14 / 3)))
  t.true(close(ci95![1] - 3, (3.1824 * Math.sqrt(14 / 3)) / 2))
  t.true(close(ci95![0] + ci95![1], 6))
  t.deepEqual([median, min, max], [2.5, 1, 6])
  t.deepEqual(summarize([7]), { mean: 7, std: null, ci95: null, median: 7, min: 7, max: 7 })
  t.is(summarize([9, 1, 5]).median, 5)
  t.throws(() => summarize([]), { message: /no episodes/ })
})

test('statistics: quantiles of t in the table and beyond it', (t) => {
  t.is(tQuantile975(1), 12.7062)
  t.is(tQuantile975(19), 2.093)
  // Tables: 31 -> 2.0395, 60 -> 2.0003, 120 -> 1.9799.
  t.true(Math.abs(tQuantile975(31) - 2.0395) < 1e-4)
  t.true(Math.abs(tQuantile975(60) - 2.0003) < 1e-4)
  t.true(Math.abs(tQuantile975(120) - 1.9799) < 1e-4)
})
