/** Trains a moment on the file named, and prints the most memory this process has held, in bytes. */
import { train } from '../../src/train/experiment.js'
import { smallConfig } from '../small.js'

const [dataset = '', out = '', algorithm = 'bc'] = process.argv.slice(2)
const config = smallConfig(algorithm, { cost_limit: 10, audit_members: 1, model_steps: 5, update_steps: 5 })
for await (const event of train({ dataset, out, algorithm, preset: 'none', config })) {
  if (event.type === 'end') process.stdout.write(`${process.resourceUsage().maxRSS * 1024}\n`)
}
