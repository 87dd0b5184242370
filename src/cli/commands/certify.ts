import { stat } from 'node:fs/promises'
import { DrcorlError } from '../../base/errors.js'
import { writeJson } from '../../base/files.js'
import { parseFlag } from '../../config/load.js'
import { type Certification, type PolicyCertification, certify, judgementParameters } from '../../evaluate/certify.js'
import { formatFixed } from '../../report/format.js'
import { Progress, formatSeconds } from '../../train/progress.js'
import { type Arguments, type Command, type Output, numbersByKey, optionalString } from '../command.js'
import { declareOptions } from '../parameters.js'
import { facts, table } from '../table.js'
import { LIMIT_OPTION, datasetSource, limitsGiven } from '../train-options.js'
import { MAX_MEMORY_HELP, optionalBytes } from '../units.js'

const OPTIONS = ['dataset', 'task', 'env', 'policy', 'set', 'limit', 'out', 'overwrite', 'audit-models', 'max-memory']

export const certifyCommand: Command = {
  command: 'certify <paths..>',
  describe: 'Judge policies by given episodes without training them: another dataset, another limit, two side by side',
  interruptible: true,
  takesParameters: true,
  builder: (yargs) =>
    declareOptions(
      yargs
        .usage('$0 certify RUN_OR_FILE [MORE..] [--dataset HELD_OUT.hdf5] [--cost-limit L]')
        .positional('paths', {
          type: 'string',
          describe: 'Run folders, policy files, or models that export wrote (.onnx, folder of a layers model)',
        })
        .option('dataset', { requiresArg: true, describe: 'Episodes to judge by (default those of the run)' })
        .option('task', { requiresArg: true, describe: 'Judge by the data of this DSRL task' })
        .option('env', { requiresArg: true, describe: 'Judge by the scripted data of this embedded environment' })
        .option('policy', {
          requiresArg: true,
          describe: 'Which policy of a run, such as averaged (the one that ships, default), selected or mixture',
        })
        .option('set', {
          type: 'string',
          requiresArg: true,
          describe:
            'NAME=NUMBER,..: what a conditioned policy is asked for, such as cost_limit=20 (which also judges it)',
        })
        .option('limit', LIMIT_OPTION)
        .conflicts('limit', ['limits', 'cost_limit'])
        .option('out', { requiresArg: true, describe: 'File to write the result to, as JSON (default: none)' })
        .option('overwrite', { boolean: true, describe: 'Replace the file in --out' })
        .option('audit-models', {
          requiresArg: true,
          describe:
            'Share the models in this folder with judgements of the same data and seed, such as by other limits',
        })
        .option('max-memory', { requiresArg: true, describe: MAX_MEMORY_HELP })
        .group(OPTIONS, 'Policies, episodes and place:')
        .conflicts('dataset', ['env', 'task'])
        .conflicts('task', 'env')
        .epilogue('Parameters are those of the run unless given here. Status 0: all are certified, 3: not all.'),
      judgementParameters(),
      'Parameters of the judgement:',
    ),

  async run(args, context) {
    const out = optionalString(args, 'out')
    await requireFree(out, args['overwrite'] === true)
    const progress = new Progress(context.stderr)
    try {
      const result = await certify({
        policies: ([] as string[]).concat(args['paths'] as string[]),
        dataset: datasetSource(args),
        policy: optionalString(args, 'policy'),
        settings: numbersByKey(args, 'set'),
        config: { ...parameters(args), ...limitsGiven(args) },
        auditModels: optionalString(args, 'audit-models'),
        maxMemory: optionalBytes(args, 'max-memory'),
        signal: context.signal,
        onProgress: (event) => progress.show(event),
      })
      if (out !== undefined) await writeJson(out, result)
      return output(result, out)
    } finally {
      progress.close()
    }
  },
}

async function requireFree(out: string | undefined, overwrite: boolean): Promise<void> {
  if (out === undefined || overwrite || (await stat(out).catch(() => null)) === null) return
  throw new DrcorlError('Usage', `${out} is there already`, { hint: 'give another --out, or --overwrite' })
}

function parameters(args: Arguments): Record<string, unknown> {
  const given = judgementParameters().flatMap((parameter) => {
    const value = args[parameter.name]
    return value === undefined ? [] : [[parameter.name, parseFlag(String(value), parameter)]]
  })
  return Object.fromEntries(given) as Record<string, unknown>
}

/** What is printed, and the exit status. */
export function output(result: Certification, out: string | undefined): Output {
  const { policies, certified } = result
  const text = describe(result, out)
  if (certified) return { json: { ...result }, text }
  const refused = policies.filter(({ certificate }) => certificate.verdict !== 'certified')
  const [first] = refused
  const which = policies.length === 1 ? 'the policy is' : `${refused.length} of ${policies.length} policies are`
  const why = refused.length === 1 ? `: ${first!.certificate.reasons.join('; ')}` : ''
  const error = { code: 'NotCertified', message: `${which} not certified${why}` }
  return { json: { ...result, error }, text, status: 3 }
}

function describe(result: Certification, out: string | undefined): string {
  const { dataset, policies, cost_limit: limit, wall_seconds } = result
  const head = facts([
    ['judged by', `${dataset.episodes} episodes, ${dataset.transitions} transitions of ${dataset.source}`],
    ['cost limit', limit],
    ...(policies.length > 1 ? [['models', 'one ensemble and the same initial states for all'] as const] : []),
    ['time', formatSeconds(wall_seconds)],
    ...(out === undefined ? [] : [['written', out] as const]),
  ])
  const rows = policies.map(({ path, algorithm, certificate: { verdict, estimates } }) => {
    const { model_rollout: model, fqe } = estimates
    return [
      path,
      algorithm ?? '-',
      verdict,
      formatFixed(model?.cost.mean, 2),
      formatFixed(model?.cost.upper, 2),
      formatFixed(fqe?.cost.mean, 2),
      formatFixed(model?.return.mean, 1),
    ]
  })
  const columns = ['policy', 'algorithm', 'verdict', 'cost', 'upper', 'cost by fqe', 'return']
  const costs = policies.flatMap(({ path, certificate }) =>
    (certificate.costs ?? []).map(({ name, cost_limit, verdict, estimates: { model_rollout: model } }) => [
      path,
      name,
      String(cost_limit),
      formatFixed(model?.cost.mean, 2),
      formatFixed(model?.cost.upper, 2),
      verdict,
    ]),
  )
  const every = costs.length === 0 ? [] : [table(['policy', 'cost', 'limit', 'estimate', 'upper', 'verdict'], costs)]
  return [head, table(columns, rows), ...every, ...policies.map((one) => reasons(one, policies.length > 1))].join(
    '\n\n',
  )
}

function reasons({ path, policy, exported, learnt_from, certificate }: PolicyCertification, many: boolean): string {
  const lines = [
    ...(many ? [`${path}:`] : []),
    `${certificate.verdict}: ${certificate.reasons.join('; ')}`,
    ...certificate.notes.map((note) => `note: ${note}`),
    ...(exported === null
      ? []
      : [
          `note: played ${policy}, whose export is this ${exported} model byte for byte; the model itself was not played`,
        ]),
    `note: ${ORIGINS[learnt_from ?? 'unknown']}`,
  ]
  return lines.join('\n')
}

const ORIGINS = {
  these: 'the policy was learnt from these very episodes; --dataset judges by others',
  rest: 'the policy was learnt from these data without the episodes that the models were tested on',
  others: 'the policy was learnt from another file; whether the two share episodes was not looked at',
  unknown: 'the file does not say which episodes the policy was learnt from',
} as const
