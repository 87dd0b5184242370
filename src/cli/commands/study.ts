import { DrcorlError } from '../../base/errors.js'
import { INFERENCE, STUDY_NAMES } from '../../study/studies.js'
import { declareRuns } from '../benchmark-options.js'
import { type Command, optionalString } from '../command.js'
import { EPISODES, GRID_FLAGS, studyGridCommand } from './study/grid.js'
import { INFERENCE_FLAGS, studyInferenceCommand } from './study/inference.js'

export const studyCommand: Command = {
  command: 'study [name]',
  describe: "Make one of the paper's figures by ourselves: runs, table and picture",
  interruptible: true,
  builder: (yargs) =>
    declareRuns(
      yargs
        .usage(
          '$0 study inference [--runs DIR..]\n$0 study cost-limit --tasks point-circle [--seeds 0,1,2]\n$0 study --vary NAME=a,b,c --tasks point-circle',
        )
        .positional('name', {
          type: 'string',
          describe: `${STUDY_NAMES.slice(0, -1).join(', ')} or ${STUDY_NAMES.at(-1)}; left out with --vary`,
        }),
      EPISODES,
    )
      .option('vary', {
        array: true,
        requiresArg: true,
        describe: 'NAME=a,b,c: every value is run; NAME+OTHER=a,b: together (default what the study varies)',
      })
      .option('eval-every', {
        requiresArg: true,
        describe: 'Watch policies after every N updates (below 1: a share; 0: never), for learning curves',
      })
      .option('eval-episodes', { requiresArg: true, describe: 'Episodes at each point of a curve (default 5)' })
      .option('runs', {
        array: true,
        requiresArg: true,
        describe: 'inference: folders of evaluated runs, whose scores are laid beside the times',
      })
      .option('sizes', { requiresArg: true, describe: 'inference: OBSERVATIONSxACTIONS (default 17x6)' })
      .option('seconds', { requiresArg: true, describe: 'inference: most for one measurement (default 20)' })
      .option('out', { requiresArg: true, describe: 'Folder of runs, tables and picture (default runs/study-NAME)' }),

  async run(args, context) {
    const inference = optionalString(args, 'name') === INFERENCE
    const [own, others] = inference ? [INFERENCE_FLAGS, GRID_FLAGS] : [GRID_FLAGS, INFERENCE_FLAGS]
    const stray = others.find((flag) => args[flag] !== undefined && !own.includes(flag))
    if (stray !== undefined) {
      const message = inference ? 'is for studies that train, and inference does not' : 'is for study inference'
      throw new DrcorlError('Usage', `--${stray} ${message}`)
    }
    return inference ? studyInferenceCommand(args, context) : studyGridCommand(args, context)
  },
}
