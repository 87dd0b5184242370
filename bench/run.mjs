// `npm run bench [-- --json] [-- --device cuda:N]`: training steps in the core, then actions and data loading from
// JavaScript, then steps of real environments in Python, where they are installed.
// One table on stdout; with --json one object there and nothing else. A missed target is said, never an error: a number
// measured on a busy machine must not fail a build.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Bench } from 'tinybench'
import { libtorchEnv } from '../scripts/lib/libtorch.mjs'
import { fail, ROOT, StepError } from '../scripts/lib/run.mjs'
import { bridge } from './bridge.mjs'
import { writePolicy } from './policy-file.mjs'

/** Targets of issue 3, on one core of an AVX-512 machine. */
const ONE_ACTION_US = 6
const THOUSAND_ACTIONS_MS = 8
const POLICIES = [
  [8, 256, 256, 2],
  [17, 256, 256, 6],
]

/** Median milliseconds of every task. */
async function measure(tasks, time) {
  const bench = new Bench({ time, warmupTime: time / 5 })
  for (const [name, run] of Object.entries(tasks)) bench.add(name, run)
  await bench.run()
  return Object.fromEntries(
    bench.tasks.map((task) => {
      if (task.result.state !== 'completed')
        throw new StepError(`${task.name}: ${task.result.error ?? task.result.state}`)
      return [task.name, task.result.latency.p50]
    }),
  )
}

/** One action at a time, by both calls, for one policy size. */
async function actions(addon, folder, widths) {
  const path = join(folder, `${widths.join('-')}.safetensors`)
  writePolicy(path, widths)
  const policy = addon.NativePolicy.load(path)
  const count = 1000
  const rows = Array.from({ length: count }, (_, row) =>
    Float32Array.from({ length: policy.obsDim }, (_, i) => Math.sin(row + i)),
  )
  const action = new Float32Array(policy.actDim)
  let next = 0
  const observation = () => rows[(next = (next + 1) % count)]
  const ms = await measure(
    {
      act: () => void policy.act(observation()),
      actInto: () => policy.actInto(observation(), action),
      thousand: () => {
        for (const row of rows) policy.actInto(row, action)
      },
    },
    500,
  )
  const size = widths.join('->')
  return [
    { name: `one action ${size}, act`, us: ms.act * 1e3, target_us: ONE_ACTION_US },
    { name: `one action ${size}, actInto`, us: ms.actInto * 1e3, target_us: ONE_ACTION_US },
    { name: `1,000 actions ${size}`, us: ms.thousand * 1e3, target_us: THOUSAND_ACTIONS_MS * 1e3 },
  ].map((entry) => Object.assign(entry, { met: entry.us <= entry.target_us }))
}

/** Reading one data set through the addon; null where there is none. */
async function load(addon) {
  const folder = process.env.DRCORL_DATA_DIR ?? join(ROOT, '../shared/data')
  const file = join(folder, 'SafetyBallCircle-v0-80-800.hdf5')
  if (!existsSync(file)) {
    console.error(`HDF5 load not measured: ${file} is not there`)
    return { file, entry: null }
  }
  const { open } = await measure({ open: async () => void (await addon.NativeDataset.open(file)) }, 1000)
  return { file, entry: { name: 'HDF5 load, NativeDataset.open', us: open * 1e3, target_us: null, met: null } }
}

/** The core's own bench: builds and runs `bench`, whose one line of JSON it returns. */
function core(device, file) {
  const env = { ...process.env, ...libtorchEnv() }
  const args = ['run', '--release', '--quiet', '-p', 'drcorl-core', '--bin', 'bench', '--', '--json', '--data', file]
  const child = spawnSync('cargo', [...args, '--device', device], {
    cwd: ROOT,
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (child.error) throw new StepError(`cargo: ${child.error.message}`)
  if (child.status !== 0) throw new StepError('the bench of the core failed, see above')
  return JSON.parse(child.stdout)
}

function state(entry, target) {
  if (entry.met === null || entry.met === undefined) return ''
  return `${entry.met ? 'met' : 'missed'} (${target})`
}

function print({ core, javascript, bridge }) {
  const { matmul } = core
  console.log(
    `best fp32 matmul through libtorch: ${Math.max(matmul.default_gflop_per_s, matmul.mkldnn_gflop_per_s).toFixed(0)} GFLOP/s ` +
      `(default ${matmul.default_gflop_per_s.toFixed(0)}, oneDNN ${matmul.mkldnn_gflop_per_s.toFixed(0)}), ${core.threads} thread\n`,
  )
  const row = (cells) =>
    console.log(
      cells[0].padEnd(38) +
        cells
          .slice(1, 7)
          .map((x) => x.padStart(10))
          .join('') +
        `  ${cells[7]}`,
    )
  row(['', 'ms', 'plain ms', 'ratio', 'GFLOP', 'GFLOP/s', '% matmul', 'target'])
  for (const step of core.steps) {
    const numbers = [step.ms.toFixed(2), step.plain_ms.toFixed(2), `${step.ratio.toFixed(2)}x`, step.gflop.toFixed(2)]
    const share = (100 * step.share_of_matmul).toFixed(0)
    row([step.name, ...numbers, step.gflop_per_s.toFixed(0), share, state(step, `>= ${step.target_ratio}x`)])
  }
  const load = core.load && { ...core.load, name: 'HDF5 load in the core', us: core.load.ms * 1e3, met: null }
  for (const entry of [...javascript, load].filter(Boolean)) {
    const limit = entry.us < 1000 ? `<= ${entry.target_us} us` : `<= ${entry.target_us / 1e3} ms`
    row([entry.name, (entry.us / 1e3).toFixed(entry.us < 1000 ? 4 : 2), '', '', '', '', '', state(entry, limit)])
  }
  if (bridge.length > 0)
    console.log('\nenvironments in Python, one step of all: through the bridge, in plain Python, overhead')
  for (const entry of bridge) {
    const numbers = [
      (entry.us / 1e3).toFixed(2),
      (entry.plain_us / 1e3).toFixed(2),
      `${(100 * entry.overhead).toFixed(0)} %`,
    ]
    row([entry.name, ...numbers, '', '', '', state(entry, `<= ${100 * entry.target_overhead} %`)])
  }
}

async function main() {
  const { values } = parseArgs({
    options: { json: { type: 'boolean', default: false }, device: { type: 'string', default: 'cpu' } },
  })
  const { loadRuntime } = await import('../dist/native/addons.js').catch((error) => {
    throw new StepError(`dist cannot be loaded (${error.message}); run: npm run build:ts`)
  })
  const addon = loadRuntime()
  const folder = mkdtempSync(join(tmpdir(), 'drcorl-bench-'))
  try {
    const javascript = []
    for (const widths of POLICIES) javascript.push(...(await actions(addon, folder, widths)))
    const { file, entry } = await load(addon)
    if (entry) javascript.push(entry)
    const drcorl = await import('../dist/index.js')
    const result = { core: core(values.device, file), javascript, bridge: await bridge(drcorl) }
    if (values.json) console.log(JSON.stringify(result))
    else print(result)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

main().catch(fail)
