import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists } from '../base/files.js'
import { costsOf } from '../config/limits.js'
import { readConfigFile } from '../config/load.js'
import { metricsOf } from '../config/schema.js'
import { type Dataset, loadDataset } from '../data/dataset.js'
import { environmentOfVisits, recordedEnvironment } from '../data/environments.js'
import { Trainer } from '../native/trainer.js'
import { type Compared, requireAgreement, requireOwnCheckpoint } from './agreement.js'
import type { Session, TrainOptions } from './events.js'
import { MetricsLog } from './metrics.js'
import { readMonitor } from './monitor-file.js'
import { Monitor, forVisits, planMonitor } from './monitor.js'
import {
  RUN_FILES,
  type RunRecord,
  readRecord,
  removeTemporaries,
  statedEpisodeLength,
  writeRecord,
} from './run-folder.js'
import { type Stopwatch, timed } from './profile.js'
import { lockRun } from './run-lock.js'

/**
 * Opens the run in `options.out` where its checkpoint left it, or at its first step where there is none yet.
 *
 * @throws DrcorlError `Usage` for parameters that differ from the run's, `Data` for a dataset with another sha256 or a
 *   checkpoint with other parameters than config.json, `Busy` while another process writes into the folder.
 */
export async function resumeSession(options: TrainOptions, watch: Stopwatch | null): Promise<Session> {
  const folder = options.out
  if (options.reuse !== undefined) {
    throw new DrcorlError('Usage', 'reuse is for a new run; a resumed one goes on with what it has', {
      hint: 'leave out --reuse, or start a new run with another --out',
    })
  }
  if (folder === undefined) {
    throw new DrcorlError('Usage', 'resume needs the folder of the run', { hint: 'name it: --resume --out DIR' })
  }
  // Read again once it is locked: only a folder that holds a run gets a lock.
  await readRecord(folder)
  const unlock = await lockRun(folder, 'training', 'copy the run to a place that can be written')
  try {
    const session = await open(options, folder, watch)
    return { ...session, watch, unlock }
  } catch (error) {
    unlock()
    throw error
  }
}

async function open(
  options: TrainOptions,
  folder: string,
  watch: Stopwatch | null,
): Promise<Omit<Session, 'unlock' | 'watch'>> {
  const record = await readRecord(folder)
  await refuseChanges(options, record, folder)
  const dataset = await timed(watch, 'data', () => sameDataset(options, record, folder))
  // A dataset that was loaded here is nobody else's.
  const last = typeof (options.dataset ?? '') === 'string'
  await removeTemporaries(folder)
  const kept = await readMonitor(folder)
  const plan = planMonitor(options, record.task, kept, costsOf(record.run))
  const monitor = plan === null ? null : await Monitor.open(folder, plan, options.signal)
  const environment = forVisits(options, record.run, plan !== null) ?? recordedEnvironment(record.environment)
  const known = environmentOfVisits(environment, record.run, record.task)
  const visits = known?.make ?? null

  const checkpoint = join(folder, RUN_FILES.checkpoint)
  const metrics = join(folder, RUN_FILES.metrics)
  const order = metricsOf(record.algorithm).map(({ name }) => name)
  if (!(await exists(checkpoint))) {
    // What it was to take over never came here, so it makes its own: the bits are the same.
    if (record.reused) {
      delete record.reused
      await writeRecord(folder, record)
    }
    const trainer = await timed(watch, 'setup', () => Trainer.create(dataset.native, record, last))
    if (watch !== null) await trainer.startProfile()
    const log = new MetricsLog(metrics, order)
    return { folder, record, trainer, log, resumed: true, visits, monitor, findings: [] }
  }
  await requireOwnCheckpoint(record, checkpoint, folder)
  const trainer = await timed(watch, 'setup', () => Trainer.resume(dataset.native, checkpoint, record, last))
  try {
    if (watch !== null) await trainer.startProfile()
    const { step } = await trainer.status()
    const log = (await exists(metrics)) ? await MetricsLog.resume(metrics, step, order) : new MetricsLog(metrics, order)
    return { folder, record, trainer, log, resumed: true, visits, monitor, findings: [] }
  } catch (error) {
    trainer.dispose()
    throw error
  }
}

/** A resumed run keeps its parameters; asking for others must not be ignored in silence. */
async function refuseChanges(options: TrainOptions, record: RunRecord, folder: string): Promise<void> {
  const file = options.configFile === undefined ? undefined : await readConfigFile(options.configFile)
  const stored: Record<string, unknown> = { ...record.run, ...record.config }
  const asked = Object.entries({ ...file?.values, ...options.config })
  const parameters: Compared[] = [
    ['algorithm', options.algorithm ?? file?.algorithm, record.algorithm],
    ['preset', options.preset, record.preset],
    ...asked.map(([key, value]): Compared => [key, value, stored[key]]),
  ]
  requireAgreement(
    parameters.filter(([, wanted]) => wanted !== undefined),
    folder,
    'a resumed run keeps its parameters; for others start a new run with another --out',
  )
}

async function sameDataset(options: TrainOptions, record: RunRecord, folder: string): Promise<Dataset> {
  const { source, kind, sha256 } = record.dataset
  if (options.dataset === undefined && kind === 'columns') {
    throw new DrcorlError('Usage', `the run in ${folder} was trained on columns: pass the same ones as dataset`)
  }
  const episode_length = statedEpisodeLength(record.run)
  const { maxMemory } = options
  const costs = costsOf(record.run)
  const dataset = await loadDataset(options.dataset ?? source, { episode_length, maxMemory, costs })
  if (dataset.sha256 !== sha256) {
    throw new DrcorlError(
      'Data',
      `dataset ${dataset.source} has sha256 ${dataset.sha256}, the run in ${folder} was trained on ${sha256}`,
      { hint: 'resuming needs the very same data; name it with --dataset' },
    )
  }
  return dataset
}
