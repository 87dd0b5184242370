// `npm run bench [-- --json] [-- --device cuda:N] [-- --beside torch,jax]`: training steps in the core, then actions
// and data loading from JavaScript, then steps of real environments in Python, where they are installed; beside other
// libraries, if asked to.
// One table on stdout; with --json one object there and nothing else. A missed target is said, never an error: a number
// measured on a busy machine must not fail a build.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { libtorchEnv } from '../scripts/lib/libtorch.mjs'
import { fail, ROOT, StepError, UsageError } from '../scripts/lib/run.mjs'
import { beside, parsePeers, text } from './beside.mjs'
import { bridge } from './bridge.mjs'
import { measure, policies } from './policy.mjs'

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
  const args = ['run', '--release', '--quiet', '-p', 'drcorl-bench', '--bin', 'bench', '--', '--json', '--data', file]
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
      cells[0].padEnd(52) +
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
    options: {
      json: { type: 'boolean', default: false },
      device: { type: 'string', default: 'cpu' },
      beside: { type: 'string' },
    },
  })
  const peers = values.beside === undefined ? undefined : parsePeers(values.beside)
  if (peers !== undefined && values.device !== 'cpu') {
    throw new UsageError(`error: --beside compares on the CPU, not on ${values.device}\n  leave --device out`)
  }
  const { loadRuntime } = await import('../dist/native/addons.js').catch((error) => {
    throw new StepError(`dist cannot be loaded (${error.message}); run: npm run build:ts`)
  })
  const javascript = await policies()
  const { file, entry } = await load(loadRuntime())
  if (entry) javascript.push(entry)
  const drcorl = await import('../dist/index.js')
  const result = { core: core(values.device, file), javascript, bridge: await bridge(drcorl) }
  if (peers !== undefined) result.beside = await beside(peers, { others: result.core.steps })
  if (values.json) return console.log(JSON.stringify(result))
  print(result)
  if (peers !== undefined) console.log(`\n${text(result.beside)}`)
}

main().catch(fail)
