/** Environments that crash, hang, raise or answer nonsense: one clear error, and nothing left behind. */
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { findEnvironment } from '../../src/data/environments.js'
import type { VecEnv } from '../../src/envs/env.js'
import { start } from '../cli/spawn.js'
import { serialIf } from '../test-if.js'
import { MODULES, installedPython, markProcesses, markedProcesses, zombies } from './real.js'

process.env['PYTHONPATH'] = MODULES
const python = await installedPython()
const real = serialIf(python !== undefined, 'the environments are not installed: drcorl envs install')

const ROWS = 4
const SEEDS = [11, 13, 8, 15]

async function open(fault: string, options: { timeout?: number; costKey?: string } = {}): Promise<VecEnv> {
  const environment = findEnvironment(`misbehaving:${fault}-v0`, { workers: 2, timeout: 20, ...options })
  return environment.make(ROWS)
}

/** Plays up to ten steps and returns the error that ends it. */
async function play(env: VecEnv, seeds = SEEDS): Promise<DrcorlError | undefined> {
  try {
    await env.reset(seeds)
    for (let step = 0; step < 10; step += 1) await env.step(new Float32Array(ROWS))
    return undefined
  } catch (error) {
    return error as DrcorlError
  }
}

/** After the error: same error for later calls, no process, no zombie. */
async function nothingIsLeft(t: ExecutionContext, env: VecEnv, error: DrcorlError, mark: string): Promise<void> {
  t.is(await t.throwsAsync(async () => env.step(new Float32Array(ROWS))), error)
  await env.close?.()
  await sleep(50)
  t.deepEqual(markedProcesses(mark), [])
  t.deepEqual(zombies(), [])
}

/** A Python that has nothing but its standard library. */
async function interpreterWithoutPackages(): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), 'drcorl-bare-')), 'python')
  await writeFile(path, `#!/bin/sh\nexec "${python}" -S -E "$@"\n`, { mode: 0o755 })
  return path
}

