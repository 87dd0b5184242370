/** `drcorl data record`: policies played and written as a dataset. */
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { File, ready } from 'h5wasm/node'
import test from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { sha256File } from '../../src/base/files.js'
import { loadDataset } from '../../src/data/dataset.js'
import { pointCircle } from '../../src/envs/point-circle.js'
import { Journal } from '../../src/record/journal.js'
import { type RecordReport, recordDataset } from '../../src/record/record.js'
import { start, inProcess, temporaryFolder } from '../cli/spawn.js'
import { installedPython } from '../envs/real.js'
import { SMALL, smallConfig, trained } from '../small.js'
import { serialIf } from '../test-if.js'

const python = await installedPython()

/** A controller in a module, of the kind users write: it steers to the right and draws from the episode's seed. */
const MODULE = `
export default (env) => {
  let phase = []
  return {
    name: 'right',
    obs_dim: env.obs_dim,
    act_dim: env.act_dim,
    reset(rows, seeds) { rows.forEach((row, i) => { phase[row] = seeds[i] % 7 }) },
    act(observations) {
      const rows = observations.length / env.obs_dim
      return Float32Array.from({ length: rows * env.act_dim }, (_, i) => i % 2 === 0 ? 2 : phase[i >> 1] / 7)
    },
  }
}
`

async function withModule(folder: string): Promise<string> {
  const path = join(folder, 'right.mjs')
  await writeFile(path, MODULE)
  return path
}

async function smallRun(folder: string): Promise<string> {
  const run = join(folder, 'run')
  await trained({ ...SMALL, out: run })
  return run
}

async function attribute(path: string): Promise<Record<string, unknown>> {
  await ready
  const file = new File(path, 'r')
  try {
    return JSON.parse(String(file.attrs['drcorl_record']?.value)) as Record<string, unknown>
  } finally {
    file.close()
  }
}

const MIX = (module: string, run: string): { policy: string; weight: number }[] => [
  { policy: run, weight: 3 },
  { policy: 'random', weight: 1 },
  { policy: module, weight: 1 },
]

test('a mixture of a run, a module and random play is data that info accepts and training learns from', async (t) => {
  const folder = await temporaryFolder()
  const [run, module] = [await smallRun(folder), await withModule(folder)]
  const output = join(folder, 'mixed.hdf5')
  const words = ['--policy', `${run}=3`, '--policy', 'random', '--policy', `${module}=1`, '--episodes', '20']
  const done = await inProcess('data', 'record', output, ...words, '--noise', '0.1', '--seed', '4', '--json')
  t.is(done.status, 0, done.stderr + done.stdout)
  const report = JSON.parse(done.stdout) as RecordReport
  t.like(report, { output, env: 'point-circle', episodes: 20, transitions: 4000, environment_steps: 4000 })
  t.is(report.sha256, await sha256File(output))
  t.is(report.played.length, 20)
  const [first, second, third] = report.policies
  t.like(first, { policy: run, weight: 3, sha256: await sha256File(join(run, 'policy.safetensors')) })
  t.like(second, { policy: 'random', weight: 1, sha256: null })
  t.like(third, { policy: module, weight: 1, sha256: await sha256File(module) })
  t.is(
    report.policies.reduce((sum, { episodes }) => sum + episodes, 0),
    20,
  )
  t.true(first!.episodes > second!.episodes + third!.episodes, 'weight 3 of 5 plays most')
  t.deepEqual(await attribute(output), {
    format: 'drcorl-record/1',
    env: 'point-circle',
    policies: report.policies.map(({ policy, sha256, weight, episodes, settings, runtime }) => {
      return { policy, sha256, weight, episodes, settings, runtime }
    }),
    seed: 4,
    noise: 0.1,
    episodes: 20,
    transitions: 4000,
    environment_steps: 4000,
  })

  const info = await inProcess('data', 'info', output, '--json')
  t.is(info.status, 0, info.stderr)
  t.like(JSON.parse(info.stdout), {
    episodes: 20,
    transitions: 4000,
    timeouts: 20,
    terminals: 0,
    incomplete_episodes: 0,
  })
  const dataset = await loadDataset(output)
  const returns = dataset.native.episodes().returns
  report.played.forEach((episode, index) => t.true(Math.abs(episode.return - returns[index]!) < 1e-3))
  const { actions, observations, next_observations } = dataset.native.columns()
  t.true(
    actions.every((value) => Math.abs(value) <= 1),
    'recorded is the action that was executed',
  )
  t.deepEqual(
    next_observations.subarray(0, dataset.native.shape().obs_dim),
    observations.subarray(dataset.native.shape().obs_dim, 2 * dataset.native.shape().obs_dim),
  )
  const config = smallConfig('bc', {
    cost_limit: 10,
    update_steps: 10,
    audit_members: 2,
    model_steps: 10,
    fqe_steps: 0,
  })
  const learnt = await trained({ dataset: output, algorithm: 'bc', preset: 'none', config, out: join(folder, 'on') })
  t.is(learnt.status, 'done')
})

