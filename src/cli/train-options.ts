/** The options of `train`: which there are, and what they ask for. */
import type { Argv } from 'yargs'
import { DrcorlError } from '../base/errors.js'
import { readLimits } from '../config/limits.js'
import { readConfigFile } from '../config/load.js'
import { defaultAlgorithm, loadSchema } from '../config/schema.js'
import type { TrainOptions } from '../train/events.js'
import { type Arguments, optionalNumber, optionalString } from './command.js'
import { MAX_MEMORY_HELP, optionalBytes } from './units.js'
import { collectParameters, declareParameters } from './parameters.js'

/** Options that are not parameters: they say what to train on and where to, not how. */
const OPTIONS = [
  'dataset',
  'task',
  'env',
  'environment',
  'limit',
  'algorithm',
  'preset',
  'config',
  'out',
  'resume',
  'reuse',
  'audit-models',
  'overwrite',
  'strict',
  'max-memory',
  'require-certified',
  'checkpoint-seconds',
  'tensorboard',
  'profile',
  'eval-every',
  'eval-episodes',
  'keep-checkpoints',
]

export function declareTrainOptions(yargs: Argv, argv: readonly string[]): Argv {
  const schema = loadSchema()
  const asked = askedFor('--algorithm', argv)
  const preset = askedFor('--preset', argv)
  const presets = new Set(Object.values(schema.algorithms).flatMap(({ presets: known }) => Object.keys(known)))
  yargs
    .usage('$0 train --dataset FILE.hdf5 --cost-limit 10 [--preset quick]')
    .option('dataset', { requiresArg: true, describe: 'Dataset, HDF5 in DSRL format' })
    .option('task', {
      requiresArg: true,
      describe: 'Train on the data of this DSRL task, e.g. BallCircle; see: data fetch',
    })
    .option('env', { requiresArg: true, describe: 'Train on the scripted data of this embedded environment' })
    .option('environment', {
      requiresArg: true,
      describe: 'Environment of the hybrid modes and of --eval-every (default that of the data); see: drcorl envs list',
    })
    .option('limit', LIMIT_OPTION)
    .option('algorithm', {
      requiresArg: true,
      describe: `One of ${Object.keys(schema.algorithms).join(', ')} (default ${defaultAlgorithm(schema)})`,
    })
    .option('preset', {
      requiresArg: true,
      describe: `One of ${[...presets, 'none'].join(', ')} (default quick where there is one)`,
    })
    .option('config', { requiresArg: true, describe: 'YAML or JSON file of parameters; flags win over it' })
    .option('out', { requiresArg: true, describe: 'Run folder (default runs/<algorithm>-<dataset>-...)' })
    .option('resume', { string: true, describe: 'Go on with the run in --out DIR (or --resume DIR)' })
    .option('reuse', { requiresArg: true, describe: 'Take over the pretraining of this run folder, for another limit' })
    .option('audit-models', {
      requiresArg: true,
      describe: 'Share the models behind the certificate in this folder with runs on the same data and seed',
    })
    .option('overwrite', { boolean: true, describe: 'Replace the run in --out' })
    .option('strict', { boolean: true, describe: 'Warnings of the data checks are errors' })
    .option('max-memory', { requiresArg: true, describe: MAX_MEMORY_HELP })
    .option('require-certified', { boolean: true, describe: 'Exit with status 3 unless the policy is certified' })
    .option('checkpoint-seconds', { requiresArg: true, describe: 'Seconds between checkpoints (default 30)' })
    .option('tensorboard', { boolean: true, describe: 'Write event files for TensorBoard into the run folder' })
    .option('profile', {
      boolean: true,
      describe: 'Show where the time of the run goes, also in profile.json; changes no bit of it',
    })
    .option('eval-every', {
      requiresArg: true,
      describe: 'Watch the policy in the environment after every N updates (below 1: a share); training never reads it',
    })
    .option('eval-episodes', { requiresArg: true, describe: 'Episodes at each point of --eval-every (default 10)' })
    .option('keep-checkpoints', { boolean: true, describe: 'Keep policy and checkpoint of each point of --eval-every' })
    .group(OPTIONS, 'Data, place and way of the run:')
    .conflicts('dataset', ['env', 'task'])
    .conflicts('limit', ['limits', 'cost_limit'])
    .conflicts('task', 'env')
    .conflicts('resume', ['overwrite', 'reuse'])
    .epilogue(
      asked === undefined
        ? 'The parameters of an algorithm: drcorl train --algorithm NAME --help'
        : 'Parameters win in this order: flag, --config file, preset, default.',
    )
  return declareParameters(yargs, schema, asked, preset)
}

