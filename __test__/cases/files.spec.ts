/** Files as HDF5's, pandas' and Minari's users have them: read, or refused in words that say what to do. */
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { inProcess, temporaryFolder } from '../cli/spawn.js'
import { caseIf, make } from './cases.js'

type Report = Record<string, unknown> & { findings?: { code: string; message: string }[] }

const made = new Map<string, Promise<string>>()

/** Makes the inputs of a file once. */
function once(file: string): Promise<string> {
  const folder = made.get(file) ?? make(file)
  made.set(file, folder)
  return folder
}

async function read(t: ExecutionContext, ...words: string[]): Promise<Report> {
  const { status, stdout, stderr } = await inProcess('data', ...words, '--json')
  t.is(status, 0, `${words.join(' ')}: ${stderr}${stdout}`)
  return JSON.parse(stdout) as Report
}

async function refused(t: ExecutionContext, message: RegExp, ...words: string[]): Promise<void> {
  const { status, stdout, stderr } = await inProcess(...words)
  t.is(status, 2, `${words.join(' ')}: ${stderr}`)
  t.is(stdout, '')
  t.regex(stderr, message)
}

const output = async (): Promise<string> => join(await temporaryFolder(), 'out.hdf5')

const hdf5 = caseIf('h5_small.py', 'h5py', 'hdf5plugin', 'numpy')
const SMALL = { transitions: 600, episodes: 30, obs_dim: 4, act_dim: 2, timeouts: 30 }

for (const name of ['plain', 'lzf', 'zstd', 'f16']) {
  hdf5(`h5_small ${name} is read`, async (t) => {
    const report = await read(t, 'info', join(await once('h5_small.py'), `${name}.hdf5`))
    t.like(report, SMALL)
    const plain = await read(t, 'info', join(await once('h5_small.py'), 'plain.hdf5'))
    t.deepEqual(report['cost_deciles'], plain['cost_deciles'])
  })
}

const UNREAD: [name: string, message: RegExp][] = [
  ['blosc', /observations: is compressed with blosc .*h5repack -f GZIP=4/],
  ['ext', /observations: is a link to another file, plain\.hdf5; copy the data into one file/],
  ['vds', /observations: is a virtual dataset.*copy the data into one file/],
]
for (const [name, message] of UNREAD) {
  hdf5(`h5_small ${name} is refused, by info, convert and train`, async (t) => {
    const file = join(await once('h5_small.py'), `${name}.hdf5`)
    await refused(t, message, 'data', 'info', file)
    await refused(t, message, 'data', 'convert', file, await output())
    await refused(t, message, 'train', '--dataset', file, '--cost-limit', '10')
  })
}

const ENDS: [name: string, message: RegExp][] = [
  ['noend', /1 episode of 20 rows without an end flag/],
  ['none_end', /all 600 rows are 1 episode without an end flag/],
]
for (const [name, message] of ENDS) {
  hdf5(`h5_small ${name}: info and train count the episode without an end flag`, async (t) => {
    const file = join(await once('h5_small.py'), `${name}.hdf5`)
    const info = await inProcess('data', 'info', file)
    t.is(info.status, 0, info.stderr)
    t.regex(info.stdout, message)
    // Strict, so that it ends before it trains.
    const train = await inProcess('train', '--dataset', file, '--cost-limit', '10', '--strict')
    t.is(train.status, 2)
    t.regex(train.stderr, message)
  })
}

const tables = caseIf('tables.py', 'numpy', 'pandas', 'pyarrow')
const TABLE = { episodes: 12, transitions: 108, dropped: 12 }

tables('tables interleaved.csv: episodes by their column, and refused without', async (t) => {
  const file = join(await once('tables.py'), 'interleaved.csv')
  await refused(
    t,
    /episode: changes in 108 of 120 rows.*--episode episode/,
    'data',
    'convert',
    file,
    await output(),
    '--shift',
  )
  t.like(await read(t, 'convert', file, await output(), '--shift', '--episode', 'episode'), { ...TABLE, ended: 0 })
})

tables('tables episode_id_only.csv: episodes known by their id alone', async (t) => {
  const file = join(await once('tables.py'), 'episode_id_only.csv')
  await refused(
    t,
    /name the column that numbers the episodes \(--episode NAME\)/,
    'data',
    'convert',
    file,
    await output(),
    '--shift',
  )
  t.like(await read(t, 'convert', file, await output(), '--shift', '--episode', 'episode'), { ...TABLE, ended: 12 })
})

tables('tables gap.csv: obs_0,obs_2 without obs_1 is refused', async (t) => {
  const file = join(await once('tables.py'), 'gap.csv')
  const message = /observations: obs_2 is there, but no obs_1; .*--map observations=obs_0,obs_2/
  await refused(t, message, 'data', 'convert', file, await output(), '--shift')
  const listed = await read(t, 'convert', file, await output(), '--shift', '--map', 'observations=obs_0,obs_2')
  t.like(listed, TABLE)
})

tables('tables semicolon.csv and fortran.npz are read, and hold the same', async (t) => {
  const folder = await once('tables.py')
  const [a, b] = [await output(), await output()]
  t.like(await read(t, 'convert', join(folder, 'semicolon.csv'), a, '--shift'), TABLE)
  t.like(await read(t, 'convert', join(folder, 'fortran.npz'), b, '--shift'), TABLE)
  const [first, second] = [await read(t, 'info', a), await read(t, 'info', b)]
  for (const key of ['return_deciles', 'action_min', 'action_max']) t.deepEqual(first[key], second[key], key)
})

tables('tables episode_per_row.parquet is read where the cost it lacks is stated', async (t) => {
  const file = join(await once('tables.py'), 'episode_per_row.parquet')
  await refused(t, /costs: is not there .*--missing-cost 0/, 'data', 'convert', file, await output(), '--shift')
  const words = ['--shift', '--missing-cost', '0']
  t.like(await read(t, 'convert', file, await output(), ...words), { ...TABLE, ended: 12 })
})

// Minari writes HDF5 and buffers episodes with packages that it does not require.
const minari = ['minari', 'gymnasium', 'h5py', 'numpy', 'PIL', 'jax']
const discrete = caseIf('minari_discrete.py', ...minari)
const goal = caseIf('minari_goal_dict.py', ...minari)

discrete('minari_discrete: choices are no amounts', async (t) => {
  const file = join(await once('minari_discrete.py'), 'disc-v0/data/main_data.hdf5')
  await refused(
    t,
    /actions: the action space is Discrete\(4\) by metadata\.json/,
    'data',
    'convert',
    file,
    await output(),
  )
})

goal('minari_goal_dict: entries are joined as said, and named where nothing is said', async (t) => {
  const file = join(await once('minari_goal_dict.py'), 'goal-v0/data/main_data.hdf5')
  const map = 'observations=observations/desired_goal,observations/observation'
  await refused(t, new RegExp(`is a group.*--map ${map}`), 'data', 'convert', file, await output())
  const out = await output()
  t.like(await read(t, 'convert', file, out, '--map', map), { episodes: 10, transitions: 200 })
  t.like(await read(t, 'info', out), { obs_dim: 5, act_dim: 2 })
})
