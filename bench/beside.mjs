// `node bench/beside.mjs [torch,jax] [--json]`, also what `npm run bench -- --beside torch,jax` adds: DRCORL's critic
// and behavior steps beside the same steps of other libraries. Each has a virtual environment of its own in
// target/beside, made when it is first asked for.
//
// Every version is a process that measures when it is told to, one at a time, the next one after a second or two: what
// else runs on the machine weighs on all alike. All start from the numbers that our bench writes, and must come by our
// losses.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { libtorchEnv, MANIFEST } from '../scripts/lib/libtorch.mjs'
import { hostTriple } from '../scripts/lib/platforms.mjs'
import { duration, fail, ROOT, StepError, UsageError } from '../scripts/lib/run.mjs'

const FOLDER = join(ROOT, 'target/beside')
const SCRIPTS = join(ROOT, 'bench/beside')
/** Rounds of a second or more each; the best median of a version counts. */
const ROUNDS = 5
const SECONDS = 1
/** Of losses that are to agree, a share of them. */
const TOLERANCE = 1e-4
const PRECISIONS = ['highest', 'high', 'medium']

/** What a library is called, its script, and its versions of a step: the argument of the script by the name shown. */
export const PEERS = {
  torch: {
    label: 'PyTorch',
    script: 'torch_peer.py',
    versions: { 'PyTorch eager': 'eager', 'torch.compile': 'compile' },
  },
  jax: { label: 'JAX', script: 'jax_peer.py', versions: { 'JAX jit': 'jit' } },
}

/** Steps that are measured at lower precisions too. */
const LARGE = new Set(['critic step', 'behavior step'])

/** What was aimed at, as ratios: of the plain version at each precision, and of the best peer. */
const TARGETS = {
  'critic step': { plain: [2.3, 3, 4.5], best: 2 },
  'behavior step': { plain: [2.3, 3, 4.5], best: 2 },
  'critic step, quick': { plain: [2.4] },
  'behavior step, quick': { plain: [2.4] },
}
/** Of steps that the core's bench measures: of the plain version. */
const CORE_TARGETS = {
  'policy reward step': 2.3,
  'policy cost step': 2.3,
  'policy band step': 2.3,
  'policy band step, quick': 2.4,
  'cdt step': 3.5,
}

/**
 * The libraries that `--beside` names.
 * @param {string} text names between commas
 * @returns {string[]} without repetitions
 */
export function parsePeers(text) {
  const names = [...new Set(text.split(',').map((name) => name.trim()))]
  for (const name of names) {
    if (!Object.hasOwn(PEERS, name)) {
      throw new UsageError(`error: unknown library "${name}" for --beside\n  known: ${Object.keys(PEERS).join(', ')}`)
    }
  }
  return names
}

