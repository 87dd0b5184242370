import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { DrcorlError } from '../base/errors.js'
import { readCheckpointConfig } from './checkpoint.js'
import { RUN_FILES, type RunRecord } from './run-folder.js'

/** A parameter's name, the value asked for and the value a run folder holds. */
export type Compared = [name: string, asked: unknown, stored: unknown]

/**
 * Refuses to go on in the folder of a run that had other parameters.
 *
 * @throws DrcorlError `Usage` naming the first difference.
 */
export function requireAgreement(parameters: Compared[], folder: string, hint: string): void {
  for (const [name, asked, stored] of parameters) {
    if (isDeepStrictEqual(asked, stored)) continue
    throw new DrcorlError(
      'Usage',
      `${name} = ${JSON.stringify(asked)} differs from the run in ${folder}, which has ${JSON.stringify(stored)}`,
      { hint },
    )
  }
}

/**
 * The checkpoint knows its own parameters, and training goes on with those: they must be the ones that the record, and
 * so every report and every later reader, believes in.
 *
 * @throws DrcorlError `Data` naming the first key that differs.
 */
export async function requireOwnCheckpoint(record: RunRecord, path: string, folder: string): Promise<void> {
  const own = await readCheckpointConfig(path)
  if (own === undefined) return
  const pairs: Compared[] = [['algorithm', record.algorithm, own.algorithm]]
  for (const part of ['run', 'config'] as const) {
    for (const key of new Set([...Object.keys(record[part]), ...Object.keys(own[part])])) {
      pairs.push([key, record[part][key], own[part][key]])
    }
  }
  for (const [key, recorded, trained] of pairs) {
    if (isDeepStrictEqual(recorded, trained)) continue
    const [there, here] = [trained, recorded].map((value) => (value === undefined ? 'none' : JSON.stringify(value)))
    throw new DrcorlError(
      'Data',
      `${path} was trained with ${key} = ${there}, but ${RUN_FILES.config} beside it says ${here}`,
      { hint: `put ${key} back in ${join(folder, RUN_FILES.config)}, or the checkpoint of this run in its place` },
    )
  }
}
