/**
 * Estimate beside truth: what certificates said of policies, and what the environment then measured. Reads files only.
 */
import { DrcorlError } from '../base/errors.js'
import { readJson } from '../base/files.js'
import type { Certificate } from '../config/results.js'
import { type Stored, requireStored } from '../config/stored.js'
import { CERTIFICATION_FORMAT, type Certification } from '../evaluate/certify.js'
import { clopperPearson95 } from '../evaluate/statistics.js'
import { labelOf } from '../report/compare.js'
import type { RunData } from '../report/run-data.js'
import { readRunsBelow } from './runs.js'

/** How a verdict stands to what was measured. `false_certified` is the one that harms. */
export type Outcome = 'certified_safe' | 'false_certified' | 'refused_safe' | 'refused_unsafe'

/** One run whose policy was judged offline and played. */
export interface CalibrationRow {
  target: string
  algorithm: string
  label: string
  cost_limit: number
  seed: number | null
  verdict: 'certified' | 'not certified'
  /** Mean cost of an episode by the certificate; null where it has none. */
  estimate: number | null
  /** What the verdict goes by. */
  upper: number | null
  /** Mean measured cost of an episode. */
  cost: number
  /** 95 % interval of that mean; null for a single episode. */
  cost_ci95: [low: number, high: number] | null
  episodes: number
  /** Measured mean within the limit. */
  safe: boolean
  /** False where the interval holds the limit: more episodes might say otherwise. */
  settled: boolean
  outcome: Outcome
  /** Of a refusal. */
  reasons: readonly string[]
  run_dir: string
}

/** A folder of a run without what a row needs. */
export interface Skipped {
  run_dir: string
  why: string
}

/** A count, and what it says of the probability behind it. */
export interface Rate {
  count: number
  of: number
  /** Clopper-Pearson; null of none. */
  ci95: [low: number, high: number] | null
}

/** Some rows, counted. */
export interface CalibrationCounts {
  /** `all`, a target or an algorithm. */
  group: string
  runs: number
  /** Unsafe ones of the certified. */
  false_certified: Rate
  /** Refused ones of the safe. */
  refused_safe: Rate
  /** Runs whose measurement does not settle on which side of the limit they are. */
  unsettled: number
}

/** Estimated and upper cost that a verdict goes by. */
function deciding({ estimates }: Stored<Certificate>): Pick<CalibrationRow, 'estimate' | 'upper'> {
  const { mean, upper } = estimates?.model_rollout?.cost ?? {}
  return { estimate: mean ?? null, upper: upper ?? null }
}

/** The row of a run, or why it has none. */
export function rowOf({ folder, record, certificate, evaluation }: RunData, name?: string): CalibrationRow | Skipped {
  const skip = (why: string): Skipped => ({ run_dir: folder, why })
  if (certificate === null) return skip('it has no certificate')
  const { verdict, cost_limit, reasons = [] } = certificate
  if (verdict === undefined || cost_limit === undefined) return skip('its certificate has no verdict or no limit')
  // A verdict on several limits is held against one cost no better than one limit against another.
  if ((certificate.costs ?? []).length > 1) return skip('its certificate is on several limits')
  if (evaluation === null) return skip('its policy has not been played: drcorl evaluate')
  // A policy that takes a limit was played for several.
  const played = evaluation.by_limit?.find((one) => one.cost_limit === cost_limit) ?? evaluation
  if (Object.keys(evaluation.settings ?? {}).length > 0 && played.cost_limit !== cost_limit) {
    return skip(`its policy was played for limit ${evaluation.cost_limit}, and judged for ${cost_limit}`)
  }
  const { mean: cost, ci95 } = played.cost
  const safe = cost <= cost_limit
  const certified = verdict === 'certified'
  const seed = record.run['seed']
  return {
    target: name ?? record.task?.task ?? evaluation.env,
    algorithm: record.algorithm,
    label: labelOf(record.algorithm),
    cost_limit,
    seed: typeof seed === 'number' ? seed : null,
    verdict,
    ...deciding(certificate),
    cost,
    cost_ci95: ci95,
    episodes: evaluation.episodes,
    safe,
    settled: ci95 !== null && (ci95[1] <= cost_limit || ci95[0] > cost_limit),
    outcome: certified ? (safe ? 'certified_safe' : 'false_certified') : safe ? 'refused_safe' : 'refused_unsafe',
    reasons: certified ? [] : (reasons as string[]),
    run_dir: folder,
  }
}

