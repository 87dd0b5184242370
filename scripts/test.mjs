// What `npm test` runs. Every step runs whatever happened before it; the last line sums up.
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { libtorchEnv } from './lib/libtorch.mjs'
import { duration, ROOT, runLoudly } from './lib/run.mjs'

const NODE = process.execPath
/**
 * Where the tests find Bullet-Safety-Gym and Safety-Gymnasium. They are installed here, by the command a user has, and
 * not by set-up: neither the demo nor training needs them. A second run only steps them.
 */
const ENVS = process.env.DRCORL_ENVS ?? join(ROOT, 'target/envs')
const PARITY = join('..', 'shared', 'parity')
const CASES = process.env.DRCORL_CASES_DIR ?? join('..', 'shared', 'cases')

const sum = (output, pattern) => [...output.matchAll(pattern)].reduce((total, match) => total + Number(match[1]), 0)

/** Readers of a command's own summary. A check without one counts as one. */
const COUNTS = {
  check: (_, status) => ({ passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 }),
  cargo: (output) => ({
    passed: sum(output, /^test result: .*?(\d+) passed/gm),
    failed: sum(output, /^test result: .*?(\d+) failed/gm),
    skipped: sum(output, /^test result: .*?(\d+) ignored/gm),
  }),
  parity: (output) => ({
    passed: sum(output, /^(\d+) passed, \d+ failed/gm),
    failed: sum(output, /^\d+ passed, (\d+) failed/gm),
    skipped: sum(output, /^\d+ passed, \d+ failed, (\d+) skipped/gm),
  }),
  packages: (output) => ({ passed: sum(output, /^(\d+) installations passed/gm), failed: 0, skipped: 0 }),
  ava: (output) => ({
    // Counted one by one: ava leaves the number of passed tests out when one has failed.
    passed: [...output.matchAll(/^ *✔ /gm)].length,
    failed:
      sum(output, /^ *(\d+) tests? failed/gm) +
      sum(output, /^ *(\d+) uncaught exceptions?/gm) +
      sum(output, /^ *(\d+) unhandled rejections?/gm) +
      sum(output, /^ *(\d+) tests? remained pending/gm),
    skipped: sum(output, /^ *(\d+) tests? skipped/gm),
  }),
}

const STEPS = [
  ['generated files', 'check', NODE, ['scripts/codegen.mjs', '--check']],
  ['oxlint', 'check', 'node_modules/.bin/oxlint', []],
  ['comments', 'check', NODE, ['scripts/comments.mjs']],
  ['prettier', 'check', 'node_modules/.bin/prettier', ['--check', '.']],
  ['rustfmt', 'check', 'cargo', ['fmt', '--all', '--check']],
  ['clippy', 'check', 'cargo', 'clippy --release --workspace --all-targets -- -D warnings'.split(' ')],
  ['type check', 'check', 'node_modules/.bin/tsc', ['--noEmit', '-p', 'tsconfig.json']],
  ['API reference', 'check', 'node_modules/.bin/typedoc', ['--emit', 'none']],
  ['Rust tests', 'cargo', 'cargo', ['test', '--release', '--workspace', '--no-fail-fast']],
  ['parity', 'parity', 'cargo', ['run', '--release', '--quiet', '--bin', 'parity', '--', PARITY]],
  ['environments', 'check', NODE, ['dist/cli/main.js', 'envs', 'install', '--dir', ENVS]],
  ['tensorboard', 'check', NODE, ['scripts/tensorboard.mjs']],
  // What makes the inputs of `__test__/cases`.
  ['cases', 'check', NODE, ['scripts/cases.mjs']],
  // What exported policies are played with, the real tfjs-node included: nothing else needs it.
  ['export runtimes', 'check', NODE, ['scripts/runtimes.mjs']],
  ['ava', 'ava', 'node_modules/.bin/ava', []],
  ['packages', 'packages', NODE, ['scripts/test-package.mjs', '--quick']],
]

/** Steps that need a folder beside the repository, and what is not done without it. */
const BESIDE = {
  parity: [PARITY, 'no number is compared with the reference implementations'],
  cases: [CASES, 'no input of those that people reported is made'],
}

async function runStep([name, kind, command, args]) {
  const [folder, loss] = BESIDE[name] ?? []
  if (folder !== undefined && !existsSync(resolve(ROOT, folder))) {
    console.log(`SKIPPED: ${folder} is absent, so ${loss}.`)
    return { name, status: 0, passed: 0, failed: 0, skipped: 1 }
  }
  const { status, output } = await runLoudly(command, args, { env: { ...libtorchEnv(), DRCORL_ENVS: ENVS } })
  const counts = COUNTS[kind](output, status)
  // A command that fails without a failed test (it did not compile, it crashed) is a failure all the same.
  if (status !== 0 && counts.failed === 0) counts.failed = 1
  // And one that says nothing of any test has not tested anything.
  if (counts.passed + counts.failed + counts.skipped === 0) counts.failed = 1
  return { name, status, ...counts }
}

const sentence = ({ passed, failed, skipped }) =>
  `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`

const results = []
for (const step of STEPS) {
  console.log(`\n=== ${step[0]}: ${[step[2].replace(NODE, 'node'), ...step[3]].join(' ')}`)
  const start = performance.now()
  const result = { ...(await runStep(step)), ms: performance.now() - start }
  results.push(result)
  console.log(`=== ${result.name}: ${sentence(result)} (${duration(result.ms)})`)
}

console.log('\n=== summary')
for (const result of results) {
  console.log(`${result.name.padEnd(16)} ${duration(result.ms).padStart(12)}   ${sentence(result)}`)
}
const total = (key) => results.reduce((count, result) => count + result[key], 0)
const totals = { passed: total('passed'), failed: total('failed'), skipped: total('skipped') }
console.log(sentence(totals))
process.exitCode = totals.failed > 0 ? 1 : 0
