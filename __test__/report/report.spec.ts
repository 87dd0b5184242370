import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { PassThrough } from 'node:stream'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import test from 'ava'
import * as fc from 'fast-check'
import { DrcorlError } from '../../src/base/errors.js'
import { comparisonRow } from '../../src/report/compare.js'
import { phasesOf, seriesOf } from '../../src/report/curves.js'
import { estimatesOf } from '../../src/report/estimates.js'
import { formatTicks } from '../../src/report/format.js'
import { compareReport, writeReport } from '../../src/report/report.js'
import { parseCsv, readRun } from '../../src/report/run-data.js'
import { linearScale, logScale, niceTicks } from '../../src/report/svg.js'
import { comparisonTable, terminalTable } from '../../src/report/terminal.js'
import { type FixtureOptions, writeRun } from './fixture.js'

let root = ''
test.before(async () => {
  root = await mkdtemp(join(tmpdir(), 'drcorl-report-'))
})
test.after.always(() => rm(root, { recursive: true, force: true }))

/** Writes a run of that name and returns its report. */
async function report(name: string, options: FixtureOptions = {}): Promise<string> {
  return readFile(await writeReport(await writeRun(join(root, name), options)), 'utf8')
}

const count = (html: string, part: string): number => html.split(part).length - 1

test('a report holds the verdict, its reasons, the limit, the scores and the ledger', async (t) => {
  const html = await report('whole')
  t.true(html.includes('✓ Certified'))
  t.true(html.includes('<li>model rollout: mean + std 4.5 is at most 0.8 of the limit 10</li>'))
  t.true(html.includes('>limit 10</text>'))
  const { evaluation } = await readRun(join(root, 'whole'))
  t.true(html.includes(`${evaluation!.return.mean.toFixed(1)} ± ${evaluation!.return.std!.toFixed(1)}`))
  t.true(html.includes(evaluation!.normalized_reward!.toFixed(3)))
  t.true(html.includes('20/20'))
  t.regex(html, /training and selection<\/th><td>0<\/td>/)
  t.regex(html, /evaluation, after training<\/th><td>8,000<\/td>/)
  t.true(html.includes('9f2c7e0d6a51b1c38f8e0f6c7ab0e1c4f6cf1a0e6b6d7f1a2b3c4d5e6f708192'))
})

test('every estimator of the certificate is a row of the chart and of the table, with its numbers', async (t) => {
  const html = await report('estimators')
  for (const name of ['model rollout', 'critics, upper bound: safe states', 'fitted Q evaluation']) {
    t.true(html.includes(`class="row-name">${name}</text>`), name)
    t.true(html.includes(`<th scope="row">${name}</th>`), name)
  }
  t.true(html.includes('<td>16.20</td><td class="over">over</td>'))
  t.true(html.includes('<td>4.50</td><td class="within">within</td>'))
  t.true(html.includes('measured, 20 episodes'))
  t.true(html.includes('reward: 1,612 steps, 64.5 %'))
  t.true(html.includes('Estimates of the selected policy'))
})

test('what decides is marked, and the evidence behind it is told', async (t) => {
  const html = await report('deciding')
  t.is(count(html, '<td>decides</td>'), 3, 'one row in the table of the run, and of each policy kept')
  t.true(html.includes('<tr class="deciding"><th scope="row">model rollout</th>'))
  t.true(html.includes('<title>must stay below 8</title>'))
  t.true(html.includes('mean cost of an episode (decides)'))
  t.true(html.includes('stretches of 50 steps, then a learnt value'))
  t.regex(html, /<tr class="deciding"><th scope="row">50<\/th><td>0\.96<\/td>.*?passed, used/)
  t.true(html.includes('costs correlate 0.35 with the logged ones, 0.90 is needed'))
  t.true(html.includes('<th scope="row">60 episodes</th><td>12.50</td><td>11.25</td>'))
})

test('every reason to refuse comes with what to do', async (t) => {
  const reason = 'no logged step has a cost'
  const html = await report('remedy', {
    verdict: 'not certified',
    reasons: [reason],
    certificate: { refusals: [{ rule: 'no_cost_seen', reason, remedy: 'check that the costs were recorded' }] },
  })
  t.true(
    html.includes(`<li>${reason}<br><span class="note">What to do: check that the costs were recorded.</span></li>`),
  )
})

