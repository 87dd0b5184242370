import { DrcorlError } from '../../base/errors.js'
import { writeReport } from '../../report/report.js'
import type { EndEvent } from '../../train/events.js'
import { train } from '../../train/experiment.js'
import { Progress, formatSeconds } from '../../train/progress.js'
import type { Command, Output } from '../command.js'
import { profileText } from '../profile.js'
import { facts } from '../table.js'
import { declareTrainOptions, readTrainOptions } from '../train-options.js'

export const trainCommand: Command = {
  command: 'train',
  describe: 'Learn a policy from a dataset under a cost limit, without an environment',
  interruptible: true,
  takesParameters: true,
  builder: declareTrainOptions,

  async run(args, context) {
    const progress = new Progress(context.stderr)
    let end: EndEvent | undefined
    try {
      for await (const event of train(await readTrainOptions(args, context.signal))) {
        progress.show(event)
        if (event.type === 'end') end = event
      }
    } finally {
      progress.close()
    }
    if (end === undefined) throw new DrcorlError('Internal', 'training ended without an end event')
    if (end.status === 'interrupted') return interrupted(end)
    return done(end, await writeReport(end.run_dir), args['require-certified'] === true)
  },
}

function interrupted(end: EndEvent): Output {
  const message = `interrupted at step ${end.step} of ${end.steps}; go on with: drcorl train --resume ${end.run_dir}`
  const json = { ...end, type: undefined, error: { code: 'Cancelled', message } }
  return { json, text: withProfile(message, end), status: 130 }
}

function done(end: EndEvent, report: string, requireCertified: boolean): Output {
  const { certificate, run_dir } = end
  const verdict = certificate?.verdict ?? null
  const reasons = certificate?.reasons ?? []
  const remedies = (certificate?.refusals ?? []).map(({ remedy }): [string, string] => ['what to do', remedy])
  const json = { ...end, type: undefined, verdict, report }
  const summary = facts([
    ['run folder', run_dir],
    ['report', report],
    ['steps', `${end.steps} in ${formatSeconds(end.wall_seconds)}, environment steps ${end.environment_steps}`],
    ...(end.monitor_steps === 0
      ? []
      : [['monitor', `${end.monitor_steps} environment steps, none read by training`] as const]),
    ['verdict', verdict === null ? 'none: this algorithm gives no certificate' : [verdict, ...reasons].join('; ')],
    ...remedies,
    ['next', `drcorl evaluate ${run_dir}`],
  ])
  const text = withProfile(summary, end)
  if (!requireCertified || verdict === 'certified') return { json, text }
  const message = `the policy is not certified: ${reasons.join('; ') || 'the algorithm gives no certificate'}`
  return { json: { ...json, error: { code: 'NotCertified', message } }, text: `${text}\n${message}`, status: 3 }
}

/** Where the time went stands first, where that was asked: what to do next is read last. */
const withProfile = (text: string, { profile }: EndEvent): string =>
  profile === null ? text : `${profileText(profile)}\n\n${text}`
