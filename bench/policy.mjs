// `node bench/policy.mjs [--json]`, also a part of `npm run bench`: one action from JavaScript, through the addon and
// without it, and what the first policy of a process waits for. Medians; a machine busy with other work shows it here
// first, because the weights of one action (285 kB) are read from a cache that its neighbours use too.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Bench } from 'tinybench'
import { fail, ROOT, StepError } from '../scripts/lib/run.mjs'
import { writeDiffusion, writePolicy } from './policy-file.mjs'

/** Microseconds; the fallback has none, it is stated. */
const ONE_ACTION_US = 4
const THOUSAND_ACTIONS_MS = 8
/** Of a diffusion policy: 1,000 decisions one after the other. */
const THOUSAND_DENOISED_MS = 700
const LOAD_MS = 20
const POLICIES = [
  [8, 256, 256, 2],
  [17, 256, 256, 6],
]
const ENTRY = join(ROOT, 'dist/policy/node.js')

/** Median milliseconds of every task. */
export async function measure(tasks, time) {
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

const time = (us) => (us < 1000 ? `${us.toFixed(1)} us` : `${(us / 1e3).toFixed(1)} ms`)

const judged = (entry) => ({ ...entry, met: entry.target_us === null ? null : entry.us <= entry.target_us })

/** One action at a time, by both calls, for one policy size. */
async function actions(loadPolicy, path, size, runtime) {
  const policy = await loadPolicy(path, {}, { runtime })
  const count = 1000
  const rows = Array.from({ length: count }, (_, row) =>
    Float32Array.from({ length: policy.obs_dim }, (_, i) => Math.sin(row + i)),
  )
  const action = new Float32Array(policy.act_dim)
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
  const target = (us) => (runtime === 'native' ? us : null)
  return [
    { name: `one action ${size}, act, ${runtime}`, us: ms.act * 1e3, target_us: target(ONE_ACTION_US) },
    { name: `one action ${size}, actInto, ${runtime}`, us: ms.actInto * 1e3, target_us: target(ONE_ACTION_US) },
    { name: `1,000 actions ${size}, ${runtime}`, us: ms.thousand * 1e3, target_us: target(THOUSAND_ACTIONS_MS * 1e3) },
  ].map(judged)
}

/**
 * A thousand decisions of a diffusion policy at the published sizes, one after the other: the fastest of three rounds.
 */
async function denoised(loadPolicy, path) {
  await writeDiffusion(path, 17, 6)
  const policy = await loadPolicy(path, {}, { runtime: 'native' })
  const rows = Array.from({ length: 1000 }, (_, row) =>
    Float32Array.from({ length: policy.obs_dim }, (_, i) => Math.sin(row + i)),
  )
  const action = new Float32Array(policy.act_dim)
  for (const row of rows.slice(0, 100)) policy.actInto(row, action)
  const rounds = Array.from({ length: 3 }, () => {
    const start = performance.now()
    for (const row of rows) policy.actInto(row, action)
    return performance.now() - start
  })
  const us = Math.min(...rounds) * 1e3
  return judged({ name: '1,000 decisions of diffusion, 16 x 5, native', us, target_us: THOUSAND_DENOISED_MS * 1e3 })
}

/** The first policy of a process: the median of seven processes, their own start not included. */
function load(path, runtime) {
  const program = `
    const start = performance.now()
    const { loadPolicy } = await import(${JSON.stringify(pathToFileURL(ENTRY).href)})
    const imported = performance.now()
    await loadPolicy(${JSON.stringify(path)}, {}, { runtime: '${runtime}' })
    console.log(JSON.stringify([imported - start, performance.now() - imported]))`
  const runs = Array.from({ length: 7 }, () => {
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
    if (child.status !== 0) throw new StepError(`${child.stderr.trim()}\nrun: npm run build`)
    return JSON.parse(child.stdout)
  })
  const median = (index) => runs.map((run) => run[index]).toSorted((a, b) => a - b)[3]
  const target_us = runtime === 'native' ? LOAD_MS * 1e3 : null
  return [
    { name: `import of drcorl/policy, for ${runtime}`, us: median(0) * 1e3, target_us: null },
    { name: `first loadPolicy of a process, ${runtime}`, us: median(1) * 1e3, target_us },
  ].map(judged)
}

/** Every entry: name, microseconds, target, whether it is met. */
export async function policies() {
  const { loadPolicy } = await import(pathToFileURL(ENTRY).href).catch((error) => {
    throw new StepError(`dist cannot be loaded (${error.message}); run: npm run build:ts`)
  })
  const folder = mkdtempSync(join(tmpdir(), 'drcorl-bench-'))
  try {
    const entries = []
    for (const widths of POLICIES) {
      const path = join(folder, `${widths.join('-')}.safetensors`)
      await writePolicy(path, widths)
      for (const runtime of ['native', 'javascript']) {
        entries.push(...(await actions(loadPolicy, path, widths.join('->'), runtime)))
      }
    }
    entries.push(await denoised(loadPolicy, join(folder, 'diffusion.safetensors')))
    const path = join(folder, `${POLICIES[0].join('-')}.safetensors`)
    return [...entries, ...load(path, 'native'), ...load(path, 'javascript')]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const entries = await policies().catch(fail)
  if (process.argv.includes('--json')) console.log(JSON.stringify(entries))
  else {
    for (const { name, us, target_us, met } of entries) {
      const limit = target_us === null ? '' : `${met ? 'met' : 'missed'} (<= ${time(target_us)})`
      console.log(`${name.padEnd(52)}${time(us).padStart(10)}  ${limit}`.trimEnd())
    }
  }
}
