/** `npm run bench -- --beside`: what it refuses, what it makes of measurements, and peers that make our steps. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import {
  type Machine,
  PEERS,
  beside,
  checkLosses,
  isInstalled,
  judge,
  packagesOf,
  parsePeers,
  text,
} from '../../bench/beside.mjs'
import { testIf } from '../test-if.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

const refused: [words: string[], reason: RegExp, script?: string][] = [
  [['--beside', 'tensorflow'], /^error: unknown library "tensorflow" for --beside\n {2}known: torch, jax$/],
  [['--beside', 'torch,'], /unknown library "" for --beside/],
  [['--beside', 'toString'], /unknown library "toString"/],
  [['--beside', 'jax', '--device', 'cuda:0'], /--beside compares on the CPU, not on cuda:0\n {2}leave --device out/],
  [['torch', 'jax'], /usage: node bench\/beside\.mjs \[torch,jax\] \[--json\]/, 'bench/beside.mjs'],
]
for (const [words, reason, script = 'bench/run.mjs'] of refused) {
  test(`refused at once: ${script} ${words.join(' ')}`, (t) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...words], { cwd: ROOT, encoding: 'utf8' })
    t.is(status, 2)
    t.is(stdout, '')
    t.regex(stderr.trim(), reason)
  })
}

test('libraries are named between commas, each once', (t) => {
  t.deepEqual(parsePeers('jax, torch,jax'), ['jax', 'torch'])
})

test('every package of a peer has one version, and PyTorch that of our libtorch', (t) => {
  const manifest = JSON.parse(readFileSync(`${ROOT}src/native/libtorch-manifest.json`, 'utf8')) as { version: string }
  for (const name of Object.keys(PEERS)) {
    const { packages } = packagesOf(name)
    for (const requirement of packages) t.regex(requirement, /^[\w-]+==[\w.]+$/, name)
    t.is(packages.length, new Set(packages).size)
  }
  t.true(packagesOf('torch').packages.includes(`torch==${manifest.version}`))
  t.true(packagesOf('jax').packages.some((requirement) => requirement.startsWith('jax==')))
})

const step = (name: string, gflop: number, mbyte: number): Machine['steps'][number] => {
  return { name, gflop, mbyte, losses: [2, 1], constants: {} }
}
const machine: Machine = {
  steps: [step('critic step', 1, 20), step('critic step, quick', 0.1, 120)],
  roofline: { unit: 'avx512', gbyte_per_s: 40 },
}
const opened = { losses: [2, 1], first_loss: 2, first_call_seconds: 3 }

test('a peer that has other losses makes another step', (t) => {
  const ours = machine.steps[0]!
  t.notThrows(() => checkLosses('JAX', ours, { ...opened, losses: [2.0001, 1.00005] }))
  const first = { message: /critic step: JAX has losses 2\.1, 1, ours are 2, 1/ }
  t.throws(() => checkLosses('JAX', ours, { ...opened, losses: [2.1, 1] }), first)
  t.throws(() => checkLosses('JAX', ours, { ...opened, losses: [2, 1.1] }), { message: /losses 2, 1\.1, ours/ })
  t.throws(() => checkLosses('JAX', ours, { ...opened, losses: [2] }), { message: /losses 2, ours/ })
  t.throws(() => checkLosses('JAX', ours, { ...opened, losses: [2, Number.NaN] }), { message: /losses 2, NaN/ })
  const begins = { message: /JAX begins at a loss of 2\.1, ours at 2/ }
  t.throws(() => checkLosses('JAX', ours, { ...opened, first_loss: 2.1 }), begins)
  // What dropout draws is nobody else's.
  t.notThrows(() => checkLosses('JAX', { ...ours, constants: { dropout: 0.1 } }, { ...opened, first_loss: 2.1 }))
})

test('the best round counts, and every target is met or not', (t) => {
  const versions = { eager: opened, jit: opened }
  const times = {
    'critic step': {
      'ours, highest': [12, 10],
      'ours, high': [8],
      'ours, medium': [4],
      plain: [24, 26],
      eager: [23],
      jit: [30, 21],
    },
    'critic step, quick': { 'ours, highest': [5], plain: [10], eager: [8], jit: [9] },
  }
  const others = [
    { name: 'cdt step', ratio: 3.6 },
    { name: 'bc step', ratio: 1.5 },
  ]
  const opens = { 'critic step': versions, 'critic step, quick': versions }
  const { steps, targets } = judge(machine, opens, times, 125, others)
  const [large, quick] = steps
  t.is(large!.ms, 10)
  t.is(large!.ratio, 2.4)
  t.is(large!.best_peer, 'jit')
  t.is(large!.best_peer_ratio, 2.1)
  t.deepEqual(large!.roofline, { bound: 'products', least_ms: 8, share: 0.8 })
  t.deepEqual(quick!.roofline, { bound: 'memory', least_ms: 3, share: 0.6 })
  t.deepEqual(
    large!.precisions.map(({ matmul_precision, ratio }) => [matmul_precision, ratio]),
    [
      ['high', 3],
      ['medium', 6],
    ],
  )
  t.deepEqual(
    targets.map(({ step, beside, precision, target_ratio, met }) => [step, beside, precision, target_ratio, met]),
    [
      ['critic step', 'best peer', 'highest', 2, true],
      ['critic step', 'plain', 'highest', 2.3, true],
      ['critic step', 'plain', 'high', 3, true],
      ['critic step', 'plain', 'medium', 4.5, true],
      ['critic step, quick', 'plain', 'highest', 2.4, false],
      ['cdt step', 'plain', 'highest', 3.5, true],
    ],
  )
  t.deepEqual(
    judge(machine, opens, times, null).steps.map(({ roofline }) => roofline),
    [
      { bound: null, least_ms: null, share: null },
      { bound: null, least_ms: null, share: null },
    ],
  )
})

const ready = Object.keys(PEERS).every(isInstalled) && existsSync(`${ROOT}target/release/bench`)
const withPeers = testIf(ready, 'peers are not installed: node bench/beside.mjs installs and measures them')

withPeers('peers make our steps: the losses agree, and all are measured', async (t) => {
  const report = await beside(Object.keys(PEERS), { only: ['critic step, quick'], rounds: 1, seconds: 0.05 })
  t.deepEqual(
    report.versions.map(({ name }) => name),
    ['PyTorch eager', 'torch.compile', 'JAX jit'],
  )
  t.is(report.steps.length, 1)
  const [quick] = report.steps
  t.is(quick!.losses.length, 5)
  t.is(quick!.peers.length, 3)
  for (const { name, ms, losses } of quick!.peers) {
    t.true(ms > 0, name)
    for (const [i, loss] of losses.entries()) t.true(Math.abs(loss - quick!.losses[i]!) < 1e-3, name)
  }
  t.is(report.targets.length, 1)
  const page = text(report)
  for (const word of ['critic step, quick', 'JAX jit', 'torch.compile', 'targets']) t.true(page.includes(word), word)
})