test('the same recording twice is the same bits, and another seed is other data', async (t) => {
  const folder = await temporaryFolder()
  const module = await withModule(folder)
  const record = async (name: string, more: object = {}): Promise<Buffer> => {
    const policies = [
      { policy: module, weight: 2 },
      { policy: 'random', weight: 1 },
    ]
    await recordDataset(join(folder, name), { policies, env: 'point-circle', episodes: 5, noise: 0.2, ...more })
    return readFile(join(folder, name))
  }
  const once = await record('a.hdf5')
  t.deepEqual(await record('b.hdf5'), once)
  t.notDeepEqual(await record('c.hdf5', { seed: 1 }), once)
  t.notDeepEqual(await record('d.hdf5', { noise: 0 }), once)
  t.deepEqual((await readdir(folder)).toSorted(), ['a.hdf5', 'b.hdf5', 'c.hdf5', 'd.hdf5', 'right.mjs'])
})

test('how many rows play side by side changes no transition', async (t) => {
  const folder = await temporaryFolder()
  const [run, module] = [await smallRun(folder), await withModule(folder)]
  const columns = async (rows: number) => {
    const output = join(folder, `${rows}.hdf5`)
    await recordDataset(output, { policies: MIX(module, run), episodes: 7, noise: 0.1, rows })
    return (await loadDataset(output)).native.columns()
  }
  const [one, three] = [await columns(1), await columns(3)]
  for (const name of ['observations', 'next_observations', 'actions', 'rewards', 'costs', 'timeouts'] as const) {
    t.deepEqual(three[name], one[name], name)
  }
})

test('noise and uniform draws are what they are said to be', async (t) => {
  const folder = await temporaryFolder()
  const { obs_dim, act_dim } = pointCircle(1)
  const act = (all: Float32Array): Float32Array => new Float32Array((all.length / obs_dim) * act_dim)
  const still = { name: 'still', obs_dim, act_dim, reset: () => undefined, act }
  const actions = async (policies: { policy: string | typeof still }[], noise: number) => {
    const output = join(folder, `${noise}-${policies.length}-${typeof policies[0]!.policy}.hdf5`)
    await recordDataset(output, { policies, env: 'point-circle', episodes: 20, noise })
    return (await loadDataset(output)).native.columns().actions
  }
  const moments = (values: Float32Array): [number, number] => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length
    return [mean, Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)]
  }
  // 8,000 draws: a mean is within 4 standard errors of its own.
  const [mean, sd] = moments(await actions([{ policy: still }], 0.2))
  t.true(Math.abs(mean) < 0.01 && Math.abs(sd - 0.2) < 0.007, `${mean} ${sd}`)
  t.true((await actions([{ policy: still }], 0)).every((value) => value === 0))
  const [middle, spread] = moments(await actions([{ policy: 'random' }], 0))
  t.true(Math.abs(middle) < 0.03 && Math.abs(spread - 1 / Math.sqrt(3)) < 0.02, `${middle} ${spread}`)
})

test('steps end with the episode that reaches them', async (t) => {
  const folder = await temporaryFolder()
  const output = join(folder, 'steps.hdf5')
  const report = await recordDataset(output, {
    policies: [{ policy: 'random' }],
    env: 'point-circle',
    steps: 401,
    rows: 4,
  })
  t.like(report, { episodes: 3, transitions: 600, environment_steps: 800 })
})

