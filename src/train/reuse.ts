/** The pretraining that a new run takes from an earlier one. */
import { basename, join, resolve } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, sha256File } from '../base/files.js'
import type { ResolvedConfig } from '../config/load.js'
import type { Reused } from '../config/results.js'
import { loadSchema } from '../config/schema.js'
import type { Dataset } from '../data/dataset.js'
import { requireOwnCheckpoint } from './agreement.js'
import { MetricsLog } from './metrics.js'
import { RUN_FILES, type RunRecord, readRecord } from './run-folder.js'

/** A pretraining that may be taken over, as far as the dataset lets it. */
export interface Pretrained {
  folder: string
  path: string
  record: RunRecord
}

/**
 * Looks for the pretraining of the run in `folder`. Parameters are compared by the core, which knows which matter.
 *
 * @param out folder of the new run, if one is named.
 * @throws DrcorlError `Usage` for an algorithm that shares nothing or is not that of the run, `Io` (exit status 2)
 *   where the folder holds no run or no pretraining, `Data` for a file that is not of its run.
 */
export async function findPretraining(
  folder: string,
  { algorithm }: Pick<ResolvedConfig, 'algorithm'>,
  out: string | undefined,
): Promise<Pretrained> {
  if (out !== undefined && resolve(out) === resolve(folder)) {
    throw new DrcorlError('Usage', `${folder} is both the run to take the pretraining from and the new run's folder`, {
      hint: 'name another folder with --out',
    })
  }
  const { algorithms } = loadSchema()
  if (!algorithms[algorithm]?.pretraining) {
    const having = Object.keys(algorithms).filter((name) => algorithms[name]!.pretraining)
    throw new DrcorlError('Usage', `${algorithm} has no pretraining that could be reused; ${having.join(', ')} has`, {
      hint: 'train it without --reuse',
    })
  }
  const record = await readRecord(folder)
  if (record.algorithm !== algorithm) {
    throw new DrcorlError('Usage', `the run in ${folder} is of ${record.algorithm}, not of ${algorithm}`, {
      hint: `name a run of ${algorithm} with --reuse`,
    })
  }
  const path = join(folder, RUN_FILES.pretraining)
  if (!(await exists(path))) throw without(folder, record)
  await requireOwnCheckpoint(record, path, folder)
  return { folder, path, record }
}

function without(folder: string, { reused = null }: RunRecord): DrcorlError {
  const name = RUN_FILES.pretraining
  const [why, hint] =
    reused === null
      ? ['its training has not come so far, or an earlier version made it', 'name another run with --reuse']
      : [`it took over that of ${reused.run}`, 'name that run with --reuse']
  return new DrcorlError('Io', `${folder} holds no ${name}: ${why}`, { exitStatus: 2, hint })
}

/** @throws DrcorlError `Data` for another dataset. */
export function requireSameData({ folder, record }: Pretrained, { source, sha256 }: Dataset): void {
  if (record.dataset.sha256 === sha256) return
  throw new DrcorlError(
    'Data',
    `dataset ${source} has sha256 ${sha256}, the run in ${folder} was trained on ${record.dataset.sha256}`,
    { hint: 'a pretraining is of its data: name the same with --dataset, or train without --reuse' },
  )
}

/** What the record of the new run says. @param step where the pretraining ends. */
export async function recordOf({ folder, path }: Pretrained, step: number): Promise<Reused> {
  const metrics = join(folder, RUN_FILES.metrics)
  const seconds = (await exists(metrics)) ? (await MetricsLog.resume(metrics, step)).seconds : null
  return { run: basename(resolve(folder)), sha256: await sha256File(path), step, seconds }
}
