import { join } from 'node:path'
import { writeAtomic } from '../base/files.js'
import { RUN_FILES } from '../train/run-folder.js'
import { certificateSection } from './certificate.js'
import { comparisonPage, labelOf } from './compare.js'
import { page } from './page.js'
import { profileSection } from './profile.js'
import { type RunData, readRun } from './run-data.js'
import {
  configSection,
  evaluationSection,
  headline,
  ledgerSection,
  monitorSection,
  limitOf,
  scatterSection,
  trainingSection,
  visitsSection,
} from './sections.js'
import { escape } from './svg.js'
import { formatValue } from './format.js'

/** The report of one run: a single page that needs no network, no script and no addon. */
export function reportPage(run: RunData): string {
  const { record } = run
  const limit = limitOf(run)
  const title = `${labelOf(record.algorithm)} on ${record.task?.task ?? record.dataset.source}`
  const facts = [
    ...(limit === null ? [] : [`cost limit ${limit}`]),
    ...(typeof record.preset === 'string' ? [`preset ${record.preset}`] : []),
    ...(record.run['seed'] === undefined ? [] : [`seed ${formatValue(record.run['seed'])}`]),
    `run ${run.name}`,
  ]
  const unfinished =
    run.result === null ? '<p class="bad">Training has not ended; this is what there is so far.</p>' : ''
  return page(`drcorl: ${title}`, [
    `<header><h1>${escape(title)}</h1><p class="sub">${escape(facts.join(' · '))}</p></header>`,
    unfinished,
    headline(run),
    certificateSection(run, limit),
    scatterSection(run),
    evaluationSection(run),
    trainingSection(run),
    monitorSection(run),
    visitsSection(run),
    ledgerSection(run),
    profileSection(run.profile),
    configSection(run),
    `<footer>Made by drcorl ${escape(record.versions.drcorl)} from the files of the run folder.</footer>`,
  ])
}

/**
 * Writes the report of a run.
 *
 * @param out file to write, default `report.html` in the run folder.
 * @returns the path written.
 * @throws DrcorlError `Io` or `Data` (exit status 2) where the folder is none of a run or a file in it is damaged.
 */
export async function writeReport(folder: string, out = join(folder, RUN_FILES.report)): Promise<string> {
  await writeAtomic(out, reportPage(await readRun(folder)))
  return out
}

/**
 * Writes one page that sets several runs side by side.
 *
 * @param folders run folders, in the order of the table.
 * @param out file to write.
 * @returns the path written.
 */
export async function compareReport(folders: readonly string[], out: string): Promise<string> {
  await writeAtomic(out, comparisonPage(await Promise.all(folders.map(readRun)), out))
  return out
}
