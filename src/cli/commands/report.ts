import { dirname, join, resolve } from 'node:path'
import { DrcorlError } from '../../base/errors.js'
import { exists, makeFolder } from '../../base/files.js'
import { comparisonRow } from '../../report/compare.js'
import { compareReport, writeReport } from '../../report/report.js'
import { readRun } from '../../report/run-data.js'
import { comparisonTable } from '../../report/terminal.js'
import { provenanceNote } from '../../policy/provenance.js'
import { RUN_FILES } from '../../train/run-folder.js'
import { type Command, optionalString } from '../command.js'

/** What a page of several runs is called where no name is given. */
const COMPARISON = 'comparison.html'

export const reportCommand: Command = {
  command: 'report <runs..>',
  describe: 'Write the HTML report of a run, or of several side by side',
  builder: (yargs) =>
    yargs
      .usage('$0 report RUN... [--out FILE]')
      .positional('runs', { type: 'string', describe: 'Run folders' })
      .option('out', {
        requiresArg: true,
        describe: `File to write (default RUN/${RUN_FILES.report}; for several runs a new ${COMPARISON} here)`,
      }),

  async run(args) {
    const folders = (args['runs'] as unknown[]).map(String)
    const [only = '', ...others] = folders
    const asked = optionalString(args, 'out')
    if (asked !== undefined) await makeFolder(dirname(asked))
    const report =
      others.length === 0
        ? await writeReport(only, asked ?? join(only, RUN_FILES.report))
        : await compareReport(folders, asked ?? (await newComparison()))
    const runs = await Promise.all(folders.map(readRun))
    const rows = runs.map((run) => Object.assign(comparisonRow(run), { safe: run.evaluation?.safe ?? null }))
    const json = {
      report,
      runs: runs.map(({ folder, provenance }, index) => ({ run_dir: folder, ...rows[index], provenance })),
    }
    const notes = runs.flatMap(({ folder, provenance }) => {
      const note = provenanceNote(provenance)
      return note === null ? [] : [`${folder}  ${note}`]
    })
    return { json, text: [comparisonTable(rows), ...notes, `report  ${report}`].join('\n\n') }
  },
}

/** Nobody asked for this name, so no file that has it is replaced. */
async function newComparison(): Promise<string> {
  if (!(await exists(COMPARISON))) return COMPARISON
  throw new DrcorlError('Usage', `${resolve(COMPARISON)} is there already`, {
    hint: 'say where the page of these runs goes, or what it replaces: --out FILE',
  })
}
