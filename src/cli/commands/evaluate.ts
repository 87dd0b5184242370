import { join } from 'node:path'
import { DrcorlError } from '../../base/errors.js'
import { costNames } from '../../config/limits.js'
import { RUNTIMES, type Runtime, policyFile } from '../../export/open.js'
import { exists } from '../../base/files.js'
import {
  type EvaluateOptions,
  type Evaluation,
  type EvaluationProgress,
  type PolicyEvaluation,
  environmentOf,
  evaluate,
} from '../../evaluate/evaluate.js'
import type { CostConvention } from '../../evaluate/score.js'
import type { Statistics } from '../../evaluate/statistics.js'
import { BESIDE, provenanceNote } from '../../policy/provenance.js'
import { LiveLine } from '../../base/live-line.js'
import { writeReport } from '../../report/report.js'
import { measuredPolicies } from '../../report/run-data.js'
import { formatSeconds } from '../../train/progress.js'
import { holdsRun, readRecord } from '../../train/run-folder.js'
import {
  type Arguments,
  type Command,
  numbersByKey,
  optionalNumber,
  optionalNumbers,
  optionalString,
} from '../command.js'
import { PYTHON_OPTIONS, openOptions } from '../python-options.js'
import { table } from '../table.js'
import { LIMIT_OPTION, limitsGiven } from '../train-options.js'

/**
 * Normalised costs that can be shown, as stored and as written under the table.
 * DRCORL's own tables are in multiples of 1 / 10.1.
 */
const CONVENTIONS: Record<string, { stored: CostConvention; formula: string }> = {
  dsrl: { stored: 'dsrl', formula: '(cost + e) / (limit + e), e = 1 only at limit 0' },
  drcorl: { stored: 'release', formula: 'cost / (limit + 0.1)' },
}

export const evaluateCommand: Command = {
  command: 'evaluate <path>',
  describe: 'Play the policy of a run, or an exported one, in an environment and measure return and cost',
  interruptible: true,
  builder: (yargs) =>
    yargs
      .usage('$0 evaluate RUN_OR_FILE [--task BallCircle] [--episodes 20] [--seed 0]')
      .positional('path', {
        type: 'string',
        describe: 'Run folder; or a policy file: .safetensors, .onnx, model.json of a layers model',
      })
      .option('task', { requiresArg: true, describe: "DSRL task to play (default that of the run's data)" })
      .option('env', { requiresArg: true, describe: 'Embedded environment, or module:Id of any in Gymnasium' })
      .conflicts('task', 'env')
      .option('episodes', { requiresArg: true, describe: 'Episodes to play (default 20)' })
      .option('seed', { requiresArg: true, describe: 'Episode i is reset with seed + i (default 0)' })
      .option('cost-limit', { requiresArg: true, describe: 'Limit the cost is judged by (default that of the run)' })
      .option('limit', { ...LIMIT_OPTION, describe: 'NAME=NUMBER, once for each cost (default those of the run)' })
      .conflicts('limit', ['cost-limit', 'cost-limits'])
      .option('cost-limits', {
        requiresArg: true,
        describe: 'L,L,..: limits that a policy which takes one is asked to keep, one after the other',
      })
      .conflicts('cost-limits', 'cost-limit')
      .option('runtime', {
        choices: RUNTIMES,
        describe: 'What computes the actions (default the best installed that plays the file)',
      })
      .option('set', {
        type: 'string',
        requiresArg: true,
        describe:
          'NAME=NUMBER,..: what a conditioned policy is asked for, such as cost_limit=20 (which also judges it)',
      })
      .option('policy', {
        choices: ['averaged', ...Object.keys(BESIDE)],
        describe:
          'Only this policy: the weight-averaged one to use, the candidate selected offline, or the mixture, one iterate an episode (default all)',
      })
      .option('convention', {
        choices: Object.keys(CONVENTIONS),
        describe: 'Which normalised cost is shown (default dsrl)',
      })
      .options(PYTHON_OPTIONS),

  async run(args, context) {
    const path = String(args['path'])
    const convention = optionalString(args, 'convention') ?? 'dsrl'
    const line = new LiveLine(context.stderr)
    const isFile = await isPolicyFile(path)
    const options: Omit<EvaluateOptions, 'run' | 'policy'> = {
      env: await environment(args, isFile ? null : path),
      episodes: optionalNumber(args, 'episodes'),
      seed: optionalNumber(args, 'seed'),
      ...openOptions(args),
      settings: numbersByKey(args, 'set'),
      cost_limit: optionalNumber(args, 'cost-limit'),
      cost_limits: optionalNumbers(args, 'cost-limits'),
      ...limitsGiven(args),
      runtime: optionalString(args, 'runtime') as Runtime | undefined,
      signal: context.signal,
      onProgress: (progress: EvaluationProgress) => line.update(progressLine(progress)),
    }
    try {
      if (isFile) {
        if (args['policy'] !== undefined) {
          throw new DrcorlError('Usage', `--policy chooses among the policies of a run, and ${path} is a single one`)
        }
        const { evaluation } = await evaluate({ policy: path, ...options })
        return { json: { path, ...evaluation }, text: describe(evaluation, [], convention) }
      }
      const asked = optionalString(args, 'policy')
      if (asked === undefined || asked === 'averaged') {
        const { evaluation, provenance } = await evaluate({ run: path, ...options })
        const others = asked === undefined ? measuredPolicies(evaluation).slice(1) : []
        const report = await writeReport(path)
        const shown = describe(evaluation, others, convention)
        const text = [shown, provenanceNote(provenance) ?? [], `report  ${report}`].flat().join('\n\n')
        return { json: { run_dir: path, ...evaluation, provenance, report }, text }
      }
      const file = BESIDE[asked as keyof typeof BESIDE]
      const policy = join(path, file)
      if (!(await exists(policy))) throw new DrcorlError('Usage', `${path} holds no ${file}`)
      const { run } = await readRecord(path)
      const named =
        costNames(run).length > 0 && options.cost_limit === undefined ? (run['limits'] as object) : undefined
      const limits = options.limits ?? (named as EvaluateOptions['limits'])
      const limit = options.settings?.['cost_limit'] ?? run['cost_limit']
      const recorded = options.cost_limits === undefined && typeof limit === 'number' ? limit : undefined
      const cost_limit = options.cost_limit ?? (limits === undefined ? recorded : undefined)
      const { evaluation } = await evaluate({ policy, ...options, limits, cost_limit })
      return { json: { run_dir: path, ...evaluation }, text: describe(evaluation, [], convention) }
    } finally {
      line.close()
    }
  },
}

