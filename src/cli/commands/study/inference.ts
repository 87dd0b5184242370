import { join } from 'node:path'
import { DrcorlError } from '../../../base/errors.js'
import { LiveLine } from '../../../base/live-line.js'
import { parseOverrides, requireAlgorithm } from '../../../benchmark/plan.js'
import { loadSchema } from '../../../config/schema.js'
import { INFERENCE_LEGEND, UNTRAINED, inferenceTable } from '../../../study/inference-page.js'
import { studyInference } from '../../../study/inference.js'
import type { Sizes } from '../../../study/untrained.js'
import { list } from '../../benchmark-options.js'
import {
  type Arguments,
  type Context,
  type Output,
  commandLine,
  optionalNumber,
  optionalString,
} from '../../command.js'
import { table } from '../../table.js'

export const INFERENCE_FLAGS: readonly string[] = ['algorithms', 'preset', 'set', 'runs', 'sizes', 'seconds']

/** HalfCheetahVelocity's, which the paper names in its text. */
const SIZES: Sizes = { obs_dim: 17, act_dim: 6 }
const MOST_DIMENSIONS = 10_000
const SECONDS = 20

export async function studyInferenceCommand(args: Arguments, { stderr, signal }: Context): Promise<Output> {
  const schema = loadSchema()
  const algorithms = list(args, 'algorithms') ?? Object.keys(schema.algorithms)
  for (const name of algorithms) requireAlgorithm(name, schema)
  const overrides = parseOverrides((args['set'] as string[] | undefined) ?? [], algorithms, schema)
  const line = new LiveLine(stderr)
  try {
    const result = await studyInference({
      ...sizes(optionalString(args, 'sizes')),
      algorithms,
      preset: optionalString(args, 'preset'),
      config: (algorithm) => overrides.get(algorithm) ?? {},
      runs: (args['runs'] as string[] | undefined) ?? [],
      seconds: seconds(args),
      out: optionalString(args, 'out') ?? join('runs', 'study-inference'),
      command: commandLine('study inference', args, INFERENCE_FLAGS),
      signal,
      onProgress: (text) => line.note(text),
    })
    const { machine, rows, files } = result
    const { header, rows: cells } = inferenceTable(rows)
    const written = Object.entries(files).map(([kind, path]) => `${kind.padEnd(9)} ${path}`)
    const text = [`${machine}`, table(header, cells), INFERENCE_LEGEND, UNTRAINED, written.join('\n')]
    return { json: { study: 'inference', machine, sizes: result.sizes, rows, files }, text: text.join('\n\n') }
  } finally {
    line.close()
  }
}

function sizes(given: string | undefined): Sizes {
  if (given === undefined) return SIZES
  const [, observations, actions] = /^(\d{1,5})x(\d{1,5})$/.exec(given) ?? []
  const [obs_dim, act_dim] = [Number(observations), Number(actions)]
  if (obs_dim >= 1 && act_dim >= 1 && obs_dim <= MOST_DIMENSIONS && act_dim <= MOST_DIMENSIONS)
    return { obs_dim, act_dim }
  throw new DrcorlError('Usage', `--sizes "${given}" is not of the form OBSERVATIONSxACTIONS, for example 17x6`)
}

function seconds(args: Arguments): number {
  const value = optionalNumber(args, 'seconds') ?? SECONDS
  if (value > 0 && value <= 3600) return value
  throw new DrcorlError('Usage', `--seconds ${value}: give a number above 0 and at most 3600`)
}
