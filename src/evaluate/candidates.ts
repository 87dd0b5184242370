/** Policies to certify, from whatever holds one. */
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, readBytes, sha256File } from '../base/files.js'
import { limitsOf } from '../config/limits.js'
import type { Certificate } from '../config/results.js'
import { readStored } from '../config/stored.js'
import { policyFile } from '../export/open.js'
import { originOf } from '../export/origin.js'
import { readSafetensors } from '../policy/safetensors.js'
import { RUN_FILES, type RunRecord, holdsRun, readRecord } from '../train/run-folder.js'

/** The policy that ships, on every command line. */
const SHIPPED = 'averaged'

/** A policy, and what is known of where it came from. */
export interface Candidate {
  /** As it was named. */
  path: string
  /** Its `.safetensors`. */
  policy: string
  sha256: string
  algorithm: string | null
  /** Of those asked for, the ones it has; all that were fixed by an export. */
  settings: Record<string, number>
  /** Format of an exported model. */
  exported: string | null
  /** Null without a run folder. */
  record: RunRecord | null
  /** Limit it was learnt under, or is asked to keep. */
  limit: number | undefined
  /** Limits by the names of their costs, the first being `limit`; empty where it has no name. */
  limits: Record<string, number>
  /** Of the data it was learnt from, where that is known. */
  learnt: string | undefined
  /** What its training did, which no judge sees. */
  training: Partial<Pick<Certificate, 'environment_steps' | 'visits'>>
}

/**
 * Finds the policy at `path`.
 *
 * @param name of a run's policies the one to take; default the one that ships.
 * @param settings what policies are asked for.
 * @throws DrcorlError `Usage`, `Io` or `Data` (exit status 2).
 */
export async function findCandidate(
  path: string,
  name: string | undefined,
  settings: Record<string, number>,
): Promise<Candidate> {
  if (await holdsRun(path)) return inRun(path, name, settings)
  if (name !== undefined) {
    throw new DrcorlError('Usage', `--policy chooses among the policies of a run, and ${path} is no run folder`)
  }
  const file = await policyFile(path)
  const none = { record: null, training: {} }
  if (file.endsWith('.safetensors')) return { path, exported: null, ...none, ...(await read(file, settings)) }
  if (!file.endsWith('.onnx') && !file.endsWith('.json')) {
    throw new DrcorlError('Usage', `${path} is neither a run folder nor a policy`, {
      hint: 'expected a run folder, .safetensors, .onnx, or the folder of a layers model',
    })
  }
  const { policy, format, settings: fixed } = await originOf(file)
  const [asked] = Object.keys(settings)
  if (asked !== undefined && asked in fixed) {
    throw new DrcorlError('Usage', `${path}: ${asked} was fixed when the policy was exported`)
  }
  return { path, exported: format, ...none, ...(await read(policy, fixed)) }
}

async function inRun(path: string, name: string | undefined, settings: Record<string, number>): Promise<Candidate> {
  const record = await readRecord(path)
  const main = join(path, RUN_FILES.policy)
  if (!(await exists(main))) {
    throw new DrcorlError('Io', `${path} holds no ${RUN_FILES.policy}: its training has not ended`, {
      exitStatus: 2,
      hint: `go on with: drcorl train --resume ${path}`,
    })
  }
  const shipped = await read(main, settings)
  const other = join(path, `policy.${name}.safetensors`)
  // `evaluate` and `export` call it so whatever the algorithm.
  const isMain = name === undefined || name === SHIPPED || name === shipped.name
  if (!isMain && (/[\\/]/.test(name) || !(await exists(other)))) {
    throw new DrcorlError('Usage', `${path} has no policy "${name}"`, { hint: `the one that ships: ${shipped.name}` })
  }
  const found = isMain ? shipped : await read(other, settings)
  const limit = record.run['cost_limit']
  const recorded = typeof limit === 'number' ? limit : undefined
  const training = await trainingOf(path)
  const limits = Object.fromEntries(limitsOf(record.run))
  const known = { limit: found.limit ?? recorded, limits, learnt: record.dataset.sha256 }
  return { path, exported: null, record, training, ...found, ...known }
}

/** What the run's own certificate says of the environment. */
async function trainingOf(run: string): Promise<Candidate['training']> {
  const path = join(run, RUN_FILES.certificate)
  if (!(await exists(path))) return {}
  const { environment_steps, visits } = await readStored('Certificate', path)
  return environment_steps === undefined ? {} : { environment_steps, visits: (visits ?? []) as Certificate['visits'] }
}

type Found = Pick<Candidate, 'policy' | 'sha256' | 'algorithm' | 'settings' | 'limit' | 'limits' | 'learnt'> & {
  name: string | undefined
}

async function read(policy: string, settings: Record<string, number>): Promise<Found> {
  const { metadata } = readSafetensors(await readBytes(policy), policy)
  const own = Object.entries(settings).filter(([name]) => metadata.has(`setting.${name}`))
  const stored = metadata.get('setting.cost_limit') ?? metadata.get('cost_limit')
  const limit = Object.fromEntries(own)['cost_limit'] ?? (stored === undefined ? undefined : Number(stored))
  const [algorithm = null, name] = [metadata.get('algorithm'), metadata.get('name')]
  const learnt = metadata.get('dataset_sha256')
  const limits = storedLimits(metadata.get('limits'), policy)
  const sha256 = await sha256File(policy)
  return { policy, sha256, algorithm, settings: Object.fromEntries(own), limit, limits, learnt, name }
}

/** Limits by the names of their costs, as a policy file says them; none where it does not. */
function storedLimits(text: string | undefined, policy: string): Record<string, number> {
  if (text === undefined) return {}
  try {
    const limits = limitsOf({ limits: JSON.parse(text) as unknown })
    if (limits.every(([, limit]) => typeof limit === 'number')) return Object.fromEntries(limits)
  } catch {
    // Told below.
  }
  throw new DrcorlError('Data', `${policy}: its limits are ${JSON.stringify(text)}, no numbers by names`, {
    hint: 'fetch or write the file again',
  })
}