/** Every package of a peer at one version. */
export function packagesOf(name) {
  const listed = readFileSync(join(SCRIPTS, `${name}.txt`), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
  if (name !== 'torch') return { packages: listed, bytes: 0 }
  // On Linux the one wheel of torch is that with CUDA, and Python loads all that it names.
  const { cpu, cu130 } = JSON.parse(readFileSync(MANIFEST, 'utf8')).builds[hostTriple()]
  const wheels = cu130 ?? cpu
  const bytes = wheels.reduce((sum, wheel) => sum + wheel.bytes, 0)
  return { packages: [...wheels.map(({ requirement }) => requirement), ...listed], bytes }
}

/** The interpreter of a peer's environment, which is made where it is not there or of other packages. */
async function environment(name, { python, venv, interpreter, lock, line }) {
  const folder = join(FOLDER, name)
  const record = join(folder, 'installed.json')
  const { packages, bytes } = packagesOf(name)
  mkdirSync(folder, { recursive: true })
  const release = await lock(join(folder, 'install.lock'), `installing ${PEERS[name].label} in ${folder}`)
  try {
    if (readOr(record) === packages.join('\n')) return python(folder)
    const onProgress = ({ text, detail }) => (detail ? line.update(text) : line.note(text))
    if (bytes > 0) line.note(`${PEERS[name].label}: ${(bytes / 1e9).toFixed(1)} GB to fetch`)
    // Written last: with it the environment is complete.
    writeFileSync(record, '')
    await venv.makeVenv(folder, await interpreter.findPython(), { onProgress })
    await venv.installPackages(PEERS[name].label, folder, packages, { onProgress })
    writeFileSync(record, packages.join('\n'))
    return python(folder)
  } finally {
    release()
    line.close()
  }
}

function readOr(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

/** Whether all of a peer is installed, for tests that would otherwise fetch it. */
export const isInstalled = (name) =>
  readOr(join(FOLDER, name, 'installed.json')) === packagesOf(name).packages.join('\n')

/** A process that answers a line with a line, both JSON; its first line says what it is. */
class Answering {
  constructor(label, command, args, env) {
    this.label = label
    this.tail = []
    const cwd = ROOT
    this.child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
    this.lines = createInterface(this.child.stdout)[Symbol.asyncIterator]()
    createInterface(this.child.stderr).on('line', (text) => {
      this.tail.push(text)
      this.tail.splice(0, this.tail.length - 15)
    })
    this.closed = new Promise((resolve) => {
      this.child.on('error', (error) => this.tail.push(error.message)).on('close', resolve)
    })
    // Told where an answer is missing.
    this.child.stdin.on('error', () => undefined)
  }

  async next() {
    const { value } = await this.lines.next()
    if (value !== undefined) return JSON.parse(value)
    await this.closed
    throw new StepError([`${this.label} ended early:`, ...this.tail].join('\n  '))
  }

  ask(request) {
    this.child.stdin.write(`${JSON.stringify(request)}\n`)
    return this.next()
  }

  async end() {
    this.child.stdin.end()
    await this.closed
  }
}

/** Errs if a peer's step is not ours: losses one after the other depend on gradients, optimiser and lagged networks. */
export function checkLosses(label, { name, losses, constants }, opened) {
  const agree = (a, b, tolerance) => Math.abs(a - b) <= tolerance * Math.abs(a)
  const wrong = losses.findIndex((loss, i) => !agree(loss, opened.losses[i], TOLERANCE))
  if (wrong >= 0 || opened.losses.length !== losses.length) {
    throw new StepError(`${name}: ${label} has losses ${opened.losses.join(', ')}, ours are ${losses.join(', ')}`)
  }
  // Dropout is drawn by everybody anew.
  if (!agree(losses[0], opened.first_loss, constants.dropout > 0 ? 0.1 : TOLERANCE)) {
    throw new StepError(`${name}: ${label} begins at a loss of ${opened.first_loss}, ours at ${losses[0]}`)
  }
}

const best = (values) => Math.min(...values)

/**
 * Steps, ratios and targets from what was measured.
 * @param {object} machine the first line of our bench
 * @param {Record<string, object>} opened what each peer's version said of each step: `opened[step][version]`
 * @param {Record<string, Record<string, number[]>>} times milliseconds by step and version; ours are `ours, PRECISION`
 *   and `plain`
 * @param {number} peak the best GFLOP/s of all rounds; null where the unit is not measured
 * @param {object[]} [others] steps of the core's bench
 */
export function judge(machine, opened, times, peak, others = []) {
  const steps = machine.steps.map(({ name, gflop, mbyte, losses }) => {
    const measured = times[name]
    const ms = best(measured['ours, highest'])
    const plain_ms = best(measured.plain)
    const peers = Object.entries(opened[name]).map(([version, { losses, first_call_seconds }]) => {
      const its = best(measured[version])
      return { name: version, ms: its, ratio: its / ms, losses, first_call_seconds }
    })
    const fastest = peers.reduce((one, other) => (other.ms < one.ms ? other : one))
    const lower = PRECISIONS.slice(1).filter((precision) => measured[`ours, ${precision}`])
    const precisions = lower.map((matmul_precision) => {
      const its = best(measured[`ours, ${matmul_precision}`])
      return { matmul_precision, ms: its, ratio: plain_ms / its, best_peer_ratio: fastest.ms / its }
    })
    const [by_products, by_memory] = [peak && (gflop / peak) * 1e3, mbyte / machine.roofline.gbyte_per_s]
    const roofline = {
      bound: peak && (by_products >= by_memory ? 'products' : 'memory'),
      least_ms: peak && Math.max(by_products, by_memory),
      share: peak && Math.max(by_products, by_memory) / ms,
    }
    const ours = {
      name,
      ms,
      plain_ms,
      ratio: plain_ms / ms,
      gflop,
      mbyte,
      gflop_per_s: (gflop / ms) * 1e3,
      roofline,
      losses,
    }
    return { ...ours, precisions, peers, best_peer: fastest.name, best_peer_ratio: fastest.ms / ms }
  })
  return { steps, targets: [...targetsOf(steps), ...coreTargets(others)] }
}

const aimed = (step, beside, precision, target_ratio, ratio, peer) => {
  return { step, beside, precision, target_ratio, ratio, met: ratio >= target_ratio, peer }
}

const targetsOf = (steps) =>
  steps.flatMap(({ name, ratio, precisions, best_peer, best_peer_ratio }) => {
    const { plain, best: of_best } = TARGETS[name]
    const ratios = [ratio, ...precisions.map((lower) => lower.ratio)]
    const besidePlain = ratios.map((ratio, i) => aimed(name, 'plain', PRECISIONS[i], plain[i], ratio, null))
    if (of_best === undefined) return besidePlain
    return [aimed(name, 'best peer', 'highest', of_best, best_peer_ratio, best_peer), ...besidePlain]
  })

const coreTargets = (others) =>
  others
    .filter(({ name }) => Object.hasOwn(CORE_TARGETS, name))
    .map(({ name, ratio }) => aimed(name, 'plain', 'highest', CORE_TARGETS[name], ratio, null))

/** Starts our steps; builds them first. */
function ours() {
  const numbers = join(FOLDER, 'numbers')
  mkdirSync(numbers, { recursive: true })
  const args = ['run', '--release', '--quiet', '-p', 'drcorl-bench', '--bin', 'bench', '--', '--serve', numbers]
  return new Answering('our bench', 'cargo', args, libtorchEnv())
}

/** One thread in all libraries, and nothing compiled that an earlier run has left. */
const ALONE = { OMP_NUM_THREADS: '1', MKL_NUM_THREADS: '1', TORCHINDUCTOR_FORCE_DISABLE_CACHES: '1' }

/** Opens a step in every version, checks its losses, and measures all in turn. */
async function measureStep(step, our, versions, { rounds, seconds, line }) {
  const { name, kind, file, constants } = step
  const opened = {}
  for (const { label, process } of versions) {
    line.update(`${name}: ${label} begins`, true)
    opened[label] = await process.ask({ step: name, kind, file, constants })
    checkLosses(label, step, opened[label])
  }
  const request = { step: name, seconds }
  const asks = new Map()
  for (const matmul_precision of LARGE.has(name) ? PRECISIONS : PRECISIONS.slice(0, 1)) {
    asks.set(`ours, ${matmul_precision}`, () => our.ask(Object.assign({ matmul_precision }, request)))
  }
  asks.set('plain', () => our.ask({ ...request, plain: true }))
  for (const { label, process } of versions) asks.set(label, () => process.ask(request))

  const times = Object.fromEntries([...asks.keys()].map((label) => [label, []]))
  const peaks = []
  for (let round = 1; round <= rounds; round += 1) {
    for (const [label, ask] of asks) {
      line.update(`${name}, round ${round} of ${rounds}: ${label}`)
      const { ms, peak_gflop_per_s } = await ask()
      times[label].push(ms)
      if (peak_gflop_per_s) peaks.push(peak_gflop_per_s)
    }
  }
  return { opened, times, peaks }
}

/** The versions of the libraries named, each a process that has said what it is. */
async function start(names, running, line) {
  const [{ venvPython }, venv, interpreter, { lock }] = await Promise.all(
    ['envs/installed', 'envs/venv', 'envs/interpreter', 'native/lock'].map((room) => import(`../dist/${room}.js`)),
  )
  const versions = []
  for (const name of names) {
    const tools = { python: venvPython, venv, interpreter, lock, line }
    const python = await environment(name, tools).catch((error) => {
      // The command line has that option, a bench has not.
      const hint = error.hint?.replace('; or name it with --python', '')
      throw new StepError([`error: ${error.message}`, hint].filter(Boolean).join('\n  '))
    })
    for (const [label, argument] of Object.entries(PEERS[name].versions)) {
      const process = new Answering(label, python, [join(SCRIPTS, PEERS[name].script), argument], ALONE)
      running.push(process)
      versions.push({ label, process, ...(await process.next()) })
    }
  }
  return versions
}

/**
 * Measures our steps beside those of the libraries named.
 * @param {string[]} names keys of PEERS
 * @param {{ others?: object[], only?: string[], rounds?: number, seconds?: number }} [options] `others`: steps of the
 *   core's bench, for their targets; `only`: names of steps
 */
export async function beside(names, { others, only, rounds = ROUNDS, seconds = SECONDS } = {}) {
  const { LiveLine } = await import('../dist/base/live-line.js')
  const line = new LiveLine(process.stderr)
  const running = []
  try {
    const versions = await start(names, running, line)
    line.update('our steps: building', true)
    const our = ours()
    running.push(our)
    const machine = await our.next()
    machine.steps = machine.steps.filter(({ name }) => only === undefined || only.includes(name))
    const [opened, times, peaks] = [{}, {}, []]
    for (const step of machine.steps) {
      const found = await measureStep(step, our, versions, { rounds, seconds, line })
      opened[step.name] = found.opened
      times[step.name] = found.times
      peaks.push(...found.peaks)
    }
    const peak = peaks.length > 0 ? Math.max(...peaks) : null
    return {
      rounds,
      threads: 1,
      roofline: { ...machine.roofline, gflop_per_s: peak },
      matmul_gflop_per_s: machine.matmul_gflop_per_s,
      versions: versions.map(({ label, version, python }) => ({ name: label, version, python })),
      ...judge(machine, opened, times, peak, others),
      times,
    }
  } finally {
    line.close()
    await Promise.all(running.map((process) => process.end()))
  }
}

/** The tables of `beside` as text. */
export function text({ rounds, roofline, versions, steps, targets }) {
  const names = versions.map(({ name }) => name)
  const row = (cells) =>
    `${cells[0].padEnd(24)}${cells
      .slice(1)
      .map((cell) => cell.padStart(15))
      .join('')}`
  const time = (ms) => ms.toFixed(ms < 100 ? 2 : 0)
  const peak = roofline.gflop_per_s === null ? 'not measured' : `${roofline.gflop_per_s.toFixed(0)} GFLOP/s`
  const [compiled, lower] = [[], []]
  const table = steps.map((step) => {
    const { name, ms, plain_ms, peers, best_peer_ratio, roofline: its } = step
    compiled.push(`${name}: ${peers.map((peer) => `${peer.name} ${peer.first_call_seconds.toFixed(1)} s`).join(', ')}`)
    for (const { matmul_precision, ms: less, ratio, best_peer_ratio: beside } of step.precisions) {
      lower.push(
        `${name}, ${matmul_precision}: ${time(less)} ms, plain ${ratio.toFixed(2)}x, best peer ${beside.toFixed(2)}x`,
      )
    }
    const share = its.share === null ? '' : `${(100 * its.share).toFixed(0)} %`
    return row([
      name,
      time(ms),
      time(plain_ms),
      ...peers.map((peer) => time(peer.ms)),
      `${best_peer_ratio.toFixed(2)}x`,
      share,
    ])
  })
  return [
    `beside others, fp32, one thread each, ms: the best median of ${rounds} rounds in turn`,
    row(['', 'ours', 'plain', ...names, 'best peer', 'of roofline']),
    ...table,
    '',
    `versions: ${versions.map(({ name, version }) => `${name} ${version}`).join(', ')}`,
    `roofline: ${roofline.unit} ${peak}, memory ${roofline.gbyte_per_s.toFixed(0)} GB/s`,
    '',
    'first call, which compiles',
    ...compiled,
    '',
    'less precision',
    ...lower,
    '',
    'targets',
    ...targets.map(({ step, beside, precision, ratio, target_ratio, met }) =>
      row([step, beside, precision, `${ratio.toFixed(2)}x`, `  ${met ? 'met' : 'missed'} (>= ${target_ratio}x)`]),
    ),
  ].join('\n')
}

async function main() {
  const { values, positionals } = parseArgs({
    options: { json: { type: 'boolean', default: false } },
    allowPositionals: true,
  })
  if (positionals.length > 1) throw new UsageError('usage: node bench/beside.mjs [torch,jax] [--json]')
  const start = performance.now()
  const result = await beside(parsePeers(positionals[0] ?? Object.keys(PEERS).join(',')))
  console.log(values.json ? JSON.stringify(result) : text(result))
  console.error(`measured in ${duration(performance.now() - start)}`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main().catch(fail)
