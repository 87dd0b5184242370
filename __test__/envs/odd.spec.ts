/**
 * Environments that are each odd in one way: what can be meant in one way only is played, the rest refused in words.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { DrcorlError } from '../../src/base/errors.js'
import { type OpenOptions, findEnvironment } from '../../src/data/environments.js'
import type { Policy, VecEnv } from '../../src/envs/env.js'
import { rollout } from '../../src/envs/rollout.js'
import { serialIf } from '../test-if.js'
import { MODULES, installedPython } from './real.js'

process.env['PYTHONPATH'] = MODULES
const python = await installedPython()
const real = serialIf(python !== undefined, 'the environments are not installed: drcorl envs install')
const STEPS = 20

/** Plays one episode to its end and gives the sums of rewards and costs, or the error. */
async function play(kind: string, options: OpenOptions = {}): Promise<{ return: number; cost: number } | DrcorlError> {
  try {
    const env = await findEnvironment(`odd:${kind}-v0`, { workers: 1, timeout: 20, ...options }).make(1)
    try {
      const sums = { return: 0, cost: 0 }
      await env.reset([3])
      for (let step = 0; step < STEPS; step += 1) {
        const { rewards, costs, terminated, truncated } = await env.step(new Float32Array(env.act_dim))
        sums.return += rewards[0]!
        sums.cost += costs[0]!
        if (terminated[0] || truncated[0]) break
      }
      return sums
    } finally {
      await env.close?.()
    }
  } catch (error) {
    if (error instanceof DrcorlError) return error
    throw error
  }
}

const PLAYED: [kind: string, cost: number, length?: number][] = [
  ...['ok', 'list', 'resetinfonone', 'print', 'act', 'fork', 'intrew', 'nprew', 'listrew'].map(
    (kind): [string, number] => [kind, 4],
  ),
  ...['npcost', 'np0cost', 'boolcost', 'objcost', 'wide', 'halfwide'].map((kind): [string, number] => [kind, 4]),
  ['npterm', 1, 9],
  ['arrayterm', 1, 9],
  ['ns/named', 4],
]

for (const [kind, cost, length = STEPS] of PLAYED) {
  real(`${kind} is played`, async (t) => {
    t.deepEqual(await play(kind), { return: length, cost })
  })
}

real('further costs are read by their names, in every row, and those not asked for are not', async (t) => {
  const open = async (costs: string[], kind = 'energy'): Promise<VecEnv> =>
    findEnvironment(`odd:${kind}-v0`, { workers: 2, timeout: 20, costs }).make(3)
  const env = await open(['alarm', 'costs', 'energy'])
  t.deepEqual(env.further_costs, ['alarm', 'energy'])
  const { obs_dim, act_dim } = env
  const act = (): Float32Array => new Float32Array(3 * act_dim)
  const policy: Policy = { name: 'still', obs_dim, act_dim, reset: () => undefined, act }
  const played = await rollout(policy, env, { costs: ['alarm', 'costs', 'energy'] }).finally(() => env.close?.())
  for (const episode of played.episodes) {
    t.deepEqual([episode.cost, episode.costs], [16, { alarm: 16, costs: 4, energy: 10 }])
  }
  // The first stands in the place of the cost, which need not be there.
  const alone = await open(['energy'])
  await alone.reset([1, 2, 3])
  t.deepEqual([...(await alone.step(new Float32Array(3 * alone.act_dim))).costs], [0.5, 0.5, 0.5])
  await alone.close?.()
  for (const [kind, message] of [
    ['ok', /no cost: info has no key "energy"; it holds cost/],
    ['negative', /cost -1\.0, which is below 0/],
  ] as const) {
    const bad = await open(['costs', 'energy'], kind)
    await bad.reset([1, 2, 3])
    await t.throwsAsync(async () => bad.step(new Float32Array(3 * bad.act_dim)), { message })
    await bad.close?.()
  }
})