/**
 * True for a policy by itself: a file, or the folder of a layers model; false for a run folder and what is not there.
 */
async function isPolicyFile(path: string): Promise<boolean> {
  if (await holdsRun(path)) return false
  return exists(await policyFile(path))
}

/** The environment asked for, or the one the data of the run in `folder` came from. */
async function environment(args: Arguments, folder: string | null): Promise<string> {
  const asked = optionalString(args, 'task') ?? optionalString(args, 'env')
  if (asked !== undefined) return asked
  if (folder === null) {
    throw new DrcorlError('Usage', 'a policy file does not say which environment it is for', {
      hint: 'name one with --task or --env (see: npx drcorl envs list)',
    })
  }
  const record = await readRecord(folder)
  const own = environmentOf(record)
  if (own !== undefined) return own
  const what = record.task === null ? '' : ` (task ${record.task.task})`
  throw new DrcorlError(
    'Usage',
    `${folder} was trained on ${record.dataset.source}${what}, which has no known environment`,
    {
      hint: 'name one with --task or --env (see: npx drcorl envs list)',
    },
  )
}

/** `policy.safetensors  12/20 episodes  61 %  3120 steps/s  ETA 2s` */
function progressLine({ policy, episodes, of, share, steps_per_second, eta_seconds }: EvaluationProgress): string {
  const rate = `${steps_per_second.toFixed(0)} steps/s`
  return [
    policy,
    `${episodes}/${of} episodes`,
    `${Math.floor(share * 100)} %`,
    rate,
    `ETA ${formatSeconds(eta_seconds)}`,
  ].join('  ')
}

function describe(evaluation: Evaluation, others: readonly PolicyEvaluation[], convention: string): string {
  const { env, seed, episodes, cost_limit: limit } = evaluation
  const { stored, formula } = CONVENTIONS[convention]!
  const limits = (evaluation.by_limit ?? []).slice(1)
  const judged = [
    ...[evaluation, ...others].map((policy) => ({ policy, limit: evaluation.cost_limit })),
    ...limits.map((policy) => ({ policy, limit: policy.cost_limit })),
  ]
  const rows = judged.map(({ policy, limit: own }) => [
    policy.policy,
    String(own ?? '-'),
    spread(policy.return, 1),
    interval(policy.return, 1),
    spread(policy.cost, 2),
    interval(policy.cost, 2),
    policy.normalized_reward?.toFixed(3) ?? '-',
    policy.normalized_cost?.[stored].toFixed(3) ?? '-',
    withinLimit(policy),
    policy.runtime ?? '-',
    policy.steps_per_second.toFixed(0),
  ])
  const normalized = `norm. cost (${convention})`
  const header = [
    'policy',
    'limit',
    'return',
    '95 %',
    'cost',
    '95 %',
    'norm. reward',
    normalized,
    'within limit',
    'runtime',
    'steps/s',
  ]
  const asked = Object.entries(evaluation.settings).map(([name, value]) => `, ${name} ${value}`)
  const title = `${env}, ${episodes} episodes from seed ${seed}, cost limit ${limit ?? 'none'}${asked.join('')}`
  const notes = [
    'return, cost: mean +- standard deviation over the episodes; 95 %: interval of the mean',
    `norm. reward = (return - min) / (max - min) of the task; norm. cost (${convention}) = ${formula}`,
  ]
  const costs = [evaluation, ...others].flatMap((policy) =>
    (policy.costs ?? []).map((cost) => [
      policy.policy,
      cost.name,
      String(cost.cost_limit),
      spread(cost.cost, 2),
      interval(cost.cost, 2),
      `${cost.within_limit.episodes}/${policy.episodes}`,
      cost.safe ? 'kept' : 'not kept',
    ]),
  )
  const every = table(['policy', 'cost', 'limit', 'measured', '95 %', 'episodes within', 'limit on the mean'], costs)
  return [title, table(header, rows), ...(costs.length === 0 ? [] : [every]), notes.join('\n')].join('\n\n')
}

function withinLimit({ within_limit: within, episodes }: PolicyEvaluation): string {
  return within === null ? '-' : `${within.episodes}/${episodes} (${Math.round(100 * within.share)} %)`
}

function spread({ mean, std }: Statistics, digits: number): string {
  return std === null ? mean.toFixed(digits) : `${mean.toFixed(digits)} +- ${std.toFixed(digits)}`
}

function interval({ ci95 }: Statistics, digits: number): string {
  return ci95 === null ? '-' : `${ci95[0].toFixed(digits)} to ${ci95[1].toFixed(digits)}`
}