/** Fault, and what the error says of it. The faulty episode is that of row 2, seed 8, in step 3. */
const FAULTS: [fault: string, message: RegExp, hint?: RegExp][] = [
  ['raise', /raised ValueError: the door is locked$/, /misbehaving\.py", line \d+, in step\n.*raise ValueError/],
  ['exit', /raised SystemExit: 5$/],
  ['vanish', /its process ended with status 7$/, /about to vanish/],
  ['crash', /its process ended with SIGSEGV$/, /Segmentation fault[^]*misbehaving\.py", line \d+ in step/],
  ['leave_a_child', /its process ended with status 1$/],
  ['shape', /gave an observation of shape \[3\], where its observation_space says \[2\]$/],
  ['scalar', /gave an observation of shape \[\], where/],
  ['nan_observation', /gave observation nan \(component 1\), which is no finite number$/],
  ['nan_reward', /gave reward nan, which/],
  ['infinite_cost', /gave cost inf, which/],
  ['no_number', /gave the reward 'high', which is no number$/],
  ['no_cost', /gave no cost: info has no key "cost"; it holds speed; name the key with --cost-key, /],
]

for (const [fault, message, hint] of FAULTS) {
  real(`${fault}: one error that names the environment, the episode and the step; nothing is left`, async (t) => {
    markProcesses(fault)
    const env = await open(fault)
    const error = await play(env)
    t.true(error instanceof DrcorlError)
    t.is(error?.code, 'Environment')
    t.regex(error?.message ?? '', /^misbehaving:\w+-v0, episode with seed 8, in step 3: /)
    t.regex(error?.message ?? '', message)
    if (hint) t.regex(error?.hint ?? '', hint)
    await nothingIsLeft(t, env, error!, fault)
  })
}

for (const [fault, where, stack] of [
  [
    'hang',
    /episode with seed 8, in step 3: it gave no sign of life for 3 s$/,
    /misbehaving\.py", line \d+ in hang_here/,
  ],
  ['hang_in_native_code', /episode with seed 8, in step 3: it gave no sign of life for 3 s$/, /line \d+ in step/],
  ['hang_in_reset', /episode with seed 8, at its reset: it gave no sign of life for 3 s$/, /line \d+ in reset/],
] as const) {
  real(`${fault}: given up after the time-out, with the place where it hung`, async (t) => {
    markProcesses(fault)
    const env = await open(fault, { timeout: 3 })
    const started = performance.now()
    const error = await play(env)
    t.true(performance.now() - started < 10_000)
    t.regex(error?.message ?? '', where)
    t.regex(error?.hint ?? '', stack)
    await nothingIsLeft(t, env, error!, fault)
  })
}

real('the time-out counts silence, not the length of a call: many slow rows are no hang', async (t) => {
  const env = await findEnvironment('misbehaving:slow-v0', { workers: 1, timeout: 3 }).make(36)
  await env.reset(Array.from({ length: 36 }, (_, row) => row))
  const started = performance.now()
  await env.step(new Float32Array(36))
  t.true(performance.now() - started > 3500)
  await env.close?.()
})

real('episodes without the fault play on, and what an environment prints does no harm', async (t) => {
  for (const fault of ['raise', 'noisy', 'slow']) {
    const env = await open(fault)
    t.is(await play(env, [1, 3, 5, 7]), undefined, fault)
    await env.close?.()
  }
})

real('an environment that hangs when it is closed is ended all the same', async (t) => {
  markProcesses('close')
  const env = await open('hang_when_closed')
  t.is(await play(env), undefined)
  await env.close?.()
  t.deepEqual(markedProcesses('close'), [])
  await t.throwsAsync(async () => env.reset(SEEDS), { code: 'Usage', message: /is closed/ })
})

real('another key of the cost', async (t) => {
  const env = await open('no_cost', { costKey: 'price' })
  await env.reset([1, 3, 5, 7])
  t.deepEqual([...(await env.step(new Float32Array(ROWS))).costs], [3, 3, 3, 3])
  await env.close?.()
})

real('what cannot be opened is refused with the reason', async (t) => {
  const refuse = async (name: string, message: RegExp, options = {}): Promise<void> => {
    await t.throwsAsync(async () => findEnvironment(name, { workers: 1, ...options }).make(1), {
      code: 'Environment',
      message,
    })
  }
  markProcesses('open')
  await refuse('misbehaving:raise_when_made-v0', /cannot be opened: .*RuntimeError: no display/)
  await refuse('misbehaving:Endless-v0', /gave no length of an episode: register it with max_episode_steps/)
  await refuse('misbehaving:Discrete-v0', /the action space Discrete\(3\); only one-dimensional Box spaces/)
  await refuse('misbehaving:Missing-v0', /doesn't exist|NameNotFound/)
  await refuse('no_such_module:Walk-v0', /ModuleNotFoundError: No module named 'no_such_module'/)
  await refuse('misbehaving:Walk-v0', /cannot start Python "\/no\/python": no such file/, { python: '/no/python' })
  await refuse('misbehaving:Walk-v0', /ended with status 0/, { python: '/bin/true' })
  const bare = await interpreterWithoutPackages()
  await refuse('misbehaving:Walk-v0', /lacks a package .*gymnasium and numpy: No module named 'numpy'/, {
    python: bare,
  })
  const walk = (options: object) => async () => findEnvironment('misbehaving:Walk-v0', options).make(1)
  await t.throwsAsync(walk({ workers: 0 }), { code: 'Usage', message: /workers 0/ })
  await t.throwsAsync(walk({ timeout: 0 }), { code: 'Usage', message: /timeout 0/ })
  t.deepEqual(markedProcesses('open'), [])
})

real('aborting ends a call that would never return', async (t) => {
  markProcesses('abort')
  const controller = new AbortController()
  const environment = findEnvironment('misbehaving:hang-v0', { workers: 2 })
  const env = await environment.make(ROWS, controller.signal)
  setTimeout(() => controller.abort(), 500)
  const error = await play(env)
  t.is(error?.code, 'Cancelled')
  await nothingIsLeft(t, env, error!, 'abort')
})

for (const [signal, status] of [
  ['SIGKILL', null],
  ['SIGINT', 130],
] as const) {
  real(`${signal} to the command: its Python processes end with it, also where they hang`, async (t) => {
    const mark = `node-${signal}`
    markProcesses(mark)
    const started = start(['envs', 'check', 'misbehaving:hang-v0', '--num-envs', '4', '--workers', '2'])
    while (markedProcesses(mark).length < 3) await sleep(50)
    await sleep(1500)
    started.child.kill(signal)
    t.is((await started.finished).status, status)
    for (let wait = 0; markedProcesses(mark).length > 0 && wait < 40; wait += 1) await sleep(50)
    t.deepEqual(markedProcesses(mark), [])
  })
}

real('a script that forgets to close its environment ends', async (t) => {
  const code = [
    "const { findEnvironment } = await import('./src/data/environments.ts')",
    "const env = await findEnvironment('misbehaving:Walk-v0', { workers: 1 }).make(1)",
    'await env.reset([0])',
    "console.log('played')",
  ].join(';')
  markProcesses('forgetful')
  const { spawnSync } = await import('node:child_process')
  const register = import.meta.resolve('@oxc-node/core/register')
  const args = [`--import=${register}`, '--input-type=module', '--eval', code]
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000 })
  t.is(status, 0)
  t.is(stdout, 'played\n')
  for (let wait = 0; markedProcesses('forgetful').length > 0 && wait < 40; wait += 1) await sleep(50)
  t.deepEqual(markedProcesses('forgetful'), [])
})
