import { dirname, join } from 'node:path'
import { makeFolder } from '../../base/files.js'
import { comparisonRow } from '../../report/compare.js'
import { compareReport, writeReport } from '../../report/report.js'
import { readRun } from '../../report/run-data.js'
import { comparisonTable } from '../../report/terminal.js'
import { RUN_FILES } from '../../train/run-folder.js'
import { type Command, optionalString } from '../command.js'

export const reportCommand: Command = {
  command: 'report <runs..>',
  describe: 'Write the HTML report of a run, or of several side by side',
  builder: (yargs) =>
    yargs
      .usage('$0 report RUN... [--out FILE]')
      .positional('runs', { type: 'string', describe: 'Run folders' })
      .option('out', {
        requiresArg: true,
        describe: `File to write (default RUN/${RUN_FILES.report}; ${RUN_FILES.report} here for several runs)`,
      }),

  async run(args) {
    const folders = ([] as unknown[]).concat(args['runs']).map(String)
    const asked = optionalString(args, 'out')
    if (asked !== undefined) await makeFolder(dirname(asked))
    const [only = '', ...others] = folders
    const report =
      others.length === 0
        ? await writeReport(only, asked ?? join(only, RUN_FILES.report))
        : await compareReport(folders, asked ?? RUN_FILES.report)
    const runs = await Promise.all(folders.map(readRun))
    const rows = runs.map((run) => Object.assign(comparisonRow(run), { safe: run.evaluation?.safe ?? null }))
    const json = { report, runs: runs.map(({ folder }, index) => Object.assign({ run_dir: folder }, rows[index])) }
    return { json, text: `${comparisonTable(rows)}\n\nreport  ${report}` }
  },
}
