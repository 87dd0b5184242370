/**
 * Some forty environments of Gymnasium's newest version, each odd in one way: `envs check` plays it, or says why not.
 */
import { inProcess } from '../cli/spawn.js'
import { PYTHON, caseIf } from './cases.js'

const odd = caseIf('odd_environments.py', 'gymnasium', 'numpy')

const check = (id: string): ReturnType<typeof inProcess> =>
  inProcess('envs', 'check', `odd_environments:${id}`, '--python', PYTHON, '--timeout', '10', '--json')

const PLAYED = 'ok obs3 wide list npcost np0cost boolcost nprew intrew npterm print act fork infonone'.split(' ')

for (const id of [...PLAYED.map((kind) => `Odd${kind}-v0`), 'OddChecked-v0', 'ns/OddNs-v0']) {
  odd(`${id} opens and is played`, async (t) => {
    const { status, stdout } = await check(id)
    t.is(status, 0, stdout)
    t.like(JSON.parse(stdout), { obs_dim: id === 'Oddobs3-v0' ? 3 : 4, act_dim: 2 })
  })
}

const REFUSED: [kind: string, message: RegExp][] = [
  ['discrete', /the action space Discrete\(4\)/],
  ['multidisc', /the action space MultiDiscrete/],
  ['dict', /the observation space Dict.*FlattenObservation/],
  ['tupleobs', /the observation space Tuple.*FlattenObservation/],
  ['image', /the observation space Box.*FlattenObservation/],
  ['matrix', /the observation space Box.*FlattenObservation/],
  ['col', /an observation of shape \[4, 1\], where its observation_space says \[4\]/],
  ['obsnan', /observation nan \(component 0\)/],
  ['noinfo', /reset\(\) .*Gymnasium's API gives \(observation, info\)/],
  ['step4', /gave 4 values, as Gym before 0\.26/],
  ['step6', /gave more than 5 values.*Safety-Gymnasium/],
  ['np2cost', /the cost .*2 entries, where one number is due/],
  ['nocost', /info has no key "cost".*--missing-cost 0/],
  ['sparsecost', /info has no key "cost".*--missing-cost 0/],
  ['nonecost', /the cost None, which is no number/],
  ['nancost', /cost nan, which is no finite number/],
  ['strcost', /the cost '1', which is no number/],
  ['negcost', /cost -1\.0, which is below 0/],
  ['nonerew', /the reward None, which is no number/],
  ['exit', /raised SystemExit: 3/],
  ['segv', /in step 3: its process ended with SIGSEGV/],
  ['NoLimit', /no length of an episode: register it with max_episode_steps/],
  ['Hang', /10 s/],
]

for (const [kind, message] of REFUSED) {
  odd(`Odd${kind}-v0 is refused in words that help`, async (t) => {
    const { status, stdout } = await check(`Odd${kind}-v0`)
    t.not(status, 0)
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string; hint?: string } }
    t.is(error.code, 'Environment')
    t.regex(`${error.message} ${error.hint ?? ''}`, message)
  })
}