/** A factory whose environments end the recording after so many calls of `step`. */
const failing = (after: number) => {
  let steps = 0
  return (rows: number) => {
    const env = pointCircle(rows)
    return {
      id: 'point-circle',
      obs_dim: env.obs_dim,
      act_dim: env.act_dim,
      episode_length: env.episode_length,
      further_costs: env.further_costs!,
      num_envs: rows,
      reset: (seeds: readonly number[]) => env.reset(seeds),
      step: (actions: Float32Array) => {
        steps += 1
        if (steps > after) throw new DrcorlError('Environment', 'the simulator died')
        return env.step(actions)
      },
    }
  }
}

test('a recording that was cut short goes on to the same bits, also with its last round half written', async (t) => {
  const folder = await temporaryFolder()
  const options = { policies: [{ policy: 'random' }], episodes: 9, rows: 2, noise: 0.1 }
  const whole = join(folder, 'whole.hdf5')
  await recordDataset(whole, { ...options, env: 'point-circle' })
  const output = join(folder, 'cut.hdf5')
  const error = await t.throwsAsync<DrcorlError>(recordDataset(output, { ...options, env: failing(700) }))
  t.is(error?.code, 'Environment')
  t.regex(error?.hint ?? '', /6 of 9 episodes are kept.*--resume/)
  t.deepEqual((await readdir(folder)).toSorted(), ['cut.hdf5.part', 'whole.hdf5'])

  const again = { ...options, env: 'point-circle' }
  const part = `${output}.part`
  const bytes = await readFile(part)
  await t.throwsAsync(recordDataset(output, again), { message: /cut\.hdf5\.part holds a recording that was cut short/ })
  await t.throwsAsync(recordDataset(output, { ...again, noise: 0.2, resume: true }), {
    message: /was begun with noise 0\.1, not 0\.2/,
  })
  await t.throwsAsync(recordDataset(output, { ...again, policies: [{ policy: 'random', weight: 2 }], resume: true }), {
    message: /was begun with policies/,
  })
  // Of the last round some bytes are missing, as after a power cut; and one bit of the round before is another.
  const report = await recordDataset(output, { ...again, resume: true })
  t.like(report, { kept: 6, environment_steps: 2000 })
  t.deepEqual(await readFile(output), await readFile(whole))
  const flipped = Buffer.from(bytes)
  flipped[Math.floor(bytes.length / 2)]! ^= 1
  for (const [damaged, kept] of [
    [bytes.subarray(0, bytes.length - 9), 4],
    [flipped, 2],
  ] as const) {
    const other = join(folder, `damaged-${kept}.hdf5`)
    await writeFile(`${other}.part`, damaged)
    t.like(await recordDataset(other, { ...again, resume: true }), { kept })
    t.deepEqual(await readFile(other), await readFile(whole))
  }
  t.deepEqual(
    (await readdir(folder)).filter((name) => !name.endsWith('.hdf5')),
    [],
  )
})

test('Ctrl-C keeps whole episodes, ends with 130, and --resume makes the bits of an uninterrupted recording', async (t) => {
  const folder = await temporaryFolder()
  const words = ['--policy', 'random', '--env', 'point-circle', '--episodes', '1500', '--rows', '20']
  const [cut, whole] = [join(folder, 'cut.hdf5'), join(folder, 'whole.hdf5')]
  const { child, finished, waitFor } = start(['data', 'record', cut, ...words])
  await waitFor(/episodes .*steps\/s/)
  child.kill('SIGINT')
  const interrupted = await finished
  t.is(interrupted.status, 130, interrupted.stderr)
  t.regex(
    interrupted.stderr,
    /error: recording was stopped[^]*of 1500 episodes are kept in .*cut\.hdf5\.part[^]*--resume/,
  )
  t.deepEqual(await readdir(folder), ['cut.hdf5.part'])
  const resumed = await inProcess('data', 'record', cut, ...words, '--resume', '--json')
  t.is(resumed.status, 0, resumed.stderr + resumed.stdout)
  t.true(JSON.parse(resumed.stdout).kept > 0)
  t.is((await inProcess('data', 'record', whole, ...words)).status, 0)
  t.is(await sha256File(cut), await sha256File(whole))
  t.deepEqual((await readdir(folder)).toSorted(), ['cut.hdf5', 'whole.hdf5'])
})

