/** What is damaged, and what is right to do with it. Each target refuses with a code, or takes something consistent. */
import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  convertDataset,
  findEnvironment,
  loadDataset,
  loadPolicy,
  loadSchema,
  parametersFor,
  readConfigFile,
  resolveConfig,
  train,
} from '../src/index.js'
import { writeSafetensors } from '../src/policy/safetensors.js'
import { compareReport, writeReport } from '../src/report/report.js'
import { RUN_FILES } from '../src/train/run-folder.js'
import { small } from '../__test__/package/small.js'
import { drawPolicy } from '../__test__/policy/files.js'
import { writeRun } from '../__test__/report/fixture.js'
import { type Draws, mutateBytes, mutateJson, mutateTable } from './mutate.js'

export interface Target {
  /** Undamaged inputs, made in a folder of the process. */
  seeds(folder: string): Promise<Seed[]>
  mutate(seed: Seed, draws: Draws): Uint8Array
  /** Tries an input. Throws what the product throws; gives what is wrong with what was taken, or nothing. */
  attempt(seed: Seed, input: Uint8Array, folder: string): Promise<string | undefined>
}

export interface Seed {
  name: string
  bytes: Uint8Array
}

const FIXTURES = fileURLToPath(new URL('../crates/data/tests/fixtures/', import.meta.url))

async function fixtures(...names: string[]): Promise<Seed[]> {
  return Promise.all(names.map(async (name) => ({ name, bytes: await readFile(join(FIXTURES, name)) })))
}

const bytes = (seed: Seed, draws: Draws): Uint8Array => mutateBytes(seed.bytes, draws)
const jsonOrBytes = (seed: Seed, draws: Draws): Uint8Array =>
  draws.below(4) === 0 ? bytes(seed, draws) : Buffer.from(mutateJson(Buffer.from(seed.bytes).toString(), draws))

async function put(folder: string, name: string, content: Uint8Array): Promise<string> {
  const path = join(folder, name.replaceAll('/', '-'))
  await writeFile(path, content)
  return path
}

/** What is inconsistent about a dataset that was taken. */
async function judgeDataset(path: string): Promise<string | undefined> {
  const { native } = await loadDataset(path)
  const columns = native.columns()
  const { obs_dim, act_dim } = columns
  const rows = columns.rewards.length
  const sizes: [string, ArrayLike<number>, number][] = [
    ['observations', columns.observations, rows * obs_dim],
    ['next_observations', columns.next_observations, rows * obs_dim],
    ['actions', columns.actions, rows * act_dim],
    ['costs', columns.costs, rows],
  ]
  for (const [name, values, length] of sizes) {
    if (values.length !== length) return `${name} has ${values.length} values for ${rows} rows`
    for (let i = 0; i < values.length; i += 1) if (!Number.isFinite(values[i])) return `${name} holds ${values[i]}`
  }
  return undefined
}

/** Files to convert. With `checked`, checksums cover every value: what is taken holds the values of the seed. */
function converted(extension: string, names: string[], options: object, checked = false): Target {
  const wanted = new Map<string, string>()
  return {
    seeds: () => fixtures(...names),
    mutate: (seed, draws) =>
      extension === '.csv' ? mutateTable(Buffer.from(seed.bytes).toString(), draws) : bytes(seed, draws),
    async attempt(seed, input, folder) {
      const convert = async (content: Uint8Array): Promise<string> => {
        const out = join(folder, 'out.hdf5')
        await rm(out, { force: true })
        await convertDataset(await put(folder, `input${extension}`, content), out, options)
        return out
      }
      if (checked && !wanted.has(seed.name)) wanted.set(seed.name, await valuesOf(await convert(seed.bytes)))
      const out = await convert(input)
      if (checked && (await valuesOf(out)) !== wanted.get(seed.name)) return 'holds other values under right checksums'
      return judgeDataset(out)
    },
  }
}

async function valuesOf(path: string): Promise<string> {
  const columns = (await loadDataset(path)).native.columns()
  return [columns.observations, columns.actions, columns.rewards, columns.costs].map((c) => String(c)).join()
}

const SPREAD = {
  map: {
    observations: 's_*',
    next_observations: 't*',
    actions: 'left,right',
    rewards: 'r',
    costs: 'c',
    terminals: 'done',
    timeouts: 'cut',
  },
}

