import { DrcorlError } from '../../../base/errors.js'
import { LiveLine } from '../../../base/live-line.js'
import { OWN_COST } from '../../../config/limits.js'
import { describeFinding } from '../../../data/checks.js'
import { type PolicyShare, type RecordProgress, type RecordReport, recordDataset } from '../../../record/record.js'
import { formatSeconds } from '../../../train/progress.js'
import { type Arguments, numbersByKey, optionalNumber, optionalString } from '../../command.js'
import { PYTHON_OPTIONS, openOptions } from '../../python-options.js'
import { facts, table } from '../../table.js'
import type { DataAction } from '../data.js'

export const recordAction: DataAction = {
  usage:
    'record OUTPUT.hdf5 --policy RUN=3 --policy random=1 --task BallCircle --episodes 200 [--noise 0.1] [--seed 0] [--resume]',
  words: ['OUTPUT.hdf5'],
  describe: 'Play policies in an environment and write what happens as a DSRL file',
  options: {
    policy: {
      array: true,
      string: true,
      requiresArg: true,
      describe:
        'record: run folder, policy file, export, module (.mjs) or random, with =WEIGHT; several share the episodes',
    },
    task: { requiresArg: true, describe: 'record: DSRL task to play (default that of the first run)' },
    env: { requiresArg: true, describe: 'record: embedded environment, or module:Id of any in Gymnasium' },
    episodes: { requiresArg: true, describe: 'record: episodes to write' },
    steps: { requiresArg: true, describe: 'record: transitions to write; the episode that reaches them is the last' },
    keep: {
      array: true,
      string: true,
      requiresArg: true,
      describe: 'record: further costs of an environment in Python to write, keys of its info',
    },
    noise: {
      requiresArg: true,
      describe: 'record: standard deviation of Gaussian noise on actions, in halves of the box (default 0)',
    },
    seed: { requiresArg: true, describe: 'record: seed of all draws and episodes (default 0)' },
    set: {
      type: 'string',
      requiresArg: true,
      describe: 'record: NAME=NUMBER,..: what conditioned policies are asked for',
    },
    rows: { requiresArg: true, describe: 'record: episodes side by side (default up to 16)' },
    resume: { boolean: true, describe: 'record: go on with a recording that was cut short, by the same command' },
    overwrite: { boolean: true, describe: 'Replace a file that is there' },
    ...PYTHON_OPTIONS,
  },

  async run(args, context) {
    const output = String(args['source'])
    const [task, env] = [optionalString(args, 'task'), optionalString(args, 'env')]
    if (task !== undefined && env !== undefined) {
      throw new DrcorlError('Usage', '--task and --env are both given; give one of them')
    }
    const line = new LiveLine(context.stderr)
    try {
      const report = await recordDataset(output, {
        ...openOptions(args),
        ...(args['keep'] === undefined ? {} : { costs: [OWN_COST, ...(args['keep'] as string[])] }),
        policies: readPolicies(args),
        env: task ?? env,
        episodes: optionalNumber(args, 'episodes'),
        steps: optionalNumber(args, 'steps'),
        noise: optionalNumber(args, 'noise'),
        seed: optionalNumber(args, 'seed'),
        settings: numbersByKey(args, 'set'),
        rows: optionalNumber(args, 'rows'),
        resume: args['resume'] === true,
        overwrite: args['overwrite'] === true,
        signal: context.signal,
        onProgress: (progress) => line.update(progressLine(progress)),
      })
      return { json: { ...report }, text: describe(report) }
    } finally {
      line.close()
    }
  },
}

/** `PATH`, or `PATH=WEIGHT`; a path may have an equals sign itself. */
function readPolicies(args: Arguments): PolicyShare[] {
  return ((args['policy'] ?? []) as string[]).map((text) => {
    const [, policy, weight] = /^(.+)=([-+]?[\d.]+(?:e[-+]?\d+)?)$/i.exec(text) ?? []
    return policy === undefined ? { policy: text } : { policy, weight: Number(weight) }
  })
}

/** `12/20 episodes  61 %  3120 steps/s  ETA 2s` */
function progressLine({ episodes, of, share, steps_per_second, eta_seconds }: RecordProgress): string {
  return [
    `${of === null ? episodes : `${episodes}/${of}`} episodes`,
    `${Math.floor(share * 100)} %`,
    `${steps_per_second.toFixed(0)} steps/s`,
    `ETA ${formatSeconds(eta_seconds)}`,
  ].join('  ')
}

function describe(report: RecordReport): string {
  const { output, env, episodes, transitions, environment_steps, kept, seed, noise, sha256, findings } = report
  const summary = facts([
    ['output', output],
    ['sha256', sha256],
    ['environment', env],
    ['episodes', kept === 0 ? episodes : `${episodes} (${kept} were there already)`],
    ['transitions', `${transitions} of ${environment_steps} environment steps`],
    ['draws', `seed ${seed}, noise ${noise}`],
    ['next', `drcorl data info ${output}`],
  ])
  const rows = report.policies.map(({ policy, weight, episodes: count, sha256: hash }) => {
    const own = report.played.filter((episode) => episode.policy === policy)
    const mean = (of: 'return' | 'cost'): string =>
      own.length === 0 ? '-' : (own.reduce((sum, episode) => sum + episode[of], 0) / own.length).toFixed(1)
    return [policy, weight, count, mean('return'), mean('cost'), hash?.slice(0, 12) ?? '-']
  })
  const policies = table(['policy', 'weight', 'episodes', 'return', 'cost', 'sha256'], rows)
  return [summary, policies, findings.map(describeFinding).join('\n')].filter((part) => part !== '').join('\n\n')
}