/** What the command line asks `train` for. */
export async function readTrainOptions(args: Arguments, signal: AbortSignal): Promise<TrainOptions> {
  const schema = loadSchema()
  const configFile = optionalString(args, 'config')
  const algorithm = optionalString(args, 'algorithm')
  const fromFile = configFile === undefined ? undefined : (await readConfigFile(configFile)).algorithm
  return {
    dataset: datasetSource(args),
    environment: optionalString(args, 'environment'),
    algorithm,
    preset: optionalString(args, 'preset'),
    configFile,
    config: {
      ...collectParameters(args, schema, algorithm ?? fromFile ?? defaultAlgorithm(schema)),
      ...limitsGiven(args),
    } as TrainOptions['config'],
    configOrigin: (key) => `flag --${key === 'limits' && args['limit'] !== undefined ? 'limit' : key}`,
    out: runFolder(args),
    resume: args['resume'] !== undefined,
    reuse: optionalString(args, 'reuse'),
    auditModels: optionalString(args, 'audit-models'),
    overwrite: args['overwrite'] === true,
    strict: args['strict'] === true,
    maxMemory: optionalBytes(args, 'max-memory'),
    signal,
    checkpointSeconds: seconds(args),
    tensorboard: args['tensorboard'] === true,
    profile: args['profile'] === true,
    evalEvery: optionalNumber(args, 'eval-every'),
    evalEpisodes: optionalNumber(args, 'eval-episodes'),
    keepCheckpoints: args['keep-checkpoints'] === true,
  }
}

/** `--limit NAME=NUMBER`, once for each cost. */
export const LIMIT_OPTION = {
  array: true,
  string: true,
  requiresArg: true,
  describe: 'NAME=NUMBER, once for each cost: a limit on the column NAME of the data; in the place of cost_limit',
} as const

/** What `--limit` asks for. */
export function limitsGiven(args: Arguments): { limits?: Record<string, number> } {
  const entries = args['limit'] as string[] | undefined
  return entries === undefined ? {} : { limits: readLimits(entries) }
}

/** What to train on, as `loadDataset` takes it. */
export function datasetSource(args: Arguments): string | undefined {
  const env = optionalString(args, 'env')
  const task = optionalString(args, 'task')
  if (env !== undefined) return `env:${env}`
  return task === undefined ? optionalString(args, 'dataset') : `task:${task}`
}

/** Help has to know algorithm and preset before the options are parsed. */
function askedFor(option: string, argv: readonly string[]): string | undefined {
  const index = argv.indexOf(option)
  if (index >= 0) return argv[index + 1]
  return argv.find((argument) => argument.startsWith(`${option}=`))?.slice(option.length + 1)
}

function seconds(args: Arguments): number | undefined {
  const value = optionalNumber(args, 'checkpoint-seconds')
  if (value === undefined || value > 0) return value
  throw new DrcorlError('Usage', `--checkpoint-seconds ${value} is not above 0`)
}

/** The run to resume may be named by either option. */
function runFolder(args: Arguments): string | undefined {
  const out = optionalString(args, 'out')
  const resume = optionalString(args, 'resume') || undefined
  if (out !== undefined && resume !== undefined && out !== resume) {
    throw new DrcorlError('Usage', `--resume ${resume} and --out ${out} name two folders`)
  }
  return out ?? resume
}
