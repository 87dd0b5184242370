/**
 * Data checks: what a dataset holds that cannot be what its owner means. They are made in Rust (crates/data/src/check).
 */
import { DrcorlError } from '../base/errors.js'
import type { Dataset } from './dataset.js'

/** Something odd about a dataset. */
export interface Finding {
  /** Stable name, snake_case. */
  code: string
  /** `error` where nothing that is learnt would have a meaning. */
  severity: 'error' | 'warning'
  /** Column concerned. */
  column: string
  /** Entries of its rows that are concerned; empty for all. */
  entries: number[]
  /** How many rows. */
  rows: number
  /** The first of them. */
  first_row: number
  /** What was found and what it means, without the name of the column. */
  meaning: string
  remedy: string
}

export interface CheckOptions {
  /** Warnings are errors. */
  strict?: boolean | undefined
}

/** All findings about a dataset, errors first. Computed once for each dataset. */
export function datasetFindings(dataset: Dataset): readonly Finding[] {
  const known = cache.get(dataset.native)
  if (known !== undefined) return known
  const findings = JSON.parse(dataset.native.findings()) as Finding[]
  cache.set(dataset.native, findings)
  return findings
}

const cache = new WeakMap<object, readonly Finding[]>()

/**
 * The warnings about a dataset that may be learnt from.
 *
 * @throws DrcorlError `Data`, exit status 2, if there is an error among the findings, or with `strict` any.
 */
export function checkDataset(dataset: Dataset, { strict = false }: CheckOptions = {}): readonly Finding[] {
  const findings = datasetFindings(dataset)
  const [first, ...more] = findings.filter(({ severity }) => strict || severity === 'error')
  if (first === undefined) return findings
  const also = more.length === 0 ? '' : ` (also: ${more.map(({ code }) => code).join(', ')})`
  throw new DrcorlError('Data', `${dataset.source}: ${findingPlace(first)} ${first.meaning}${also}`, {
    hint: first.remedy,
    exitStatus: 2,
  })
}

/** One line: severity, code, column, meaning, rows, remedy. */
export function describeFinding(finding: Finding): string {
  const { severity, code, rows, first_row, meaning, remedy } = finding
  const where = rows === 0 ? '' : ` (${rows} ${rows === 1 ? 'row' : 'rows'}, first ${first_row})`
  return `${severity}: ${code}: ${findingPlace(finding)} ${meaning}${where}; ${remedy}`
}

/** Entries that are named; a wide observation can have hundreds. */
const SHOWN = 8

/** Column with its entries: `observations[3,5]`. */
function findingPlace({ column, entries }: Finding): string {
  if (entries.length === 0) return column
  const rest = entries.length > SHOWN ? `,.. (${entries.length} in all)` : ''
  return `${column}[${entries.slice(0, SHOWN).join(',')}${rest}]`
}