test('a recording that fails before its first round leaves nothing', async (t) => {
  const folder = await temporaryFolder()
  const output = join(folder, 'none.hdf5')
  await t.throwsAsync(recordDataset(output, { policies: [{ policy: 'random' }], env: failing(10), episodes: 3 }))
  t.deepEqual(await readdir(folder), [])
})

test('bad input is refused before anything is played, each by one error', async (t) => {
  const folder = await temporaryFolder()
  const output = join(folder, 'out.hdf5')
  const other = join(folder, 'empty.mjs')
  await writeFile(other, 'export const policy = 1\n')
  await mkdir(join(folder, 'nothing'))
  const refused = async (pattern: RegExp, ...words: string[]): Promise<void> => {
    const { status, stderr } = await inProcess('data', 'record', ...words)
    t.regex(stderr, pattern, words.join(' '))
    t.is(status, 2, words.join(' '))
  }
  const base = ['--policy', 'random', '--env', 'point-circle']
  await refused(/no OUTPUT\.hdf5 is given/, ...base, '--episodes', '2')
  await refused(/output .*\.csv is no HDF5 file name/, join(folder, 'x.csv'), ...base, '--episodes', '2')
  await refused(/no policy is named/, output, '--env', 'point-circle', '--episodes', '2')
  await refused(/give --episodes or --steps/, output, ...base)
  await refused(/give --episodes or --steps/, output, ...base, '--episodes', '2', '--steps', '5')
  await refused(/episodes 1\.5 must be a whole number, 1 or more/, output, ...base, '--episodes', '1.5')
  await refused(/noise -1 must be a number, 0 or more/, output, ...base, '--episodes', '2', '--noise', '-1')
  await refused(/seed -1 is not a whole number/, output, ...base, '--episodes', '2', '--seed', '-1')
  await refused(
    /weight 0 of random must be a number above 0/,
    output,
    '--policy',
    'random=0',
    '--env',
    'point-circle',
    '--episodes',
    '2',
  )
  await refused(/no environment is named/, output, '--policy', 'random', '--episodes', '2')
  await refused(
    /unknown environment|no environment is called|"nowhere"/,
    output,
    '--policy',
    'random',
    '--env',
    'nowhere',
    '--episodes',
    '2',
  )
  await refused(
    /absent\.safetensors/,
    output,
    '--policy',
    join(folder, 'absent.safetensors'),
    '--env',
    'point-circle',
    '--episodes',
    '2',
  )
  await refused(/empty\.mjs exports no policy/, output, '--policy', other, '--env', 'point-circle', '--episodes', '2')
  await refused(/nothing to resume/, output, ...base, '--episodes', '2', '--resume')
  await refused(/cost_limit is no setting/, output, ...base, '--episodes', '2', '--set', 'cost_limit=3')
  await refused(/episodes .* take .* memory|memory/, output, ...base, '--episodes', '1000000000')
  t.deepEqual((await readdir(folder)).toSorted(), ['empty.mjs', 'nothing'])
})

test('a journal that is no journal is refused by name', async (t) => {
  const folder = await temporaryFolder()
  const path = join(folder, 'x.hdf5.part')
  await writeFile(path, 'something else\n')
  await t.throwsAsync(Journal.open(path), { message: /x\.hdf5\.part is no recording of drcorl/ })
})

serialIf(python !== undefined, 'the real environments are not installed: drcorl envs install')(
  'a real environment is recorded, the same bits twice, and its file name tells the task',
  async (t) => {
    const folder = await temporaryFolder()
    const record = async (name: string): Promise<Buffer> => {
      await mkdir(join(folder, name))
      const output = join(folder, name, 'SafetyBallCircle-v0-80-3.hdf5')
      const words = ['--policy', 'random', '--task', 'BallCircle', '--episodes', '3', '--workers', '2', '--seed', '1']
      const { status, stderr } = await inProcess('data', 'record', output, ...words)
      t.is(status, 0, stderr)
      return readFile(output)
    }
    t.deepEqual(await record('a'), await record('b'))
    const dataset = await loadDataset(join(folder, 'a', 'SafetyBallCircle-v0-80-3.hdf5'))
    t.is(dataset.task?.task, 'BallCircle')
    t.like(dataset.summary, { episodes: 3, transitions: 600, timeouts: 3 })
  },
)
