import { basename, join } from 'node:path'
import { DrcorlError } from '../../base/errors.js'
import { exists } from '../../base/files.js'
import { exportPolicy } from '../../export/export.js'
import { EXPORT_FOLDER, EXPORT_FORMATS, type ExportFormat, exportName } from '../../export/names.js'
import { BESIDE } from '../../policy/provenance.js'
import { RUN_FILES, holdsRun } from '../../train/run-folder.js'
import { type Command, numbersByKey, optionalString } from '../command.js'

/** Policies of a run, by the names they have on the command line. */
const POLICIES = { averaged: RUN_FILES.policy, ...BESIDE } as const

export const exportCommand: Command = {
  command: 'export <path>',
  describe: 'Write a policy as safetensors, ONNX or a TensorFlow.js layers model, checked by playing it',
  builder: (yargs) =>
    yargs
      .usage('$0 export RUN_OR_FILE --format onnx [--out FILE]')
      .positional('path', { type: 'string', describe: 'Run folder, or a policy.safetensors' })
      .option('format', { choices: Object.keys(EXPORT_FORMATS), demandOption: true, describe: 'What to write' })
      .option('policy', {
        choices: Object.keys(POLICIES),
        describe:
          'Which policy of a run: the weight-averaged one (default), the candidate selected offline, or the mixture of iterates',
      })
      .option('out', {
        requiresArg: true,
        describe: 'File to write, for tfjs a folder (default RUN/export/policy.onnx, for tfjs RUN/export/tfjs)',
      })
      .option('set', {
        type: 'string',
        requiresArg: true,
        describe: 'NAME=NUMBER,..: what a conditioned policy is asked for, such as cost_limit=20',
      })
      .option('overwrite', { boolean: true, describe: 'Replace an earlier export' }),

  async run(args) {
    const path = String(args['path'])
    const format = args['format'] as ExportFormat
    const name = optionalString(args, 'policy') as keyof typeof POLICIES | undefined
    const isRun = await holdsRun(path)
    if (!isRun && name !== undefined) {
      throw new DrcorlError('Usage', `--policy chooses among the policies of a run, and ${path} is no run folder`)
    }
    const policy = isRun ? await policyOf(path, name ?? 'averaged') : path
    const out = optionalString(args, 'out') ?? defaultOut(isRun ? path : null, policy, format)
    const settings = numbersByKey(args, 'set')
    const result = await exportPolicy({ policy, format, out, settings, overwrite: args['overwrite'] === true })
    const { bytes, obs_dim, act_dim, check } = result
    const size = `${(bytes / 1e3).toFixed(0)} kB, ${obs_dim} observation entries, ${act_dim} action entries`
    const checked =
      check === null
        ? 'not played: no runtime for this format is installed here (see docs/policies.md)'
        : `${check.observations} random observations through ${check.runtime}, largest difference ${check.max_difference.toExponential(1)}`
    return { json: { ...result }, text: `${result.path}  ${size}\nchecked  ${checked}` }
  },
}

async function policyOf(run: string, name: keyof typeof POLICIES): Promise<string> {
  const path = join(run, POLICIES[name])
  if (await exists(path)) return path
  throw new DrcorlError('Io', `${run} holds no ${POLICIES[name]}`, {
    exitStatus: 2,
    hint: name === 'averaged' ? `its training has not ended: drcorl train --resume ${run}` : 'try: --policy averaged',
  })
}

/** Below the run; beside nothing but in the current folder for a policy by itself. */
function defaultOut(run: string | null, policy: string, format: ExportFormat): string {
  const name = exportName(basename(policy, '.safetensors'), format)
  return run === null ? name : join(run, EXPORT_FOLDER, name)
}
