// Damages files of every kind and tries each in a child process: `npm run mutants` (6,000 of them), `npm run fuzz --
// --seconds N [--target T] [--seed S]`. An input is refused with a code or taken, and what is taken is consistent;
// anything else is a fault, kept in target/fuzz, and ends the command with status 1.
import { fork } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ROOT } from '../scripts/lib/run.mjs'
import { NAMES } from './names.mjs'

const MEMORY = 1 << 30
const SECONDS = 10
/** A start takes longer: sources are compiled, seeds made. */
const START_SECONDS = 120
const OUTCOMES = ['refused', 'accepted', 'inconsistent', 'panic', 'abort', 'hang', 'memory']
const FAULTS = new Set(OUTCOMES.slice(2))
/** After these a new process goes on. */
const ENDED = new Set(['abort', 'hang', 'memory'])
/** Files by their share of the whole: what takes processes of its own or trains is slower. */
const SHARES = { policy: 12, hdf5: 12, minari: 6, npz: 8, csv: 8, parquet: 10, arrow: 6, checkpoint: 5, bridge: 3 }

const { values: options } = parseArgs({
  options: {
    count: { type: 'string' },
    seconds: { type: 'string' },
    seed: { type: 'string', default: '0' },
    target: { type: 'string', multiple: true },
    json: { type: 'boolean' },
  },
})
const KEPT = join(ROOT, 'target/fuzz')

/** Bytes a process holds in memory of its own, where the system says so. */
function resident(pid) {
  try {
    return Number(/RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

class Child {
  constructor(target) {
    this.folder = join(KEPT, target.replaceAll('/', '-'))
    this.process = fork(join(ROOT, 'fuzz/child.ts'), [target, this.folder], {
      execArgv: ['--import=@oxc-node/core/register', '--max-old-space-size=900'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    this.errors = ''
    this.process.stderr.on('data', (chunk) => (this.errors = `${this.errors}${chunk}`.slice(-2000)))
  }

  /** What the child says next, or how it ended. */
  hear(seconds) {
    return new Promise((resolve) => {
      const base = resident(this.process.pid)
      const settle = (what) => {
        clearTimeout(late)
        clearInterval(watch)
        this.process.removeAllListeners('message').removeAllListeners('exit')
        resolve(what)
      }
      const late = setTimeout(() => settle({ outcome: 'hang', detail: `${seconds} s` }), seconds * 1000)
      const watch = setInterval(() => {
        const more = resident(this.process.pid) - base
        if (more > MEMORY) settle({ outcome: 'memory', detail: `${more} bytes` })
      }, 20)
      this.process.on('message', settle)
      this.process.on('exit', (status, signal) =>
        settle({ outcome: 'abort', detail: `${signal ?? status} ${this.errors}` }),
      )
    })
  }

  async attempt(asked) {
    const heard = this.hear(SECONDS)
    this.process.send(asked)
    return { ...asked, ...(await heard) }
  }

  end() {
    this.process.kill('SIGKILL')
  }
}

async function run(target, enough) {
  const counts = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0]))
  const faults = []
  let child
  for (let index = 0; !enough(index); index += 1) {
    if (child === undefined) {
      child = new Child(target)
      const started = await child.hear(START_SECONDS)
      if (started.ready !== true) throw new Error(`${target} does not start: ${started.detail}`)
    }
    const tried = await child.attempt({ index, seed: Number(options.seed) })
    counts[tried.outcome] += 1
    if (FAULTS.has(tried.outcome)) {
      const path = join(child.folder, `${tried.outcome}-${options.seed}-${index}`)
      copyFileSync(join(child.folder, 'last'), path)
      faults.push({ path, outcome: tried.outcome, detail: tried.detail })
    }
    if (ENDED.has(tried.outcome)) {
      child.end()
      child = undefined
    }
  }
  child?.end()
  return { target, counts, faults }
}

mkdirSync(KEPT, { recursive: true })
process.chdir(ROOT)
const names = options.target ?? NAMES
const unknown = names.find((name) => !NAMES.includes(name))
if (unknown !== undefined) {
  console.error(`no target ${unknown}; there are: ${NAMES.join(', ')}`)
  process.exit(2)
}
const share = (name) => SHARES[name] ?? 4
const whole = names.reduce((sum, name) => sum + share(name), 0)
const started = performance.now()
const results = []
for (const name of names) {
  const from = performance.now()
  const part = share(name) / whole
  const count = options.count === undefined ? Infinity : Math.ceil(Number(options.count) * part)
  const seconds = options.seconds === undefined ? Infinity : Number(options.seconds) * part
  const result = await run(name, (done) => done >= count || performance.now() - from > seconds * 1000)
  results.push(result)
  if (options.json) continue
  if (results.length === 1)
    console.log(['target'.padEnd(24), ...OUTCOMES.map((outcome) => outcome.padStart(12))].join(''))
  console.log([name.padEnd(24), ...OUTCOMES.map((outcome) => String(result.counts[outcome]).padStart(12))].join(''))
}
const totals = OUTCOMES.map((outcome) => results.reduce((sum, { counts }) => sum + counts[outcome], 0))
const faults = results.flatMap(({ target, faults: some }) => some.map((fault) => ({ target, ...fault })))
if (options.json) console.log(JSON.stringify({ results, faults }))
else {
  console.log(['all'.padEnd(24), ...totals.map((total) => String(total).padStart(12))].join(''))
  console.log(
    `${totals.reduce((a, b) => a + b)} in ${((performance.now() - started) / 1000).toFixed(0)} s, seed ${options.seed}`,
  )
  const seen = new Set()
  for (const { target, path, outcome, detail } of faults) {
    const kind = `${target} ${outcome} ${String(detail).split('\n')[0].replaceAll(/\d+/g, 'N').slice(0, 160)}`
    if (seen.has(kind)) continue
    seen.add(kind)
    console.log(`\n${target}, ${outcome}: ${String(detail).split('\n').slice(0, 6).join('\n  ')}\n  ${path}`)
  }
}
process.exitCode = faults.length > 0 ? 1 : 0
