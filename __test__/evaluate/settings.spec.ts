/** One conditioned policy, asked for several targets. */
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { numbersByKey } from '../../src/cli/command.js'
import { evaluate } from '../../src/evaluate/evaluate.js'
import { loadPolicy } from '../../src/policy/node.js'
import { smallConfig, trained } from '../small.js'

test('one policy serves several targets, and each is judged by the limit it was asked to keep', async (t) => {
  const run = join(await mkdtemp(join(tmpdir(), 'drcorl-settings-')), 'run')
  const config = smallConfig('cdt', { cost_limit: 40, update_steps: 30, fqe_steps: 0 })
  await trained({ dataset: 'env:point-circle?episodes=10', algorithm: 'cdt', config, out: run })
  const play = async (settings?: Record<string, number>) =>
    (await evaluate({ run, episodes: 2, ...(settings === undefined ? {} : { settings }) })).evaluation
  const own = await play()
  t.is(own.cost_limit, 40)
  t.deepEqual(own.settings, {})
  const other = await play({ cost_limit: 3, target_return: 900 })
  t.is(other.cost_limit, 3)
  t.deepEqual(other.settings, { cost_limit: 3, target_return: 900 })
  t.not(other.return.mean, own.return.mean)
  t.deepEqual((await play({ cost_limit: 40 })).return, own.return, 'asked for what the file says')

  const error = await t.throwsAsync<DrcorlError>(play({ target: 1 }), { instanceOf: DrcorlError })
  t.is(error?.exitStatus, 2)
  t.regex(error?.message ?? '', /target: is no setting of this policy; it has: cost_limit, target_return/)
  const policy = await loadPolicy(join(run, 'policy.safetensors'))
  await t.throwsAsync(evaluate({ policy, env: 'point-circle', episodes: 1, settings: { cost_limit: 1 } }), {
    message: /not a file/,
  })
})

test('settings on the command line are names and numbers', (t) => {
  t.deepEqual(numbersByKey({ set: 'cost_limit=20,target_return=-1.5' }, 'set'), {
    cost_limit: 20,
    target_return: -1.5,
  })
  t.deepEqual(numbersByKey({}, 'set'), {})
  for (const wrong of ['cost_limit', '=3', 'a=', 'a=b', 'a=Infinity', 'a=1,', 'a=1,b']) {
    t.throws(() => numbersByKey({ set: wrong }, 'set'), { message: /is not of the form NAME=NUMBER/ })
  }
})
