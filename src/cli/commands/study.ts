import { DrcorlError } from '../../base/errors.js'
import { declareRuns } from '../benchmark-options.js'
import { type Command, optionalString } from '../command.js'
import { GRID_FLAGS } from './study/grid.js'
import { INFERENCE_FLAGS, studyInferenceCommand } from './study/inference.js'

/** Evaluation episodes of a policy, unless asked otherwise. */
const EPISODES = 20

const INFERENCE = 'inference'

export const studyCommand: Command = {
  command: 'study [name]',
  describe: "Make one of the paper's figures by ourselves: runs, table and picture",
  interruptible: true,
  builder: (yargs) =>
    declareRuns(
      yargs.usage('$0 study inference [--runs DIR..]').positional('name', { type: 'string', describe: 'inference' }),
      EPISODES,
    )
      .option('runs', {
        array: true,
        requiresArg: true,
        describe: 'inference: folders of evaluated runs, whose scores are laid beside the times',
      })
      .option('sizes', { requiresArg: true, describe: 'inference: OBSERVATIONSxACTIONS (default 17x6)' })
      .option('seconds', { requiresArg: true, describe: 'inference: most for one measurement (default 20)' })
      .option('out', { requiresArg: true, describe: 'Folder of runs, tables and picture (default runs/study-NAME)' }),

  async run(args, context) {
    const name = optionalString(args, 'name')
    if (name !== INFERENCE) throw new DrcorlError('Usage', `there is no study "${name}"; there is: ${INFERENCE}`)
    const stray = GRID_FLAGS.find((flag) => args[flag] !== undefined && !INFERENCE_FLAGS.includes(flag))
    if (stray !== undefined)
      throw new DrcorlError('Usage', `--${stray} is for studies that train, and inference does not`)
    return studyInferenceCommand(args, context)
  },
}
