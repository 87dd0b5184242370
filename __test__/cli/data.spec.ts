import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { File, ready } from 'h5wasm/node'
import test from 'ava'
import { sha256File } from '../../src/base/files.js'
import { loadDataset } from '../../src/data/dataset.js'
import { withData } from '../data-files.js'
import { smallFlags } from '../small.js'
import { inProcess, start, temporaryFolder } from './spawn.js'

/** The object that a command line prints with --json. */
async function json(...words: string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await inProcess(...words, '--json')
  if (status !== 0) throw new Error(`${words.join(' ')}: ${status} ${stderr}${stdout}`)
  return JSON.parse(stdout) as Record<string, unknown>
}

/** A string attribute of the root group, as another reader sees it. */
async function attributeOf(path: string, name: string): Promise<string> {
  await ready
  const file = new File(path, 'r')
  try {
    return String(file.attrs[name]?.value)
  } finally {
    file.close()
  }
}

test('scripted data as a file have the statistics of the environment’s columns, and info draws them', async (t) => {
  const folder = await temporaryFolder()
  const file = join(folder, 'circle.hdf5')
  const svg = join(folder, 'circle.svg')
  const converted = await json('data', 'convert', 'env:point-circle?episodes=30', file)
  t.like(converted, { output: file, format: 'env', episodes: 30, transitions: 6000 })
  const fromFile = await json('data', 'info', file, '--svg', svg, '--cost-limit', '10')
  const fromEnv = await json('data', 'info', 'env:point-circle?episodes=30')
  for (const key of ['transitions', 'return_deciles', 'cost_deciles', 'action_min', 'terminals', 'timeouts']) {
    t.deepEqual(fromFile[key], fromEnv[key], key)
  }
  t.is(fromFile['svg'], svg)
  const drawing = await readFile(svg, 'utf8')
  t.regex(drawing, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="1000"/)
  t.regex(drawing, /limit 10/)
  const { stdout } = await inProcess('data', 'info', file, '--cost-limit', '10')
  t.regex(stdout, /[\u2801-\u28ff]/)
  t.regex(stdout, /cost \(\| limit 10\)/)
})

test('filter writes what it says, the same for the same seed', async (t) => {
  const folder = await temporaryFolder()
  const source = join(folder, 'source.hdf5')
  await json('data', 'convert', 'env:point-circle?episodes=60', source)
  const words = ['--density', '5x5:4:1', '--outliers', '0.1', '--epsilon', '5', '--noise', '0.1', '--cost-limit', '10']
  const run = (name: string, seed: string): Promise<Record<string, unknown>> =>
    json('data', 'filter', source, join(folder, name), ...words, '--seed', seed)
  const report = await run('a.hdf5', '1')
  const steps = (report['steps'] as { step: string }[]).map(({ step }) => step)
  t.deepEqual(steps, ['density', 'outliers', 'epsilon', 'noise'])
  const info = await json('data', 'info', join(folder, 'a.hdf5'))
  t.like(info, { transitions: report['transitions'], episodes: report['episodes'] })
  t.true(Number(report['episodes']) < 60)
  await run('b.hdf5', '1')
  await run('c.hdf5', '2')
  t.deepEqual(await readFile(join(folder, 'b.hdf5')), await readFile(join(folder, 'a.hdf5')))
  t.notDeepEqual(await readFile(join(folder, 'c.hdf5')), await readFile(join(folder, 'a.hdf5')))
})

test('split sets whole episodes aside: disjoint, complete, the same for the same seed, and says where from', async (t) => {
  const folder = await temporaryFolder()
  const source = join(folder, 'source.hdf5')
  await json('data', 'convert', 'env:point-circle?episodes=30', source)
  const split = async (name: string, ...words: string[]): Promise<Record<string, unknown>> => {
    const [a, b] = ['a', 'b'].map((part) => join(folder, `${name}-${part}.hdf5`))
    return json('data', 'split', source, '--by', 'episode', '--out-train', a!, '--out-heldout', b!, ...words)
  }
  const report = await split('one')
  t.like(report, {
    sha256: await sha256File(source),
    train: { episodes: 24, transitions: 4800 },
    held_out: { episodes: 6, transitions: 1200 },
    tail: 0,
  })
  const episodes = async (path: string): Promise<string[]> => {
    const { native } = await loadDataset(path)
    const { returns, costs } = native.episodes()
    return [...returns].map((value, i) => `${value} ${costs[i]}`)
  }
  const parts = [...(await episodes(join(folder, 'one-a.hdf5'))), ...(await episodes(join(folder, 'one-b.hdf5')))]
  t.deepEqual(parts.toSorted(), (await episodes(source)).toSorted())
  for (const part of ['a', 'b']) {
    const attribute = await attributeOf(join(folder, `one-${part}.hdf5`), 'drcorl_split')
    t.deepEqual(JSON.parse(attribute), { source, sha256: report['sha256'], by: 'episode', share: 0.2, seed: 0 })
  }
  await split('two')
  await split('three', '--seed', '1')
  const bytes = (name: string): Promise<Buffer> => readFile(join(folder, name))
  t.deepEqual(await bytes('two-b.hdf5'), await bytes('one-b.hdf5'))
  t.notDeepEqual(await bytes('three-b.hdf5'), await bytes('one-b.hdf5'))
})