const REFUSED: [kind: string, message: RegExp, hint?: RegExp][] = [
  ['dict', /the observation space Dict\(.*one-dimensional Box.*FlattenObservation/],
  ['tupleobs', /the observation space Tuple\(.*FlattenObservation/],
  ['image', /the observation space Box\(.*FlattenObservation/],
  ['matrix', /the observation space Box\(.*FlattenObservation/],
  ['discrete', /the action space Discrete\(4\); only one-dimensional Box spaces.*actions are real numbers/],
  ['multidisc', /the action space MultiDiscrete.*actions are real numbers/],
  ['nanbox', /the action space Box\(.*a bound that is NaN/],
  ['nolimit', /gave no length of an episode: register it with max_episode_steps/],
  ['obs3', /an observation of shape \[3\], where its observation_space says \[4\]/],
  ['col', /an observation of shape \[4, 1\], where its observation_space says \[4\]/],
  ['obsnone', /an observation of shape \[\], where its observation_space says \[4\]/],
  ['obsstr', /an observation that is not made of numbers/],
  ['obsnan', /gave observation nan \(component 0\), which is no finite number/],
  ['noinfo', /reset\(\) .*Gymnasium's API gives \(observation, info\)/],
  ['obs2', /reset\(\) .*Gymnasium's API gives \(observation, info\)/],
  ['step4', /step\(\) of Odd gave 4 values, as Gym before 0\.26.*\(observation, reward, terminated, truncated, info\)/],
  ['step6', /step\(\) of Odd gave more than 5 values.*Safety-Gymnasium.*SafetyGymnasium2Gymnasium/],
  ['stepnone', /step\(\) of Odd gave something else.*\(observation, reward, terminated, truncated, info\)/],
  ['infonone', /info None, which is no dict/],
  ['infolist', /info \[.*which is no dict/],
  ['nocost', /no cost: info has no key "cost"; it holds nothing.*--cost-key.*--missing-cost 0/],
  ['sparsecost', /no cost: info has no key "cost".*--missing-cost 0/],
  ['nonecost', /the cost None, which is no number/],
  ['strcost', /the cost '1', which is no number/],
  ['complexcost', /the cost 1j, which is no number/],
  ['np2cost', /the cost .*2 entries, where one number is due/],
  ['emptycost', /the cost .*0 entries, where one number is due/],
  ['nancost', /cost nan, which is no finite number/],
  ['hugecost', /the cost 1000.*, which is no number/],
  ['negcost', /cost -1\.0, which is below 0/],
  ['nonerew', /the reward None, which is no number/],
  ['strrew', /the reward '1', which is no number/],
  ['exit', /raised SystemExit: 3/],
  ['segv', /in step 3: its process ended with SIGSEGV/],
  ['unpack', /raised ValueError: too many values to unpack/, /in step\n/],
  ['forge', /its process broke the protocol/],
]

for (const [kind, message, hint] of REFUSED) {
  real(`${kind} is refused`, async (t) => {
    const error = await play(kind)
    t.true(error instanceof DrcorlError, JSON.stringify(error))
    if (!(error instanceof DrcorlError)) return
    t.is(error.code, 'Environment')
    t.regex(error.message, message)
    if (hint) t.regex(error.hint ?? '', hint)
  })
}

real('a cost that is left out is what was said it is, and no other', async (t) => {
  t.deepEqual(await play('sparsecost', { missingCost: 0 }), { return: STEPS, cost: 4 })
  t.deepEqual(await play('nocost', { missingCost: 0 }), { return: STEPS, cost: 0 })
  for (const kind of ['nonecost', 'nancost', 'infonone'])
    t.true((await play(kind, { missingCost: 0 })) instanceof DrcorlError)
  const error = await play('ok', { missingCost: -1 })
  t.like(error, { code: 'Usage', message: '--missing-cost -1 must be a number, 0 or more' })
})

/** Every process whose command line is one of the sleeps of odd.py. */
function sleepers(): number[] {
  const { stdout } = spawnSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' })
  return stdout
    .split('\n')
    .filter((line) => /^ *\d+ sleep 9876[0-2]$/.test(line))
    .map(Number.parseInt)
}

for (const kind of ['session', 'session_crash', 'session_hang']) {
  real(`${kind}: processes in sessions of their own are ended too, whatever they forgot of their origin`, async (t) => {
    const result = await play(kind, { timeout: 3 })
    t.is(result instanceof DrcorlError, kind !== 'session')
    for (let wait = 0; sleepers().length > 0 && wait < 20; wait += 1) await sleep(50)
    t.deepEqual(sleepers(), [])
  })
}

real('an environment that was closed leaves no descriptor behind', async (t) => {
  const open = (): number => readdirSync('/proc/self/fd').filter((name) => isDeleted(name)).length
  const before = open()
  for (const kind of ['ok', 'segv', 'exit']) await play(kind)
  t.is(open(), before)
})

function isDeleted(descriptor: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`).includes('drcorl-')
  } catch {
    return false
  }
}