test('a refusal is as plain as a certificate, and a fallback of the gate is shown', async (t) => {
  const html = await report('refused', {
    verdict: 'not certified',
    reasons: ['model invalid: return correlation 0.21 is below 0.8'],
    certificate: {
      notes: ['safe but of little use'],
      gate: { requested: 'model_rollout', used: 'critic_ucb', fallback_reason: 'model invalid' },
    },
  })
  t.true(html.includes('✕ Not certified'))
  t.true(html.includes('return correlation 0.21 is below 0.8'))
  t.true(html.includes('<code>model invalid</code>'))
  t.true(html.includes('<p class="note">safe but of little use</p>'))
  t.false(html.includes('✓'))
})

test('where every state was switched by itself the page says how many could keep clear of violations', async (t) => {
  const feasibility = { threshold: -0.125, logged_actions: 0.93, policy_actions: 0.98 }
  const gate = { requested: 'model_rollout', used: null, fallback_reason: 'models are no good', states: 'safe' }
  const html = await report('states', { certificate: { feasibility, gate } })
  t.true(html.includes('<h3>Feasibility</h3>') && html.includes('<code>-0.125</code>'))
  t.regex(html, /reward: [\d,]+ states/)
  t.notRegex(html, /NaN|undefined|\[object/)
  const other = await report('one-switch', {})
  t.false(other.includes('<h3>Feasibility</h3>'))
  t.regex(other, /reward: [\d,]+ steps/)
})

test('the page is self-contained: no script, no address, nothing loaded', async (t) => {
  const html = await report('alone')
  t.notRegex(html, /<script|https?:|<link|<img|<iframe|@import|url\(/)
  t.true(html.startsWith('<!doctype html>'))
  t.true(html.includes('prefers-color-scheme: dark'))
  t.is(count(html, '<svg'), count(html, '</svg>'))
  t.notRegex(html, /NaN|undefined|\[object/)
})

test('whatever stands in the files is shown as text, never as HTML', async (t) => {
  const evil = '<script>alert("x")</script>'
  const html = await report('evil', {
    reasons: [evil],
    run: { device: evil, [evil]: 1 },
    certificate: { gate: { used: evil, [evil]: 1 }, [evil]: { deep: evil }, notes: [evil] },
  })
  t.false(html.includes('<script>'))
  t.true(count(html, '&lt;script&gt;') >= 6)
})

test('a certificate with other keys and missing parts is still shown', async (t) => {
  const html = await report('strange', {
    certificate: { estimates: { fqe: { cost: { mean: 1.25 } } }, gate: undefined, surprise: { level: 3 } },
  })
  t.true(html.includes('<th scope="row">fitted Q evaluation</th><td>1.25</td>'))
  t.true(html.includes('<th scope="row">surprise</th><td><code>{&quot;level&quot;:3}</code></td>'))
  t.notRegex(html, /NaN|undefined/)
})

test('branches are shares of the steps, and what happened in the band is no branch', async (t) => {
  const html = await report('branches', {
    certificate: { branches: { reward: 60, band: 30, cost: 10, capped: 20, stalled: 5 } },
  })
  t.true(html.includes('reward: 60 steps, 60.0 %'))
  t.true(html.includes('met its cap in 20 steps, and the gradients cancelled in 5'))
  t.false(html.includes('capped: '))
})

for (const [name, change, complaint] of [
  ['a word for a flag', { validity: 7 }, /validity is 7, but must be an object/],
  [
    'a text for a number',
    { estimates: { fqe: { cost: { mean: 'low' } } } },
    /estimates\.fqe\.cost\.mean is "low", but must be a number or null/,
  ],
  ['one reason', { reasons: 'none' }, /reasons is "none", but must be an array/],
  ['a number in a list', { notes: ['a', 3] }, /notes\[1\] is 3, but must be a string/],
  ['a part of an algorithm', { branches: { band: null } }, /branches\.band is null, but must be an integer/],
] as const) {
  test(`a damaged certificate is refused by file and place: ${name}`, async (t) => {
    const folder = await writeRun(join(root, name), { certificate: change })
    await t.throwsAsync(writeReport(folder), { code: 'Data', message: complaint })
    await t.throwsAsync(writeReport(folder), { message: /certificate\.json: / })
  })
}

test('metrics are drawn by their roles, whatever they are called', async (t) => {
  const html = await report('roles')
  const figures = html.slice(html.indexOf('<h2>Training'))
  t.regex(
    figures,
    /Episodic cost of the policy under training[^>]*>cost estimate \(cost an episode\)<\/span>, means over/,
  )
  t.true(figures.indexOf('>model loss<') < figures.indexOf('>behavior loss<'), 'in the declared order')
  t.regex(figures, /<summary>2 other metrics<\/summary>/)
})

test('runs without evaluation, certificate, limit or metrics are reported as they stand', async (t) => {
  const bare = await report('bare', { algorithm: 'bc', verdict: null, evaluated: false, run: { cost_limit: null } })
  t.true(bare.includes('No certificate: bc gives none.'))
  t.true(bare.includes('Not evaluated yet'))
  t.false(bare.includes('>limit'))
  const folder = await writeRun(join(root, 'started'), { evaluated: false })
  await Promise.all(['result.json', 'metrics.csv', 'certificate.json'].map((name) => rm(join(folder, name))))
  const html = await readFile(await writeReport(folder), 'utf8')
  t.true(html.includes('Training has not ended'))
  t.true(html.includes('No certificate: training has not ended.'))
})

test('damaged files and folders of no run are refused by path', async (t) => {
  await t.throwsAsync(writeReport(join(root, 'nowhere')), { code: 'Io', message: /nowhere is not a run folder/ })
  const folder = await writeRun(join(root, 'damaged'))
  await writeFile(join(folder, 'certificate.json'), '{"verdict":')
  await t.throwsAsync(writeReport(folder), { code: 'Data', message: /certificate\.json is not valid JSON/ })
  await writeFile(join(folder, 'certificate.json'), '[]')
  await t.throwsAsync(writeReport(folder), { code: 'Data', message: /certificate\.json: it must hold a JSON object/ })
})

test('a damaged evaluation, result or table is refused by file, key and value, never half shown', async (t) => {
  const cases: [file: string, change: (content: Record<string, unknown>) => unknown, message: RegExp][] = [
    ['evaluation.json', () => ({}), /evaluation\.json is damaged: it has no format/],
    ['evaluation.json', (old) => ({ ...old, cost: null }), /damaged: cost is null, but must be an object/],
    ['evaluation.json', (old) => ({ ...old, return: { mean: 'x' } }), /return has no std/],
    ['evaluation.json', (old) => ({ ...old, normalized_cost: 3 }), /normalized_cost is 3, but must be an object/],
    ['evaluation.json', (old) => ({ ...old, safe: 'yes' }), /safe is "yes", but must be a boolean/],
    [
      'evaluation.json',
      (old) => ({ ...old, cost: { ...(old['cost'] as object), ci95: [] } }),
      /cost\.ci95 has 0 entries, but must have 2/,
    ],
    ['evaluation.json', (old) => ({ ...old, selected: {} }), /selected has no policy/],
    ['result.json', (old) => ({ ...old, environment_steps: 0 }), /result\.json: environment_steps is 0, but must be/],
    ['config.json', (old) => ({ ...old, dataset: {} }), /config\.json is damaged: dataset has no source/],
    ['config.json', (old) => ({ ...old, task: [] }), /task is \[\], but must be an object/],
  ]
  for (const [file, change, message] of cases) {
    const path = join(await writeRun(join(root, 'damage')), file)
    await writeFile(path, JSON.stringify(change(JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>)))
    await t.throwsAsync(writeReport(join(root, 'damage')), { code: 'Data', message })
  }
  for (const file of ['metrics.csv', 'episodes.csv', 'dataset_episodes.csv']) {
    await writeFile(join(await writeRun(join(root, 'damage')), file), 'a,b\n1,2\n')
    const message = new RegExp(`${file.replace('.', '\\.')} is damaged: it has no column "`)
    await t.throwsAsync(writeReport(join(root, 'damage')), { code: 'Data', message })
  }
  await t.throwsAsync(access(join(root, 'damage', 'report.html')), undefined, 'no report is written')
})

type Json = Record<string, unknown>

/** Every place in a document: the object or list, and the key in it. */
function placesOf(value: unknown): [parent: Json, key: string][] {
  if (typeof value !== 'object' || value === null) return []
  const own = Object.keys(value).map((key): [Json, string] => [value as Json, key])
  return own.concat(Object.values(value).flatMap(placesOf))
}

test('property: whatever stands in the files of a run, its report is refused with a code or whole', async (t) => {
  const folder = await writeRun(join(root, 'anything'))
  const value = { mean: 1, std: 1 }
  const point = {
    update: 4,
    step: 4,
    phase: 'a',
    episodes: 2,
    return: value,
    cost: value,
    environment_steps: 8,
    sha256: 'a',
  }
  const monitor = { format: 'drcorl-monitor/1', every: 4, episodes: 2, seed: 1, environment: null }
  const points = [point, { ...point, update: 8, step: 8 }]
  await writeFile(join(folder, 'monitor.json'), JSON.stringify({ ...monitor, keep_checkpoints: false, points }))
  const names = ['config.json', 'certificate.json', 'result.json', 'evaluation.json', 'monitor.json'] as const
  const texts = new Map<string, string>()
  for (const name of names) texts.set(name, await readFile(join(folder, name), 'utf8'))
  const scalar = fc.oneof(
    fc.constantFrom(null, true, 1e308, -1e308, 5e-324, '', '<script>', '__proto__', 'javascript:1', '\u001b[2J'),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer(),
  )
  const other = fc.oneof(
    scalar,
    fc.array(scalar, { maxLength: 3 }),
    fc.dictionary(fc.constantFrom('a', 'mean'), scalar),
  )
  const counts = { refused: 0, whole: 0 }
  const holds = fc.asyncProperty(fc.constantFrom(...names), fc.nat(), fc.option(other), async (name, at, put) => {
    const document = JSON.parse(texts.get(name)!) as Json
    const places = placesOf(document)
    const [parent, key] = places[at % places.length]!
    if (put === null) delete parent[key]
    else parent[key] = put
    await writeFile(join(folder, name), JSON.stringify(document))
    try {
      const html = await readFile(await writeReport(folder), 'utf8')
      counts.whole += 1
      return html.endsWith('</html>\n') && !/<script|(?<![\w.])(NaN|undefined|Infinity|\[object)/.test(html)
    } catch (error) {
      counts.refused += 1
      return error instanceof DrcorlError && ['Data', 'Io', 'Usage'].includes(error.code)
    } finally {
      await writeFile(join(folder, name), texts.get(name)!)
    }
  })
  await fc.assert(holds, { numRuns: 250, seed: 17 })
  t.true(counts.refused > 25 && counts.whole > 25, JSON.stringify(counts))
})

test('300,000 rows of metrics are a report of the size of any other', async (t) => {
  const folder = await writeRun(join(root, 'long'))
  const rows = Array.from({ length: 300_000 }, (_, i) => `${i + 1},cloning,${i + 1},${i},${1 / (i + 1)},${i % 7}`)
  await writeFile(
    join(folder, 'metrics.csv'),
    ['step,phase,phase_step,seconds,bc_loss,cost_estimate', ...rows].join('\n'),
  )
  const html = await readFile(await writeReport(folder), 'utf8')
  t.true(html.length < 500_000, `${html.length} characters`)
  t.is(count(html, '<polyline'), 2)
})

test('a link is a path whatever the folder is called', async (t) => {
  const names = ['javascript:alert(1)', 'a#b?c', 'space d', '"quoted"']
  const folders = await Promise.all(names.map((name) => writeRun(join(root, 'links', name))))
  const html = await readFile(await compareReport(folders, join(root, 'links', 'all.html')), 'utf8')
  const links = [...html.matchAll(/href="([^"]*)"/g)].map(([, link = '']) => link)
  for (const [index, link] of links.entries()) {
    const base = pathToFileURL(join(root, 'links', 'all.html'))
    t.is(fileURLToPath(new URL(link, base)), join(folders[index]!, 'report.html'))
  }
  t.is(links.length, 4)
})

test('a comparison has one row a run, all policies in one chart, and links to the reports', async (t) => {
  const folders = [
    await writeRun(join(root, 'pair', 'bc'), { algorithm: 'bc', costs: [40, 9], verdict: 'not certified' }),
    await writeRun(join(root, 'pair', 'drcorl')),
  ]
  const html = await readFile(await compareReport(folders, join(root, 'pair', 'compare.html')), 'utf8')
  t.is(count(html, '<td><a href="'), 2)
  t.true(html.includes('<a href="drcorl/report.html">'))
  t.true(html.includes('✓ Certified') && html.includes('✕ Not certified'))
  t.is(count(html, 'class="mark s0 mean"') > 0 && count(html, 'class="mark s1 mean"') > 0, true)
  t.regex(html, /<td class="over">\d/)
  t.notRegex(html, /NaN|undefined/)
})

test('terminal: the comparison as plain columns where there is no terminal', async (t) => {
  const run = await readRun(await writeRun(join(root, 'terminal')))
  const stream = new PassThrough() as unknown as NodeJS.WriteStream
  const lines = comparisonTable([comparisonRow(run)], stream).split('\n')
  t.is(lines.length, 3)
  t.regex(lines[0]!, /^algorithm +return +cost +norm\. reward/)
  t.regex(lines[2]!, /20\/20 +0 +certified$/)
  const plain = terminalTable(['a', 'number'], [[{ text: 'long name' }, { text: '1', style: 'red' }]], stream)
  t.is(plain, `a          number\n${'─'.repeat(17)}\nlong name       1`)
})

test('curves: phases follow the rows, a gap in a metric breaks its line', (t) => {
  const csv = parseCsv('step,phase,phase_step,seconds,loss,other\n1,a,1,0.5,3,\n2,a,2,1,2,\n3,b,1,4,,\n4,c,1,5,1,\n')
  t.deepEqual(phasesOf(csv), [
    { name: 'a', from: 0, to: 2, seconds: 1 },
    { name: 'b', from: 2, to: 3, seconds: 3 },
    { name: 'c', from: 3, to: 4, seconds: 1 },
  ])
  t.deepEqual(
    seriesOf(csv).map(({ name, runs }) => [name, runs]),
    [
      [
        'loss',
        [
          [
            [1, 3],
            [2, 2],
          ],
          [[4, 1]],
        ],
      ],
    ],
  )
})

test('estimates: an estimator is a row, a family of them several', (t) => {
  const rows = estimatesOf({
    fqe: { cost: { mean: 1, ucb: 2 }, return: { mean: 3 } },
    critic_ucb: { initial: { mean: 4, ucb: 5 } },
  })
  t.deepEqual(
    rows.map((row) => [row.name, row.cost_mean, row.cost_upper, row.return_mean]),
    [
      ['critics, upper bound: initial states', 4, 5, null],
      ['fitted Q evaluation', 1, 2, 3],
    ],
  )
  t.deepEqual(estimatesOf(undefined), [])
})

test('ticks: as many digits as tell each from the next', (t) => {
  t.deepEqual(formatTicks([0, 200, 400]), ['0', '200', '400'])
  t.deepEqual(formatTicks([564.5, 565, 565.5]), ['564.5', '565', '565.5'])
  t.deepEqual(formatTicks([1000.25, 1000.5]), ['1000.25', '1000.5'])
  t.deepEqual(formatTicks([1e-4, 2e-4]), ['1.0e-4', '2.0e-4'])
})

test('scales: round ticks inside the domain, logarithms, and a domain of one value', (t) => {
  t.deepEqual(niceTicks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1])
  t.deepEqual(niceTicks(-7, 38, 5), [0, 10, 20, 30])
  t.is(linearScale([0, 10], [100, 0])(2.5), 75)
  t.true(Number.isFinite(linearScale([4, 4], [0, 100])(4)))
  // A constant whose average over steps is rounded: once a loop without end.
  t.deepEqual(linearScale([0.05, 0.05000000000000001], [0, 100]).ticks, [-0.4, -0.2, 0, 0.2, 0.4])
  t.is(linearScale([1e20, 1e20], [0, 100])(1e20), 50)
  t.true(niceTicks(0.05, 0.05000000000000001, 5).length < 10)
  t.deepEqual(niceTicks(Number.NaN, 1, 5), [])
  const log = logScale([0.01, 100], [0, 80])
  t.is(log(1), 40)
  t.deepEqual(log.ticks, [0.01, 0.1, 1, 10, 100])
})