/** A dataset of Minari in Arrow files, one of which is damaged. */
const arrow: Target = {
  seeds: () => fixtures('convert/arrow/data/1/part-0.arrow', 'convert/arrow/data/metadata.json'),
  mutate: (seed, draws) => (seed.name.endsWith('.json') ? jsonOrBytes(seed, draws) : bytes(seed, draws)),
  async attempt(seed, input, folder) {
    const [copy, out] = [join(folder, 'arrow'), join(folder, 'out.hdf5')]
    await rm(out, { force: true })
    await cp(join(FIXTURES, 'convert/arrow'), copy, { recursive: true })
    await writeFile(join(copy, seed.name.replace('convert/arrow/', '')), input)
    await convertDataset(copy, out)
    return judgeDataset(out)
  },
}

/** A record of a run folder: reports of it are refused, or show no value that is none. */
function record(name: string): Target {
  return {
    async seeds(folder) {
      const run = await writeRun(join(folder, 'run'), { algorithm: 'bc' })
      return [{ name, bytes: await readFile(join(run, name)) }]
    },
    mutate: (seed, draws) =>
      name.endsWith('.csv') ? mutateTable(Buffer.from(seed.bytes).toString(), draws) : jsonOrBytes(seed, draws),
    async attempt(_, input, folder) {
      const run = join(folder, 'run')
      const original = await readFile(join(run, name))
      try {
        await writeFile(join(run, name), input)
        const page = join(folder, 'page.html')
        await (input.length % 2 === 0 ? writeReport(run, page) : compareReport([run, run], page))
        const html = await readFile(page, 'utf8')
        const shown = /(?<![\w.])(NaN|undefined|\[object Object\]|Infinity)(?![\w])/.exec(html.replaceAll('"NaN"', ''))
        if (shown && !Buffer.from(input).includes(shown[0])) return `the report shows ${shown[0]}`
        return /<script/i.test(html) ? 'the report holds a script' : undefined
      } finally {
        await writeFile(join(run, name), original)
      }
    },
  }
}

const CONFIG = `algorithm: bc
preset: none
cost_limit: 12.5
batch_size: 64
update_steps: 100
actor_hidden: [16, 16]
`

function config(name: string, text: string): Target {
  return {
    seeds: async () => [{ name, bytes: Buffer.from(text) }],
    mutate: (seed, draws) => (name.endsWith('.json') ? jsonOrBytes(seed, draws) : mutateTable(text, draws, ': ')),
    async attempt(_, input, folder) {
      const file = await readConfigFile(await put(folder, name, input))
      const { algorithm, run, config: own } = resolveConfig({ file })
      const known = new Set(parametersFor(loadSchema(), algorithm).map((parameter) => parameter.name))
      for (const [key, value] of Object.entries({ ...run, ...own })) {
        if (!known.has(key)) return `${key} is no parameter`
        if (typeof value === 'number' && !Number.isFinite(value)) return `${key} is ${value}`
      }
      return undefined
    },
  }
}

const checkpoint: Target = {
  async seeds(folder) {
    const run = join(folder, 'run')
    const parameters = parametersFor(loadSchema(), 'bc')
    const values = small(parameters, { cost_limit: 10, audit_members: 0, fqe_steps: 0, update_steps: 30 })
    const stop = new AbortController()
    const dataset = 'env:point-circle?episodes=5'
    const events = train({
      dataset,
      algorithm: 'bc',
      preset: 'none',
      config: values,
      out: run,
      checkpointSeconds: 0,
      signal: stop.signal,
    })
    try {
      for await (const event of events) if (event.type === 'checkpoint') stop.abort()
    } catch (error) {
      if (!stop.signal.aborted) throw error
    }
    return [{ name: RUN_FILES.checkpoint, bytes: await readFile(join(run, RUN_FILES.checkpoint)) }]
  },
  mutate: bytes,
  async attempt(seed, input, folder) {
    if (Buffer.from(input).equals(seed.bytes)) return undefined
    await writeFile(join(folder, 'run', RUN_FILES.checkpoint), input)
    for await (const event of train({ out: join(folder, 'run'), resume: true })) {
      // Whatever was changed, a checkpoint that is not the one written is none.
      if (event.type === 'start') return 'training goes on from it'
    }
    return 'training goes on from it'
  },
}