withData(
  'SafetyPointGoal1Gymnasium-v0-100-165.hdf5',
  'presets and extremes are those of the task that the file name tells',
  async (t, source) => {
    const output = join(await temporaryFolder(), 'half.hdf5')
    const report = await json('data', 'filter', source, output, '--density', '0.5')
    t.like(report, {
      episodes_before: 165,
      score_range: { min_cost: 0, max_cost: 100, max_return: 30.071114857340543 },
    })
    t.true(Number(report['episodes']) > 0 && Number(report['episodes']) < 165)
  },
)

test('a table of the user’s own becomes a dataset that trains', async (t) => {
  const folder = await temporaryFolder()
  const csv = join(folder, 'log.csv')
  const rows = Array.from({ length: 40 }, (_, i) =>
    [i, -i, Math.sin(i), i % 5 === 0 ? 1 : 0, 1, i % 10 === 9 ? 1 : 0].join(','),
  )
  await writeFile(csv, ['x,y,push,price,rew,cut', ...rows].join('\n'))
  const output = join(folder, 'log.hdf5')
  const map = ['observations=x,y', 'actions=push', 'rewards=rew', 'costs=price', 'terminals=0', 'timeouts=cut']
  // Lists may be given in parts.
  const twice = ['--map', ...map.slice(0, 2), '--map', ...map.slice(2)]
  const report = await json('data', 'convert', csv, output, '--shift', ...twice)
  t.like(report, { format: 'csv', episodes: 4, transitions: 36, dropped: 4 })
  t.deepEqual(report['columns'], {
    actions: 'push',
    costs: 'price',
    next_observations: 'observations of the next row',
    observations: 'x,y',
    rewards: 'rew',
    terminals: '0',
    timeouts: 'cut',
  })
  t.like(await json('data', 'info', output), { obs_dim: 2, act_dim: 1, timeouts: 4 })
})

test('findings are shown by convert, info and train, and end them where asked', async (t) => {
  const folder = await temporaryFolder()
  const [csv, output] = [join(folder, 'log.csv'), join(folder, 'log.hdf5')]
  const rows = Array.from({ length: 60 }, (_, i) =>
    [Math.sin(i / 9), Math.cos(i), i % 3, 0, i % 10 === 9 ? 1 : 0].join(','),
  )
  await writeFile(csv, ['obs_0,action_0,reward,cost,truncated', ...rows].join('\n'))
  const words = ['data', 'convert', csv, output, '--shift', '--map', 'terminals=0']
  const strict = await inProcess(...words, '--strict')
  t.is(strict.status, 2)
  t.regex(strict.stderr, /costs: are all 0: no row tells what is unsafe/)
  t.deepEqual(await readdir(folder), ['log.csv'])
  const report = await json(...words)
  t.deepEqual(
    (report['findings'] as { code: string }[]).map(({ code }) => code),
    ['no_costs'],
  )
  const info = await inProcess('data', 'info', output)
  t.is(info.status, 0)
  t.regex(info.stdout, /warning: no_costs: costs are all 0.* \(54 rows, first 0\); check/)
  t.is((await inProcess('data', 'info', output, '--strict')).status, 2)
  const train = ['train', '--dataset', output, '--algorithm', 'bc', '--cost-limit', '10', '--out', join(folder, 'run')]
  const tiny = [
    '--update-steps',
    '5',
    '--batch-size',
    '8',
    '--actor-hidden',
    '8,8',
    '--audit-members',
    '0',
    '--fqe-steps',
    '0',
  ]
  const refused = await inProcess(...train, ...tiny, '--strict')
  t.is(refused.status, 2)
  t.regex(refused.stderr, /costs are all 0/)
  const trained = await inProcess(...train, ...tiny)
  t.is(trained.status, 0, trained.stderr)
  t.regex(trained.stderr, /warning: no_costs/)
  const direct = await inProcess('train', '--dataset', csv, '--cost-limit', '10')
  t.is(direct.status, 2)
  t.regex(direct.stderr, /log\.csv is a \.csv file, not HDF5\s.*drcorl data convert .*log\.csv log\.hdf5/)
})

