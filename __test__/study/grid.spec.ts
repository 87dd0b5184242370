/** Each study of the table once, at small size, from its own process: runs, tables, pictures, repetition. */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { horizontalOf, type GridResult } from '../../src/study/grid-numbers.js'
import { gridPictures } from '../../src/study/grid-page.js'
import { STUDIES } from '../../src/study/studies.js'
import { drcorl, inProcess, temporaryFolder } from '../cli/spawn.js'
import { smallConfig } from '../small.js'

const small = (algorithm: string): string[] =>
  Object.entries(smallConfig(algorithm, { audit_members: 1, model_members: 2 })).map(([name, value]) => {
    return `${name}=${String(value)}`
  })

const RUNS: Record<string, { algorithms: string; seeds: string; points: number; curves: number }> = {
  'cost-limit': { algorithms: 'bc,cdt', seeds: '0,1', points: 6, curves: 0 },
  temperature: { algorithms: 'drcorl', seeds: '0', points: 3, curves: 3 },
  slack: { algorithms: 'drcorl', seeds: '0', points: 4, curves: 4 },
  policy: { algorithms: 'drcorl', seeds: '0', points: 3, curves: 0 },
  critic: { algorithms: 'drcorl', seeds: '0', points: 9, curves: 0 },
  'training-curves': { algorithms: 'bc,bc_safe', seeds: '0,1', points: 2, curves: 2 },
}

for (const { name } of STUDIES) {
  test.serial(`study ${name}, small`, async (t) => {
    const { algorithms, seeds, ...expected } = RUNS[name]!
    const out = await temporaryFolder()
    const sizes = algorithms.split(',').flatMap((one) => small(one).map((text) => `${one}.${text}`))
    const words = ['study', name, '--tasks', 'point-circle', '--algorithms', algorithms, '--seeds', seeds, '--out', out]
    const more = ['--episodes', '2', '--eval-episodes', '2', '--jobs', '2', '--json', '--set', ...sizes]
    const curves = expected.curves > 0 ? ['--eval-every', '0.5'] : []
    const { status, stdout, stderr } = await drcorl(...words, ...curves, ...more)
    t.is(status, 0, stderr + stdout)
    const result = JSON.parse(stdout)
    t.deepEqual([result.points.length, result.curves.length], [expected.points, expected.curves])
    const names = seeds.split(',').length
    for (const point of result.points) {
      t.is(point.runs, names)
      t.true([point.return, point.cost].every(({ mean }) => Number.isFinite(mean)))
      t.is(point.safe, point.cost.mean <= point.cost_limit)
    }
    for (const curve of result.curves) t.true(curve.return.length >= 2 && curve.cost.length === curve.return.length)
    for (const path of result.files) t.true((await stat(path)).size > 0, path)
    t.is((await readFile(join(out, 'study.csv'), 'utf8')).trimEnd().split('\n').length, 1 + expected.points * names)
    const page = await readFile(join(out, 'study.md'), 'utf8')
    t.true(page.includes(`Made by \`drcorl study ${name} --tasks point-circle`))
    for (const [, picture] of page.matchAll(/\]\(([^)]+\.svg)\)/g)) {
      const svg = await readFile(join(out, picture!), 'utf8')
      t.true(svg.startsWith('<svg xmlns='))
      t.regex(svg, /limit/)
    }
    t.regex(await readFile(join(out, 'study.html'), 'utf8'), /<svg/)

    const again = await drcorl(...words, ...curves, ...more)
    t.is(again.status, 0, again.stderr)
    t.regex(again.stderr, /: kept/)
    t.notRegex(again.stderr, /: done/)
    t.deepEqual(JSON.parse(again.stdout).points, result.points)
    if (expected.curves === 0) return
    const other = await drcorl(...words, '--eval-every', '0.25', ...more)
    t.regex(JSON.parse(other.stdout).failures[0].message, /eval_every = 0.25 differs from the run/)
  })
}

test('one of your own: two axes, of which the first is the horizontal one', async (t) => {
  const out = await temporaryFolder()
  const axes = ['--vary', 'batch_size=4,8', 'actor_hidden=8,8;16,16']
  const sizes = small('bc').filter((text) => !/^(batch_size|actor_hidden)=/.test(text))
  const words = ['--algorithms', 'bc', '--seeds', '0', '--set', ...sizes, '--episodes', '2', '--json']
  const { status, stdout, stderr } = await drcorl('study', '--tasks', 'point-circle', ...axes, ...words, '--out', out)
  t.is(status, 0, stderr + stdout)
  const { points, study } = JSON.parse(stdout)
  t.deepEqual([study, points.length], ['own', 4])
  const svg = await readFile(join(out, 'point-circle.svg'), 'utf8')
  t.regex(svg, /BC, actor_hidden=16,16/)
  t.regex(svg, /batch size/)
})

test('places on the horizontal axis: the limit, numbers, or names', (t) => {
  const point = { target: 't', algorithm: 'bc', label: 'BC', variant: null, cost_limit: 10, runs: 2, worst_cost: 3 }
  const spread = { mean: 1, std: 0.5 }
  const full = { ...point, return: spread, cost: spread, normalized_reward: null, normalized_cost: spread, safe: true }
  const grid = (more: Partial<GridResult>): GridResult => ({ axes: [], runs: [], curves: [], points: [full], ...more })
  t.is(horizontalOf(grid({})), null)
  t.deepEqual(gridPictures(grid({})), [])
  const limits = horizontalOf(grid({ points: [full, { ...full, cost_limit: 20 }] }))!
  t.deepEqual(limits.place(full), { x: 10, line: 'BC' })
  t.true(limits.limit)
  const axes = [{ name: 'course', parameters: ['course'], values: ['up', 'down'] }]
  const named = horizontalOf(grid({ axes }))!
  t.deepEqual(named.place({ ...full, variant: 'course=down' }), { x: 1, line: 'BC' })
  t.deepEqual(named.names, ['up', 'down'])
})

test('bad input is one line, status 2, and nothing is started', async (t) => {
  const out = join(await temporaryFolder(), 'none')
  for (const [words, message] of [
    [[], /study needs a name; there are inference, cost-limit/],
    [['nothing'], /there is no study "nothing"/],
    [['slack'], /study slack needs --tasks/],
    [['slack', '--tasks', 'point-circle', '--algorithms', 'bc'], /names no parameter of bc/],
    [['slack', '--tasks', 'point-circle', '--eval-every', '1.5'], /--eval-every 1.5 must be/],
    [['slack', '--tasks', 'point-circle', '--seconds', '1'], /--seconds is for study inference/],
    [['--vary', 'x', '--tasks', 'point-circle'], /is not of the form/],
  ] as const) {
    const { status, stderr } = await inProcess('study', ...words, '--out', out)
    t.is(status, 2, words.join(' '))
    t.regex(stderr, message)
    await t.throwsAsync(stat(out))
  }
})
