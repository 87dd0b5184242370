// Trains and judges one embedded task over several seeds, and writes the table: offline verdict beside the truth.
//
//   node scripts/study.mjs [--env point-circle] [--limit 10] [--seeds 10] [--episodes 100] [--jobs 2] [--out runs/study]
//
// Runs that are complete are not repeated. Every run is trained on the same data (dataset seed 0) and evaluated afterwards
// on episodes that training, gate, selection and certificate never saw.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ROOT } from './lib/run.mjs'

const text = (value) => ({ type: 'string', default: value })
const { values } = parseArgs({
  options: {
    env: text('point-circle'),
    limit: text('10'),
    seeds: text('10'),
    episodes: text('100'),
    jobs: text('2'),
    out: text(join('runs', 'study')),
  },
})
const CLI = join(ROOT, 'dist', 'cli', 'main.js')

/** Runs the command line and resolves with the object it prints. */
function drcorl(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CLI, ...args, '--json'], { cwd: ROOT, stdio: ['ignore', 'pipe', 'ignore'] })
    let output = ''
    child.stdout.on('data', (chunk) => (output += chunk))
    child.on('close', (status) => {
      if (status === 0) resolve(JSON.parse(output))
      else reject(new Error(`drcorl ${args.join(' ')} ended with status ${status}: ${output}`))
    })
  })
}

const readJson = (...path) => JSON.parse(readFileSync(join(...path), 'utf8'))

async function one(algorithm, seed) {
  const folder = join(values.out, `${values.env}-l${values.limit}`, `${algorithm}-s${seed}`)
  const common = ['--cost-limit', values.limit, '--preset', 'quick', '--seed', String(seed), '--out', folder]
  if (!existsSync(join(ROOT, folder, 'result.json'))) {
    const resume = existsSync(join(ROOT, folder, 'checkpoint.safetensors')) ? ['--resume'] : ['--overwrite']
    await drcorl(['train', '--env', values.env, '--algorithm', algorithm, ...common, ...resume])
  }
  // Seeds far from those the table in the README uses; never those of scripted data.
  await drcorl(['evaluate', folder, '--episodes', values.episodes, '--seed', '1000'])
  const evaluation = readJson(ROOT, folder, 'evaluation.json')
  const certificate = readJson(ROOT, folder, 'certificate.json')
  const seconds = readJson(ROOT, folder, 'result.json').wall_seconds
  console.log(`${algorithm} seed ${seed}: ${certificate.verdict}, true cost ${evaluation.cost.mean.toFixed(2)}`)
  return { algorithm, seed, evaluation, certificate, seconds }
}

function row({ algorithm, seed, evaluation, certificate, seconds }) {
  const model = certificate.estimates.model_rollout
  const fixed = (value, digits = 1) => (typeof value === 'number' ? value.toFixed(digits) : '–')
  return [
    algorithm,
    seed,
    certificate.verdict,
    fixed(model?.cost.upper, 2),
    `${fixed(evaluation.cost.mean, 2)}`,
    fixed(evaluation.cost.max, 0),
    `${evaluation.within_limit.episodes}/${evaluation.episodes}`,
    fixed(model?.return.mean),
    fixed(evaluation.return.mean),
    fixed(seconds, 0),
  ]
}

function markdown(results) {
  const head = [
    'algorithm',
    'seed',
    'verdict',
    'offline upper cost',
    'true cost',
    'worst episode',
    'within limit',
    'offline return',
    'true return',
    'training s',
  ]
  const line = (cells) => `| ${cells.join(' | ')} |`
  const ours = results.filter(({ algorithm }) => algorithm === 'drcorl')
  const certified = ours.filter(({ certificate }) => certificate.verdict === 'certified')
  const safe = certified.filter(({ evaluation }) => evaluation.cost.mean <= Number(values.limit))
  const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]?.toFixed(1)
  const returns = (name) =>
    median(results.filter(({ algorithm }) => algorithm === name).map(({ evaluation }) => evaluation.return.mean))
  return `# ${values.env}, cost limit ${values.limit}, preset quick

Made by \`node scripts/study.mjs --env ${values.env} --limit ${values.limit} --seeds ${values.seeds} --episodes ${values.episodes}\`;
environment steps used in training, by the ledger: 0 in every run. True figures: ${values.episodes} episodes a run, played after
the verdict was written. A run is truly safe if its mean cost is at most the limit.

- DRCORL: ${certified.length} of ${ours.length} runs certified, ${safe.length} of those truly safe, ${ours.length - certified.length} refused.
- Median true return: DRCORL ${returns('drcorl')}, BC-Safe ${returns('bc_safe')}, BC ${returns('bc')}.

${[head, head.map(() => '---'), ...results.map(row)].map(line).join('\n')}
`
}

const queue = []
for (let seed = 0; seed < Number(values.seeds); seed += 1) queue.push(['drcorl', seed])
for (const algorithm of ['bc_safe', 'bc']) for (let seed = 0; seed < 3; seed += 1) queue.push([algorithm, seed])
const order = (job) => queue.findIndex(([algorithm, seed]) => algorithm === job.algorithm && seed === job.seed)
const pending = [...queue]
const results = []
async function worker() {
  for (let job = pending.shift(); job !== undefined; job = pending.shift()) results.push(await one(...job))
}
await Promise.all(Array.from({ length: Number(values.jobs) }, worker))
results.sort((a, b) => order(a) - order(b))
const folder = join(ROOT, 'docs', 'results')
mkdirSync(folder, { recursive: true })
const file = join(folder, `${values.env}.md`)
writeFileSync(file, markdown(results))
console.log(`wrote ${file}`)
