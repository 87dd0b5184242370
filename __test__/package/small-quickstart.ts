/** Run where drcorl was installed: the README's example, with fewer steps. */
import { loadSchema, parametersFor } from 'drcorl'
import { quickstart } from '../../examples/quickstart.js'
import { small } from './small.js'

const evaluation = await quickstart({
  out: 'runs/quickstart',
  overwrite: true,
  algorithm: 'bc',
  config: small(parametersFor(loadSchema(), 'bc')),
})
if (evaluation.episodes !== 20) throw new Error(`played ${evaluation.episodes} episodes`)
