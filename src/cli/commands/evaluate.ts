import { join } from 'node:path'
import { DrcorlError } from '../../errors.js'
import { type Evaluation, type PolicyEvaluation, evaluate } from '../../evaluate/evaluate.js'
import { writeReport } from '../../report/report.js'
import { RUN_FILES, exists, readRecord } from '../../train/run-folder.js'
import { type Arguments, type Command, numbersByKey, optionalNumber, optionalString } from '../command.js'
import { table } from '../table.js'

export const evaluateCommand: Command = {
  command: 'evaluate <run>',
  describe: 'Play the policy of a run in an environment and measure return and cost',
  interruptible: true,
  builder: (yargs) =>
    yargs
      .usage('$0 evaluate RUN [--episodes 20] [--seed 0]')
      .positional('run', { type: 'string', describe: 'Run folder' })
      .option('env', { requiresArg: true, describe: "Embedded environment (default that of the run's data)" })
      .option('episodes', { requiresArg: true, describe: 'Episodes to play (default 20)' })
      .option('seed', { requiresArg: true, describe: 'Episode i is reset with seed + i (default 0)' })
      .option('set', {
        type: 'string',
        requiresArg: true,
        describe: 'NAME=NUMBER: what a conditioned policy is asked for, such as cost_limit=20 (which also judges it)',
      })
      .option('policy', {
        choices: ['averaged', 'selected'],
        describe: 'Only this policy: the weight-averaged one to use, or the candidate selected offline (default both)',
      }),

  async run(args, context) {
    const folder = String(args['run'])
    const options = {
      env: await environment(args, folder),
      episodes: optionalNumber(args, 'episodes'),
      seed: optionalNumber(args, 'seed'),
      settings: numbersByKey(args, 'set'),
      signal: context.signal,
    }
    if (args['policy'] !== 'selected') {
      const { evaluation } = await evaluate({ run: folder, ...options })
      const both = evaluation.selected !== null && args['policy'] === undefined
      const report = await writeReport(folder)
      const text = `${describe(evaluation, both ? [evaluation.selected!] : [])}\n\nreport  ${report}`
      return { json: { run_dir: folder, ...evaluation, report }, text }
    }
    const policy = join(folder, RUN_FILES.selected)
    if (!(await exists(policy))) throw new DrcorlError('Usage', `${folder} holds no ${RUN_FILES.selected}`)
    const limit = options.settings['cost_limit'] ?? (await readRecord(folder)).run['cost_limit']
    const { evaluation } = await evaluate({
      policy,
      costLimit: typeof limit === 'number' ? limit : undefined,
      ...options,
    })
    return { json: { run_dir: folder, ...evaluation }, text: describe(evaluation, []) }
  },
}

/** The environment asked for, or the one the run's data came from. */
async function environment(args: Arguments, folder: string): Promise<string> {
  const asked = optionalString(args, 'env')
  if (asked !== undefined) return asked
  const { task, dataset } = await readRecord(folder)
  if (task?.env) return task.env
  const what = task === null ? '' : ` (task ${task.task})`
  throw new DrcorlError(
    'Usage',
    `${folder} was trained on ${dataset.source}${what}, which no embedded environment made`,
    {
      hint: 'real environments are not in this version; for an embedded one name it with --env (see: drcorl list environments)',
    },
  )
}

function describe(evaluation: Evaluation, others: readonly PolicyEvaluation[]): string {
  const { env, seed, episodes, cost_limit: limit } = evaluation
  const rows = [evaluation, ...others].map((policy) => [
    policy.policy,
    spread(policy.return, 1),
    spread(policy.cost, 2),
    policy.normalized_reward?.toFixed(3) ?? '-',
    policy.normalized_cost?.dsrl.toFixed(3) ?? '-',
    policy.within_limit === null ? '-' : `${policy.within_limit.episodes}/${policy.episodes}`,
  ])
  const header = ['policy', 'return', 'cost', 'norm. reward', 'norm. cost', 'within limit']
  const asked = Object.entries(evaluation.settings).map(([name, value]) => `, ${name} ${value}`)
  const title = `${env}, ${episodes} episodes from seed ${seed}, cost limit ${limit ?? 'none'}${asked.join('')}`
  const formulas =
    'norm. reward = (return - min) / (max - min); norm. cost = (cost + e) / (limit + e), e = 1 only at limit 0'
  return [title, table(header, rows), formulas].join('\n\n')
}

function spread({ mean, std }: { mean: number; std: number | null }, digits: number): string {
  return std === null ? mean.toFixed(digits) : `${mean.toFixed(digits)} +- ${std.toFixed(digits)}`
}
