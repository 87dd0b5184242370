/** Times of decisions of every system of the registry, made small: tables, picture, repetition, refusals. */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { loadSchema } from '../../src/config/schema.js'
import { studyInference } from '../../src/study/inference.js'
import { inferenceMarkdown, inferenceSvg } from '../../src/study/inference-page.js'
import { publishedPreset } from '../../src/study/untrained.js'
import { drcorl, inProcess, temporaryFolder } from '../cli/spawn.js'
import { writeRun } from '../report/fixture.js'
import { smallConfig } from '../small.js'

const ALGORITHMS = Object.keys(loadSchema().algorithms)

test('every algorithm has a preset with the published sizes', (t) => {
  for (const name of ALGORITHMS) t.not(publishedPreset(name), 'none', name)
})

test('every system is timed, one by one and in a batch, beside what was published', async (t) => {
  const out = await temporaryFolder()
  const runs = join(out, 'runs')
  await writeRun(join(runs, 'a'), { algorithm: 'drcorl', costs: [4, 1], returns: [200, 5] })
  await writeRun(join(runs, 'b'), { algorithm: 'bc', costs: [40, 1], returns: [300, 5] })
  const options = {
    obs_dim: 5,
    act_dim: 2,
    config: (name: string) => smallConfig(name, { cost_limit: 10 }),
    runs: [runs],
    seconds: 0.2,
    out,
    command: 'drcorl study inference',
    signal: new AbortController().signal,
  }
  const { rows, files, machine, sizes } = await studyInference(options)
  t.deepEqual([...new Set(rows.map(({ algorithm }) => algorithm))], ALGORITHMS)
  for (const { sequential, batch, label } of rows) {
    for (const { seconds, fastest, decisions } of [sequential, batch]) {
      t.true(fastest > 0 && seconds >= fastest && decisions >= 1 && decisions <= 1000, label)
    }
  }
  const planned = rows.filter(({ plan }) => plan !== null)
  t.deepEqual(
    planned.map(({ plan, target, published }) => [plan, target !== null, published?.seconds]),
    [
      ['unguided', true, 12.8],
      ['guided', false, undefined],
    ],
  )
  t.like(
    rows.find(({ algorithm }) => algorithm === 'drcorl'),
    { kind: 'mlp', target: 0.005, published: { seconds: 0.366 }, score: { runs: 1, safe: true } },
  )
  t.like(
    rows.find(({ algorithm }) => algorithm === 'bc'),
    { score: { runs: 1, safe: false } },
  )
  const csv = (await readFile(files.csv, 'utf8')).trimEnd().split('\n')
  t.is(csv.length, 1 + rows.length)
  const page = await readFile(files.markdown, 'utf8')
  t.regex(page, /untrained/)
  t.regex(page, /\| 0\.366 s \|/)
  t.regex(await readFile(files.report, 'utf8'), /<svg/)
  const plane = await readFile(files.svg, 'utf8')
  t.regex(plane, /Score against seconds/)
  t.regex(plane, /published, GPU/)
  // Without scores the picture has a line for each system, and a target that is missed is told in words.
  const missed = rows.map((row) => Object.assign(row, { score: null, met: row.target === null ? null : false }))
  const bare = { rows: missed, files, machine, sizes }
  t.regex(inferenceSvg(bare), /Seconds for 1,000 decisions of every system/)
  t.regex(inferenceMarkdown(bare, { command: 'x', picture: 'y.svg' }), /NOT met/)

  const policy = join(out, 'policies', 'bc', 'policy.safetensors')
  const before = (await stat(policy)).mtimeMs
  await studyInference({ ...options, algorithms: ['bc'] })
  t.is((await stat(policy)).mtimeMs, before)
  const other = { ...options, algorithms: ['bc'], obs_dim: 6 }
  await t.throwsAsync(studyInference(other), { code: 'Usage', message: /holds a policy of other sizes/ })
})

test('the command times what it is asked for', async (t) => {
  const out = await temporaryFolder()
  const words = ['--algorithms', 'bc', '--set', 'actor_hidden=8,8', '--sizes', '4x2', '--seconds', '0.1', '--out', out]
  const { status, stdout, stderr } = await drcorl('study', 'inference', ...words, '--json')
  t.is(status, 0, stderr)
  const { study, rows, sizes } = JSON.parse(stdout)
  t.deepEqual([study, rows.length, sizes], ['inference', 1, { obs_dim: 4, act_dim: 2 }])
})

test('of several presets each system takes the first that it has, else the one with the published sizes', async (t) => {
  const options = {
    obs_dim: 4,
    act_dim: 2,
    config: (name: string) => smallConfig(name, { cost_limit: 10 }),
    runs: [],
    seconds: 0.1,
    command: 'drcorl study inference',
    signal: new AbortController().signal,
  }
  for (const [preset, drcorl, bc] of [
    ['full, fixed', 'full', 'fixed'],
    ['release,quick', 'release', 'quick'],
    ['fixed', publishedPreset('drcorl'), 'fixed'],
    ['none', 'none', 'none'],
  ] as const) {
    const out = await temporaryFolder()
    const { rows } = await studyInference({ ...options, algorithms: ['drcorl', 'bc'], preset, out })
    t.deepEqual(
      rows.map((row) => row.preset),
      [drcorl, bc],
      preset,
    )
  }
})

test('bad input is one line, status 2', async (t) => {
  for (const [words, message] of [
    [['inference', '--preset', 'full,fast'], /--preset: "fast" is unknown; known: quick, /],
    [['nothing'], /there is no study "nothing"; there are inference/],
    [['inference', '--sizes', '4'], /not of the form OBSERVATIONSxACTIONS/],
    [['inference', '--seconds', '0'], /--seconds 0: give a number above 0/],
    [['inference', '--seeds', '0'], /--seeds is for studies that train/],
    [['inference', '--algorithms', 'none'], /"none" is unknown/],
    [['inference', '--set', 'nothing=1'], /names no parameter/],
    [['inference', '--runs', '/nowhere'], /cannot read \/nowhere/],
  ] as const) {
    const { status, stderr } = await inProcess('study', ...words, '--out', '/dev/null/x')
    t.is(status, 2, words.join(' '))
    t.regex(stderr, message)
  }
})
