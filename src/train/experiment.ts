/** Training as a generator of events. */
import { join } from 'node:path'
import { type ResolvedConfig, readConfigFile, resolveConfig } from '../config/load.js'
import { costsOf } from '../config/limits.js'
import { metricsOf } from '../config/schema.js'
import { checkDataset } from '../data/checks.js'
import { type Dataset, loadDataset, taskOf } from '../data/dataset.js'
import { datasetEpisodes, datasetEpisodesCsv } from '../data/episodes.js'
import { environmentOfVisits } from '../data/environments.js'
import { DrcorlError } from '../base/errors.js'
import { writeAtomic } from '../base/files.js'
import type { Unlock } from '../native/lock.js'
import { Trainer } from '../native/trainer.js'
import type { Session, TrainEvent, TrainOptions } from './events.js'
import { Stopwatch, timed } from './profile.js'
import { MetricsLog } from './metrics.js'
import { Monitor, forVisits, planMonitor } from './monitor.js'
import { resumeSession } from './resume.js'
import { findPretraining, recordOf, requireSameData } from './reuse.js'
import { Run } from './run.js'
import { RUN_FILES, defaultRunFolder, makeRecord, statedEpisodeLength, writeRecord } from './run-folder.js'
import { createRunFolder } from './run-lock.js'

/**
 * Trains and reports as it goes; everything is in the run folder when the generator ends.
 *
 * Ending the loop early (`break`, or aborting the signal) leaves a checkpoint from which `resume: true` goes on to
 * bit-identical parameters.
 *
 * @throws DrcorlError `Config`, `Data`, `Io`, `Usage`, or `Busy` while another process writes into the run folder, all
 *   before anything is written; `Diverged` naming loss and step, with the last good checkpoint kept.
 */
export async function* train(options: TrainOptions): AsyncGenerator<TrainEvent, void, void> {
  const watch = options.profile ? new Stopwatch() : null
  const session = options.resume ? await resumeSession(options, watch) : await startSession(options, watch)
  const run = new Run(session, options)
  try {
    const { trainer, record } = session
    if (options.auditModels !== undefined) await trainer.shareAudit(options.auditModels, record.dataset.sha256)
    await run.openScalars(options.tensorboard ?? false)
    yield* run.events()
  } finally {
    await run.close().finally(session.unlock)
  }
}

async function startSession(options: TrainOptions, watch: Stopwatch | null): Promise<Session> {
  if (options.dataset === undefined) {
    throw new DrcorlError('Usage', 'no dataset is given', {
      hint: 'name one with --dataset FILE.hdf5, --task NAME or --env NAME',
    })
  }
  const file = options.configFile === undefined ? undefined : await readConfigFile(options.configFile)
  const source = options.dataset
  const resolved = resolveConfig({
    algorithm: options.algorithm,
    preset: options.preset,
    file,
    flags: { ...options.config },
    task: taskOf(source),
    flagOrigin: options.configOrigin ?? ((key) => `config.${key}`),
  })
  const pretrained = options.reuse === undefined ? null : await findPretraining(options.reuse, resolved, options.out)
  const { maxMemory, strict } = options
  const costs = costsOf(resolved.run)
  const episode_length = statedEpisodeLength(resolved.run)
  const dataset = await timed(watch, 'data', () => loadDataset(source, { episode_length, maxMemory, costs }))
  const findings = checkDataset(dataset, { strict })
  if (pretrained !== null) requireSameData(pretrained, dataset)
  takeTaskLength(resolved, dataset)
  const plan = planMonitor(options, dataset.task, null, costs)
  const visits = environmentOfVisits(forVisits(options, resolved.run), resolved.run, dataset.task)
  const episodes = datasetEpisodesCsv(datasetEpisodes(dataset.native, costs?.slice(1)))
  // A dataset that was loaded here is nobody else's.
  const last = typeof options.dataset === 'string'
  const made = timed(watch, 'setup', () => Trainer.create(dataset.native, resolved, last, pretrained?.path))
  const trainer = await made.catch((error: unknown) => {
    throw withOrigin(error, resolved.origins)
  })
  let unlock: Unlock | undefined
  try {
    if (watch !== null) await trainer.startProfile()
    const opened = await createRunFolder(options.out, defaultRunFolder(resolved, dataset), options.overwrite ?? false)
    unlock = opened.unlock
    const { folder } = opened
    const record = makeRecord(resolved, dataset, visits?.name ?? null)
    if (pretrained !== null) record.reused = await recordOf(pretrained, (await trainer.status()).step)
    await writeRecord(folder, record)
    // From here on the run needs the other one no more.
    if (pretrained !== null) await trainer.save(join(folder, RUN_FILES.checkpoint))
    await writeAtomic(join(folder, RUN_FILES.datasetEpisodes), episodes)
    const order = metricsOf(record.algorithm).map(({ name }) => name)
    const log = new MetricsLog(join(folder, RUN_FILES.metrics), order)
    const monitor = plan === null ? null : await Monitor.open(folder, plan, options.signal)
    return {
      folder,
      record,
      trainer,
      log,
      resumed: false,
      visits: visits?.make ?? null,
      monitor,
      findings,
      watch,
      unlock,
    }
  } catch (error) {
    unlock?.()
    trainer.dispose()
    throw error
  }
}

/**
 * The task's episode length, where the data name a task and nobody states a length: logs of its first steps are then
 * not taken for whole episodes.
 */
function takeTaskLength({ run, origins }: ResolvedConfig, { task, summary }: Dataset): void {
  if (task === null || statedEpisodeLength(run) !== undefined) return
  if (summary.episode_length.max > task.episode_length) return
  run['episode_length'] = task.episode_length
  origins['episode_length'] = `task ${task.task}`
}

/** The core refuses values the schema cannot; it names the key, and only this side knows where the value came from. */
function withOrigin(error: unknown, origins: Record<string, string>): unknown {
  if (!(error instanceof DrcorlError) || error.code !== 'Config') return error
  const origin = origins[/^\w+/.exec(error.message)?.[0] ?? '']
  return origin === undefined ? error : new DrcorlError('Config', `${error.message} (from ${origin})`, { cause: error })
}