const policy: Target = {
  seeds: async () => [
    { name: 'plain', bytes: writeSafetensors(drawPolicy({ widths: [3, 24, 2] })) },
    {
      name: 'conditioned',
      bytes: writeSafetensors(drawPolicy({ widths: [3, 24, 2], condition: 10, squash: 'clamp' })),
    },
  ],
  mutate: bytes,
  async attempt(_, input, folder) {
    for (const runtime of ['native', 'javascript'] as const) {
      const loaded = await loadPolicy(await put(folder, 'policy.safetensors', input), {}, { runtime })
      loaded.reset([0, 1])
      const none = new Float32Array(2)
      for (let step = 0; step < 3; step += 1) {
        const actions = await loaded.act(new Float32Array(2 * loaded.obs_dim).fill(0.5), { rewards: none, costs: none })
        if (!actions.every(Number.isFinite)) return `${runtime} acts ${actions.join()}`
      }
    }
    return undefined
  },
}

const hdf5: Target = {
  seeds: () =>
    fixtures('contiguous.hdf5', 'float32_gzip.hdf5', 'integers_latest.hdf5', 'lzf.hdf5', 'zstd.hdf5', 'float16.hdf5'),
  mutate: bytes,
  attempt: async (_, input, folder) => judgeDataset(await put(folder, 'data.hdf5', input)),
}

/** A process that answers as the bridge would, but for one frame. */
const FORGED = fileURLToPath(new URL('../__test__/envs/forged.mjs', import.meta.url))
const SPECIFICATION = '{"obs_dim":2,"act_dim":1,"action_low":[-1],"action_high":[1],"max_episode_steps":10}'
const FRAMES = [
  ['hello', '{"protocol":2,"python":"3.11.7"}'],
  ['specification', SPECIFICATION],
  ['failure', '{"kind":"value","message":"reward 7","row":0,"step":1,"trace":["a","b"]}'],
] as const

const bridge: Target = {
  seeds: async () => FRAMES.map(([name, text]) => ({ name, bytes: Buffer.from(text) })),
  mutate: jsonOrBytes,
  async attempt(seed, input) {
    const frame = (kind: number, body: Uint8Array): string => {
      const header = Buffer.alloc(8)
      header.writeUInt32LE(body.length, 0)
      header.writeUInt32LE(kind, 4)
      return Buffer.concat([header, body]).toString('hex')
    }
    const at = FRAMES.findIndex(([name]) => name === seed.name)
    const replies = FRAMES.map(([, text], index) =>
      frame(index === 2 ? 1 : 0, index === at ? input : Buffer.from(text)),
    )
    process.env['FORGED'] = JSON.stringify(replies)
    const env = await findEnvironment('forged:Walk-v0', { python: FORGED, workers: 1, timeout: 5 }).make(1)
    try {
      const { obs_dim, act_dim } = env
      if (!(Number.isSafeInteger(obs_dim) && obs_dim > 0 && act_dim === 1)) return `sizes ${obs_dim} and ${act_dim}`
      await env.reset([0])
      return 'a failure passes for an answer'
    } finally {
      await env.close?.()
    }
  },
}

const CSV = ['obs_0,obs_1,action_0,reward,cost,terminated,truncated']
for (let row = 0; row < 30; row += 1)
  CSV.push([row / 7, -row, Math.sin(row), 1.5, row % 2, 0, Number(row % 10 === 9)].join(','))
const csv = converted('.csv', [], { shift: true })

export const TARGETS: Record<string, Target> = {
  policy,
  checkpoint,
  hdf5,
  minari: converted('.hdf5', ['convert/minari.hdf5'], {}),
  npz: converted('.npz', ['convert/all.npz', 'convert/fortran.npz', 'convert/half.npz'], {}, true),
  csv: { ...csv, seeds: async () => [{ name: 'log.csv', bytes: Buffer.from(CSV.join('\n')) }] },
  parquet: converted(
    '.parquet',
    ['convert/spread.parquet', 'convert/gzip.parquet', 'convert/checksums.parquet'],
    SPREAD,
  ),
  arrow,
  'config.yaml': config('config.yaml', CONFIG),
  'config.json': config(
    'config.json',
    JSON.stringify({ algorithm: 'bc', preset: 'none', cost_limit: 12.5, batch_size: 64, actor_hidden: [16, 16] }),
  ),
  ...Object.fromEntries(
    ['config.json', 'certificate.json', 'result.json', 'evaluation.json', 'metrics.csv', 'dataset_episodes.csv'].map(
      (name) => [`run/${name}`, record(name)],
    ),
  ),
  bridge,
}