/** All rows together, then by target, then by algorithm, where there are several. */
export function countRows(rows: readonly CalibrationRow[]): CalibrationCounts[] {
  const groups: [string, readonly CalibrationRow[]][] = [['all', rows]]
  for (const key of ['target', 'label'] as const) {
    const names = [...new Set(rows.map((row) => row[key]))]
    if (names.length < 2) continue
    for (const name of names) groups.push([name, rows.filter((row) => row[key] === name)])
  }
  return groups.map(([group, own]) => {
    const count = (test: (row: CalibrationRow) => boolean): number => own.filter(test).length
    return {
      group,
      runs: own.length,
      false_certified: rate(
        count(({ outcome }) => outcome === 'false_certified'),
        count(({ verdict }) => verdict === 'certified'),
      ),
      refused_safe: rate(
        count(({ outcome }) => outcome === 'refused_safe'),
        count(({ safe }) => safe),
      ),
      unsettled: count(({ settled }) => !settled),
    }
  })
}

const rate = (count: number, of: number): Rate => ({ count, of, ci95: clopperPearson95(count, of) })

/**
 * The rows of all runs in and below some folders, in the order of their paths: by their own certificates, or by what
 * `certify --out` has said of their policies since, one row each.
 *
 * @throws DrcorlError `Io` (exit status 2) for a folder that cannot be read or holds no run, `Data` for damaged files
 *   and for one of `certifications` that is none.
 */
export async function readRows(folders: readonly string[], certifications: readonly string[] = []) {
  const runs = await readRunsBelow(folders)
  const judged = (await Promise.all(certifications.map(readCertification))).flat()
  const played = new Set(runs.map(({ evaluation }) => evaluation?.sha256))
  const rows = runs.flatMap((run) => {
    const own = judged.filter(({ sha256 }) => sha256 === run.evaluation?.sha256)
    return own.length === 0 ? [rowOf(run)] : own.map(({ certificate }) => rowOf({ ...run, certificate }))
  })
  const lost = judged.filter(({ sha256 }) => !played.has(sha256))
  const why = 'no run that was played holds this policy'
  return divide([...rows, ...lost.map(({ path }) => ({ run_dir: path, why }))])
}

/** The policies of a file that `certify --out` wrote, each with what was said of it. */
async function readCertification(file: string) {
  const content = (await readJson(file)) as Partial<Certification> | null
  const bad = (what: string): DrcorlError =>
    new DrcorlError('Data', `${file} is no certification: ${what}`, { hint: 'certify RUN.. --out FILE writes one' })
  if (content?.format !== CERTIFICATION_FORMAT) throw bad(`format is not ${CERTIFICATION_FORMAT}`)
  if (!Array.isArray(content.policies)) throw bad('policies is no list')
  return content.policies.map(({ path, sha256, certificate }) => {
    if (typeof path !== 'string' || typeof sha256 !== 'string') throw bad('a policy has no path or no sha256')
    return { path, sha256, certificate: requireStored('Certificate', certificate, file) }
  })
}

/** Rows, and what has none. */
export function divide(made: readonly (CalibrationRow | Skipped)[]) {
  const skipped = made.filter((one): one is Skipped => 'why' in one)
  return { rows: made.filter((one): one is CalibrationRow => !('why' in one)), skipped }
}