test('rows in any order, by episode or by time, become episodes', async (t) => {
  const folder = await temporaryFolder()
  const csv = join(folder, 'log.csv')
  const rows = Array.from({ length: 40 }, (_, i) => {
    const [env, step] = [i % 2, Math.floor(i / 2)]
    return [env, step * 60 + (step >= 10 ? 3600 : 0), env + step / 20, Math.sin(i), step % 3, step % 4].join(',')
  })
  await writeFile(csv, ['env_id,time,obs_0,action_0,reward,cost', ...rows].join('\n'))
  const convert = (...words: string[]): Promise<Record<string, unknown>> =>
    json('data', 'convert', csv, join(folder, 'out.hdf5'), '--overwrite', '--shift', ...words)
  t.like(await convert('--episode', 'env_id'), { episodes: 2, transitions: 38, ended: 2, gaps: 0 })
  t.like(await convert('--episode', 'env_id', '--time', 'time', '--max-gap', '5m'), {
    episodes: 4,
    gaps: 2,
    dropped: 4,
  })
  t.like(await convert('--episode', 'env_id', '--time', 'time', '--max-gap', '2h'), { episodes: 2, gaps: 0 })
})

withData('SafetyBallCircle-v0-80-800.hdf5', '--task finds the dataset for info and train', async (t, file) => {
  const before = process.env['DRCORL_DATA']
  process.env['DRCORL_DATA'] = join(file, '..')
  t.teardown(() => {
    if (before === undefined) delete process.env['DRCORL_DATA']
    else process.env['DRCORL_DATA'] = before
  })
  t.like(await json('data', 'info', '--task', 'BallCircle'), { source: file, transitions: 160_000 })
  t.regex((await inProcess('data', 'info', file)).stdout, /not DSRL's own file SafetyBallCircle-v0-80-886\.hdf5/)
  const out = join(await temporaryFolder(), 'run')
  const words = ['--algorithm', 'bc', ...smallFlags('bc', { cost_limit: 10, audit_members: 0, fqe_steps: 0 })]
  const run = await json('train', '--task', 'BallCircle', '--out', out, ...words)
  t.is(run['status'], 'done')
  const record = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as { dataset: object; task: object }
  t.like(record, { dataset: { source: file }, task: { task: 'BallCircle' } })
})

/** Command line after `data`, and what the one line of the error says. */
const MISTAKES: [words: string[], message: RegExp][] = [
  [['info', '--seed', '1', 'x'], /unknown option --seed/],
  [['info', 'a', 'b'], /unknown argument "b"/],
  [['info', 'a', '--task', 'BallCircle'], /both a and --task BallCircle name a dataset/],
  [['info', '--task', 'BalCircle'], /unknown task "BalCircle"; did you mean BallCircle\?/],
  [['fetch'], /no TASK is given/],
  [['fetch', 'BallCircle', '--from', 'x'], /no http or https address/],
  [['filter', 'SOURCE'], /no OUTPUT.hdf5 is given/],
  [['filter', 'SOURCE', 'OUT.csv'], /no HDF5 file name/],
  [['filter', 'SOURCE', 'SOURCE'], /the same file/],
  [['filter', 'SOURCE', 'OLD'], /is there already/],
  [['filter', '/nowhere.hdf5', 'OUT'], /\/nowhere.hdf5: no such file/],
  [['filter', 'SOURCE', '/nowhere/o.hdf5'], /\/nowhere\/o.hdf5: cannot be written: no such folder/],
  [['filter', 'SOURCE', 'OUT', '--density', '0.5'], /density 0.5 names a preset, and the file name tells no task/],
  [['filter', 'SOURCE', 'OUT', '--density', '0.3', '--task', 'CarRun'], /no density preset 0.3; it has 0.5 and 0.75/],
  [['filter', 'SOURCE', 'OUT', '--density', 'half'], /neither a preset nor a grid/],
  [['filter', 'SOURCE', 'OUT', '--outliers', '0.1'], /outliers: .*no cost limit is given/],
  [['filter', 'SOURCE', 'OUT', '--outliers', '2', '--cost-limit', '1'], /outliers: 2 is not allowed/],
  [['filter', 'SOURCE', 'OUT', '--inpaint', '0,1,2'], /not four numbers/],
  [['filter', 'SOURCE', 'OUT', '--inpaint', '0,1,0,2'], /inpaint: .* is not allowed/],
  [['filter', 'SOURCE', 'OUT', '--noise', 'loud'], /--noise "loud" is not a number/],
  [['filter', 'SOURCE', 'OUT', '--seed', '0.5'], /seed 0.5 is not a whole number/],
  [['filter', 'SOURCE', 'OUT', '--inpaint', '0,1,0,1'], /no episode of 5 is left/],
  [['split'], /no FILE is given/],
  [['split', 'SOURCE', '--out-train', 'OUT', '--out-heldout', 'OUT'], /both parts are to be written to/],
  [['split', 'SOURCE', '--out-train', 'OUT.csv'], /no HDF5 file name/],
  [['split', 'SOURCE', '--out-train', 'OUT', '--out-heldout', 'SOURCE'], /the same file/],
  [['split', 'SOURCE', '--out-train', 'OUT', '--out-heldout', 'OLD'], /is there already/],
  [['split', 'SOURCE', '--out-train', 'OUT', '--out-heldout', '/nowhere/o.hdf5'], /no such folder/],
  [['split', '/nowhere.hdf5'], /\/nowhere.hdf5: no such file/],
  [['split', 'SOURCE', '--share', '0'], /share: 0 is not allowed/],
  [['split', 'SOURCE', '--share', '0.05'], /0.05 of 5 complete episodes is none of them/],
  [['split', 'SOURCE', '--seed', '0.5'], /seed 0.5 is not a whole number/],
  [['split', 'SOURCE', '--by', 'row'], /Invalid values/],
  [['convert', 'TEXT', 'OUT'], /has the extension "txt"/],
  [['convert', 'SOURCE', 'OUT', '--map', 'rewards'], /"rewards" is not FIELD=NAME/],
  [['convert', 'SOURCE', 'OUT', '--map', 'rewards=a', 'rewards=b'], /gives rewards twice/],
  ...['toString', '__proto__', 'constructor'].map((field): [string[], RegExp] => [
    ['convert', 'SOURCE', 'OUT', '--map', `${field}=x`],
    new RegExp(`${field}: is no field of a DSRL file`),
  ]),
  [['convert', 'SOURCE', 'OUT', '--map', 'rewards=rew'], /rewards: is mapped to "rew", which is not there/],
  [['convert', 'env:point-circle', 'OUT', '--shift'], /nothing is to be mapped/],
  [['convert', 'env:point-circle', 'OUT', '--episode', 'x'], /nothing is to be mapped/],
  [['convert', 'SOURCE', 'OUT', '--max-gap', '5x'], /--max-gap "5x" is not a duration such as 90s, 5m or 1h/],
  [['convert', 'SOURCE', 'OUT', '--max-gap', '5m'], /a largest gap needs a column of times/],
  [['info', 'SOURCE', '--max-memory', 'much'], /--max-memory "much" is not an amount of memory such as 8GB/],
  [['info', 'SOURCE', '--max-memory', '1kB'], /would take .* of memory, more than 1 kB, the limit that was stated/],
]

test('bad input is one line with a remedy, status 2, and no file', async (t) => {
  const folder = await temporaryFolder()
  const place: Record<string, string> = Object.fromEntries(
    Object.entries({
      SOURCE: 'source.hdf5',
      OUT: 'out.hdf5',
      OLD: 'old.hdf5',
      TEXT: 'text.txt',
      'OUT.csv': 'o.csv',
    }).map(([word, name]) => [word, join(folder, name)]),
  )
  await json('data', 'convert', 'env:point-circle?episodes=5', place['SOURCE']!)
  await writeFile(place['OLD']!, 'old')
  await writeFile(place['TEXT']!, 'text')
  for (const [words, message] of MISTAKES) {
    const { status, stdout, stderr } = await inProcess('data', ...words.map((word) => place[word] ?? word))
    t.is(status, 2, `${words.join(' ')}: ${stderr}`)
    t.is(stdout, '')
    t.regex(stderr.split('\n')[0] ?? '', message)
    t.deepEqual((await readdir(folder)).toSorted(), ['old.hdf5', 'source.hdf5', 'text.txt'], words.join(' '))
  }
  t.is(await readFile(place['OLD']!, 'utf8'), 'old')
})

test('Ctrl-C while a file is written: status 130, and no file', async (t) => {
  const folder = await temporaryFolder()
  const { child, finished, waitFor } = start([
    'data',
    'convert',
    'env:point-circle?episodes=4000',
    join(folder, 'a.hdf5'),
  ])
  await waitFor(/rows written/)
  child.kill('SIGINT')
  const { status, stderr } = await finished
  t.is(status, 130, stderr)
  t.deepEqual(await readdir(folder), [])
})
